"""From raw data to arrays and folds: load, explore, subset, preprocess and folds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.core.data.synthetic import draw_dataset
from tasks.core.errors import StageError, UserError
from tasks.core.records import Record, Stage
from tasks.core.seal import Mark
from tasks.core.settings.images import (
    GuardSettings,
    ImageSettings,
    OwnImages,
    SubsetSettings,
    SyntheticSettings,
)
from tasks.core.stage_specs import (
    ExploreSpec,
    FoldsSpec,
    GuardSpec,
    LoadSpec,
    PreprocessSpec,
    SubsetSpec,
)
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.images import DUPLICATE_PAIRS
from tasks.sources.datasets import data_set_digest
from tests.tasks.fonts import no_fonts, write_font
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images, labelled

# load


def npz(path: Path, train: int = 6, test: int = 3) -> Path:
    arrays = labelled(train, seed=1), labelled(test, seed=2)
    named = {
        f"{letter}_{split}": part[key]
        for split, part in zip(("train", "test"), arrays, strict=True)
        for letter, key in (("x", "images"), ("y", "labels"))
    }
    np.savez(path, **named, allow_pickle=False)
    return path


def test_drawn_images_are_loaded(bench: Workbench) -> None:
    spec = LoadSpec(dataset="synthetic", synthetic=SyntheticSettings(train=20, test=10, seed=3))
    done = bench.compute(Stage("load", spec))
    drawn = draw_dataset(20, 10, 3)
    for name, split in (("train", drawn.train), ("test", drawn.test)):
        stored = done.arrays(name)
        assert stored["images"].tobytes() == split.images.tobytes()
        assert stored["labels"].tobytes() == split.labels.tobytes()
    assert done.facts == {
        "dataset": "synthetic",
        "class_names": list(drawn.class_names),
        "image_shape": [28, 28, 1],
        "train": 20,
        "test": 10,
    }


def own(path: Path, test: float | None = None, **settings: Any) -> Stage:
    content = data_set_digest(str(path))
    images = ImageSettings.model_validate(settings)
    given = OwnImages(content=content, images=images, test=test, seed=0)
    return Stage("load", LoadSpec(dataset="own", own=given), data_set=str(path))


def test_the_user_s_own_images_are_loaded_in_canonical_order(
    bench: Workbench, tmp_path: Path
) -> None:
    done = bench.compute(own(npz(tmp_path / "own.npz")))
    given = images(6, seed=1)
    pixels, origins = done.arrays("train")["images"], done.rows("origins")
    for row in origins[:6]:
        number = int(re.findall(r"x_train.*?(\d+)", row["name"])[0])
        assert pixels[row["position"]].tobytes() == given[number].tobytes()
    assert [row["split"] for row in origins] == ["train"] * 6 + ["test"] * 3
    assert done.rows("test_labels") == [
        {"position": position, "label": position, "class": f"{position}"} for position in range(3)
    ]
    assert done.table("train_labels")["label"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert done.facts == {
        "dataset": "own",
        "class_names": ["0", "1", "2"],
        "image_shape": [12, 12, 1],
        "fit": "pad",
        "white": 255,
        "train": 6,
        "test": 3,
        "validation": 0,
        "test_drawn": False,
    }
    assert json.loads(done.content("reading"))["lines"] == [
        "9 images, read as 12 x 12 grey (padded where proportions differ)"
    ]


def test_the_same_images_in_another_form_and_order_are_the_same_files(
    bench: Workbench, tmp_path: Path
) -> None:
    first = bench.compute(own(npz(tmp_path / "own.npz")))
    with np.load(tmp_path / "own.npz") as archive:
        for split in ("train", "test"):
            labels = archive[f"y_{split}"]
            for number, label in reversed(list(enumerate(labels))):
                folder = tmp_path / "photos" / split / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = archive[f"x_{split}"][number, ..., 0]
                Image.fromarray(pixels).save(folder / f"{9 - number}.png")
    second = bench.compute(own(tmp_path / "photos"))
    assert first.record.key != second.record.key
    assert second.facts == first.facts
    for name in ("train", "test", "train_labels", "test_labels"):
        assert second.digests[name] == first.digests[name]


def test_the_size_and_the_test_split_follow_the_settings(bench: Workbench, tmp_path: Path) -> None:
    path = npz(tmp_path / "own.npz", train=18, test=12)
    done = bench.compute(own(path, 0.5, side=8, colour="rgb", splits="draw"))
    assert done.arrays("test")["images"].shape == (15, 8, 8, 3)
    assert done.facts["test_drawn"]


def test_what_is_loaded_of_the_test_images_is_marked(bench: Workbench, tmp_path: Path) -> None:
    """Every file has a declared origin, so that none is unmarked by mistake."""
    path = npz(tmp_path / "own.npz")
    done = bench.compute(own(path))
    assert set(done.files) | {"facts"} == set(LoadSpec.seal.origins)
    sealed = ("test", "test_labels", "origins", "reading")
    assert done.marks == {name: {Mark.TEST_IMAGES} for name in sealed}


def test_own_images_that_changed_are_another_result(bench: Workbench, tmp_path: Path) -> None:
    path = npz(tmp_path / "own.npz")
    stage = own(path)
    first = bench.compute(stage)
    npz(path, train=9)
    assert bench.compute(own(path)).facts["train"] == 9
    npz(path)
    again = bench.compute(own(path))
    assert (again.state, again.outcome) == ("Cached", first.outcome)


def test_own_images_that_change_while_they_are_read_are_not_stored(
    bench: Workbench, tmp_path: Path
) -> None:
    stage = own(npz(tmp_path / "own.npz"))
    npz(tmp_path / "own.npz", train=9)
    with pytest.raises(StageError, match=r"own\.npz has changed since the run began, so what was"):
        bench.compute(stage)


# explore


def raw(bench: Workbench, train: int = 12, test: int = 6, **changes: Any) -> Record:
    given = {"train": labelled(train, seed=1), "test": labelled(test, seed=2)}
    given["train"] |= changes
    return bench.stored("load", arrays=given, dataset="own", class_names=NAMES)


def explored(bench: Workbench, given: Record, note: str = "") -> Computed:
    stage = Stage("explore", ExploreSpec(note=note), {"raw": ("train", "test", "facts")})
    return bench.compute(stage, raw=given)


def test_classes_are_counted(bench: Workbench) -> None:
    done = explored(bench, raw(bench, train=13, test=6))
    assert done.rows("class_counts") == [
        {"class": "boot", "train": 5, "test": 2},
        {"class": "coat", "train": 4, "test": 2},
        {"class": "shirt", "train": 4, "test": 2},
    ]
    assert done.facts == {"balanced": False}
    assert explored(bench, raw(bench)).facts == {"balanced": True}


def test_the_first_images_and_the_balance_are_drawn_with_the_note(bench: Workbench) -> None:
    plain, noted = (explored(bench, raw(bench), note) for note in ("", "SYNTHETIC"))
    assert plain.files == {"samples": "png", "balance": "png", "class_counts": "parquet"}
    for name in ("samples", "balance"):
        assert plain.picture(name).tobytes() != noted.picture(name).tobytes()


# subset


def subsetted(bench: Workbench, given: Record, *, drop: Any = False, **settings: Any) -> Computed:
    spec = SubsetSpec(subset=SubsetSettings.model_validate(settings), drop_copies=drop)
    stage = Stage("subset", spec, {"raw": ("train", "test", "facts")})
    return bench.compute(stage, raw=given)


SLICES = {"method": "slices", "train": 6, "validation": 3, "test": 3}


def test_slices_are_the_first_and_the_last_images(bench: Workbench) -> None:
    given = raw(bench)
    done = subsetted(bench, given, **SLICES)
    train, test = images(12, seed=1), images(6, seed=2)
    assert done.arrays("train")["images"].tobytes() == train[:6].tobytes()
    assert done.arrays("validation")["images"].tobytes() == train[9:].tobytes()
    assert done.arrays("test")["images"].tobytes() == test[:3].tobytes()
    assert done.arrays("validation")["labels"].tolist() == [0, 1, 2]
    assert done.facts == {
        "dataset": "own",
        "class_names": NAMES,
        "fit": "pad",
        "white": 255,
        "sizes": {"train": 6, "validation": 3, "test": 3},
        "copies": {},
    }


def test_the_index_says_where_each_image_came_from(bench: Workbench) -> None:
    given = raw(bench, train=24)
    done = subsetted(bench, given, **SLICES | {"method": "stratified", "seed": 5})
    rows = done.rows("index")
    assert [row["split"] for row in rows] == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    train, test = images(24, seed=1), images(6, seed=2)
    for name, source in (("train", train), ("validation", train), ("test", test)):
        of_split = [row for row in rows if row["split"] == name]
        stored = done.arrays(name)
        chosen = source[[row["source_position"] for row in of_split]]
        assert stored["images"].tobytes() == chosen.tobytes()
        assert stored["labels"].tolist() == [row["label"] for row in of_split]
        assert [row["class"] for row in of_split] == [NAMES[row["label"]] for row in of_split]
    positions = [row["source_position"] for row in rows if row["split"] != "test"]
    assert len(set(positions)) == 9, "no image is in two splits"


def test_everything_takes_all_images(bench: Workbench) -> None:
    done = subsetted(bench, raw(bench, train=18), method="everything")
    assert done.facts["sizes"] == {"train": 15, "validation": 3, "test": 6}


def test_more_images_than_there_are_cannot_be_chosen(bench: Workbench) -> None:
    with pytest.raises(UserError, match="10 training and 3 validation images are wanted, 13 in"):
        subsetted(bench, raw(bench), **SLICES | {"train": 10})


def test_copies_stay_in_one_split(bench: Workbench) -> None:
    train, test = images(12, seed=1), images(6, seed=2)
    # Image 0 is a copy of a test image, 1 of a validation image, and 10 of another test image.
    train[0], train[1], train[10] = test[0], train[11], test[1]
    arrays = {
        "train": {"images": train, "labels": (np.arange(12) % 3).astype(np.uint8)},
        "test": {"images": test, "labels": (np.arange(6) % 3).astype(np.uint8)},
    }
    given = bench.stored("load", arrays=arrays, dataset="own", class_names=NAMES)
    settings = SLICES | {"train": 9}
    with pytest.raises(UserError, match="validation split of 2 images has none of class 'coat'"):
        subsetted(bench, given, drop=True, **settings)
    done = subsetted(bench, given, drop=True, **settings | {"train": 7, "validation": 5})
    assert done.facts["copies"] == {"train": 2, "validation": 1}
    assert done.facts["sizes"] == {"train": 5, "validation": 4, "test": 3}
    kept = [row["source_position"] for row in done.rows("index") if row["split"] == "train"]
    assert kept == [2, 3, 4, 5, 6]
    assert done.arrays("train")["images"].tobytes() == train[2:7].tobytes()


def test_own_images_keep_their_splits_groups_and_weights(bench: Workbench) -> None:
    labels = np.repeat(np.arange(3), 20).astype(np.uint8)
    arrays: Any = {
        "train": {
            "images": images(60, seed=1),
            "labels": labels,
            "groups": np.arange(60) // 2,
            "weights": np.arange(60).astype(np.float32) + 1,
        },
        "test": labelled(6, seed=2),
    }
    facts: Any = {
        "dataset": "own",
        "class_names": NAMES,
        "fit": "crop",
        "white": 4095,
        "test_drawn": True,
    }
    given = bench.stored("load", arrays=arrays, **facts, validation=0)
    spec = SubsetSpec(subset=SubsetSettings(method="everything"), drop_copies=True, own=True)
    reads = {"raw": ("train", "test", "facts")}
    done = bench.compute(Stage("subset", spec, reads), raw=given)
    assert done.facts["sizes"] == {"train": 50, "validation": 10, "test": 6}
    assert (done.facts["fit"], done.facts["white"]) == ("crop", 4095)
    train, validation = done.arrays("train"), done.arrays("validation")
    assert not set(train["groups"]) & set(validation["groups"])
    rows = done.rows("index")
    for name, found in (("train", train), ("validation", validation)):
        places = [row["source_position"] for row in rows if row["split"] == name]
        assert found["weights"].tolist() == [place + 1 for place in places]


# preprocess


def preprocessed(bench: Workbench, split: Record) -> Computed:
    reads = {"split": ("train", "validation", "test", "facts")}
    return bench.compute(Stage("preprocess", PreprocessSpec(), reads), split=split)


def test_images_and_labels_stay_as_they_are(bench: Workbench) -> None:
    done = preprocessed(bench, bench.split())
    for seed, (name, size) in enumerate((("train", 12), ("validation", 6), ("test", 6))):
        found = done.arrays(name)
        assert set(found) == {"x", "y"}
        assert found["x"].dtype == found["y"].dtype == np.uint8
        assert found["x"].shape == (size, 12, 12, 1)
        assert found["x"].tobytes() == images(size, seed=seed).tobytes()
        assert found["y"].tolist() == [n % 3 for n in range(size)]


def test_weights_and_wide_labels_are_passed_on(bench: Workbench) -> None:
    labels, weights = np.arange(6, dtype=np.uint16), np.linspace(0.5, 3, 6, dtype=np.float32)
    given: dict[str, NDArray[Any]] = {
        "images": images(6),
        "labels": labels,
        "weights": weights,
        "other": labels,
    }
    split = bench.stored(
        "subset",
        arrays=dict.fromkeys(("train", "validation", "test"), given),
        dataset="own",
        class_names=[f"class {n}" for n in range(300)],
        fit="pad",
        white=255,
    )
    found = preprocessed(bench, split).arrays("validation")
    assert set(found) == {"x", "y", "weights"}
    assert (found["y"].dtype, found["y"].tolist()) == (labels.dtype, labels.tolist())
    assert (found["weights"].dtype, found["weights"].tolist()) == (weights.dtype, weights.tolist())


def test_images_that_are_not_in_memory_are_copied_too(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.storage.npz.IN_MEMORY", 0)
    monkeypatch.setattr("tasks.core.data.rows._BLOCK", 5 * 12 * 12)
    done = preprocessed(bench, bench.split())
    assert done.arrays("train")["x"].tobytes() == images(12).tobytes()
    assert done.arrays("test")["y"].tolist() == [0, 1, 2, 0, 1, 2]
    border = [[*x[0].flat, *x[-1].flat, *x[:, 0].flat, *x[:, -1].flat] for x in images(12)]
    assert done.facts["ground"] == np.median(np.median(border, axis=1)) / 255


def test_facts_describe_the_training_images(bench: Workbench) -> None:
    train, test = (np.full((size, 12, 12, 1), 100, np.uint8) for size in (12, 6))
    train[:, 0] = train[:, -1] = train[:, :, 0] = train[:, :, -1] = 51
    test[:] = 204
    done = preprocessed(bench, bench.split(train=train, validation=test, test=test))
    assert done.facts == {
        "dataset": "own",
        "class_names": NAMES,
        "fit": "pad",
        "white": 255,
        "image_shape": [12, 12, 1],
        "ground": pytest.approx(0.2),
    }


# folds


def assigned(
    bench: Workbench, pairs: list[tuple[str, int, str, int]], seed: int = 0, replicate: int = 1
) -> Computed:
    rows = [
        {"split": one, "position": first, "other_split": other, "other_position": second}
        for one, first, other, second in pairs
    ]
    duplicates = bench.stored("guard", tables={"training_pairs": from_rows(DUPLICATE_PAIRS, rows)})
    spec = FoldsSpec(folds=3, seed=seed, replicate=replicate)
    reads = {"split": ("train", "validation", "facts"), "guard": ("training_pairs",)}
    return bench.compute(Stage("folds", spec, reads), split=bench.split(), guard=duplicates)


def test_every_image_is_in_one_fold_and_every_fold_has_each_class(bench: Workbench) -> None:
    done = assigned(bench, [])
    rows = done.rows("folds")
    # The training images in their order, then the validation images.
    assert [row["label"] for row in rows] == [0, 1, 2] * 4 + [0, 1, 2] * 2
    assert done.facts == {"sizes": [6, 6, 6]}
    for fold in (1, 2, 3):
        assert sorted(row["label"] for row in rows if row["fold"] == fold) == [0, 0, 1, 1, 2, 2]


def test_duplicates_are_held_out_together(bench: Workbench) -> None:
    """Positions count from 0 in each split; validation images follow the twelve training images."""
    alone = assigned(bench, []).table("folds")["fold"].to_pylist()
    apart = next(n for n in range(6) if alone[12 + n] != alone[1])
    done = assigned(bench, [("train", 1, "validation", apart)])
    found = done.table("folds")["fold"].to_pylist()
    assert found[1] == found[12 + apart]
    others = [n for n in range(18) if n not in (1, 12 + apart)]
    assert [found[n] for n in others] == [alone[n] for n in others]


def test_each_seed_and_replicate_has_other_folds(bench: Workbench) -> None:
    tables = [
        tuple(assigned(bench, [], seed, replicate).table("folds")["fold"].to_pylist())
        for seed, replicate in ((0, 1), (0, 2), (1, 1))
    ]
    assert len(set(tables)) == 3
    assert assigned(bench, [], 0, 2).state == "Cached"


# The seal


def test_the_mark_of_test_images_follows_them(bench: Workbench, tmp_path: Path) -> None:
    path = npz(tmp_path / "own.npz", train=18, test=6)
    data = bench.compute(own(path))
    split = subsetted(bench, data.record, method="stratified", train=9, validation=6, test=3)
    compared = (("train", "validation"), ("train", "test"))
    guard = bench.compute(
        Stage(
            "guard",
            GuardSpec(guard=GuardSettings(), compared=compared, note=""),
            {"split": ("train", "validation", "test", "facts")},
        ),
        split=split.record,
    )
    arrays = preprocessed(bench, split.record)
    folds = bench.compute(
        Stage(
            "folds",
            FoldsSpec(folds=2, seed=0, replicate=1),
            {"split": ("train", "validation", "facts"), "guard": ("training_pairs",)},
        ),
        split=split.record,
        guard=guard.record,
    )
    of_images = {Mark.TEST_IMAGES}
    assert split.marks == {"test": of_images, "index": of_images}
    assert guard.marks == {"pairs": of_images, "facts": of_images}
    assert arrays.marks == {"test": of_images}
    assert folds.marks == {}


def mirrored(changed: str, given: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The arrays of splits with one split's images mirrored."""
    return given | {changed: {**given[changed], "images": given[changed]["images"][..., ::-1, :]}}


def declared_unchanged(kind: Any, role: str, changed: str) -> set[str]:
    """Files that do not derive from the changed file by the declared origins."""
    return {
        file
        for file, origin in kind.seal.origins.items()
        if f"{role}/{changed}" not in origin.reads
    } - {"facts"}


@pytest.mark.parametrize("changed", ["train", "test"])
def test_files_of_a_subset_derive_from_nothing_but_their_declared_origins(
    bench: Workbench, changed: str
) -> None:
    given = {"train": labelled(12, seed=1), "test": labelled(6, seed=2)}
    results = [
        subsetted(bench, bench.stored("load", arrays=a, dataset="own", class_names=NAMES), **SLICES)
        for a in (given, mirrored(changed, given))
    ]
    compare_with_origins(results, SubsetSpec, "raw", changed)


@pytest.mark.parametrize("changed", ["train", "validation", "test"])
def test_arrays_derive_from_nothing_but_their_declared_origins(
    bench: Workbench, changed: str
) -> None:
    seeds = {"train": 0, "validation": 1, "test": 2}
    size = 12 if changed == "train" else 6
    other = images(size, seed=seeds[changed])[..., ::-1, :]
    results = [
        preprocessed(bench, split) for split in (bench.split(), bench.split(**{changed: other}))
    ]
    compare_with_origins(results, PreprocessSpec, "split", changed)
    if changed != "train":
        assert results[0].facts == results[1].facts


def compare_with_origins(results: list[Computed], kind: Any, role: str, changed: str) -> None:
    before, after = (done.digests for done in results)
    same = {name for name in before if before[name] == after[name]}
    assert declared_unchanged(kind, role, changed) <= same
    assert changed not in same, "the change shows where it should"


# Class names in any script


def test_names_that_no_font_has_are_drawn_as_numbers_with_a_legend(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fonts = no_fonts(monkeypatch, tmp_path / "machine")
    arrays = {"train": labelled(12, seed=1), "test": labelled(6, seed=2)}

    def drawn(*names: str) -> Computed:
        given = bench.stored("load", arrays=arrays, dataset="own", class_names=list(names))
        return explored(bench, given)

    plain = drawn("class 1", "class 2", "class 3")
    numbered = drawn("猫", "boot", "靴")
    assert numbered.content("samples") == plain.content("samples")
    assert numbered.facts["legend"] == ["猫", "boot", "靴"]
    assert "Noto Sans CJK" in numbered.facts["font_advice"]
    assert plain.facts == {"balanced": True}

    write_font(fonts / "han.ttf", "猫靴")
    named = drawn("猫", "boot", "靴")
    assert named.facts == {"balanced": True}
    assert len({one.content("samples") for one in (plain, numbered, named)}) == 2
    # The font that is in the key is the one that was drawn with.
    write_font(fonts / "han.ttf", "猫靴", height=200)
    with pytest.raises(StageError, match="was replaced while this process used it"):
        drawn("猫", "boot", "靴")
    (fonts / "han.ttf").rename(fonts / "low.ttf")
    assert drawn("猫", "boot", "靴").content("samples") != named.content("samples")
