"""Metrics, intervals, tests and decision rules."""
