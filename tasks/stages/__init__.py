"""The kinds of stages: one module each, which reads, calls the core, writes and returns facts."""
