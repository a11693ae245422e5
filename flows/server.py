"""The Prefect server of a run: one that is there, or a temporary one that ends with the run."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from typing import Any

log = logging.getLogger("fashion_flow")

POLL_S = 0.05
# Ends the process whose number it was told last, once nobody can tell it another.
WATCH = 'while read -r next; do pid=$next; done; kill "$pid"'


def announce_server() -> None:
    """Say which server the run goes to, and see that a temporary one does not outlive it."""
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if address:
        log.info("Prefect server: %s", re.sub(r"//[^/@]*@", "//", address))
        return
    log.info(
        "Prefect server: a temporary one is started (to see runs in the UI, first start "
        "`fashion-flow ui` in another terminal)"
    )
    threading.Thread(target=_watch, name="server-watch", daemon=True).start()


def stop_temporary_server() -> None:
    """End the temporary server, as Prefect does when a process ends in the ordinary way."""
    server = _temporary_server()
    if server is not None:
        server.stop()


def _temporary_server() -> Any:
    module = sys.modules.get("prefect.server.api.server")
    kind = getattr(module, "SubprocessASGIServer", None)
    return None if kind is None else kind()


def _watch() -> None:
    """Tell a small process of the server; it ends the server when this process is gone.

    Prefect ends its server at exit, which a process that is killed does not come to.
    """
    watcher = subprocess.Popen(  # noqa: S603 - the command is a constant
        ["/bin/sh", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Not in reach of a Ctrl-C at the terminal.
        start_new_session=True,
    )
    assert watcher.stdin is not None
    told = None
    while True:
        server = _temporary_server()
        process = None if server is None else server.server_process
        if process is not None and process.pid != told:
            told = process.pid
            watcher.stdin.write(f"{told}\n".encode())
            watcher.stdin.flush()
        time.sleep(POLL_S)
