"""Keras finds no home folder; our own look-ups find the user's, also meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.sources.keras_home import NOWHERE, UserEnvironment, hidden_keras_home, keras_home


def test_the_users_folder_is_found_while_it_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "/mine")
    with hidden_keras_home():
        assert os.environ["KERAS_HOME"] == NOWHERE
        assert keras_home() == Path("/mine")
        assert UserEnvironment()["KERAS_HOME"] == "/mine"
        assert len(UserEnvironment()) == len(os.environ)
    assert os.environ["KERAS_HOME"] == "/mine"


def test_without_one_it_is_in_the_users_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERAS_HOME", "/another")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for _time in range(2):
        with hidden_keras_home():
            assert keras_home() == tmp_path / ".keras"
        assert keras_home() == tmp_path / ".keras"
        assert "KERAS_HOME" not in UserEnvironment()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(UserError, match="set KERAS_HOME to a folder"):
        keras_home()


def test_other_threads_are_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "/mine")
    found: set[Path] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found.add(keras_home())
            dict(os.environ)

    thread = threading.Thread(target=look)
    thread.start()
    for _time in range(2000):
        with hidden_keras_home():
            pass
    done.set()
    thread.join()
    assert found == {Path("/mine")}
