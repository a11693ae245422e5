"""What makes a cached Prefect task of a stage: keys, fingerprints, profile, events, publishing."""
