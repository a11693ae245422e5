"""Load the raw images and labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.data.labelled_images import Dataset, Split
from tasks.core.data.synthetic import draw_dataset
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.sources.datasets import (
    RAW_FOLDER,
    download_fashion_mnist,
    find_fashion_mnist,
    read_fashion_mnist,
    read_path,
)

log = logging.getLogger("fashion_flow")


@stage_task()
def load(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Read, download or draw the data set: images as .npz, labels as Parquet, a file a split."""
    dataset = _dataset(settings, inputs.external)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        outputs.arrays(name, images=split.images, labels=split.labels)
        outputs.table(f"{name}_labels", label_table(split, dataset.class_names))
    return {
        "dataset": settings["dataset"],
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.images.shape[1:]),
        "train": len(dataset.train),
        "test": len(dataset.test),
    }


def _dataset(settings: Mapping[str, Any], files: tuple[Path, ...]) -> Dataset:
    if settings["dataset"] == "synthetic":
        return draw_dataset(settings["train"], settings["test"], settings["seed"])
    if settings["dataset"] == "fashion-mnist":
        folder = find_fashion_mnist(os.environ, Path.cwd())
        return read_fashion_mnist(folder or download_fashion_mnist(RAW_FOLDER, log.info))
    return read_path(files[0] if len(files) == 1 else files[0].parent)


def label_table(split: Split, class_names: tuple[str, ...]) -> pa.Table:
    """A row an image: its position in the split, its label and the label's name."""
    names = [class_names[label] for label in split.labels]
    return pa.table({"position": range(len(split)), "label": split.labels, "class": names})
