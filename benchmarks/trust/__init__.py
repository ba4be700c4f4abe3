"""Statistics held against a known truth: simulations that print the tables of `docs/trust.md`."""
