"""Level 3: the long-term memory read inside the autoregressive step. See `recall`."""
