"""The classifier as MLflow loads and calls it."""
