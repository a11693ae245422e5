"""Deal the training and validation images into folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.data.fold_assignment import assign_folds
from tasks.core.seeds import generator
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task


@stage_task()
def folds(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave the fold of each image: the training split's in its order, then the validation's."""
    parts = [inputs.arrays("split", name)["labels"] for name in ("train", "validation")]
    labels = np.concatenate(parts)
    offsets = {"train": 0, "validation": len(parts[0])}
    pairs = inputs.table("guard", "training_pairs").to_pylist()
    alike = (
        np.array([offsets[row["split"]] + row["position"] for row in pairs], np.int64),
        np.array([offsets[row["other_split"]] + row["other_position"] for row in pairs], np.int64),
    )
    rng = generator(settings["seed"], "folds", settings["replicate"])
    found = assign_folds(labels, alike, settings["folds"], rng)
    outputs.table("folds", pa.table({"fold": found, "label": labels}))
    return {"sizes": np.bincount(found)[1:].tolist()}
