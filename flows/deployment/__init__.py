"""Deployments and work pools for Prefect workers."""
