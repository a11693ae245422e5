"""Pages and cards rendered from the stored results of a run."""
