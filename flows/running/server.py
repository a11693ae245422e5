"""The Prefect server of a run: one that is there, or a temporary one that ends with the run.

`fashion-flow ui` starts one that stays; it leaves its address where runs look for it.
"""

from __future__ import annotations

import atexit
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError, UserError, without_password
from tasks.storage.files import write_atomically
from tasks.storage.run_log import RunLog

log = logging.getLogger("fashion_flow")

POLL_S = 0.05
LOOPBACK = "127.0.0.1"
START_S = 120.0
STOP_S = 20.0
HEALTH_S = 2.0
# Read by Prefect when it is imported; what stands in the environment already is left alone.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's client asks the server only after it has begun.
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fashion_flow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
# What a server that stays needs beyond these. Prefect forgets what an automation waited for a
# minute after it was due, and so, after an hour without power, the runs that died with it.
SERVER_SETTINGS = PREFECT_DEFAULTS | {"PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D"}
# What Prefect gives a server that it starts for a flow: no UI, and no services but those that
# record what happens. Kinds of blocks are for the UI; to register them, a server imports every
# integration of Prefect that is installed, which takes two seconds.
TEMPORARY_SETTINGS = PREFECT_DEFAULTS | {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
# Ends the process whose number it was told last, once nobody can tell it another.
WATCH = 'while read -r next; do pid=$next; done; kill "$pid"'


def prepare_prefect() -> None:
    """Set what Prefect reads when it is imported: quiet logs, and the server of `serve_ui`."""
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    url = None if _named_by_user() else _served()
    if url:
        os.environ["PREFECT_API_URL"] = f"{url}/api"


def _named_by_user() -> str | None:
    """The server that the environment, the working folder or the active profile of Prefect names.

    Read from the files, since Prefect itself reads the environment when it is imported.
    """
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"]
    return _named_here() or _named_by_profile()


def _named_here() -> str | None:
    """The server that a file in the working folder names, in Prefect's own order."""
    if Path(".env").is_file():
        from dotenv import dotenv_values

        named = {name.upper(): value for name, value in dotenv_values(".env").items()}
        if named.get("PREFECT_API_URL"):
            return named["PREFECT_API_URL"]
    for name, tables in (("prefect.toml", ()), ("pyproject.toml", ("tool", "prefect"))):
        with suppress(OSError, ValueError, AttributeError):
            found = tomllib.loads(Path(name).read_text(encoding="utf-8"))
            for table in (*tables, "api"):
                found = found.get(table, {})
            if found.get("url"):
                return str(found["url"])
    return None


def _named_by_profile() -> str | None:
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or _prefect_home() / "profiles.toml")
    try:
        found = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or found.get("active", "")
        address = found.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, ValueError, AttributeError):
        return None
    return str(address) if address else None


def serve_ui(port: int, *, open_browser: bool) -> None:
    """Run a Prefect server on the loopback interface until Ctrl-C; runs find it by itself.

    Raises:
        UserError: something listens on that port already.
        StageError: the server did not start.
    """
    url = f"http://{LOOPBACK}:{port}"
    running = _served()
    if running:
        raise UserError(f"there is one already: {running}")
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=HEALTH_S):
        raise UserError(f"something listens on port {port} already; choose another with --port.")
    home = _prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    server_log = home / "fashion-flow-ui.log"
    settings = SERVER_SETTINGS | {"PREFECT_UI_API_URL": f"{url}/api", "PREFECT_UI_URL": url}
    arguments = ("--host", LOOPBACK, "--port", str(port))
    with server_log.open("w") as output, _terminable():
        server = subprocess.Popen(  # noqa: S603 - the command is a constant, the port a number
            [sys.executable, "-m", "prefect", "server", "start", *arguments],
            env=os.environ | settings,
            stdout=output,
            stderr=output,
            # Ctrl-C comes to this process, which ends the server.
            start_new_session=True,
        )
        _tell(_watcher(), server.pid)
        try:
            _wait_until_healthy(server, url, server_log)
            write_atomically(_address(), json.dumps({"url": url, "pid": os.getpid()}).encode())
            print(f"Prefect UI: {url}", flush=True)
            print("Runs that start from now on go there. Ctrl-C ends it.", flush=True)
            given = _named_by_user()
            if given and not given.startswith(f"{url}/"):
                where = without_password(given)
                print(f"But PREFECT_API_URL is set here: with it, runs go to {where}.", flush=True)
            if open_browser:
                webbrowser.open(url)
            server.wait()
            raise StageError(f"the server ended by itself; its log is {server_log}.")
        except KeyboardInterrupt:
            print("ended; what the server knows is kept for the next time")
        finally:
            _address().unlink(missing_ok=True)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                # It waits for a browser that keeps a connection open.
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, and Ctrl-C for what it is also where a shell had it ignored."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, server_log: Path) -> None:
    end = time.monotonic() + START_S
    while not _healthy(url):
        if server.poll() is not None or time.monotonic() > end:
            raise StageError(f"the Prefect server did not start; its log is {server_log}.")
        time.sleep(POLL_S)


def _healthy(url: str) -> bool:
    # No library of requests: it takes longer to import than a command to answer.
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=HEALTH_S)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


def _address() -> Path:
    return _prefect_home() / "fashion-flow-ui.json"


def _served() -> str | None:
    """The address of the server that `serve_ui` runs, if it does."""
    try:
        found: Mapping[str, Any] = json.loads(_address().read_text())
        url, process = str(found["url"]), int(found["pid"])
        # One that was killed leaves its address behind.
        os.kill(process, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if url.startswith(f"http://{LOOPBACK}:") and _healthy(url) else None


@dataclass(frozen=True)
class TemporaryServer:
    """A Prefect server of this process, which ends with it, however that ends."""

    url: str
    process: subprocess.Popen[bytes]
    watcher: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it, if it has not ended."""
        # Not waited for before its watcher is done: as long, nobody else can have its number.
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


def start_server() -> None:
    """Begin to start a temporary server, unless another one is named or found.

    Prefect would start one, too, but only when the flow begins, with all that its integrations
    bring, and by importing the whole server into this process. To be called before Prefect is
    imported; `await_server` waits until it answers.
    """
    if _named_by_user():
        return
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    arguments = ("--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
    place = ("--host", LOOPBACK, "--port", str(port), "--log-level", "error")
    process = subprocess.Popen(  # noqa: S603 - the command is a constant, the port a number
        [sys.executable, "-m", "uvicorn", *arguments, *place],
        env=os.environ | TEMPORARY_SETTINGS,
        stdout=subprocess.DEVNULL,
    )
    watcher = _watcher()
    _tell(watcher, process.pid)
    server = TemporaryServer(f"http://{LOOPBACK}:{port}", process, watcher)
    _temporary.append(server)
    # Prefect sends what it has kept back before that, when the process ends.
    atexit.register(server.stop)
    os.environ["PREFECT_API_URL"] = f"{server.url}/api"


def announce_server() -> None:
    """Say which server the run goes to."""
    if _temporary:
        log.info(
            "Prefect server: a temporary one is started (to see runs in the UI, first start "
            "`fashion-flow ui` in another terminal)"
        )
        return
    from prefect.settings import get_current_settings

    log.info("Prefect server: %s", without_password(get_current_settings().api.url or ""))


def await_server(run_log: Path) -> None:
    """Wait until a temporary server answers.

    Args:
        run_log: where what it writes is found.

    Raises:
        StageError: it did not start.
    """
    for server in _temporary:
        _wait_until_healthy(server.process, server.url, run_log)


def announce_run(run_log: RunLog) -> None:
    """Say where the UI shows a run, if its server is one that goes on."""
    if _temporary:
        return
    from prefect.utilities.urls import url_for

    flow_run = run_log.read()["flow_run"]
    if flow_run:
        url = url_for("flow-run", obj_id=flow_run) or ""
        log.info("in the Prefect UI: %s", without_password(url))


def stop_temporary_server() -> None:
    """End the temporary server, where this process does not end in the ordinary way."""
    for server in _temporary:
        server.stop()


def _watcher() -> subprocess.Popen[bytes]:
    """A small process that ends the process that it is told of when this one is gone.

    A process that is killed comes to nothing that it would do at its end.
    """
    return subprocess.Popen(  # noqa: S603 - the command is a constant
        ["/bin/sh", "-c", WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Not in reach of a Ctrl-C at the terminal.
        start_new_session=True,
    )


def _tell(watcher: subprocess.Popen[bytes], process: int) -> None:
    assert watcher.stdin is not None
    watcher.stdin.write(f"{process}\n".encode())
    watcher.stdin.flush()
