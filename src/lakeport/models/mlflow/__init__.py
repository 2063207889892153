"""The model registry: an MLflow server, embedded or outside."""

from lakeport.models.mlflow.registry import Registry

__all__ = ["Registry"]
