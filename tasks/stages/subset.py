"""Choose the images of the training, validation and test split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.core.data.labelled_images import Split
from tasks.core.data.splitting import choose_indices
from tasks.core.names import INDEX, RAW, TEST, TRAIN, VALIDATION
from tasks.core.stage_specs import SubsetSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import SPLIT_INDEX
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task(SubsetSpec)
def subset(spec: SubsetSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the images and labels of the three splits, and the raw position of each image."""
    facts = inputs.facts(RAW)
    names = facts["class_names"]
    train, test = (Split(**inputs.arrays(RAW, name)) for name in (TRAIN, TEST))
    chosen = choose_indices(train.labels, test.labels, names, spec.subset)
    sources = {
        TRAIN: (train, chosen.train),
        VALIDATION: (train, chosen.validation),
        TEST: (test, chosen.test),
    }
    tables = []
    for name, (source, indices) in sources.items():
        split = source.take(indices)
        outputs.arrays(name, images=split.images, labels=split.labels)
        tables.append(_index_table(name, indices, split, names))
    outputs.table(INDEX, pa.concat_tables(tables))
    sizes = {name: len(indices) for name, (_, indices) in sources.items()}
    return {"dataset": facts["dataset"], "class_names": names, "sizes": sizes}


def _index_table(name: str, indices: np.ndarray, split: Split, names: list[str]) -> pa.Table:
    return from_columns(
        SPLIT_INDEX,
        {
            "split": [name] * len(indices),
            "source_position": indices,
            "label": split.labels,
            "class": [names[label] for label in split.labels],
        },
    )
