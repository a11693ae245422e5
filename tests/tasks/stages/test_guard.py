"""The search for duplicates: what is refused, and what is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.core.records import Record, Stage
from tasks.core.stage_specs import GuardSpec
from tests.tasks.stages.workbench import Computed, Workbench, images

ACROSS = (("train", "validation"), ("train", "test"), ("validation", "test"))
WITHIN = (("train", "train"), ("validation", "validation"))
READS = ("train", "validation", "test", "facts")

TRAIN, VALIDATION, TEST = (images(n, seed=seed) for seed, n in enumerate((12, 6, 6)))


def searched(
    bench: Workbench,
    split: Record,
    compared: tuple[tuple[str, str], ...] = ACROSS,
    **settings: Any,
) -> Computed:
    spec = GuardSpec.model_validate({"guard": settings, "compared": compared, "note": ""})
    return bench.compute(Stage("guard", spec, {"split": READS}), split=split)


def with_copies(images: np.ndarray, **copies: np.ndarray) -> np.ndarray:
    """`images` with others at the positions `at_<n>`."""
    changed = images.copy()
    for name, image in copies.items():
        changed[int(name.removeprefix("at_"))] = image
    return changed


def counted(
    one: str, other: str, exact: int = 0, near: int | None = 0, search: str = "exact"
) -> dict[str, Any]:
    return {"splits": [one, other], "exact": exact, "near": near, "search": search}


def places(done: Computed, table: str = "pairs") -> list[tuple[str, int, str, int]]:
    return [
        (row["split"], row["position"], row["other_split"], row["other_position"])
        for row in done.rows(table)
    ]


def test_different_images_leave_empty_tables_and_no_picture(bench: Workbench) -> None:
    done = searched(bench, bench.split())
    assert done.state == "Completed"
    assert done.files == {"pairs": "parquet", "training_pairs": "parquet"}
    assert done.rows("pairs") == done.rows("training_pairs") == []
    assert done.facts["counts"] == [counted(*pair) for pair in ACROSS]


def test_an_image_in_two_splits_is_refused_by_name(bench: Workbench) -> None:
    split = bench.split(validation=with_copies(VALIDATION, at_4=TRAIN[7]))
    with pytest.raises(UserError) as refused:
        searched(bench, split, exact="refuse")
    assert str(refused.value) == (
        "1 image appears in more than one split (train image 7 equals validation image 4; "
        "positions in the splits, from 0). Scores on them say nothing about new images. Set "
        "guard.exact=drop to keep each in one split only, or remove them from the data."
    )


def test_of_many_images_in_two_splits_three_are_named(bench: Workbench) -> None:
    split = bench.split(
        validation=with_copies(VALIDATION, at_0=TRAIN[0], at_1=TRAIN[1]),
        test=with_copies(TEST, at_2=TRAIN[2], at_3=TRAIN[3]),
    )
    with pytest.raises(UserError, match="4 images appear in more than one split") as refused:
        searched(bench, split, exact="refuse")
    message = str(refused.value)
    assert message.count(" image ") == 6
    assert (
        "train image 0 equals validation image 0; train image 1 equals validation image 1; "
        in message
    )
    assert "train image 2 equals test image 2 ...; positions" in message
    assert len(message) < 400


def test_copies_of_one_image_are_one_image_in_two_splits(bench: Workbench) -> None:
    split = bench.split(
        train=with_copies(TRAIN, at_1=TRAIN[0], at_2=TRAIN[0]),
        test=with_copies(TEST, at_2=TRAIN[0], at_3=TRAIN[0], at_4=TRAIN[5]),
    )
    with pytest.raises(UserError, match=r"^2 images appear in more than one split"):
        searched(bench, split, exact="refuse")


def test_an_image_in_two_splits_is_stored_if_that_is_allowed(bench: Workbench) -> None:
    split = bench.split(test=with_copies(TEST, at_5=TRAIN[3]))
    done = searched(bench, split, exact="allow")
    (row,) = done.rows("pairs")
    assert row == {
        "split": "train",
        "position": 3,
        "label": 0,
        "other_split": "test",
        "other_position": 5,
        "other_label": 2,
        "similarity": 1.0,
        "exact": True,
    }
    assert done.facts["counts"][1] == counted("train", "test", exact=1)
    assert done.picture("pairs_picture").width > 100


def test_a_similar_image_is_stored_and_not_refused(bench: Workbench) -> None:
    """Half as bright: the gradients are the same but for a factor."""
    split = bench.split(validation=with_copies(VALIDATION, at_2=TRAIN[5] // 2))
    done = searched(bench, split)
    assert places(done) == [("train", 5, "validation", 2)]
    (row,) = done.rows("pairs")
    assert not row["exact"]
    assert 0.99 < row["similarity"] < 1
    assert done.facts["counts"][0] == counted("train", "validation", near=1)


def test_the_settings_say_what_is_similar(bench: Workbench) -> None:
    noisy = np.clip(TRAIN[5].astype(int) + images(1, seed=9)[0] // 3, 0, 255).astype(np.uint8)
    # With an empty margin, so that the shift loses nothing.
    framed = np.pad(images(1, side=6, seed=9)[0], ((3, 3), (3, 3), (0, 0)))
    split = bench.split(
        train=with_copies(TRAIN, at_6=framed),
        validation=with_copies(VALIDATION, at_2=noisy, at_3=np.roll(framed, 2, axis=0)),
    )
    found = searched(bench, split, similarity=0.8)
    assert set(places(found)) == {("train", 5, "validation", 2), ("train", 6, "validation", 3)}
    assert places(searched(bench, split, similarity=0.999)) == [("train", 6, "validation", 3)]
    assert places(searched(bench, split, similarity=0.999, shift=0)) == []


def test_pairs_come_in_order_of_similarity_identical_ones_first(bench: Workbench) -> None:
    noise = images(1, seed=9)[0].astype(int)
    split = bench.split(
        validation=with_copies(VALIDATION, at_0=TRAIN[0] // 2, at_1=TRAIN[1]),
        test=with_copies(
            TEST, at_0=np.clip(TRAIN[2] + noise // 4, 0, 255).astype(np.uint8), at_1=TRAIN[3]
        ),
    )
    rows = searched(bench, split, exact="allow", similarity=0.8).rows("pairs")
    assert [row["exact"] for row in rows] == [True, True, False, False]
    similarities = [row["similarity"] for row in rows]
    assert similarities == sorted(similarities, reverse=True)


def test_training_pairs_hold_no_test_image(bench: Workbench) -> None:
    """The folds are made by them, and must not depend on the test split."""
    split = bench.split(
        train=with_copies(TRAIN, at_11=TRAIN[0]),
        validation=with_copies(VALIDATION, at_1=TRAIN[1], at_2=TEST[2]),
        test=with_copies(TEST, at_3=TRAIN[3]),
    )
    done = searched(bench, split, (*ACROSS, *WITHIN), exact="allow")
    training = [("train", 0, "train", 11), ("train", 1, "validation", 1)]
    tested = [("train", 3, "test", 3), ("validation", 2, "test", 2)]
    assert sorted(places(done)) == sorted(training + tested)
    assert sorted(places(done, "training_pairs")) == training


def test_training_pairs_do_not_change_with_the_test_images(bench: Workbench) -> None:
    validation = with_copies(VALIDATION, at_1=TRAIN[1], at_2=TRAIN[2] // 2)
    tests = (TEST, with_copies(TEST, at_0=TRAIN[1], at_1=VALIDATION[0], at_2=TRAIN[2] // 3))
    before, after = (
        searched(bench, bench.split(validation=validation, test=test), exact="allow")
        for test in tests
    )
    assert before.digests["training_pairs"] == after.digests["training_pairs"]
    assert before.digests["pairs"] != after.digests["pairs"]


def test_an_image_twice_in_one_split_is_no_reason_to_refuse(bench: Workbench) -> None:
    split = bench.split(train=with_copies(TRAIN, at_11=TRAIN[0]))
    done = searched(bench, split, (*ACROSS, *WITHIN))
    assert places(done) == [("train", 0, "train", 11)]
    assert done.facts["counts"][3] == counted("train", "train", exact=1)
    # The picture is of pairs across splits.
    assert "pairs_picture" not in done.files


def test_only_the_splits_that_are_to_be_compared_are(bench: Workbench) -> None:
    split = bench.split(test=with_copies(TEST, at_3=TRAIN[3]))
    done = searched(bench, split, (("train", "validation"),))
    assert places(done) == []
    assert [found["splits"] for found in done.facts["counts"]] == [["train", "validation"]]


def test_without_the_search_only_identical_images_are_found(bench: Workbench) -> None:
    split = bench.split(
        train=with_copies(TRAIN, at_11=TRAIN[0]),
        validation=with_copies(VALIDATION, at_2=TRAIN[5] // 2, at_3=TRAIN[6]),
        test=with_copies(TEST, at_1=TRAIN[7]),
    )
    done = searched(bench, split, (*ACROSS, *WITHIN), search="off", exact="allow")
    assert set(places(done)) == {
        ("train", 6, "validation", 3),
        ("train", 7, "test", 1),
        ("train", 0, "train", 11),
    }
    assert set(places(done, "training_pairs")) == set(places(done)) - {("train", 7, "test", 1)}
    pairs = [*ACROSS, *WITHIN]
    assert done.facts["counts"] == [
        counted(*pair, exact=exact, near=None, search="off")
        for pair, exact in zip(pairs, (1, 1, 0, 1, 0), strict=True)
    ]


def test_copies_are_refused_without_the_search_too(bench: Workbench) -> None:
    split = bench.split(test=with_copies(TEST, at_1=TRAIN[7]))
    with pytest.raises(UserError, match="1 image appears in more than one split"):
        searched(bench, split, search="off", exact="refuse")


def test_an_index_finds_what_comparing_all_pairs_finds(bench: Workbench) -> None:
    split = bench.split(validation=with_copies(VALIDATION, at_2=TRAIN[5] // 2, at_3=TRAIN[6]))
    every, index = (
        searched(bench, split, search=search, exact="allow") for search in ("exact", "index")
    )
    assert index.rows("pairs") == every.rows("pairs") != []
    assert index.facts["counts"][0] == counted(
        "train", "validation", exact=1, near=1, search="index"
    )
