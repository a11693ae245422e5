"""Running the flow in this process: launch, live view, server."""
