"""Level 3: small models. Quantisation, sparsity, the device file, and updates; it serves text and
speech alike and knows neither."""
