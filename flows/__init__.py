"""The workflow: its recipe, planning, command line and execution."""
