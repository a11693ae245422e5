"""Which data set a run uses: the named one, or synthetic images if Fashion-MNIST is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.recipe import stages
from flows.recipe.presets import NOTEBOOK
from flows.running import dataset_resolution
from flows.running.dataset_resolution import resolve
from tasks.core.errors import UnavailableError, UserError
from tasks.core.settings.run_settings import Settings
from tasks.engine.keys import key_of
from tasks.storage.store import Store

PROFILE: dict[str, Any] = {"device": "cpu"}


def naming(dataset: str) -> Settings:
    return NOTEBOOK.model_copy(update={"dataset": dataset})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders to which Fashion-MNIST was downloaded; it is nowhere on this machine."""
    found: list[Path] = []
    monkeypatch.setattr(dataset_resolution, "find_fashion_mnist", lambda _environ, _root: None)
    monkeypatch.setattr(
        dataset_resolution, "download_fashion_mnist", lambda folder, _log: found.append(folder)
    )
    return found


@pytest.fixture
def offline(downloads: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    def fail(_folder: Path, _log: Callable[[str], None]) -> None:
        raise UnavailableError("there is no network.")

    monkeypatch.setattr(dataset_resolution, "download_fashion_mnist", fail)
    return downloads


def test_synthetic_images_are_taken_as_they_are(store: Store) -> None:
    wanted = naming("synthetic")
    assert resolve(store, wanted, PROFILE, replaceable=True, fetch=True) == (wanted, "")


def test_a_path_becomes_absolute(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.npz").touch()
    monkeypatch.chdir(tmp_path)
    settings, notice = resolve(store, naming("mine.npz"), PROFILE, replaceable=False, fetch=True)
    assert (settings.dataset, notice) == (str(tmp_path / "mine.npz"), "")


def test_a_path_may_be_in_the_home_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    settings, _ = resolve(store, naming("~/images"), PROFILE, replaceable=False, fetch=True)
    assert settings.dataset == str(tmp_path / "images")


@pytest.mark.parametrize("replaceable", [True, False])
def test_a_path_that_does_not_exist_is_refused(store: Store, replaceable: bool) -> None:
    with pytest.raises(UserError, match=r"dataset 'fashion-mnits': expected auto, .*no such path"):
        resolve(store, naming("fashion-mnits"), PROFILE, replaceable=replaceable, fetch=True)


def test_a_missing_fashion_mnist_is_downloaded(store: Store, downloads: list[Path]) -> None:
    found = resolve(store, NOTEBOOK, PROFILE, replaceable=True, fetch=True)
    assert found == (NOTEBOOK, "")
    assert downloads == [Path("data/raw/fashion-mnist")]


def test_a_plan_downloads_nothing_but_says_what_a_run_would_do(
    store: Store, downloads: list[Path]
) -> None:
    settings, notice = resolve(store, NOTEBOOK, PROFILE, replaceable=True, fetch=False)
    assert settings == NOTEBOOK
    assert "a run would download it" in notice
    assert downloads == []


def test_synthetic_images_replace_it_only_with_a_loud_notice(
    store: Store, offline: list[Path]
) -> None:
    settings, notice = resolve(store, NOTEBOOK, PROFILE, replaceable=True, fetch=True)
    assert settings == naming("synthetic")
    assert notice.startswith("SYNTHETIC DATA: ")
    assert "there is no network." in notice
    assert offline == []


def test_what_was_asked_for_by_name_is_never_replaced(store: Store, offline: list[Path]) -> None:
    # The stage `load` then downloads it or fails.
    assert resolve(store, NOTEBOOK, PROFILE, replaceable=False, fetch=True) == (NOTEBOOK, "")
    assert offline == []


def test_files_on_this_machine_are_not_downloaded_again(
    store: Store, downloads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_resolution, "find_fashion_mnist", lambda _environ, _root: tmp_path)
    assert resolve(store, NOTEBOOK, PROFILE, replaceable=True, fetch=True) == (NOTEBOOK, "")
    assert downloads == []


def test_what_the_store_holds_is_not_downloaded_again(
    store: Store, downloads: list[Path], tmp_path: Path
) -> None:
    stage = stages.load(NOTEBOOK)
    outputs = store.writer(stage, *key_of(stage, {}, PROFILE))
    outputs.blob("x_train", "bin", b"images")
    store.commit(outputs, {})
    assert resolve(store, NOTEBOOK, PROFILE, replaceable=True, fetch=True) == (NOTEBOOK, "")
    assert downloads == []
    empty = Store(str(tmp_path / "empty"))
    resolve(empty, NOTEBOOK, PROFILE, replaceable=True, fetch=True)
    assert len(downloads) == 1, "it was the store that made the difference"
