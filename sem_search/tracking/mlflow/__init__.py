"""The one place that writes to MLflow's tracking store."""
