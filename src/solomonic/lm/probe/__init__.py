"""Instruments for trained models: what each layer remembers, and how far tokens back it is used."""
