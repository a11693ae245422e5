"""The Prefect server of `fashion-flow ui`, which flow runs find until Ctrl-C stops it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flows.running.prefect_home import server_environment, server_folder, writable_home
from flows.running.server_address import (
    HEALTH_S,
    LOOPBACK,
    SERVER_DEFAULTS,
    NamedServer,
    address_file,
    last_error,
    named_by_user,
    ui_server,
    wait_until_healthy,
)
from flows.running.watcher import start_watched
from tasks.core.errors import StageError, UserError, without_password
from tasks.storage.files import write_atomically
from tasks.storage.proxies import check_certificates, check_proxies

STOP_S = 20.0
# By default, Prefect forgets one minute after the deadline that it expected an event. A server that
# was off for an hour would then never retry the runs that died with it.
SERVER_SETTINGS = SERVER_DEFAULTS | {"PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D"}


def serve_ui(port: int, *, open_browser: bool) -> None:
    """Run a Prefect server on the loopback interface until Ctrl-C; runs find it automatically.

    Raises:
        UserError: such a server is already running, the port is in use, or a proxy or a file with
            Prefect's settings can't be used.
        StageError: the server did not start, it ended unexpectedly, or its folder can't be written.
    """
    check_proxies()
    check_certificates()
    named = named_by_user()
    running = ui_server()
    if running:
        raise UserError(
            f"a Prefect server is already running: {running}; open it, or stop it first."
        )
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=HEALTH_S):
        raise UserError(f"port {port} is already in use; choose another with --port.")
    url = f"http://{LOOPBACK}:{port}"
    server_log = writable_home() / "fashion-flow-ui.log"
    with _terminable(), server_log.open("w") as output, _serving(url, port, output) as server:
        wait_until_healthy(server, url, server_log)
        write_atomically(address_file(), json.dumps({"url": url, "pid": os.getpid()}).encode())
        _announce(url, named)
        if open_browser:
            webbrowser.open(url)
        server.wait()
        raise StageError(
            f"the server ended unexpectedly ({last_error(server_log) or 'no reason given'}); start "
            f"it again. Its log is {server_log}."
        )


@contextmanager
def _serving(url: str, port: int, output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server; end it on leaving the context. A Ctrl-C is a normal end."""
    settings = SERVER_SETTINGS | {"PREFECT_UI_API_URL": f"{url}/api", "PREFECT_UI_URL": url}
    arguments = ("--host", LOOPBACK, "--port", str(port))
    server, watcher = start_watched(
        [sys.executable, "-m", "prefect", "server", "start", *arguments],
        env=server_environment(settings),
        cwd=server_folder(),
        output=output,
        errors=output,
        # Ctrl-C reaches only this process, which then ends the server.
        new_session=True,
    )
    try:
        yield server
    except KeyboardInterrupt:
        print("The server has stopped; its data are kept for the next start.")
    finally:
        address_file().unlink(missing_ok=True)
        _end(server)
        # The server's process id may be reused now, and the watcher would end that process.
        watcher.kill()
        watcher.wait()


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        # Browsers may keep connections open, for which the server waits.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _announce(url: str, named: NamedServer | None) -> None:
    print(f"Prefect UI: {url}", flush=True)
    print("Runs that start from now on use this server. Press Ctrl-C to stop it.", flush=True)
    if named and not named.address.startswith(f"{url}/"):
        where = without_password(named.address)
        print(f"However, {named.source} names another, so runs use {where}.", flush=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C; handle Ctrl-C even if the shell made this process ignore it."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
