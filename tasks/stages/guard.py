"""Look for images that stand in more than one split, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.duplicates import Pairs, find_duplicates
from tasks.core.data.image_descriptors import describe_images, principal_axes
from tasks.core.data.labelled_images import Split
from tasks.core.drawing import image_grids
from tasks.core.errors import UserError
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

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
        UserError: an image stands in two splits, and that is not allowed; or very many are alike.
    """
    splits = {
        name: Split(**inputs.arrays("split", name)) for name in ("train", "validation", "test")
    }
    tables, counts = _search(splits, settings)
    pairs = pa.concat_tables(tables).combine_chunks()
    order = np.lexsort((-pairs["similarity"].to_numpy(), ~pairs["exact"].to_numpy()))
    pairs = pairs.take(order)
    across = pairs.filter(pc.not_equal(pairs["split"], pairs["other_split"]))
    if settings["exact"] == "refuse":
        _refuse(across.slice(0, NAMED).to_pylist(), counts)
    outputs.table("pairs", pairs)
    # What deals the folds need not see which images are in the test split.
    tested = pc.or_(pc.equal(pairs["split"], "test"), pc.equal(pairs["other_split"], "test"))
    outputs.table("training_pairs", pairs.filter(pc.invert(tested)))
    shown = across.slice(0, SHOWN).to_pylist()
    if shown:
        names = inputs.facts("split")["class_names"]
        outputs.blob("pairs_picture", "png", _picture(splits, shown, names, settings["note"]))
    return {"counts": counts}


def _search(
    splits: Mapping[str, Split], settings: Mapping[str, Any]
) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """The pairs of each two splits that are compared, and how many there are."""
    shift = settings["shift"]
    axes = principal_axes(splits["train"].images, shift)
    sets = {name: describe_images(split.images, axes, shift) for name, split in splits.items()}
    tables = []
    counts = []
    for one, other in settings["compared"]:
        second = None if one == other else sets[other]
        found = find_duplicates(sets[one], second, settings["similarity"])
        exact = int(found.exact.sum())
        counts.append({"splits": [one, other], "exact": exact, "near": len(found) - exact})
        tables.append(_table(one, other, splits, found))
    return tables, counts


def _table(one: str, other: str, splits: Mapping[str, Split], found: Pairs) -> pa.Table:
    columns = {
        "split": [one] * len(found),
        "position": found.first,
        "label": splits[one].labels[found.first],
        "other_split": [other] * len(found),
        "other_position": found.second,
        "other_label": splits[other].labels[found.second],
        "similarity": found.similarity,
        "exact": found.exact,
    }
    return pa.table(columns).cast(SCHEMA)


def _refuse(rows: list[Row], counts: list[dict[str, Any]]) -> None:
    across = sum(found["exact"] for found in counts if len(set(found["splits"])) > 1)
    if not across:
        return
    examples = "; ".join(
        f"{row['split']} image {row['position']} is {row['other_split']} image "
        f"{row['other_position']}"
        for row in rows[:across]
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
    return image_grids.image_pairs(first, second, titles, captions, note)
