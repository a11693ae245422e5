"""Entry point of `fashion-flow` and `python -m flows`."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still being imported ends it quietly, too."""
    # At its end a process need not look for garbage in all that it has imported.
    atexit.register(gc.freeze)
    try:
        _prepare_streams()
        from flows.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare_streams() -> None:
    """Open what was closed, since the next file would take its number; print any path."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
