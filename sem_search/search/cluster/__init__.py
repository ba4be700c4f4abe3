"""Folds and features computed by a Dask cluster."""
