"""The stage that looks at all images: what it stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flows.recipe import stages
from flows.recipe.compose import compose
from flows.recipe.look import look
from tasks.core.data.synthetic import draw_dataset
from tasks.core.records import Record
from tests.tasks.stages.workbench import Computed, Workbench

DRAWN = draw_dataset(360, 120, 0)


def looked(bench: Workbench, dataset: str, *assignments: str) -> Computed:
    """What the stage makes of a data set, after the stages that it needs."""
    settings = compose("notebook", None, {"dataset": dataset}, assignments)
    raw = bench.compute(stages.load(settings)).outcome
    split = bench.compute(stages.subset(settings), raw=raw).outcome
    guard = bench.compute(stages.guard(settings), split=split).outcome
    return bench.compute(look(settings), raw=raw, split=split, guard=guard)


def npz(path: Path, **changes: Any) -> str:
    arrays = {
        "x_train": DRAWN.train.images,
        "y_train": DRAWN.train.labels,
        "x_test": DRAWN.test.images,
        "y_test": DRAWN.test.labels,
    }
    np.savez(path, allow_pickle=False, **(arrays | changes))
    return str(path)


def test_clean_images_leave_empty_tables_and_a_picture_of_each_class(
    bench: Workbench, tmp_path: Path
) -> None:
    done = looked(bench, npz(tmp_path / "own.npz"))
    assert done.files == {
        "findings": "parquet",
        "affected": "parquet",
        "class_samples": "png",
    }
    assert done.rows("findings") == done.rows("affected") == []
    assert done.picture("class_samples").width > 100
    assert done.facts["images"] == 480
    assert {split: sum(counts) for split, counts in done.facts["counts"].items()} == {
        "train": 300,
        "validation": 60,
        "test": 120,
    }
    assert [(row["split"], row["other_split"]) for row in done.facts["copies"]] == [
        ("train", "train"),
        ("test", "test"),
        ("train", "test"),
    ]
    assert done.facts["frames"] == {"sampled": 256, "with_others": 0, "among": 300}


def test_images_of_a_finding_are_named_as_their_owner_knows_them(
    bench: Workbench, tmp_path: Path
) -> None:
    images = DRAWN.train.images.copy()
    images[17] = 3
    transposed = DRAWN.test.images.swapaxes(1, 2)
    done = looked(bench, npz(tmp_path / "own.npz", x_train=images, x_test=transposed))
    found = done.rows("findings")
    assert [(row["kind"], row["level"]) for row in found] == [
        ("changed_split", "fault"),
        ("blank", "fault"),
    ]
    rows = done.rows("affected")
    (blank,) = (row for row in rows if row["finding"] == 2)
    assert blank["name"] == "x_train[17]"
    assert blank["split"] == "train"
    label = DRAWN.train.labels[17]
    assert blank["class"] == str(label)
    assert {"finding_1", "finding_2"} <= set(done.files)


def test_rows_have_an_order_and_files_in_folders_have_none(
    bench: Workbench, tmp_path: Path
) -> None:
    order = np.argsort(DRAWN.train.labels, kind="stable")
    images, labels = DRAWN.train.images[order], DRAWN.train.labels[order]
    (found,) = looked(bench, npz(tmp_path / "own.npz", x_train=images, y_train=labels)).rows(
        "findings"
    )
    assert (found["kind"], found["level"]) == ("sorted", "note")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number:03}.png")
    assert looked(bench, str(tmp_path / "photos")).rows("findings") == []


def test_a_data_set_without_splits_is_compared_with_nothing(
    bench: Workbench, tmp_path: Path
) -> None:
    images = np.concatenate([DRAWN.train.images, DRAWN.train.images[:5]])
    labels = np.concatenate([DRAWN.train.labels, (DRAWN.train.labels[:5] + 1) % 10])
    np.savez(tmp_path / "own.npz", allow_pickle=False, x=images, y=labels)
    done = looked(bench, str(tmp_path / "own.npz"))
    (found,) = done.rows("findings")
    assert found["kind"] == "two_labels"
    assert done.facts["copies"] == [
        {"split": "all", "other_split": "all", "same_label": 0, "other_label": 5}
    ]
    assert len(done.rows("affected")) == 10


def test_near_duplicates_across_splits_are_counted_by_label(
    bench: Workbench, tmp_path: Path
) -> None:
    tests = DRAWN.test.images.copy()
    tests[:8] = DRAWN.train.images[:8] // 2 * 2
    done = looked(
        bench,
        npz(tmp_path / "own.npz", x_test=tests),
        "guard.similarity=0.99",
        "guard.shift=0",
    )
    (found,) = done.rows("findings")
    assert found["kind"] == "near_duplicates"
    assert found["sentence"].startswith("8 of 120 test images")
    counts = sum(row["same_label"] + row["other_label"] for row in done.facts["near"])
    assert counts == 8


def test_fashion_mnists_and_drawn_images_need_no_files(bench: Workbench) -> None:
    sizes = ("synthetic.train=400", "synthetic.test=100", "subset.train=200")
    more = ("subset.validation=60", "subset.test=60")
    done = looked(bench, "synthetic", *sizes, *more)
    assert isinstance(done.outcome, Record)
    assert done.rows("findings") == []


def test_pictures_that_cannot_be_read_are_a_note(bench: Workbench, tmp_path: Path) -> None:
    for number, image in enumerate(DRAWN.train.images):
        folder = tmp_path / "photos" / str(DRAWN.train.labels[number])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    done = looked(bench, str(tmp_path / "photos"))
    (found,) = done.rows("findings")
    assert (found["kind"], found["level"]) == ("unreadable", "note")
    assert f"{folder.name}/broken.png" in found["sentence"]


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    path = npz(tmp_path / "own.npz", x_test=DRAWN.test.images[:, ::-1, ::-1].swapaxes(1, 2))
    one, other = (looked(Workbench(tmp_path / name), path) for name in ("one", "other"))
    assert one.digests == other.digests
    assert one.facts == other.facts
