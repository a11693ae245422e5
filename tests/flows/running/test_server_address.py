"""The server that a run uses, found before Prefect is imported, is the one that Prefect uses."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from prefect.settings.constants import DEFAULT_PROFILES_PATH
from prefect.settings.models.root import Settings

from flows.running.server_address import OWN_PROFILES, named_by_user, wait_until_healthy
from tasks.core.errors import StageError, UserError

ENV, PREFECT, PYPROJECT, PROFILE = ".env", "prefect.toml", "pyproject.toml", "home/profiles.toml"

SHORT = {ENV: "env", PREFECT: "prefect", PYPROJECT: "pyproject", PROFILE: "profile"}


def url(name: str) -> str:
    return f"http://{name}.example/api"


FILES = {
    ENV: f"prefect_api_url={url('env')}\n",
    PREFECT: f"[api]\nurl = '{url('prefect')}'\n",
    PYPROJECT: f"[tool.prefect.api]\nurl = '{url('pyproject')}'\n",
    PROFILE: f"active = 'far'\n[profiles.far]\nPREFECT_API_URL = '{url('profile')}'\n[profiles.x]",
}


@pytest.mark.parametrize(
    ("present", "named"),
    [
        ((), None),
        ((PROFILE,), "profile"),
        ((PROFILE, PYPROJECT), "pyproject"),
        ((PROFILE, PYPROJECT, PREFECT), "prefect"),
        ((PROFILE, PYPROJECT, PREFECT, ENV), "env"),
    ],
)
@pytest.mark.parametrize("in_environment", [False, True])
def test_the_named_server_is_the_one_that_prefect_uses(
    present: tuple[str, ...],
    named: str | None,
    in_environment: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "home").mkdir()
    for name in present:
        (tmp_path / name).write_text(FILES[name])
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / PROFILE))
    monkeypatch.chdir(tmp_path)
    expected = url(named) if named else None
    if in_environment:
        expected = url("environment")
        monkeypatch.setenv("PREFECT_API_URL", expected)
    assert Settings().api.url == expected
    found = named_by_user()
    assert (found and found.address) == expected
    if found:
        file = next((name for name in FILES if url(SHORT[name]) == expected), "PREFECT_API_URL")
        assert Path(file).name in found.source


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a Prefect home in it, for a user without settings."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (ENV, b"PREFECT_API_URL=\xff\n"),
        (PREFECT, b"[api\n"),
        (PYPROJECT, b"[tool.prefect\n"),
        (PROFILE, b"active = 'far'\n[profiles"),
        (PROFILE, b"\xff"),
        (PROFILE, b"profiles = 3"),
        (PROFILE, b"profiles.x = 3"),
        (PROFILE, b"active = ['x']"),
    ],
)
@pytest.mark.parametrize("address", ["", url("environment")])
def test_a_file_that_prefect_can_not_read_is_named(
    file: str, content: bytes, address: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / file).write_bytes(content)
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(UserError, match=f"^{alone / file}: Prefect can't read its settings"):
        named_by_user()


def test_a_profile_that_does_not_exist_is_not_replaced_without_a_word(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_PROFILE", "ghost")
    with pytest.raises(UserError, match="no profile 'ghost', which PREFECT_PROFILE names"):
        named_by_user()
    monkeypatch.delenv("PREFECT_PROFILE")
    (alone / PROFILE).write_text("active = 'ghost'\n[profiles.x]\n")
    with pytest.raises(UserError, match="no profile 'ghost', which its line `active` names"):
        named_by_user()


@pytest.mark.parametrize("nearer", ["PREFECT_API_URL", ENV])
def test_a_profile_that_does_not_exist_is_not_missed_if_something_nearer_names_a_server(
    nearer: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_PROFILE", "ghost")
    if nearer == ENV:
        (alone / ENV).write_text(FILES[ENV])
    else:
        monkeypatch.setenv(nearer, url("env"))
    assert Settings().api.url == url("env")
    found = named_by_user()
    assert found
    assert found.address == url("env")


@pytest.mark.usefixtures("alone")
def test_prefects_own_profiles_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    own = tomllib.loads(DEFAULT_PROFILES_PATH.read_text())["profiles"]
    assert set(own) == set(OWN_PROFILES)
    monkeypatch.setenv("PREFECT_PROFILE", OWN_PROFILES[0])
    assert named_by_user() is None


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "exit status 0"),
        (
            "12:00 DEBUG a line of ours\nTraceback (most recent call last):\n"
            "sqlite3.OperationalError: unable to open database file\n"
            "(Background on this error at: https://sqlalche.me/e/20/e3q8)\n\n",
            "sqlite3.OperationalError: unable to open database file",
        ),
        ("ERROR:    [Errno 98] address already in use\nbye\n", "ERROR:    [Errno 98] address"),
        ("E0000 00:00:1 cuda.cc:52] failed call to cuInit: CUDA error: x\n", "exit status 0"),
        ("ValueError: proxy 'http://joe:p@ss/w@far:1'\n", "ValueError: proxy 'http://far:1'"),
        (f"ValueError: {'x' * 500}\n", "ValueError: xxx"),
    ],
)
def test_a_server_that_does_not_start_says_why(log: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(log)
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(StageError) as failed:
        wait_until_healthy(ended, "http://127.0.0.1:1", tmp_path / "run.log")
    message = str(failed.value)
    assert f"did not start ({said}" in message
    # Where the path of the log is long, the middle of the message is cut.
    assert "PREFECT_HOME=FOLDER" in failed.value.whole
    assert len(message.replace(str(tmp_path), "")) <= 400
