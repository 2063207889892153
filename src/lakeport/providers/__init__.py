"""Servers outside Lakeport that speak the OpenAI wire."""
