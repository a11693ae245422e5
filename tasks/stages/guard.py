"""Look for images that appear in more than one split, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.duplicates import Pairs, find_duplicates, search_for
from tasks.core.data.image_descriptors import describe_images, principal_axes
from tasks.core.data.rows import RowReader
from tasks.core.drawing import image_grids
from tasks.core.drawing.lettering import lettering_of
from tasks.core.errors import UserError
from tasks.core.names import PAIRS, PAIRS_PICTURE, SPLIT, SPLITS, TEST, TRAIN, TRAINING_PAIRS
from tasks.core.stage_specs import GuardSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.images import DUPLICATE_PAIRS
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

PAIRS_DRAWN = 12
PAIRS_IN_MESSAGE = 3

Row = dict[str, Any]
# The `images` and `labels` of each split.
Splits = Mapping[str, Mapping[str, RowReader]]


@stage_task(GuardSpec)
def guard(spec: GuardSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the pairs of similar images, and a picture of the most similar pairs across splits.

    With `guard.search=off` only pairs of identical images are found.

    Raises:
        UserError: an image appears in two splits and `guard.exact` is `refuse`, or too many images
            are similar.
    """
    splits = {name: inputs.by_rows(SPLIT, name) for name in SPLITS}
    tables, counts = _search(splits, spec)
    pairs = pa.concat_tables(tables).combine_chunks()
    order = np.lexsort((-pairs["similarity"].to_numpy(), ~pairs["exact"].to_numpy()))
    pairs = pairs.take(order)
    across = pairs.filter(pc.not_equal(pairs["split"], pairs["other_split"]))
    if spec.guard.exact == "refuse":
        _refuse(across.filter(across["exact"]), splits)
    outputs.table(PAIRS, pairs)
    # The assignment to folds must not depend on the test split.
    tested = pc.or_(pc.equal(pairs["split"], TEST), pc.equal(pairs["other_split"], TEST))
    outputs.table(TRAINING_PAIRS, pairs.filter(pc.invert(tested)))
    shown = across.slice(0, PAIRS_DRAWN).to_pylist()
    if shown:
        names = inputs.facts(SPLIT)["class_names"]
        lettering = lettering_of(outputs.basis)
        picture = _picture(splits, shown, lettering.labels(names), spec.note, lettering.families)
        outputs.blob(PAIRS_PICTURE, "png", picture)
    return {"counts": counts}


def _search(splits: Splits, spec: GuardSpec) -> tuple[list[pa.Table], list[dict[str, Any]]]:
    """Return the table of similar pairs and the counts for each comparison of two splits."""
    guard = spec.guard
    train = splits[TRAIN]["images"]
    axes = None if guard.search == "off" else principal_axes(train, guard.shift)
    sets = {
        name: describe_images(split["images"], axes, guard.shift) for name, split in splits.items()
    }
    tables = []
    counts = []
    for one, other in spec.compared:
        second = None if one == other else sets[other]
        search = search_for(len(sets[one]), len(sets[other]), guard.search)
        found = find_duplicates(sets[one], second, guard.similarity, search)
        exact = int(found.exact.sum())
        # None: not looked for.
        near = None if search == "off" else len(found) - exact
        counts.append({"splits": [one, other], "exact": exact, "near": near, "search": search})
        tables.append(_table(one, other, splits, found))
    return tables, counts


def _table(one: str, other: str, splits: Splits, found: Pairs) -> pa.Table:
    return from_columns(
        DUPLICATE_PAIRS,
        {
            "split": [one] * len(found),
            "position": found.first,
            "label": splits[one]["labels"][found.first].astype(np.int64),
            "other_split": [other] * len(found),
            "other_position": found.second,
            "other_label": splits[other]["labels"][found.second].astype(np.int64),
            "similarity": found.similarity,
            "exact": found.exact,
        },
    )


def _image(split: Mapping[str, RowReader], position: int) -> np.ndarray:
    image: np.ndarray = split["images"][position : position + 1][0]
    return image


def _refuse(pairs: pa.Table, splits: Splits) -> None:
    """Refuse equal images in different splits, of which an image may have several pairs."""
    if not len(pairs):
        return
    places = zip(pairs["split"].to_pylist(), pairs["position"].to_pylist(), strict=True)
    count = len({sha256(_image(splits[name], index).tobytes()).digest() for name, index in places})
    rows = pairs.slice(0, PAIRS_IN_MESSAGE).to_pylist()
    dots = " ..." if len(pairs) > PAIRS_IN_MESSAGE else ""
    examples = "; ".join(
        f"{row['split']} image {row['position']} equals {row['other_split']} image "
        f"{row['other_position']}"
        for row in rows
    )
    raise UserError(
        f"{count:,} {'image appears' if count == 1 else 'images appear'} in more than one split "
        f"({examples}{dots}; positions in the splits, from "
        "0). Scores on them say nothing about new images. Set guard.exact=drop to keep each in one "
        "split only, or remove them from the data."
    )


def _picture(
    splits: Splits,
    rows: list[Row],
    names: list[str],
    note: str,
    families: Sequence[str],
) -> bytes:
    pairs = [
        (
            _image(splits[row["split"]], row["position"]),
            _image(splits[row["other_split"]], row["other_position"]),
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
    return image_grids.image_pairs(first, second, titles, captions, note, families)
