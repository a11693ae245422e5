"""`fashion-flow predict`: what a trained model sees in pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.cli import tables as console
from tasks.core.data.photographs import ImageFormat, Invert
from tasks.core.errors import UserError
from tasks.models.classifier import PictureOutcome, Prediction, predictions
from tasks.models.model_lookup import TrainedModel, find_model
from tasks.models.prediction_files import MOST_ON_PAGE, check_target, write_page, write_parquet
from tasks.sources.pictures import Unreadable, printable, read_pictures
from tasks.storage.store import Store

DONE, SOME_FAILED, NOTHING_PREDICTED = 0, 1, 2


@dataclass(frozen=True)
class Wanted:
    """What a call is to give: how many classes an image, as JSON or not, and which files."""

    top: int = 1
    as_json: bool = False
    table: Path | None = None
    page: Path | None = None


def predict(
    paths: Sequence[Path],
    store: Store,
    model: str | None,
    run_id: str | None,
    invert: Invert,
    wanted: Wanted,
) -> int:
    """Predict every picture below the paths; return the exit status.

    That is 0 where all went well, 1 where some pictures could not be read, 2 where none could.

    Raises:
        UserError: there is no such model, or a file that is wanted can't be written.
    """
    targets = _checked_targets(paths, wanted)
    trained = find_model(model, run_id, store)
    if trained.usage.dataset == "synthetic":
        console.warn(
            "SYNTHETIC DATA: this model has learned from images drawn by the program, so what it "
            "says of photographs means little. Run with Fashion-MNIST or images of your own."
        )
    show = MOST_ON_PAGE if wanted.page else 0
    pictures = read_pictures(paths, trained.usage.like, invert, show=show, leave=targets)
    outcomes = _collected(predictions(pictures, trained))
    predicted = [item for item in outcomes if isinstance(item, Prediction)]
    if not predicted:
        return NOTHING_PREDICTED
    if wanted.table:
        write_parquet(wanted.table, outcomes, trained)
    if wanted.page:
        write_page(wanted.page, outcomes, trained)
    if wanted.as_json:
        print(json.dumps(as_json(outcomes, trained, wanted.top), indent=1))
    else:
        _show(predicted, trained, invert, wanted.top)
        for path in targets:
            _line(f"written: {printable(path)}")
    return DONE if len(predicted) == len(outcomes) else SOME_FAILED


def _checked_targets(paths: Sequence[Path], wanted: Wanted) -> list[Path]:
    targets = {"--out": wanted.table, "--html": wanted.page}
    named = {option: path for option, path in targets.items() if path is not None}
    for option, path in named.items():
        check_target(path, option, paths)
    if len({os.path.realpath(path) for path in named.values()}) < len(named):
        raise UserError("--out and --html name the same file; name two.")
    return list(named.values())


def _collected(outcomes: Iterator[PictureOutcome]) -> list[PictureOutcome]:
    """All outcomes; what could not be read is said at once, and on a terminal how far it is."""
    collected: list[PictureOutcome] = []
    with _quiet_libraries() as terminal, terminal.status("reading pictures") as status:
        for outcome in outcomes:
            collected.append(outcome)
            if isinstance(outcome, Unreadable):
                text = f"error: {outcome.source}: {outcome.reason}"
                terminal.print(
                    text, style="bold red", markup=False, highlight=False, soft_wrap=True
                )
            status.update(f"{len(collected):,} pictures")
    return collected


@contextmanager
def _quiet_libraries() -> Iterator[Console]:
    """Send file descriptor 2 to nowhere, C++ libraries included; yield what still reaches it."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        with os.fdopen(os.dup(before), "w", encoding="utf-8", buffering=1) as stream:
            yield Console(file=stream)
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def as_json(outcomes: Sequence[PictureOutcome], trained: TrainedModel, top: int) -> dict[str, Any]:
    """The model, and an entry an image with its best classes, or with what was wrong."""
    names = trained.usage.class_names
    entries = []
    for item in outcomes:
        best = item.ranked(top) if isinstance(item, Prediction) else []
        classes = [{"class": names[index], "probability": value} for index, value in best]
        first = classes[0] if classes else {"class": None, "probability": None}
        entries.append(
            {
                "source": item.source,
                **first,
                "top": classes,
                "inverted": item.inverted if isinstance(item, Prediction) else None,
                "error": item.reason if isinstance(item, Unreadable) else None,
            }
        )
    model = {"path": printable(trained.path), "sha256": trained.sha256, "class_names": list(names)}
    return {"model": model, "predictions": entries}


def _show(predicted: Sequence[Prediction], trained: TrainedModel, invert: Invert, top: int) -> None:
    """Print a row an image, or `top` rows, and what was done to them."""
    _line(f"{trained.title}, which has learned from: {trained.usage.dataset}")
    inverted = sum(item.inverted for item in predicted)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold", max_width=24)
    table.add_column("probability", justify="right", no_wrap=True)
    if inverted:
        table.add_column("", no_wrap=True)
    for item in predicted:
        for number, (index, value) in enumerate(item.ranked(top)):
            mark = [("" if number or not item.inverted else "inverted")] if inverted else []
            name = Text("" if number else item.source)
            table.add_row(
                name, Text(trained.usage.class_names[index]), f"{100 * value:.1f} %", *mark
            )
    console.out.print(table)
    for line in _notes(predicted, trained.usage.like, invert):
        console.out.print(line, highlight=False)


def _notes(predicted: Sequence[Prediction], like: ImageFormat, invert: Invert) -> Iterator[str]:
    """What a reader of predictions has to know of what was done to the pictures, and was not."""
    inverted = sum(item.inverted for item in predicted)
    ground = "light" if like.ground < 0.5 else "dark"
    if inverted and invert == "auto":
        yield (
            f"{_of(inverted, len(predicted))} inverted, since {_they(inverted)} on {ground} "
            "ground, unlike the images that the model has learned from; --invert no leaves them."
        )
    unlike = sum(item.unlike for item in predicted)
    if unlike and invert == "auto":
        yield (
            f"{_of(unlike, len(predicted))} left as given though {_they(unlike)} on {ground} "
            f"ground: what has {like.height} x {like.width} pixels is taken for an image of the "
            "data set; --invert yes inverts all."
        )


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} images {'was' if count == 1 else 'were'}"


def _they(count: int) -> str:
    return "it stands" if count == 1 else "they stand"


def _line(text: str) -> None:
    """A line as it is, so that paths can be copied."""
    console.out.print(text, markup=False, highlight=False, soft_wrap=True)
