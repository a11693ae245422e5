"""Choose the images of the training, validation and test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.data.labelled_images import Split
from tasks.core.data.splitting import choose_indices
from tasks.core.settings.images import SubsetSettings
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task()
def subset(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Cut the three splits out of the raw data; the table says where each image came from."""
    facts = inputs.facts("raw")
    names = facts["class_names"]
    train, test = (Split(**inputs.arrays("raw", name)) for name in ("train", "test"))
    chosen = choose_indices(
        train.labels, test.labels, len(names), SubsetSettings.model_validate(settings)
    )
    sources = {
        "train": (train, chosen.train),
        "validation": (train, chosen.validation),
        "test": (test, chosen.test),
    }
    tables = []
    for name, (source, indices) in sources.items():
        split = source.take(indices)
        outputs.arrays(name, images=split.images, labels=split.labels)
        tables.append(_index_table(name, indices, split, names))
    outputs.table("index", pa.concat_tables(tables))
    sizes = {name: len(indices) for name, (_, indices) in sources.items()}
    return {"dataset": facts["dataset"], "class_names": names, "sizes": sizes}


def _index_table(name: str, indices: np.ndarray, split: Split, names: list[str]) -> pa.Table:
    return pa.table(
        {
            "split": [name] * len(indices),
            "source_position": indices,
            "label": split.labels,
            "class": [names[label] for label in split.labels],
        }
    )
