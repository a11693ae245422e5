"""The stages from a data set of a user's own to a trained network, in this process."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tasks.core.records import Outcome, Stage
from tasks.core.settings.images import ImageSettings, OwnImages, SubsetSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import LoadSpec, PreprocessSpec, SubsetSpec, TrainSpec
from tasks.sources.datasets import data_set_digest
from tests.support import encode_idx
from tests.tasks.stages.workbench import Computed, Workbench

SIDE, EACH = 8, 20
CLASSES = ("ant", "bee", "cow")
LABELS = np.repeat(np.arange(3), EACH)
PIXELS = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE), np.uint8)
NAMES = np.array(CLASSES)[LABELS]
TINY = TrainSettings(
    filters=(), kernel_sizes=(), pooled=(), dense=(4,), epochs=1, batch_size=5, learning_rate=0.01
)


def loaded(bench: Workbench, path: Path, **settings: Any) -> Computed:
    """What the stage `load` makes of a data set."""
    own = OwnImages(
        content=data_set_digest(str(path)),
        images=ImageSettings.model_validate(settings),
        test=None,
        seed=0,
    )
    return bench.compute(Stage("load", LoadSpec(dataset="own", own=own), data_set=str(path)))


def subsetted(bench: Workbench, raw: Outcome) -> Computed:
    """What the stage `subset` makes of it."""
    everything = SubsetSettings(method="everything")
    spec = SubsetSpec(subset=everything, drop_copies=True, own=True)
    reads = {"raw": ("train", "test", "facts")}
    return bench.compute(Stage("subset", spec, reads), raw=raw)


def preprocessed(bench: Workbench, split: Outcome) -> Computed:
    """What the stage `preprocess` makes of the splits."""
    reads = {"split": ("train", "validation", "test", "facts")}
    return bench.compute(Stage("preprocess", PreprocessSpec(), reads), split=split)


def trained(bench: Workbench, arrays: Outcome) -> Computed:
    """A network of a few weights after one epoch."""
    reads = {"arrays": ("train", "validation", "facts")}
    return bench.compute(Stage("baseline", TrainSpec(training=TINY, seed=3), reads), arrays=arrays)


def model_of(bench: Workbench, path: Path) -> Computed:
    """A network that was trained on a data set."""
    split = subsetted(bench, loaded(bench, path).outcome)
    return trained(bench, preprocessed(bench, split.outcome).outcome)


# The same sixty images in many forms


def write_folder(path: Path) -> Path:
    for number, (pixels, name) in enumerate(zip(PIXELS, NAMES, strict=True)):
        (path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / name / f"{60 - number}.png")
    return path


def write_zip(path: Path) -> Path:
    folder = write_folder(path / "photos")
    with zipfile.ZipFile(path / "photos.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(path))
    return path / "photos.zip"


def write_tar(path: Path) -> Path:
    with tarfile.open(path / "photos.tar.gz", "w:gz") as archive:
        archive.add(write_folder(path / "photos"), "photos")
    return path / "photos.tar.gz"


def write_list(path: Path, columns: dict[str, Any] | None = None) -> Path:
    """A CSV of files and classes, with further columns."""
    further = columns or {}
    lines = [",".join(["file", "label", *further])]
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(path / f"{number}.png")
        cells = [str(values[number]) for values in further.values()]
        lines.append(",".join([f"{number}.png", NAMES[number], *cells]))
    (path / "list.csv").write_text("\n".join(lines))
    return path / "list.csv"


def write_parquet(path: Path) -> Path:
    write_list(path)
    pictures = [{"bytes": (path / f"{n}.png").read_bytes(), "path": None} for n in range(60)]
    metadata = (
        '{"info": {"features": {"label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}}}}'
    )
    table = pa.table({"image": pictures, "label": LABELS})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), path / "a.parquet")
    return path / "a.parquet"


def write_npz(path: Path) -> Path:
    np.savez(path / "own.npz", x=PIXELS, y=NAMES)
    return path / "own.npz"


def write_npy(path: Path) -> Path:
    np.save(path / "images.npy", PIXELS)
    np.save(path / "labels.npy", NAMES)
    return path


def write_idx(path: Path) -> Path:
    labels: NDArray[np.uint8] = LABELS.astype(np.uint8)
    (path / "train-images-idx3-ubyte").write_bytes(encode_idx(PIXELS))
    (path / "train-labels-idx1-ubyte").write_bytes(encode_idx(labels))
    (path / "class_names.txt").write_text("\n".join(CLASSES))
    return path


def write_pixels(path: Path) -> Path:
    lines = [",".join(["label", *(f"pixel{n}" for n in range(SIDE * SIDE))])]
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        lines.append(",".join([name, *map(str, pixels.ravel())]))
    (path / "pixels.csv").write_text("\n".join(lines))
    return path / "pixels.csv"


FORMS: dict[str, Callable[[Path], Path]] = {
    "folder": write_folder,
    "zip": write_zip,
    "tar": write_tar,
    "list": write_list,
    "parquet": write_parquet,
    "npz": write_npz,
    "npy": write_npy,
    "idx": write_idx,
    "pixels": write_pixels,
}


def written(folder: Path, form: str) -> Path:
    """The sixty images in one of the forms."""
    (folder / form).mkdir(parents=True)
    return FORMS[form](folder / form)
