"""Turn stages into cached Prefect tasks: keys, code fingerprints, profile, events, publishing."""
