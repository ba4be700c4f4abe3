"""Training one head on one fold."""
