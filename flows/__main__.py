"""Entry point of `fashion-flow` and `python -m flows`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still being imported ends it quietly, too."""
    try:
        from flows.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
