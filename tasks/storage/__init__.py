"""The store: results under keys, files, locks, S3, checkpoints and the log of runs."""
