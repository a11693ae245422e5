"""The Prefect server of a run: an existing one, or a temporary one that ends with the run.

`fashion-flow ui` starts one that outlives runs (`flows/running/ui_server.py`).
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.running.prefect_home import server_environment, server_folder, writable_home
from flows.running.server_address import (
    LOOPBACK,
    SERVER_DEFAULTS,
    prepare_prefect,
    wait_until_healthy,
)
from flows.running.server_check import require_server
from flows.running.watcher import start_watched
from tasks.core.errors import StageError, without_password
from tasks.storage.run_log import RunLog

log = logging.getLogger("fashion_flow")

STOP_S = 20.0
# How often a temporary server is started until it answers.
STARTS = 3
# The settings of a server that Prefect itself would start for a flow: no UI, and only the services
# that record events. Block types are for the UI; to register them, a server imports every installed
# Prefect integration, which takes two seconds.
TEMPORARY_SETTINGS = SERVER_DEFAULTS | {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}


@dataclass(frozen=True)
class TemporaryServer:
    """A Prefect server of this process, which ends with it even if it is killed."""

    port: int
    process: subprocess.Popen[bytes]
    watcher: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address, without `/api`."""
        return f"http://{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        """End the server unless it has already ended."""
        # The watcher also signals the server's process id. The system does not reuse the id before
        # we wait for the server, so we do that only after the watcher has ended.
        self.process.terminate()
        assert self.watcher.stdin is not None
        self.watcher.stdin.close()
        self.watcher.wait()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_temporary: list[TemporaryServer] = []


def find_server() -> bool:
    """Find the server that a run will use, and refuse what would stop the run later.

    Returns:
        Whether there is one; else the run needs a temporary one.

    Raises:
        StageError: the server that the user named can't be used; or there is none, and a temporary
            one could not keep its database.
        UserError: Prefect's settings or a proxy are malformed.
    """
    named = prepare_prefect()
    if named:
        require_server(named)
        return True
    # The variable now names the server of `serve_ui`, if it runs.
    if os.environ.get("PREFECT_API_URL"):
        return True
    writable_home()
    return False


def start_server() -> None:
    """Start a temporary server; do not wait.

    Call this before Prefect is imported; `await_server` waits until the server answers. Prefect
    could start a server itself, but only when the flow begins, with all its integrations, and by
    importing the whole server into this process.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    # Prefect registers its own exit handlers later, so they run earlier and can still send events
    # to this server.
    atexit.register(stop_temporary_server)
    _temporary.append(_started(port))
    os.environ["PREFECT_API_URL"] = f"{_temporary[0].url}/api"


def _started(port: int) -> TemporaryServer:
    application = ("--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
    listening = ("--host", LOOPBACK, "--port", str(port), "--log-level", "error")
    process, watcher = start_watched(
        [sys.executable, "-m", "uvicorn", *application, *listening],
        env=server_environment(TEMPORARY_SETTINGS),
        cwd=server_folder(),
        output=subprocess.DEVNULL,
    )
    return TemporaryServer(port, process, watcher)


def announce_server() -> None:
    """Log which server the run uses."""
    if _temporary:
        log.info(
            "Prefect server: starting a temporary one (to see runs in the UI, first start "
            "`fashion-flow ui` in another terminal)"
        )
        return
    from prefect.settings import get_current_settings

    log.info("Prefect server: %s", without_password(get_current_settings().api.url or ""))


def await_server(run_log: Path) -> None:
    """Wait until a temporary server answers; start it again if it ends meanwhile.

    Args:
        run_log: the file with the server's output, for the message.

    Raises:
        StageError: it did not start.
    """
    for again in reversed(range(STARTS if _temporary else 0)):
        server = _temporary[0]
        try:
            return wait_until_healthy(server.process, server.url, run_log)
        except StageError:
            if not again or server.process.poll() is None:
                raise
        # Runs that start together for the first time all create the same database.
        server.stop()
        _temporary[0] = _started(server.port)
    return None


def announce_run(run_log: RunLog) -> None:
    """Log the run's address in the UI, unless its server is temporary."""
    if _temporary:
        return
    from prefect.utilities.urls import url_for

    flow_run = run_log.read()["flow_run"]
    if flow_run:
        url = url_for("flow-run", obj_id=flow_run) or ""
        log.info("in the Prefect UI: %s", without_password(url))


def stop_temporary_server() -> None:
    """End the temporary server, for a process that ends without running its exit handlers."""
    for server in _temporary:
        server.stop()
