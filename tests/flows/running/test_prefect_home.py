"""A folder of Prefect that can't be written is named, and how to name another."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flows.running.prefect_home import (
    DATABASE,
    prefect_home,
    server_environment,
    server_folder,
    writable_home,
)
from tasks.core.errors import StageError


def test_the_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "new" / "home"))
    assert writable_home() == tmp_path / "new" / "home"
    assert list(writable_home().iterdir()) == []


@pytest.mark.parametrize("variable", ["PREFECT_HOME", "HOME"])
def test_a_folder_that_can_not_be_written_is_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    (tmp_path / "file").touch()
    # `/proc` refuses root, too.
    for folder in (Path("/proc/1/nope"), tmp_path / "file" / "below", tmp_path / "file"):
        monkeypatch.setenv(variable, str(folder))
        named = folder if variable == "PREFECT_HOME" else folder / ".prefect"
        with pytest.raises(StageError, match=re.escape(str(named))) as refused:
            writable_home()
        assert "export PREFECT_HOME=FOLDER" in str(refused.value)


def test_a_database_of_another_user_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / DATABASE).touch()
    writable_home()
    # Root may write everything, so that only the answer tells.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StageError, match=f"{DATABASE}, which belongs to another user"):
        writable_home()


def test_a_user_without_a_home_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "~nobody-of-that-name/prefect")
    with pytest.raises(StageError, match="has no home folder, which Prefect needs; set HOME"):
        prefect_home()


def test_a_server_of_ours_has_its_own_settings_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        *("PREFECT_SERVER_API_AUTH_STRING", "prefect_server_api_base_path", "PREFECT_PROFILE"),
        *("UVICORN_WORKERS", "WEB_CONCURRENCY", "PREFECT_API_URL"),
    )
    for name in names:
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("PYTHONPATH", f"here{os.pathsep}/there")
    monkeypatch.setenv("PREFECT_HOME", "home")
    monkeypatch.chdir(tmp_path)
    given = server_environment({"PREFECT_UI_ENABLED": "0"})
    assert "mine" not in given.values()
    assert {name for name in given if name.upper().startswith("PREFECT")} == {
        "PREFECT_HOME",
        "PREFECT_PROFILES_PATH",
        "PREFECT_UI_ENABLED",
    }
    assert given["PREFECT_HOME"] == str(tmp_path / "home")
    assert given["PYTHONPATH"] == f"{tmp_path / 'here'}{os.pathsep}/there"
    assert list(server_folder().iterdir()) == []
    assert not Path(given["PREFECT_PROFILES_PATH"]).exists()


def test_a_server_folder_that_can_not_be_created_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    server_folder().rmdir()
    (tmp_path / "fashion-flow-server").touch()
    with pytest.raises(StageError, match=r"fashion-flow-server .*export PREFECT_HOME=FOLDER"):
        server_folder()
