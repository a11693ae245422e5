"""Which stages run, on what, in which order."""
