"""Which labels are suspected, of which images, and what is said about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.core.names import LABEL_ERROR_COUNTS, LABEL_ERRORS, LABEL_ERRORS_PICTURE
from tasks.core.records import Outcome, Stage
from tasks.core.stage_spec import Model, Training
from tasks.core.stage_specs import LabelCheckSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import FOLD_OF_IMAGE, IMAGE_ORIGINS, SPLIT_INDEX
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images

# Twelve training images, then six validation images, their classes in turn.
TRUE = [0, 1, 2] * 6
# Training image 4 is a 1 and labelled as 2; validation image 2 is a 2 and labelled as 0.
GIVEN = [*TRUE[:4], 2, *TRUE[5:14], 0, *TRUE[15:]]
# Raw training images are in another order than the chosen ones.
RAW = [17 - number for number in range(18)]
FOLDS = [1, 2] * 9


def inputs(bench: Workbench, predicted: list[int] = TRUE, replicates: int = 1) -> dict[str, Any]:
    """A choice of splits and, for each replicate, the trainings of two folds."""
    labels = np.array(GIVEN, np.uint8)
    split = {
        "train": {"images": images(12), "labels": labels[:12]},
        "validation": {"images": images(6, seed=1), "labels": labels[12:]},
    }
    index = {
        "split": ["train"] * 12 + ["validation"] * 6 + ["test"],
        "source_position": [*RAW, 0],
        "label": [*GIVEN, 0],
        "class": [NAMES[label] for label in [*GIVEN, 0]],
    }
    made: dict[str, Any] = {
        "subset": bench.stored(
            "subset",
            arrays=split,
            tables={"index": from_columns(SPLIT_INDEX, index)},
            class_names=NAMES,
        )
    }
    for replicate in range(1, replicates + 1):
        suffix = f"_r{replicate}" if replicate > 1 else ""
        folds = FOLDS if replicate == 1 else FOLDS[::-1]
        columns = {"fold": folds, "label": GIVEN}
        made[f"folds{suffix}"] = bench.stored(
            f"folds{suffix}", tables={"folds": from_columns(FOLD_OF_IMAGE, columns)}
        )
        for fold in (1, 2):
            held_out = [number for number in range(18) if folds[number] == fold]
            made[f"winner_f{fold}{suffix}"] = bench.predicted(
                f"winner_f{fold}{suffix}",
                "validation",
                [GIVEN[number] for number in held_out],
                [predicted[number] for number in held_out],
                0.8 if replicate == 1 else 0.6,
            )
    return made


def checked(bench: Workbench, given: dict[str, Outcome], note: str = "") -> Computed:
    trainings = tuple(
        Training(
            stage=name,
            replicate=2 if name.endswith("_r2") else 1,
            fold=int(name.partition("_f")[2][0]),
            seed=0,
        )
        for name in given
        if name.startswith("winner")
    )
    model = Model(name="winner", validated=True, trainings=trainings)
    spec = LabelCheckSpec(model=model, origins="load" in given, note=note)
    files = {
        "subset": ("train", "validation", "index", "facts"),
        "load": ("origins",),
        "folds": ("folds",),
        "folds_r2": ("folds",),
    }
    reads = {role: files.get(role, ("validation_predictions",)) for role in given}
    return bench.compute(Stage("label_check", spec, reads), **given)


def test_wrong_labels_are_found_in_both_splits_and_across_folds(bench: Workbench) -> None:
    done = checked(bench, inputs(bench))
    found = {(row["split"], row["position"]): row for row in done.rows(LABEL_ERRORS)}
    assert set(found) == {("train", 4), ("validation", 2)}
    first = found["train", 4]
    assert (first["given"], first["suggested"]) == ("shirt", "coat")
    assert first["suggested_probability"] == pytest.approx(0.8)
    assert first["self_confidence"] == pytest.approx(0.1)
    assert first["source_position"] == RAW[4]
    assert found["validation", 2]["source_position"] == RAW[14]
    assert sorted(row["rank"] for row in found.values()) == [1, 2]
    assert {row["origin"] for row in found.values()} == {None}


def test_facts_and_pairs_say_how_many(bench: Workbench) -> None:
    done = checked(bench, inputs(bench))
    assert done.facts["model"] == "winner"
    assert (done.facts["images"], done.facts["suspects"]) == (18, 2)
    pairs = done.rows(LABEL_ERROR_COUNTS)
    assert {(row["given"], row["true"]) for row in pairs} == {("boot", "shirt"), ("shirt", "coat")}
    assert sum(row["images"] for row in pairs) == pytest.approx(done.facts["estimated_errors"])


def test_files_are_named_where_they_are_known(bench: Workbench) -> None:
    names = [f"photo-{number}.jpg" for number in range(18)]
    origins = {
        "split": ["train"] * 18 + ["test"],
        "position": [*range(18), 0],
        "name": [*names, "test.jpg"],
        "row": [None] * 19,
    }
    load = bench.stored("load", tables={"origins": from_columns(IMAGE_ORIGINS, origins)})
    rows = checked(bench, {**inputs(bench), "load": load}).rows(LABEL_ERRORS)
    assert {row["origin"] for row in rows} == {names[RAW[4]], names[RAW[14]]}


def test_replicates_are_averaged(bench: Workbench) -> None:
    rows = checked(bench, inputs(bench, replicates=2)).rows(LABEL_ERRORS)
    assert len(rows) == 2
    assert {round(row["suggested_probability"], 6) for row in rows} == {0.7}
    assert {round(row["self_confidence"], 6) for row in rows} == {0.15}


def test_a_picture_shows_the_suspects(bench: Workbench) -> None:
    done = checked(bench, inputs(bench), note="SYNTHETIC")
    assert done.files == {
        LABEL_ERRORS: "parquet",
        LABEL_ERROR_COUNTS: "parquet",
        LABEL_ERRORS_PICTURE: "png",
    }
    done.picture(LABEL_ERRORS_PICTURE)


def test_without_suspects_the_tables_are_empty_and_there_is_no_picture(bench: Workbench) -> None:
    done = checked(bench, inputs(bench, GIVEN))
    assert set(done.files) == {LABEL_ERRORS, LABEL_ERROR_COUNTS}
    assert done.rows(LABEL_ERRORS) == done.rows(LABEL_ERROR_COUNTS) == []
    assert (done.facts["suspects"], done.facts["estimated_errors"]) == (0, 0)
