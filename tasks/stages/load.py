"""Load the raw images and labels."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.core.data.labelled_images import Dataset
from tasks.core.data.synthetic import draw_dataset
from tasks.core.errors import StageError
from tasks.core.names import ORIGINS, READING, TEST, TRAIN, labels_name
from tasks.core.stage_specs import LoadSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import IMAGE_ORIGINS, LABELS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.sources.datasets import data_set_digest, opened_data_set
from tasks.sources.fashion_mnist import (
    RAW_FOLDER,
    download_fashion_mnist,
    find_fashion_mnist,
    read_fashion_mnist,
)
from tasks.sources.keras_home import UserEnvironment
from tasks.sources.own_images import check_entries, described, frame_of, report_of
from tasks.storage.npz import Rows

if TYPE_CHECKING:
    from tasks.core.data.arrangement import Part
    from tasks.sources.collection import Collection
    from tasks.sources.decoded_images import DecodedImages

log = logging.getLogger("fashion_flow")


@stage_task(LoadSpec)
def load(spec: LoadSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Read, download or draw the data set; store images and labels of both raw splits."""
    if spec.own is not None:
        with opened_data_set(inputs.data_set) as collection:
            facts = _own(spec, collection, outputs)
        if data_set_digest(inputs.data_set) != spec.own.content:
            raise StageError(
                f"{inputs.data_set} has changed since the run began, so what was read of it is "
                "not stored; start the run again."
            )
        return facts
    dataset = _dataset(spec)
    for name, split in ((TRAIN, dataset.train), (TEST, dataset.test)):
        outputs.arrays(name, images=split.images, labels=split.labels)
        outputs.table(labels_name(name), label_table(split.labels, dataset.class_names))
    return {
        "dataset": spec.dataset,
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.images.shape[1:]),
        "train": len(dataset.train),
        "test": len(dataset.test),
    }


def _dataset(spec: LoadSpec) -> Dataset:
    if spec.synthetic is not None:
        return draw_dataset(spec.synthetic.train, spec.synthetic.test, spec.synthetic.seed)
    folder = find_fashion_mnist(UserEnvironment(), Path.cwd())
    return read_fashion_mnist(folder or download_fashion_mnist(RAW_FOLDER, log.info))


def _own(spec: LoadSpec, collection: Collection, outputs: Outputs) -> Facts:
    """Decode the user's own images, and store them in their canonical order."""
    from tasks.core.data.arrangement import arranged
    from tasks.sources.decoded_images import decoded_images

    assert spec.own is not None, "only a data set of the user's own is decoded"
    settings = spec.own.images
    check_entries(collection, settings)
    frame = frame_of(collection, settings)
    with decoded_images(collection.images, frame) as pixels:
        found = described(collection, pixels, settings)
        whole = arranged(found, collection.class_names, spec.own.test, spec.own.seed)
        for name, part in ((TRAIN, whole.train), (TEST, whole.test)):
            outputs.arrays(name, **_stored(part, pixels))
            outputs.table(labels_name(name), label_table(part.labels, whole.class_names))
    outputs.table(ORIGINS, _origins(collection, whole.train, whole.test))
    report = report_of(collection, pixels.unusable, frame)
    for line in report["lines"]:
        log.info(line)
    outputs.blob(READING, "json", json.dumps(report, indent=1, ensure_ascii=False).encode())
    return {
        "dataset": spec.dataset,
        "class_names": list(whole.class_names),
        "image_shape": list(pixels.shape),
        "fit": frame.fit,
        "white": frame.white,
        "train": len(whole.train.labels),
        "test": len(whole.test.labels),
        "validation": whole.validation,
        "test_drawn": whole.test_drawn,
    }


def _stored(part: Part, pixels: DecodedImages) -> dict[str, np.ndarray | Rows]:
    further = {"groups": part.groups, "weights": part.weights}
    return {
        "images": pixels.rows(part.positions),
        "labels": part.labels,
        **{name: values for name, values in further.items() if values is not None},
    }


def _origins(collection: Collection, train: Part, test: Part) -> pa.Table:
    """Where each raw image comes from."""
    columns: dict[str, list[Any]] = {"split": [], "position": [], "name": []}
    for name, part in ((TRAIN, train), (TEST, test)):
        columns["split"] += [name] * len(part.labels)
        columns["position"] += range(len(part.labels))
        columns["name"] += [collection.entries[at].name for at in part.positions]
    return from_columns(IMAGE_ORIGINS, columns)


def label_table(labels: np.ndarray, class_names: tuple[str, ...]) -> pa.Table:
    """Return a row for each image: its position, its label and the name of its class."""
    return from_columns(
        LABELS,
        {
            "position": range(len(labels)),
            "label": labels,
            "class": [class_names[label] for label in labels],
        },
    )
