"""Replicas as worker processes on this machine."""
