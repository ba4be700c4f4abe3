"""What to log (pure), how it is drawn, the report, and the one place that writes to MLflow."""
