"""`fashion-flow predict` with a model from a real run: test images, photographs, and bad files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.cli.app import main
from tasks.storage.files import file_digest
from tasks.storage.store import Store
from tests.processes import SMALL, Command, Server, latest_run

MODEL_ONLY = (*SMALL, "--only", "test_final", "--set", "plan=[]")
CLOSED = "<&- 2>&-"
NOISE = ("Traceback", "oneDNN", "cuda", "absl", "WARNING", "Warning")


@pytest.fixture(scope="module")
def store(
    fashion_flow: Command, shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("predict") / "store"
    done = fashion_flow("run", *MODEL_ONLY, "--store", store, PREFECT_API_URL=shared_server.url)
    assert done.status == 0, done.err
    return store


@pytest.fixture(scope="module")
def copied(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate folder with only the model and its `usage.json`."""
    folder = tmp_path_factory.mktemp("copied")
    record = latest_run(store).record("final")
    assert record is not None
    for name, file in (("model", "shoes.keras"), ("usage", "usage.json")):
        shutil.copy(store / record.files[name].path, folder / file)
    return folder


def photograph(path: Path, size: tuple[int, int] = (300, 400)) -> Path:
    """A dark coat on a light wall."""
    drawn = Image.new("RGB", size, (244, 244, 240))
    drawn.paste((60, 40, 50), (size[0] // 4, size[1] // 5, size[0] * 3 // 4, size[1] * 4 // 5))
    drawn.save(path)
    return path


def test_test_images_get_the_stored_predictions(
    store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    run = latest_run(store)
    test, split, final = (run.record(name) for name in ("test_final", "subset", "final"))
    assert test
    assert split
    assert final
    images = store / split.files["test"].path
    out, page = tmp_path / "out.parquet", tmp_path / "page.html"
    done = fashion_flow("predict", images, "--out", out, "--html", page, "--store", store)
    assert done.status == 0, done.err
    assert "SYNTHETIC DATA" in done.err
    assert not any(word in done.out + done.err.replace("SYNTHETIC", "") for word in NOISE)
    assert f"final of run {run.run_id}" in done.out
    assert f"{images}[59]" in done.out
    assert "inverted," not in done.out

    table = pq.read_table(out)
    stored = Store(str(store)).table(test, "test_predictions")
    assert table.num_rows == stored.num_rows == 60
    for index in range(10):
        assert (table[f"p_{index}"].to_numpy() == stored[f"p{index}"].to_numpy()).all()
    assert not any(table["inverted"].to_pylist())
    metadata = table.schema.metadata
    assert metadata[b"model_sha256"].decode() == final.files["model"].sha256
    assert Path(metadata[b"model"].decode()) == store / final.files["model"].path
    names = json.loads(metadata[b"class_names"])
    best = [names[index] for index in stored["predicted"].to_pylist()]
    assert table["class"].to_pylist() == best
    assert page.read_text().count("<img") == 120
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "page.html"]


def test_photographs_with_a_copied_model(
    copied: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    photograph(pictures / "coat.jpg")
    photograph(pictures / "wide coat.webp", (500, 200))
    Image.new("L", (28, 28), 255).save(pictures / "exact.png")
    (pictures / "empty.png").touch()
    (pictures / "words.jpg").write_text("no picture")
    done = fashion_flow(
        "predict", pictures, "nowhere.png", pictures / "coat.jpg",
        "--model", copied, "--top", "3", "--store", tmp_path / "none", COLUMNS="80",
    )  # fmt: skip
    assert done.status == 1
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert [line.partition(": ")[2].rpartition("/")[2].split(":")[0] for line in errors] == [
        "empty.png", "words.jpg", "nowhere.png",
    ]  # fmt: skip
    assert not any(word in done.err.replace("SYNTHETIC", "") for word in NOISE)
    assert all(len(line) <= 80 for line in done.out.splitlines()[1:])
    text = " ".join(done.out.split())
    assert text.count(" % inverted") == 3
    assert text.count("%") == 3 * 4
    assert "3 of 4 images were inverted because of a light background" in text
    assert "1 of 4 images was not inverted despite a light background" in text


def test_json_is_json(copied: Path, fashion_flow: Command, tmp_path: Path) -> None:
    coat = photograph(tmp_path / "coat.png")
    done = fashion_flow(
        "predict", coat, tmp_path / "no.png", "--json", "--top", "2", "--invert", "no",
        "--model", copied / "shoes.keras",
    )  # fmt: skip
    assert done.status == 1
    found = json.loads(done.out)
    assert found["model"]["path"] == str(copied / "shoes.keras")
    assert found["model"]["sha256"] == file_digest(copied / "shoes.keras")[0]
    good, bad = found["predictions"]
    assert good["source"] == str(coat)
    assert good["class"] == good["top"][0]["class"]
    assert good["probability"] == good["top"][0]["probability"] >= good["top"][1]["probability"]
    assert good["inverted"] is False
    assert good["error"] is None
    assert bad["class"] is None
    assert "No such file" in bad["error"]


def test_without_pictures_the_status_is_2_and_nothing_is_written(
    copied: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    out = tmp_path / "out.parquet"
    done = fashion_flow("predict", tmp_path / "bare", "--model", copied, "--out", out)
    assert done.status == 2
    assert "bare: contains no pictures" in done.err
    assert done.out == ""
    assert not out.exists()


def test_mistakes_are_explained(
    copied: Path, store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    coat = photograph(tmp_path / "coat.png")
    alone = tmp_path / "alone.keras"
    shutil.copy(copied / "shoes.keras", alone)
    for arguments, message in (
        ((coat, "--store", tmp_path / "none"), "no run in"),
        ((coat, "--store", store, "--model", "iteration_1"), "models of run"),
        ((coat, "--store", store, "--run", "nope"), "no run 'nope'"),
        ((coat, "--model", alone), "usage.json is missing"),
        ((coat, "--model", copied, "--out", coat), "one of the files to be read"),
        ((coat, "--model", copied, "--out", tmp_path), "is a folder"),
        ((coat, "--model", copied, "--out", "a", "--html", "./a"), "name the same file"),
        ((coat, "--model", copied, "--invert", "maybe"), "maybe"),
        ((), "missing argument PATH"),
    ):
        done = fashion_flow("predict", *arguments)
        assert done.status == 2, arguments
        assert message in " ".join(done.err.split()), arguments
        assert "Traceback" not in done.err


def test_closed_streams_and_unprintable_names_do_not_stop_it(copied: Path, tmp_path: Path) -> None:
    odd = tmp_path / "caf\udce9"
    shutil.copytree(copied, odd)
    coat = photograph(tmp_path / "shirt \N{T-SHIRT}.png")
    call = f'exec "$0" -m flows predict "$1" "$2" --model "$3" --out "$3/out.parquet" {CLOSED}'
    done = subprocess.run(
        ["sh", "-c", call, sys.executable, coat, tmp_path / "no.png", odd],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 1
    out = done.stdout.decode("ascii")
    assert f"{tmp_path}/shirt \\U0001f455.png" in out
    assert f"written: {tmp_path}/caf\\udce9/out.parquet" in out
    table = pq.read_table(pa.BufferReader((odd / "out.parquet").read_bytes()))
    assert [error is None for error in table["error"].to_pylist()] == [True, False]
    assert b"caf\\udce9" in table.schema.metadata[b"model"]


def test_a_file_without_read_permission_is_reported_like_other_bad_files(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.png").write_text("no picture")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["predict", str(tmp_path / "words.png"), "--model", str(copied)]) == 2
    assert "words.png: is not a picture" in capfd.readouterr().err


def test_a_full_disk_is_named_once(copied: Path, tmp_path: Path) -> None:
    coat = photograph(tmp_path / "coat.png")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flows", "predict", coat, "--model", copied],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    said = "error: standard output can't be written (No space left on device)"
    assert " ".join(done.stderr.split()).count(said) == 1


def test_neither_prefect_nor_tensorflow_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, flows.cli.app, flows.cli.predict\n"
        "print(sorted({'prefect', 'keras', 'tensorflow', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_that_differs_from_its_record_is_refused(
    store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "store")
    (model,) = (tmp_path / "store" / "stages" / "final").rglob("model.keras")
    content = np.frombuffer(model.read_bytes(), np.uint8).copy()
    content[len(content) // 2] ^= 1
    model.write_bytes(content.tobytes())
    coat = photograph(tmp_path / "coat.png")
    for arguments in (("--store", tmp_path / "store"), ("--model", model)):
        done = fashion_flow("predict", coat, *arguments)
        assert done.status == 1
        assert "does not match its" in done.err
        assert "Traceback" not in done.err
