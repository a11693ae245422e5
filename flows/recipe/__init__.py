"""Which stages run, with which inputs, in which order."""
