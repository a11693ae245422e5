"""The folder where Prefect keeps its database and profiles, and whether it can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tasks.core.errors import StageError

DATABASE = "prefect.db"
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
