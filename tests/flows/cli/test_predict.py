"""`fashion-flow predict` as people call it: names, exit statuses, notes and files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.cli.app import main
from tests.tasks.models.usages import USAGE, written


@pytest.fixture(scope="module")
def model(tensorflow_ready: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a network that predicts `right` for light images and `left` for dark ones."""
    import keras

    from tasks.models.model_files import save_keras

    assert tensorflow_ready
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    made = keras.Model(inputs, outputs)
    made.set_weights([np.stack([-np.ones(16), np.ones(16)], axis=1), np.array([4.0, -4.0])])
    folder = tmp_path_factory.mktemp("model")
    save_keras(made, folder / "model.keras")
    (folder / "usage.json").write_bytes(written(USAGE))
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def light(path: Path | str, level: int = 250) -> None:
    Image.new("L", (30, 40), level).save(path, "PNG")


def predicted(
    capfd: pytest.CaptureFixture[str], model: str, *arguments: str
) -> tuple[int, dict[str, Any], str]:
    """Exit status, JSON and standard error."""
    options = ("--model", model, "--invert", "no", "--json")
    status = main(["predict", *options, *arguments])
    shown = capfd.readouterr()
    return status, json.loads(shown.out) if shown.out else {}, shown.err


def test_names_that_a_shell_puts_in_place_of_a_star(
    model: str, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["-dash.png", "[brackets]*.png", "{a: 1}.png", "a,b.png", "null", "猫 'x' \"y\".png"]
    for name in names:
        light(pictures / name)
    status, _, err = predicted(capfd, model, *names)
    assert status == 2
    assert "-dash.png is taken for an option; write ./-dash.png." in err
    for arguments in (["--", *names], ["./-dash.png", *names[1:]]):
        status, found, err = predicted(capfd, model, *arguments)
        assert (status, err) == (0, "")
        assert [item["source"] for item in found["predictions"]] == names
        assert {item["class"] for item in found["predictions"]} == {"right"}


@pytest.mark.usefixtures("pictures")
def test_bad_files_stop_nothing_and_what_is_left_out_is_noted(
    model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    light("a.png")
    light("b.jfif", 5)
    for name in ("c.txt", "d.txt"):
        Path(name).write_text("?")
    status, found, err = predicted(capfd, model, ".")
    assert status == 0
    assert [item["class"] for item in found["predictions"]] == ["right", "left"]
    assert found["notes"] == [".: not read: .txt (2)."]
    assert err == "note: .: not read: .txt (2).\n"
    Path("bad.png").write_text("?")
    status, found, err = predicted(capfd, model, ".")
    assert status == 1
    assert [bool(item["error"]) for item in found["predictions"]] == [False, False, True]
    assert err.startswith("error: bad.png: is not a picture")
    assert predicted(capfd, model, "bad.png")[0] == 2
    assert predicted(capfd, model, "c.txt", "nowhere")[0] == 2


@pytest.mark.usefixtures("pictures")
def test_archives_and_arrays(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    light("a.png")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("a.png", "photos/a.png")
    np.save("x.npy", np.asfortranarray([np.ones((4, 4)), np.zeros((4, 4))]))
    status, found, _ = predicted(capfd, model, "photos.zip", "x.npy")
    assert status == 0
    assert [(item["source"], item["class"]) for item in found["predictions"]] == [
        ("photos.zip/photos/a.png", "right"),
        ("x.npy[0]", "right"),
        ("x.npy[1]", "left"),
    ]
    assert found["notes"] == ["x.npy: float64 from 0 to 1 was multiplied by 255."]
    assert predicted(capfd, model, ".")[1]["notes"][0] == ".: not read: .zip (1)."


@pytest.mark.usefixtures("pictures")
def test_many_notes_are_counted(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(13):
        np.save(f"{number:02}.npy", np.ones((1, 4, 4)))
    status, found, err = predicted(capfd, model, ".")
    assert status == 0
    assert len(found["notes"]) == 13
    assert len(err.splitlines()) == 11
    assert err.splitlines()[-1] == "note: 3 more notes; add --json to see all of them."


def test_the_page_has_the_notes(
    model: str, pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    light("a.png")
    Path("<b>.<i>").write_text("?")
    page = pictures / "page.html"
    assert main(["predict", ".", "--model", model, "--html", str(page)]) == 0
    assert "written: " in capfd.readouterr().out
    text = page.read_text()
    assert "<li>.: not read: .&lt;i&gt; (1).</li>" in text
    main(["predict", ".", "--model", model, "--html", str(page)])
    assert ".html" not in page.read_text(), "the page itself is not left out"
    main(["predict", "a.png", "--model", model, "--html", str(page)])
    assert "Notes on the files" not in page.read_text()
