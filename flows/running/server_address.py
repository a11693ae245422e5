"""Which Prefect server a run uses, determined before Prefect is imported."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError

POLL_S = 0.05
LOOPBACK = "127.0.0.1"
START_S = 120.0
HEALTH_S = 2.0
# Prefect reads these when it is imported; variables that are already set keep their values.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's client sends its first event before it asks the server whether it may.
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fashion_flow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def prepare_prefect() -> None:
    """Set what Prefect reads when it is imported: quiet logs, and the server of `serve_ui`."""
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    url = None if named_by_user() else ui_server()
    if url:
        os.environ["PREFECT_API_URL"] = f"{url}/api"


def named_by_user() -> str | None:
    """The server that the environment, the working folder or Prefect's active profile names.

    Read from the files, because Prefect fixes its settings when it is imported.
    """
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"]
    return _named_in_folder() or _named_by_profile()


def _named_in_folder() -> str | None:
    """The server that a file in the working folder names, searched in Prefect's own order."""
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
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    try:
        found = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or found.get("active", "")
        address = found.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, ValueError, AttributeError):
        return None
    return str(address) if address else None


def prefect_home() -> Path:
    """The folder where Prefect keeps its database and profiles."""
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


def address_file() -> Path:
    """The file in which `serve_ui` stores its server's address for runs to find."""
    return prefect_home() / "fashion-flow-ui.json"


def ui_server() -> str | None:
    """The address of the server that `serve_ui` runs, or None if there is none."""
    try:
        found: Mapping[str, Any] = json.loads(address_file().read_text())
        url, process = str(found["url"]), int(found["pid"])
        # A process that was killed leaves its file behind.
        os.kill(process, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if url.startswith(f"http://{LOOPBACK}:") and _healthy(url) else None


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, server_log: Path) -> None:
    """Wait until a server that is starting answers.

    Args:
        server: its process.
        url: its address.
        server_log: the file with its output, for the message.

    Raises:
        StageError: it ended, or did not answer within `START_S`.
    """
    end = time.monotonic() + START_S
    while not _healthy(url):
        if server.poll() is not None or time.monotonic() > end:
            raise StageError(f"the Prefect server did not start; its log is {server_log}.")
        time.sleep(POLL_S)


def _healthy(url: str) -> bool:
    # The standard library suffices: importing httpx takes longer than the request.
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=HEALTH_S)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
