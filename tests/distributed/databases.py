"""Databases that a test starts for itself."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import free_port

START_S = 120


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server on the loopback interface; yields its database's address for Prefect."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("initdb is not installed: apt-get install postgresql")
    # It refuses to run as root; Debian's package creates a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    if user:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs[-1].with_name(program), *arguments],
            user=user,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": password},
            stdout=subprocess.DEVNULL,
            timeout=START_S,
            check=True,
        )

    cluster = ("--pgdata", str(folder / "data"))
    where = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
    try:
        authentication = ("--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
        call("initdb", *cluster, "--username=prefect", *authentication)
        call("pg_ctl", "start", *cluster, "--wait", "--options", where, "--log", f"{folder}/log")
        try:
            call("createdb", "--host=127.0.0.1", f"--port={port}", "--username=prefect", "prefect")
            yield f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/prefect"
        finally:
            call("pg_ctl", "stop", *cluster, "--mode=immediate")
    finally:
        shutil.rmtree(folder)
