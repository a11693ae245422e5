"""`python -m flows` is `fashion-flow`."""

from flows.cli import main

main()
