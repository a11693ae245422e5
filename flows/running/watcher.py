"""Start a process that ends once the process that started it is gone, however that happens."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Reads process ids until nobody can write to its input any more, then ends the last process.
WATCH = 'while read -r next; do pid=$next; done; kill "$pid"'
# Tells the watcher, which reads what comes out of its standard input, the id that the command will
# have. If we told it, the command would survive us if we ended in between.
TELL = 'echo "$$" >&0; exec "$@" </dev/null'


def start_watched(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: Any = None,
    errors: Any = None,
    new_session: bool = False,
) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Start a command, and a watcher that ends it when this process ends, even if it is killed.

    Args:
        command: the program and its arguments.
        env: its environment.
        cwd: its working folder.
        output: where its output goes, as for `subprocess.Popen`.
        errors: where its errors go.
        new_session: whether it gets a session of its own, which Ctrl-C does not reach.

    Returns:
        The command's process, and the watcher's, which also ends the command when its standard
        input is closed.
    """
    watcher = _watcher()
    assert watcher.stdin is not None
    try:
        process = subprocess.Popen(  # noqa: S603 - callers give constants and numbers
            ["/bin/sh", "-c", TELL, "sh", *command],
            env=env,
            cwd=cwd,
            stdin=watcher.stdin,
            stdout=output,
            stderr=errors,
            start_new_session=new_session,
        )
    except BaseException:
        # It ends what may have been started.
        watcher.stdin.close()
        watcher.wait()
        raise
    return process, watcher


def _watcher() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the command is a constant
        ["/bin/sh", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # In a new session, so that Ctrl-C at the terminal does not reach it.
        start_new_session=True,
    )
