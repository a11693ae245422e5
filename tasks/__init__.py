"""The stages of the workflow as Prefect tasks, and the store that they share."""
