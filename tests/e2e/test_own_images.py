"""Images of a user's own, in every form, through the stages and by the real command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.core.data.photographs import ImageFormat, Invert
from tasks.core.records import Stage
from tasks.core.stage_specs import FoldsSpec, RetrainSpec
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.images import DUPLICATE_PAIRS
from tasks.models.usage_file import read_usage
from tasks.sources.pictures import Picture, read_pictures
from tests.deep_pictures import drawn, png, tiff
from tests.own_images import (
    EACH,
    FORMS,
    LABELS,
    PIXELS,
    TINY,
    loaded,
    model_of,
    preprocessed,
    subsetted,
    trained,
    write_folder,
    write_list,
    written,
)
from tests.processes import Command, Server, latest_run
from tests.tasks.stages.workbench import Computed, Workbench

SPLITS = ("train", "validation", "test")


@pytest.fixture
def bench(tmp_path: Path, tensorflow_ready: Mapping[str, Any]) -> Workbench:
    return Workbench(tmp_path, tensorflow_ready)


# One result, whatever the form


def test_the_same_images_have_the_same_key_from_subset_on(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    first = subsetted(bench, loaded(bench, written(tmp_path, "folder")).outcome)
    assert first.state == "Completed"
    raw_keys = set()
    for form in FORMS.keys() - {"folder"}:
        raw = loaded(bench, written(tmp_path, form))
        assert raw.state == "Completed", form
        raw_keys.add(raw.record.key)
        done = subsetted(bench, raw.outcome)
        assert (done.state, done.record.key) == ("Cached", first.record.key), form
    assert len(raw_keys) == len(FORMS) - 1, "each form was read"


@pytest.mark.parametrize("form", ["pixels", "parquet"])
def test_the_same_images_train_the_same_network(
    form: str, tmp_path: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    """In two stores, so that neither training is answered from the other's."""
    found = []
    for name in ("folder", form):
        bench = Workbench(tmp_path / f"store of {name}", tensorflow_ready)
        found.append(model_of(bench, written(tmp_path, name)))
        assert found[-1].state == "Completed"
    assert found[0].digests == found[1].digests
    assert "model" in found[0].digests


# Groups and weights


def folds_of(bench: Workbench, split: Computed) -> NDArray[Any]:
    """The folds of the training and validation images."""
    none = bench.stored("guard", tables={"training_pairs": from_rows(DUPLICATE_PAIRS, [])})
    spec = FoldsSpec(folds=4, seed=0, replicate=1)
    reads = {"split": ("train", "validation", "facts"), "guard": ("training_pairs",)}
    done = bench.compute(Stage("folds", spec, reads), split=split.outcome, guard=none)
    folds: NDArray[Any] = done.table("folds")["fold"].to_numpy()
    return folds


def test_a_group_is_in_one_split_and_one_fold(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    # Three images of a person, one of each class.
    people = {"person": [f"p{number % EACH}" for number in range(60)]}
    raw = loaded(bench, write_list(tmp_path, people))
    split = subsetted(bench, raw.outcome)
    groups = [split.arrays(name)["groups"] for name in SPLITS]
    assert sum(map(len, groups)) == 60
    assert sum(len(set(some)) for some in groups) == len(set(np.concatenate(groups))) == EACH
    folds = folds_of(bench, split)
    learned = np.concatenate(groups[:2])
    assert all(len(set(folds[learned == group])) == 1 for group in set(learned))
    assert len(set(folds)) == 4


def test_weights_change_what_is_learned_and_equal_ones_do_not(
    bench: Workbench, tmp_path: Path
) -> None:
    models = {}
    for name, weights in (("none", None), ("ones", 1.0 + 0 * LABELS), ("own", 1.0 + LABELS)):
        folder = tmp_path / name
        folder.mkdir()
        columns = None if weights is None else {"weight": weights}
        models[name] = model_of(bench, write_list(folder, columns))
    assert {done.state for done in models.values()} == {"Completed"}
    assert models["ones"].digests["model"] == models["none"].digests["model"]
    assert models["own"].digests["model"] != models["none"].digests["model"]


# Photographs


def photographs(folder: Path, mode: str = "RGB") -> Path:
    """Photographs of two classes in many sizes."""
    rng = np.random.default_rng(1)
    for number in range(24):
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        rough = rng.integers(0, 256, (9, 7, 3), np.uint8)
        large = Image.fromarray(rough).resize((200 + 31 * number, 150 + 17 * number))
        large.convert(mode).save(path)
    return folder


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_predict_sees_a_training_photograph_as_it_was_stored(mode: str, tmp_path: Path) -> None:
    """Grey ones are not inverted here, as they may be by default to suit the training images."""
    bench = Workbench(tmp_path)
    folder = photographs(tmp_path / "photos", mode)
    done = loaded(bench, folder)
    height, width, channels = done.facts["image_shape"]
    like = ImageFormat(height, width, channels, done.facts["fit"], 0.5)
    stored = {name: done.arrays(name)["images"] for name in ("train", "test")}
    rows = done.rows("origins")
    assert len(rows) == 24
    for row in rows:
        (seen,) = read_pictures([folder / row["name"]], like, invert="no")
        assert isinstance(seen, Picture)
        assert np.array_equal(seen.prepared.pixels, stored[row["split"]][row["position"]])


def test_a_file_that_is_unreadable_is_named_in_the_report(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    folder = photographs(tmp_path / "photos")
    (folder / "a" / "broken.jpg").write_bytes((folder / "a" / "0.jpg").read_bytes()[:900])
    reading = json.loads(loaded(bench, folder).content("reading"))
    (broken,) = reading["unreadable"]
    assert broken["name"] == "a/broken.jpg"
    assert "1 image can't be read: a/broken.jpg" in reading["lines"]
    assert reading["unreadable_count"] == 1


def test_images_that_do_not_fit_into_memory_give_the_same_bytes(
    tmp_path: Path, tensorflow_ready: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "npz")
    found: list[list[dict[str, str]]] = []
    for store in ("in memory", "by rows"):
        bench = Workbench(tmp_path / store, tensorflow_ready)
        raw = loaded(bench, path)
        split = subsetted(bench, raw.outcome)
        arrays = preprocessed(bench, split.outcome)
        model = trained(bench, arrays.outcome)
        found.append([done.digests for done in (raw, split, arrays, model)])
        monkeypatch.setattr("tasks.storage.npz.IN_MEMORY", 0)
        monkeypatch.setattr("tasks.core.data.rows._BLOCK", 7 * PIXELS[0].size)
        monkeypatch.setattr("tasks.sources.decoded_images._BLOCK", 5 * PIXELS[0].size)
    assert found[0] == found[1]


# More than 8 bits per channel


def deep_folder(path: Path, numbers: NDArray[np.uint16], write: Callable[..., bytes]) -> Path:
    """A folder of two classes; each picture is darker than the next."""
    for at, some in enumerate(numbers):
        file = path / "ab"[at % 2] / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write(some))
    return path


def deep_forms(path: Path, numbers: NDArray[np.uint16]) -> list[Path]:
    """The same images as a folder of PNGs, of TIFFs, in a Parquet file and as an array."""
    labels = ["ab"[at % 2] for at in range(len(numbers))]
    table = pa.table({"image": [{"bytes": png(some)} for some in numbers], "label": labels})
    pq.write_table(table, path / "own.parquet")
    np.savez(path / "own.npz", x=numbers, y=labels)
    pngs, tiffs = (deep_folder(path / kind.__name__, numbers, kind) for kind in (png, tiff))
    return [pngs, tiffs, path / "own.parquet", path / "own.npz"]


def graded(channels: int, white: int) -> NDArray[np.uint16]:
    """Twelve images, the first of which has only a twelfth of the brightness of the last."""
    steps = np.arange(1, 13).reshape(-1, 1, 1, 1) / 12
    return (drawn(12, 9, 9, channels, highest=white) * steps).astype(np.uint16)


@pytest.mark.parametrize("white", [1_023, 4_095, 65_535])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_pictures_and_deep_arrays_share_their_keys(
    channels: int, white: int, tmp_path: Path
) -> None:
    numbers = graded(channels, white)
    bench, keys = Workbench(tmp_path), set()
    for path in deep_forms(tmp_path, numbers):
        raw = loaded(bench, path)
        assert raw.facts["white"] == white, path
        keys.add(subsetted(bench, raw.outcome).record.key)
    assert len(keys) == 1
    stored = np.concatenate([raw.arrays(name)["images"] for name in ("train", "test")])
    expected = np.floor(numbers * (255 / white) + 0.5)
    assert sorted(map(np.ndarray.tobytes, stored)) == sorted(
        map(np.ndarray.tobytes, expected.astype(np.uint8))
    )
    # The brightness between images remains.
    assert np.sort(stored.max(axis=(1, 2, 3)))[0] <= 255 // 12 + 1


def test_pictures_of_8_and_of_more_bits_have_a_white_each(tmp_path: Path) -> None:
    folder = deep_folder(tmp_path / "photos", graded(1, 4_095), png)
    eight = np.random.default_rng(1).integers(0, 256, (12, 9, 9), np.uint8)
    for at, pixels in enumerate(eight):
        Image.fromarray(pixels).save(folder / "ab"[at % 2] / f"eight {at}.png")
    bench = Workbench(tmp_path)
    done = loaded(bench, folder)
    said = json.loads(done.content("reading"))["lines"]
    assert "white is 4,095 in images of more than 8 bits per channel, and 255 in others" in said
    stored = np.concatenate([done.arrays(name)["images"] for name in ("train", "test")])
    assert {pixels.tobytes() for pixels in eight} < set(map(np.ndarray.tobytes, stored))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [9, 28])
def test_predict_gives_deep_pictures_the_white_of_the_training(
    channels: int, side: int, tmp_path: Path, tensorflow_ready: Mapping[str, Any]
) -> None:
    """With the real `usage.json`; a dark picture alone would say that white is less."""
    bench = Workbench(tmp_path, tensorflow_ready)
    raw = loaded(bench, deep_folder(tmp_path / "photos", graded(channels, 4_095), png), side=side)
    arrays = preprocessed(bench, subsetted(bench, raw.outcome).outcome)
    reads = {"arrays": ("train", "validation", "facts")}
    spec = RetrainSpec(training=TINY, seed=3)
    final = bench.compute(Stage("final", spec, reads), arrays=arrays.outcome)
    usage = read_usage(final.content("usage"), "usage.json")
    assert usage.image.white == 4_095
    stored = {name: raw.arrays(name)["images"] for name in ("train", "test")}
    numbers = graded(channels, 4_095)
    np.save(tmp_path / "dark.npy", numbers[:3])
    for row in raw.rows("origins"):
        path = tmp_path / "photos" / row["name"]
        image = stored[row["split"]][row["position"]]
        invert: Invert = "auto" if side == 9 else "no"
        (seen,) = read_pictures([path], usage.image_format, invert=invert)
        assert isinstance(seen, Picture)
        assert np.array_equal(seen.prepared.pixels, image)
        if (at := int(path.stem)) < 3:
            of_array = list(read_pictures([tmp_path / "dark.npy"], usage.image_format, invert))[at]
            assert isinstance(of_array, Picture)
            assert np.array_equal(of_array.prepared.pixels, image)


# By the real command


def test_a_folder_and_a_table_of_its_pictures_share_all_but_their_reading(
    fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "photos")
    (folder / "ant" / "broken.png").write_bytes(b"no picture")
    store = tmp_path / "store"
    states = []
    for path in (folder, written(tmp_path, "parquet")):
        done = fashion_flow(
            "run", "--dataset", path, "--only", "subset", "--store", store,
            PREFECT_API_URL=shared_server.url,
        )  # fmt: skip
        assert done.status == 0, done.err
        run = latest_run(store)
        states.append({entry["stage"]: entry["state"] for entry in run.stages()})
    assert states == [
        {"load": "completed", "subset": "completed"},
        {"load": "completed", "subset": "cached"},
    ]
