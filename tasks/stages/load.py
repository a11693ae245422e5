"""Load the raw images and labels."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from tasks.core.data.labelled_images import Dataset, Split
from tasks.core.data.synthetic import draw_dataset
from tasks.core.names import TEST, TRAIN, labels_name
from tasks.core.stage_specs import LoadSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import LABELS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.sources.datasets import read_dataset
from tasks.sources.fashion_mnist import (
    RAW_FOLDER,
    download_fashion_mnist,
    find_fashion_mnist,
    read_fashion_mnist,
)
from tasks.sources.keras_home import UserEnvironment

log = logging.getLogger("fashion_flow")


@stage_task(LoadSpec)
def load(spec: LoadSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Read, download or draw the data set; store images and labels of both raw splits."""
    dataset = _dataset(spec, inputs.external)
    for name, split in ((TRAIN, dataset.train), (TEST, dataset.test)):
        outputs.arrays(name, images=split.images, labels=split.labels)
        outputs.table(labels_name(name), label_table(split, dataset.class_names))
    return {
        "dataset": spec.dataset,
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.images.shape[1:]),
        "train": len(dataset.train),
        "test": len(dataset.test),
    }


def _dataset(spec: LoadSpec, files: tuple[Path, ...]) -> Dataset:
    if spec.synthetic is not None:
        return draw_dataset(spec.synthetic.train, spec.synthetic.test, spec.synthetic.seed)
    if spec.dataset == "fashion-mnist":
        folder = find_fashion_mnist(UserEnvironment(), Path.cwd())
        return read_fashion_mnist(folder or download_fashion_mnist(RAW_FOLDER, log.info))
    return read_dataset(files[0] if len(files) == 1 else files[0].parent)


def label_table(split: Split, class_names: tuple[str, ...]) -> pa.Table:
    """Return a row for each image: its position, its label and the name of its class."""
    return from_columns(
        LABELS,
        {
            "position": range(len(split)),
            "label": split.labels,
            "class": [class_names[label] for label in split.labels],
        },
    )
