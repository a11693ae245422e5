"""Pages and cards rendered from what a run left in the store."""
