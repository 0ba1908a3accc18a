"""Level 3: chunks of text with the keys and values that layers had while reading them."""
