"""`fashion-flow predict` with a model of a real run, on images that are good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.processes import Command, Server, latest_run

DENSE = tuple(
    part
    for model in ("low_capacity", "overfitting")
    for field in ("filters", "kernel_sizes", "pooled")
    for part in ("--set", f"{model}.{field}=[]")
)


@pytest.fixture(scope="module")
def store(
    fashion_flow: Command, shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("predict") / "store"
    done = fashion_flow(
        *("run", "--preset", "smoke", "--transfer-weights", "off", "--set", "plan=[]"),
        *(*DENSE, "--store", store, "--quiet"),
        PREFECT_API_URL=shared_server.url,
    )
    assert done.status == 0, done.err
    assert Path(done.out.strip()).is_file(), "a quiet run says where the report is, and no more"
    return store


def test_images_of_the_data_set_get_the_probabilities_of_the_run(
    store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    run = latest_run(store)
    arrays, scored = run.record("preprocess"), run.record("test_final")
    assert arrays
    assert scored
    with np.load(store / arrays.files["test"].path) as archive:
        images = np.rint(255 * archive["x"]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x=images)
    out = tmp_path / "found.parquet"
    done = fashion_flow("predict", tmp_path / "images.npz", "--store", store, "--out", out)
    assert done.status == 0, done.err
    found = pq.read_table(out).to_pydict()
    stored = pq.read_table(store / scored.files["test_predictions"].path).to_pydict()
    for column in (name for name in stored if name.startswith("p") and name[1:].isdigit()):
        assert found[f"p_{column[1:]}"] == pytest.approx(stored[column], abs=1e-5)


def test_bad_images_are_said_and_the_others_still_done(
    store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    photograph = np.full((200, 150, 3), 245, np.uint8)
    photograph[40:160, 40:110] = (40, 60, 90)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(photograph).save(folder / "light.jpg", quality=95)
    Image.fromarray(255 - photograph).save(folder / "dark.png")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes((folder / "light.jpg").read_bytes()[:400])
    out, page = tmp_path / "found.parquet", tmp_path / "page.html"
    done = fashion_flow("predict", folder, "--store", store, "--out", out, "--html", page)
    assert done.status == 1
    assert "Traceback" not in done.err
    for name in ("empty.png", "cut.jpg"):
        assert f"error: {folder / name}: " in done.err
    rows = {Path(row["source"]).name: row for row in pq.read_table(out).to_pylist()}
    assert rows["light.jpg"]["inverted"], "a dark garment on light ground"
    assert not rows["dark.png"]["inverted"]
    assert rows["light.jpg"]["class"]
    assert "1 of 2 images was inverted" in " ".join(done.out.split())
    assert "data:image/png" in page.read_text()


def test_the_model_folder_is_a_model_too(
    store: Path, fashion_flow: Command, tmp_path: Path
) -> None:
    folder = latest_run(store).model_folder
    assert {path.name for path in folder.iterdir()} >= {"README.md", "model.keras", "usage.json"}
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "black.png")
    done = fashion_flow("predict", tmp_path / "black.png", "--model", folder, "--json")
    assert done.status == 0, done.err
    missing = fashion_flow("predict", tmp_path / "none.png", "--model", folder)
    assert missing.status == 2
    assert "none.png" in missing.err
