"""`fashion-flow ui`: one at a time, on the loopback interface, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import httpx

from tests.conftest import RUN_S
from tests.processes import DEAD_PROXY, Command, Start, free_port, wait_for

GONE_S = 30


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_a_server_that_is_killed_leaves_nothing_that_runs_or_misleads(
    start: Start, fashion_flow: Command, tmp_path: Path
) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    port = free_port()
    ui = start("ui", "--port", str(port), **home, **DEAD_PROXY)
    assert ui.stdout
    url = ui.stdout.readline().removeprefix("Prefect UI: ").strip()
    assert url == f"http://127.0.0.1:{port}"
    assert answers(url)
    assert json.loads((tmp_path / "prefect" / "fashion-flow-ui.json").read_text())["url"] == url

    second = fashion_flow("ui", "--port", str(free_port()), **home)
    assert second.status == 2
    assert f"a Prefect server is already running: {url}" in second.err

    os.kill(ui.pid, signal.SIGKILL)
    wait_for(lambda: not answers(url), GONE_S, "the server to end with its command")
    again = start("ui", "--port", str(port), **home)
    assert again.stdout
    assert again.stdout.readline().strip() == f"Prefect UI: {url}"


# Settings of a server for several people, in every place where Prefect looks for them. With any of
# them, our client would not reach a server of ours.
FOR_OTHERS = {
    "PREFECT_SERVER_API_AUTH_STRING": "admin:secret",
    "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/x.db",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "WEB_CONCURRENCY": "many",
}
FILES_FOR_OTHERS = {
    ".env": "PREFECT_SERVER_API_BASE_PATH=/elsewhere\nPREFECT_SERVER_API_AUTH_STRING=x:y\n",
    "prefect.toml": "[server.database]\nmigrate_on_start = false\n",
    "home/profiles.toml": (
        'active = "x"\n[profiles.x]\nPREFECT_SERVER_DATABASE_CONNECTION_URL = "postgresql+asyncpg://nowhere/x"\n'
    ),
}


def test_settings_of_other_servers_are_not_those_of_ours(start: Start, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for name, text in FILES_FOR_OTHERS.items():
        (tmp_path / name).write_text(text)
    given = {**FOR_OTHERS, "PREFECT_HOME": str(tmp_path / "home")}
    load = ("run", "--preset", "smoke", "--only", "load", "--store")
    temporary = start(*load, tmp_path / "one", **given)
    said, _ = temporary.communicate(timeout=RUN_S)
    assert temporary.returncode == 0, said
    ui = start("ui", "--port", str(free_port()), **given)
    assert ui.stdout
    assert ui.stdout.readline().startswith("Prefect UI: http://127.0.0.1:")
    with_ui = start(*load, tmp_path / "two", **given)
    said, _ = with_ui.communicate(timeout=RUN_S)
    assert with_ui.returncode == 0, said
    assert "in the Prefect UI: http://127.0.0.1:" in said


def test_a_port_that_is_taken_is_a_users_mistake(fashion_flow: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = fashion_flow("ui", "--port", str(port), PREFECT_HOME=str(tmp_path))
    assert done.status == 2
    assert f"port {port} is already in use; choose another with --port." in done.err
    assert "Traceback" not in done.err


def test_a_server_that_the_users_profile_names_is_not_overridden(
    start: Start, fashion_flow: Command, tmp_path: Path
) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    (home / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://joe:secret@127.0.0.1:1/api"\n'
    )
    ui = start("ui", "--port", str(free_port()), PREFECT_HOME=str(home))
    assert ui.stdout
    said = [ui.stdout.readline() for _ in range(3)]
    named = f"the profile 'work' in {home / 'profiles.toml'}"
    assert said[2] == f"However, {named} names another, so runs use http://127.0.0.1:1/api.\n"
    assert "secret" not in "".join(said)
    preset = ("run", "--preset", "smoke", "--only", "load", "--store", tmp_path / "store")
    done = fashion_flow(*preset, PREFECT_HOME=str(home))
    assert done.status == 1
    assert "the Prefect server http://127.0.0.1:1/api can't be reached" in done.err
    assert " ".join(done.err.split()).endswith(f"It is named by {named}.")
    assert "secret" not in done.err
    assert not (tmp_path / "store").exists()
