"""The served classifier, the registry, and prediction with a registered model."""
