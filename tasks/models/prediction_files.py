"""Write predictions as a Parquet table for programs and as an HTML page for people."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import UserError
from tasks.models.classifier import PictureOutcome, Prediction
from tasks.models.model_lookup import TrainedModel
from tasks.reporting.rendering import environment
from tasks.sources.picture_decoding import printable
from tasks.sources.pictures import Unreadable
from tasks.storage.files import replacing, write_atomically

# Browsers struggle with a page of thousands of pictures, and nobody looks through them.
MOST_ON_PAGE = 200
BEST_ON_PAGE = 3


def check_target(path: Path, option: str, inputs: Sequence[Path]) -> None:
    """Check that a file can be written before its content is computed.

    Args:
        path: the file to write.
        option: the command-line option that gave it, for messages.
        inputs: the files to read, which must not be overwritten.

    Raises:
        UserError: the path is not a regular file or is one of the inputs, or its folder is missing
            or not writable.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file in it.")
    if path.exists() and not path.is_file():
        raise UserError(f"{option} {path} is not a regular file; name another.")
    if any(os.path.realpath(path) == os.path.realpath(given) for given in inputs):
        raise UserError(f"{option} {path} is one of the files to be read; name another.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}; create it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"{option} {path}: no permission to write to its folder; name another.")


def write_parquet(path: Path, outcomes: Sequence[PictureOutcome], trained: TrainedModel) -> None:
    """Write one row per image as Parquet, atomically.

    Columns: `source`, `class`, `probability`, `p_<i>` for each class, `inverted` and `error`. For
    an image that could not be read, only `source` and `error` are set; otherwise `error` is null.
    The schema's metadata hold `model` (its path), `model_sha256`, and `class_names` as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = trained.usage.class_names
    given = [item if isinstance(item, Prediction) else None for item in outcomes]
    best = [item.ranked(1)[0] if item else None for item in given]
    columns: dict[str, Any] = {
        "source": pa.array([item.source for item in outcomes], pa.string()),
        "class": pa.array([names[first[0]] if first else None for first in best], pa.string()),
        "probability": pa.array([first[1] if first else None for first in best], pa.float32()),
    }
    for index in range(len(names)):
        values = [float(item.probabilities[index]) if item else None for item in given]
        columns[f"p_{index}"] = pa.array(values, pa.float32())
    columns["inverted"] = pa.array([item.inverted if item else None for item in given], pa.bool_())
    errors = [item.reason if isinstance(item, Unreadable) else None for item in outcomes]
    columns["error"] = pa.array(errors, pa.string())
    table = pa.table(columns).replace_schema_metadata(
        {
            "model": printable(trained.path),
            "model_sha256": trained.sha256,
            "class_names": json.dumps(names),
        }
    )
    # Arrow cannot open paths that are not UTF-8, so Python opens the file.
    with replacing(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file)


def write_page(
    path: Path,
    outcomes: Sequence[PictureOutcome],
    trained: TrainedModel,
    notes: Sequence[str] = (),
) -> None:
    """Write a self-contained HTML page, atomically."""
    write_atomically(path, render_page(outcomes, trained, notes).encode())


def render_page(
    outcomes: Sequence[PictureOutcome], trained: TrainedModel, notes: Sequence[str] = ()
) -> str:
    """Render the page: the first pictures as given and as the model sees them, with their classes.

    `notes` are sentences about what was left out or converted.
    Only predictions with `shown` appear with a picture; the counts include all of them.
    """
    names = trained.usage.class_names
    predicted = [item for item in outcomes if isinstance(item, Prediction)]
    unreadable = [item for item in outcomes if isinstance(item, Unreadable)]
    cards = [
        {
            "source": item.source,
            "given": item.shown.given,
            "seen": item.shown.seen,
            "inverted": item.inverted,
            "unlike": item.unlike,
            "best": [(names[index], value) for index, value in item.ranked(BEST_ON_PAGE)],
        }
        for item in predicted
        if item.shown
    ][:MOST_ON_PAGE]
    counts = np.bincount(
        [item.ranked(1)[0][0] for item in predicted], minlength=len(names)
    ).tolist()
    return (
        environment()
        .get_template("predictions.html.j2")
        .render(
            title=trained.title,
            dataset=trained.usage.dataset,
            sha256=trained.sha256,
            like=trained.usage.image_format,
            cards=cards,
            counts=[(name, count) for name, count in zip(names, counts, strict=True) if count],
            predicted=len(predicted),
            inverted=sum(item.inverted for item in predicted),
            unreadable=unreadable[:MOST_ON_PAGE],
            unreadable_in_all=len(unreadable),
            notes=notes[:MOST_ON_PAGE],
        )
    )
