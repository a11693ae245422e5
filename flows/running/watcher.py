"""A small process that ends another process once the process that started both is gone."""

from __future__ import annotations

import subprocess

# Reads process ids until the other end of the pipe is closed, then ends the last process.
WATCH = 'while read -r next; do pid=$next; done; kill "$pid"'


def watch(process: int) -> subprocess.Popen[bytes]:
    """Start a watcher that ends `process` when this process ends or closes the watcher's input.

    This covers processes that are killed and so can't end `process` themselves.
    """
    watcher = subprocess.Popen(  # noqa: S603 - the command is a constant
        ["/bin/sh", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # In a new session, so that Ctrl-C at the terminal does not reach it.
        start_new_session=True,
    )
    assert watcher.stdin is not None
    watcher.stdin.write(f"{process}\n".encode())
    watcher.stdin.flush()
    return watcher
