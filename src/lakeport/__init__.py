"""Lakeport: a self-hosted model serving workspace that speaks the Databricks Model Serving API."""

__version__ = "0.1.0"
