"""Claims with sources and validity, and what contradicts what in a store (docs/claims.md)."""
