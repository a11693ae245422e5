"""One module for each kind of stage: read inputs, call the core, write files, return facts."""
