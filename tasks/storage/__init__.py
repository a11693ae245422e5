"""Bytes under keys: the store, files, locks, S3, checkpoints and the log of runs."""
