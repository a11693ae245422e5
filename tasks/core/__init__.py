"""The maths: no Prefect, no disk, no global state."""
