"""Look for images that stand in more than one split, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core import figures
from tasks.core.data import Split
from tasks.core.duplicates import alike_pairs
from tasks.core.errors import UserError
from tasks.stage import Facts, Inputs, Outputs, stage_task

SHOWN = 12
NAMED = 3

SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("position", pa.int64()),
        ("label", pa.int64()),
        ("other_split", pa.string()),
        ("other_position", pa.int64()),
        ("other_label", pa.int64()),
        ("similarity", pa.float32()),
        ("exact", pa.bool_()),
    ]
)

Row = dict[str, Any]


@stage_task()
def guard(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave the pairs of images that are alike, and pictures of the most alike.

    Raises:
        UserError: an image stands in two splits, and that is not allowed.
    """
    splits = {
        name: Split(**inputs.arrays("split", name)) for name in ("train", "validation", "test")
    }
    rows: list[Row] = []
    counts = []
    for one, other in settings["compared"]:
        found = alike_pairs(
            splits[one].images,
            None if one == other else splits[other].images,
            settings["similarity"],
            settings["shift"],
        )
        exact = int(found.exact.sum())
        counts.append({"splits": [one, other], "exact": exact, "near": len(found) - exact})
        columns = (found.first, found.second, found.similarity, found.exact)
        for i, j, similarity, same in zip(*(column.tolist() for column in columns), strict=True):
            rows.append(
                {
                    "split": one,
                    "position": i,
                    "label": int(splits[one].labels[i]),
                    "other_split": other,
                    "other_position": j,
                    "other_label": int(splits[other].labels[j]),
                    "similarity": similarity,
                    "exact": same,
                }
            )
    rows.sort(key=lambda row: (not row["exact"], -row["similarity"]))
    if settings["exact"] == "refuse":
        _refuse(rows, counts)
    outputs.table("pairs", pa.Table.from_pylist(rows, SCHEMA))
    # What deals the folds need not see which images are in the test split.
    training = [row for row in rows if "test" not in (row["split"], row["other_split"])]
    outputs.table("training_pairs", pa.Table.from_pylist(training, SCHEMA))
    across = [row for row in rows if row["split"] != row["other_split"]][:SHOWN]
    if across:
        names = inputs.facts("split")["class_names"]
        outputs.blob("pairs_picture", "png", _picture(splits, across, names, settings["note"]))
    return {"counts": counts}


def _refuse(rows: list[Row], counts: list[dict[str, Any]]) -> None:
    across = sum(found["exact"] for found in counts if len(set(found["splits"])) > 1)
    if not across:
        return
    first = [row for row in rows if row["exact"] and row["split"] != row["other_split"]][:NAMED]
    examples = "; ".join(
        f"{row['split']} image {row['position']} is {row['other_split']} image "
        f"{row['other_position']}"
        for row in first
    )
    raise UserError(
        f"{across} {'image stands' if across == 1 else 'images stand'} in more than one split "
        f"({examples}{' ...' if across > NAMED else ''}; positions in the splits, from 0). Scores "
        "on them say nothing of new images. Remove them from the data, or set guard.exact=allow."
    )


def _picture(splits: Mapping[str, Split], rows: list[Row], names: list[str], note: str) -> bytes:
    pairs = [
        (
            splits[row["split"]].images[row["position"]],
            splits[row["other_split"]].images[row["other_position"]],
        )
        for row in rows
    ]
    titles = [
        (
            f"{row['split']}: {names[row['label']]}",
            f"{row['other_split']}: {names[row['other_label']]}",
        )
        for row in rows
    ]
    captions = [
        "identical" if row["exact"] else f"similarity {row['similarity']:.3f}" for row in rows
    ]
    first, second = (np.stack(side) for side in zip(*pairs, strict=True))
    return figures.image_pairs(first, second, titles, captions, note)
