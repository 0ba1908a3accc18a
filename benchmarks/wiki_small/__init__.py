"""The language model that the memory benchmark asks: how it was made."""
