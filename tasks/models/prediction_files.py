"""Predictions as files for other programs and for people: a Parquet table, a page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import UserError
from tasks.models.classifier import Outcome, Prediction, TrainedModel
from tasks.reporting.rendering import environment
from tasks.sources.pictures import Unreadable, printable
from tasks.storage.files import replacing, write_atomically

# A page with thousands of pictures is opened by no browser, and looked through by nobody.
MOST_ON_PAGE = 200
BEST_ON_PAGE = 3


def check_target(path: Path, option: str, inputs: Sequence[Path]) -> None:
    """Refuse a path that can't be written, or should not be, before there is something to write.

    Raises:
        UserError: it is a folder or no file, one of the inputs, or its folder is not there.
    """
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file in it.")
    if path.exists() and not path.is_file():
        raise UserError(f"{option} {path}: is no file; name another.")
    if any(os.path.realpath(path) == os.path.realpath(given) for given in inputs):
        raise UserError(f"{option} {path}: is one of the files to be read; name another.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}; make it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"{option} {path}: permission is denied in {path.absolute().parent}.")


def write_parquet(path: Path, outcomes: Sequence[Outcome], trained: TrainedModel) -> None:
    """Write a row an image as Parquet, whole or not at all.

    Columns: `source`, `class`, `probability`, `p_<i>` for each class, `inverted`, `error` (null
    where all went well; else all others but `source` are null). The schema's metadata hold the
    model's path `model`, its `model_sha256`, and `class_names` as JSON.
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
    # Arrow itself opens no path that is not UTF-8.
    with replacing(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file)


def write_page(path: Path, outcomes: Sequence[Outcome], trained: TrainedModel) -> None:
    """Write a page that needs no other file and no network, whole or not at all."""
    write_atomically(path, render_page(outcomes, trained).encode())


def render_page(outcomes: Sequence[Outcome], trained: TrainedModel) -> str:
    """The page: the first pictures as given and as the model sees them, with the best classes.

    Only predictions with `shown` have a picture on it; the counts are of all.
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
            like=trained.usage.like,
            cards=cards,
            counts=[(name, count) for name, count in zip(names, counts, strict=True) if count],
            predicted=len(predicted),
            inverted=sum(item.inverted for item in predicted),
            unreadable=unreadable[:MOST_ON_PAGE],
            unreadable_in_all=len(unreadable),
        )
    )
