"""The schema of every stored table, written once; columns and documentation derive from it."""
