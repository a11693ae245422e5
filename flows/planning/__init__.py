"""Plan a run: which stages it would compute, and why."""
