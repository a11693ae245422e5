"""The folder where Prefect keeps its database and profiles, and what a server there may read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import StageError

DATABASE = "prefect.db"
# Where servers of this program work; empty, so that they find no settings in it.
WORKPLACE = "fashion-flow-server"
# Variables with these beginnings, and these variables, are settings of Prefect and of uvicorn.
SERVER_PREFIXES = ("PREFECT_", "UVICORN_")
SERVER_VARIABLES = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
ADVICE = "name a folder of yours: export PREFECT_HOME=FOLDER"


def prefect_home() -> Path:
    """The folder where Prefect keeps its database and profiles.

    Raises:
        StageError: the user has no home folder.
    """
    try:
        # Prefect itself asks for the user's home even if its own folder is elsewhere.
        default = Path.home() / ".prefect"
        return Path(os.environ.get("PREFECT_HOME") or default).expanduser().absolute()
    except RuntimeError:
        raise StageError(
            "this user has no home folder, which Prefect needs; set HOME to a folder that you can "
            "write to."
        ) from None


def writable_home() -> Path:
    """The same folder, created if it does not exist, for a server that keeps its database there.

    Raises:
        StageError: it can't be written.
    """
    home = prefect_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise StageError(
            f"a Prefect server can't keep its data in {home} ({error.strerror}); {ADVICE}."
        ) from None
    database = home / DATABASE
    if database.exists() and not os.access(database, os.R_OK | os.W_OK):
        raise StageError(
            f"a Prefect server can't write its database {database}, which belongs to another "
            f"user; {ADVICE}."
        )
    return home


def server_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server of this program, which must be as our own client expects it.

    The user's settings are those of another server, or of a client: a password, another database
    or another path would keep runs from reaching this one.

    Args:
        settings: the server's own settings.
    """
    kept = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    folders = kept.get("PYTHONPATH")
    if folders:
        # The server works in another folder.
        kept["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, folders.split(os.pathsep)))
    home = {
        "PREFECT_HOME": str(prefect_home()),
        # There is none: profiles have settings, too.
        "PREFECT_PROFILES_PATH": str(prefect_home() / WORKPLACE / "profiles.toml"),
    }
    return kept | home | dict(settings)


def server_folder() -> Path:
    """The working folder of a server of this program: not the user's, whose `.env` it would read.

    Raises:
        StageError: it can't be created.
    """
    folder = prefect_home() / WORKPLACE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(
            f"a Prefect server can't work in {folder} ({error.strerror}); {ADVICE}."
        ) from None
    return folder


def _is_setting(name: str) -> bool:
    return name.upper().startswith(SERVER_PREFIXES) or name.upper() in SERVER_VARIABLES
