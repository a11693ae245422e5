"""Which Prefect server a run uses, determined before Prefect is imported."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flows.running.prefect_home import prefect_home
from tasks.core.errors import StageError, UserError, without_password
from tasks.core.messages import quoted
from tasks.storage.proxies import check_certificates, check_proxies

POLL_S = 0.05
LOOPBACK = "127.0.0.1"
# A computer whose processors are all busy needs minutes.
START_S = 300.0
HEALTH_S = 2.0
# The last line of a traceback, or of uvicorn.
ERROR = re.compile(r"(ERROR: +|\[?[\w.]*(Error|Exception)\b.*:)")
LONGEST_LINE = 120
# Prefect reads these when it is imported; variables that are already set keep their values.
PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's client sends its first event before it asks the server whether it may.
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fashion_flow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


# The profiles that Prefect itself brings.
OWN_PROFILES = ("ephemeral", "local", "test", "cloud")
# A server's log must say why it does not start: these settings apply to uvicorn's messages, too.
# Nor must a module of the working folder stand in for one of the standard library.
SERVER_DEFAULTS = PREFECT_DEFAULTS | {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
    "PYTHONSAFEPATH": "1",
}


@dataclass(frozen=True)
class NamedServer:
    """A Prefect server that the user's environment or files name.

    Attributes:
        address: the address of its API; may contain a password.
        source: what names it, for messages.
    """

    address: str
    source: str


def prepare_prefect() -> NamedServer | None:
    """Set what Prefect reads when it is imported: quiet logs, and the server of `serve_ui`.

    Returns:
        The server that the user named, which nobody has asked yet; None if there is none.

    Raises:
        StageError: the user has no home folder.
        UserError: a file with Prefect's settings can't be read, or a proxy or `SSL_CERT_FILE`
            can't be used.
    """
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    check_proxies()
    check_certificates()
    named = named_by_user()
    url = None if named else ui_server()
    if url:
        os.environ["PREFECT_API_URL"] = f"{url}/api"
    return named


def named_by_user() -> NamedServer | None:
    """The server that the environment, the working folder or Prefect's active profile names.

    Read from the files, because Prefect fixes its settings when it is imported.

    Raises:
        StageError: the user has no home folder.
        UserError: a file can't be read, with which Prefect would end with a traceback; or the
            active profile does not exist and nothing nearer says which server to use, so that
            Prefect would use another one without a word.
    """
    # Prefect reads all files, whichever of them names the server.
    in_folder, (path, profiles) = _named_in_folder(), _profiles()
    for name, value in os.environ.items():
        if name.upper() == "PREFECT_API_URL":
            return NamedServer(value, f"the environment variable {name}") if value else None
    return in_folder or _named_by_profile(path, profiles)


def _named_in_folder() -> NamedServer | None:
    """The server that a file in the working folder names, searched in Prefect's own order."""
    named = [_named_by_variables(Path(".env"))]
    for name, tables in (("prefect.toml", ()), ("pyproject.toml", ("tool", "prefect"))):
        found: Any = _read_toml(Path(name))
        for part in (*tables, "api", "url"):
            found = found.get(part) if isinstance(found, Mapping) else None
        named.append(_named_in(Path(name), found))
    return next(filter(None, named), None)


def _named_by_variables(path: Path) -> NamedServer | None:
    if not path.is_file():
        return None
    from dotenv import dotenv_values

    try:
        found = {name.upper(): value for name, value in dotenv_values(path).items()}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return _named_in(path, found.get("PREFECT_API_URL"))


def _named_in(path: Path, address: Any) -> NamedServer | None:
    return NamedServer(str(address), f"the file {path.absolute()}") if address else None


def _profiles() -> tuple[Path, Mapping[str, Any]]:
    """The file with Prefect's profiles, and its content."""
    given = os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml"
    path = Path(given).expanduser()
    found = _read_toml(path)
    profiles = found.get("profiles", {})
    if not isinstance(found.get("active", ""), str):
        raise _unreadable(path, ValueError("`active` is not the name of a profile"))
    if not isinstance(profiles, Mapping) or not all(
        isinstance(profile, Mapping) for profile in profiles.values()
    ):
        raise _unreadable(path, ValueError("`profiles` are not tables [profiles.NAME]"))
    return path, found


def _named_by_profile(path: Path, found: Mapping[str, Any]) -> NamedServer | None:
    asked = os.environ.get("PREFECT_PROFILE")
    active = asked or found.get("active", "")
    profiles = found.get("profiles", {})
    if active and active not in profiles and active not in OWN_PROFILES:
        source = "PREFECT_PROFILE" if asked else "its line `active`"
        raise UserError(
            f"{path} has no profile {quoted(active)}, which {source} names; correct that, or "
            "create the profile: prefect profile create NAME."
        )
    address = profiles.get(active, {}).get("PREFECT_API_URL")
    return NamedServer(str(address), f"the profile {active!r} in {path}") if address else None


def _read_toml(path: Path) -> Mapping[str, Any]:
    """The content of a file with Prefect's settings; empty if there is no such file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    why = (error.strerror if isinstance(error, OSError) else str(error)) or "unknown error"
    advice = "correct it, or work in another folder"
    if path.name == "profiles.toml":
        advice = "correct it, or name another folder with PREFECT_HOME=FOLDER"
    return UserError(f"{path.absolute()}: Prefect can't read its settings ({why}); {advice}.")


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
        status = server.poll()
        if status is not None or time.monotonic() > end:
            within, reason = "", f"exit status {status}"
            if status is None:
                within, reason = f" within {START_S:.0f} s", "it runs, but does not answer"
            reason = last_error(server_log) or reason
            raise StageError(
                f"the Prefect server did not start{within} ({reason}); start the command again, or "
                "name another folder for its data with PREFECT_HOME=FOLDER, or another server with "
                f"PREFECT_API_URL. Its log is {server_log}."
            )
        time.sleep(POLL_S)


def last_error(log: Path) -> str:
    """The last line of a log that names an error, cut to `LONGEST_LINE`; empty if none does."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    last = without_password(next((line for line in reversed(lines) if ERROR.match(line)), ""))
    return last if len(last) <= LONGEST_LINE else f"{last[: LONGEST_LINE - 3]}..."


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
