"""Choose the images of the training, validation and test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.array_types import Int64
from tasks.core.data.image_digests import image_digests
from tasks.core.data.own_splits import Members, check_classes, choose_own, units_of
from tasks.core.data.rows import Picked, RowReader, blocks
from tasks.core.data.splitting import Indices, choose_indices
from tasks.core.names import INDEX, RAW, SPLITS, TEST, TRAIN, VALIDATION
from tasks.core.stage_specs import SubsetSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import SPLIT_INDEX
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.storage.npz import Rows

# The raw split from which each split is taken.
_RAW_OF = {TRAIN: TRAIN, VALIDATION: TRAIN, TEST: TEST}
# The arrays of a raw split: `images`, `labels` and, if there are any, `groups` and `weights`.
Raw = Mapping[str, RowReader]


@stage_task(SubsetSpec)
def subset(spec: SubsetSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the images and labels of the three splits, and the raw position of each image."""
    facts = inputs.facts(RAW)
    names = facts["class_names"]
    raw = {name: inputs.by_rows(RAW, name) for name in (TRAIN, TEST)}
    digests = {}
    if spec.own or spec.drop_copies:
        digests = {name: image_digests(split["images"]) for name, split in raw.items()}
    chosen = _chosen(spec, raw, digests, facts)
    positions = {TRAIN: chosen.train, VALIDATION: chosen.validation, TEST: chosen.test}
    source = {name: raw[_RAW_OF[name]] for name in SPLITS}
    copies: dict[str, int] = {}
    if spec.drop_copies:
        of_split = {name: digests[_RAW_OF[name]][positions[name]] for name in SPLITS}
        copies = _drop_copies(of_split, positions)
        for name in (TRAIN, VALIDATION):
            check_classes(
                source[name]["labels"][positions[name]],
                names,
                name,
                "all are copies of images in other splits; add others",
            )
    tables = []
    for name in SPLITS:
        stored = {array: Picked(rows, positions[name]) for array, rows in source[name].items()}
        outputs.arrays(
            name,
            **{array: Rows(rows.shape, rows.dtype, blocks(rows)) for array, rows in stored.items()},
        )
        tables.append(_index_table(name, positions[name], stored["labels"][:], names))
    outputs.table(INDEX, pa.concat_tables(tables))
    return {
        "dataset": facts["dataset"],
        "class_names": names,
        "fit": facts.get("fit", "pad"),
        "white": facts.get("white", 255),
        "sizes": {name: len(found) for name, found in positions.items()},
        "copies": copies,
    }


def _chosen(
    spec: SubsetSpec,
    raw: Mapping[str, Raw],
    digests: Mapping[str, NDArray[np.void]],
    facts: Mapping[str, Any],
) -> Indices:
    train, test = raw[TRAIN], raw[TEST]
    labels, test_labels = train["labels"][:], test["labels"][:]
    if not spec.own:
        return choose_indices(labels, test_labels, facts["class_names"], spec.subset)
    groups = train["groups"][:] if "groups" in train else None
    return choose_own(
        Members(labels, units_of(digests[TRAIN], groups)),
        test_labels,
        facts["class_names"],
        spec.subset,
        validation=facts["validation"],
        test_drawn=facts["test_drawn"],
    )


def _drop_copies(
    digests: Mapping[str, NDArray[np.void]], positions: dict[str, Int64]
) -> dict[str, int]:
    """Leave out images of which a later split has a copy; return how many of each split."""
    dropped = {}
    for name, later in ((TRAIN, (VALIDATION, TEST)), (VALIDATION, (TEST,))):
        others = np.concatenate([digests[other] for other in later])
        unique = np.isin(digests[name], others, invert=True)
        dropped[name] = int((~unique).sum())
        positions[name] = positions[name][unique]
    return dropped


def _index_table(name: str, indices: np.ndarray, labels: np.ndarray, names: list[str]) -> pa.Table:
    return from_columns(
        SPLIT_INDEX,
        {
            "split": [name] * len(indices),
            "source_position": indices,
            "label": labels,
            "class": [names[label] for label in labels],
        },
    )
