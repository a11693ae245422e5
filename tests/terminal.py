"""A command on a pseudo-terminal, for tests of what users see and for the pictures in `docs/`."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte

# Makes standard input the process's controlling terminal, as a shell does, so that ^C reaches it.
CODE = (
    "import fcntl, runpy, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "runpy.run_module('flows', run_name='__main__', alter_sys=True)"
)

# Output that is written together arrives within this time.
FRAME_S = 0.05


@dataclass(frozen=True)
class OnTerminal:
    """A command that ended on a terminal: exit status, everything it wrote, the last screen."""

    status: int
    written: str
    screen: pyte.Screen


def nothing(_screen: pyte.Screen) -> str:
    return ""


def on_terminal(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    columns: int = 100,
    rows: int = 40,
    seconds: float = 300,
    watch: Callable[[pyte.Screen], str] = nothing,
) -> OnTerminal:
    """Run `fashion-flow ARGS...` on a terminal to its end; kill it after `seconds`.

    `watch` gets the screen after each complete change; the text it returns is typed.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments],
        cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = pyte.Screen(columns, rows)
    stream, decoder = pyte.Stream(screen), codecs.getincrementaldecoder("utf-8")()
    written = ""
    end = time.monotonic() + seconds
    try:
        while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                piece = decoder.decode(os.read(ours, 65536))
            except OSError:  # the terminal was closed
                break
            written += piece
            stream.feed(piece)
            if not select.select([ours], [], [], FRAME_S)[0]:
                os.write(ours, watch(screen).encode())
        # A process may write its last lines and end within one frame.
        watch(screen)
        status = process.wait(max(1.0, end - time.monotonic()))
    finally:
        os.close(ours)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return OnTerminal(status, written, screen)
