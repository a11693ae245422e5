"""Entry point of `fashion-flow` and `python -m flows`."""

from __future__ import annotations

import atexit
import io
import os
import sys
import warnings

# The exit status of the command, once it has ended.
_ended: list[int] = []


def main() -> None:
    """Run the command line; a Ctrl-C ends it quietly, even while modules are being imported."""
    # Registered before all others, so called after them.
    atexit.register(_leave)
    try:
        _prepare_streams()
        _keep_warnings_warnings()
        # Before any library opens a connection, and before other threads read the environment.
        from tasks.engine.environment import ignore_variables
        from tasks.storage.proxies import spare_loopback

        spare_loopback()
        ignore_variables()
        from flows.cli.app import main as run

        status = run()
    except KeyboardInterrupt:
        status = 130
    _ended.append(status)
    sys.exit(status)


def _leave() -> None:
    """End the process before Python takes its modules apart.

    Until Python 3.14, a library's daemon thread that wants the interpreter during that time is
    stopped wherever it is; in the middle of C++ code this aborts the whole process, whose work is
    done. It also takes time.
    """
    if not _ended:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        # Python reports it in its own way: quietly for a closed pipe, else with its status 120.
        return
    os._exit(_ended[0])


def _prepare_streams() -> None:
    """Replace closed standard streams, or opened files would get their descriptors.

    Let standard output print any path, too, even if its name is not valid in the encoding.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _keep_warnings_warnings() -> None:
    """Ignore warnings under `PYTHONWARNINGS=error`: those of libraries would fail a training."""
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("ignore")
        # Dask's workers and the server inherit it.
        os.environ.pop("PYTHONWARNINGS", None)


if __name__ == "__main__":
    main()
