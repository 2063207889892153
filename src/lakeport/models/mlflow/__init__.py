"""The model registry: an MLflow server, embedded or outside."""
