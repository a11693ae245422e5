"""`fashion-flow predict`: classify pictures with a trained model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from flows.cli.common_options import ARTIFACTS, StoreOption, whole_number
from flows.cli.screen import Closed, Screen, add_row, line, out, show, show_json, table, warn
from tasks.core.data.photographs import ImageFormat, Invert
from tasks.core.errors import UserError
from tasks.core.messages import brief
from tasks.models.classifier import PictureOutcome, Prediction, classify
from tasks.models.model_lookup import TrainedModel, find_model
from tasks.models.prediction_files import MOST_ON_PAGE, check_target, write_page, write_parquet
from tasks.sources.picture_decoding import printable
from tasks.sources.pictures import Unreadable, read_pictures
from tasks.storage.store import Store

DONE, SOME_FAILED, NOTHING_PREDICTED = 0, 1, 2
# How many pictures that can't be read are named on the terminal, and how many notes are shown.
MOST_ERRORS = 10
RED = "bold red"


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The options for the model, and for how pictures are prepared for it."""

    model: Annotated[
        str | None,
        Parameter(
            help="A .keras or .h5 file, its folder, or the name of a run's model; by default final."
        ),
    ] = None
    run_id: Annotated[
        str | None,
        Parameter("--run", help="The run of --model; by default the latest that has this model."),
    ] = None
    invert: Annotated[
        Invert,
        Parameter(
            help="Invert light and dark. auto: if the background is unlike that of the images "
            "that the model was trained on."
        ),
    ] = "auto"


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The options for what is printed, and for the files to write."""

    top: Annotated[
        int, Parameter(converter=whole_number(1), help="How many classes to show per picture.")
    ] = 1
    as_json: Annotated[bool, Parameter("--json", help="Print JSON instead of a table.")] = False
    out: Annotated[
        Path | None,
        Parameter(help="Write a Parquet table with the probability of every class."),
    ] = None
    html: Annotated[
        Path | None,
        Parameter(
            help="Write an HTML page with the pictures, as given and as the model sees them."
        ),
    ] = None


def predict(
    *paths: Annotated[
        Path,
        Parameter(
            "PATH",
            required=True,
            # A name that begins with a bracket is no list.
            json_list=False,
            help="Pictures, folders or .zip archives of them, or .npz, .npy, .parquet and .csv "
            "files with many. Write names that begin with a dash as ./-name, or after --.",
        ),
    ],
    given: ModelOptions = ModelOptions(),
    output: OutputOptions = OutputOptions(),
    store: StoreOption = ARTIFACTS,
) -> int:
    """Classify all pictures; return 0, or 1 if some could not be read, or 2 if none could.

    Raises:
        UserError: there is no such model, or a file can't be written.
    """
    targets = _checked_targets(paths, output)
    trained = find_model(given.model, given.run_id, Store(store))
    _warn_of_synthetic(trained)
    outcomes, notes = _classified(
        paths, trained, given.invert, targets, thumbnails=bool(output.html)
    )
    predicted = [item for item in outcomes if isinstance(item, Prediction)]
    if predicted and output.out:
        write_parquet(output.out, outcomes, trained)
    if predicted and output.html:
        write_page(output.html, outcomes, trained, notes)
    with suppress(Closed):
        if output.as_json:
            show_json(as_json(outcomes, trained, output.top) | {"notes": notes})
        elif predicted:
            _show(predicted, trained, given.invert, output.top)
            for path in targets:
                line(f"written: {printable(path)}")
    if not predicted:
        return NOTHING_PREDICTED
    return DONE if len(predicted) == len(outcomes) else SOME_FAILED


def _classified(
    paths: Sequence[Path],
    trained: TrainedModel,
    invert: Invert,
    targets: list[Path],
    *,
    thumbnails: bool,
) -> tuple[list[PictureOutcome], list[str]]:
    """What was predicted for each picture, and notes on what was left out or converted."""
    notes: list[str] = []
    pictures = read_pictures(
        paths,
        trained.usage.image_format,
        invert,
        show=MOST_ON_PAGE if thumbnails else 0,
        exclude=targets,
        note=notes.append,
    )
    return _collected(classify(pictures, trained), notes), notes


def _warn_of_synthetic(trained: TrainedModel) -> None:
    if trained.usage.dataset == "synthetic":
        warn(
            "SYNTHETIC DATA: this model was trained on images drawn by the program, so its "
            "predictions for photographs mean little. Train on Fashion-MNIST or your own images."
        )


def _checked_targets(paths: Sequence[Path], output: OutputOptions) -> list[Path]:
    targets = {"--out": output.out, "--html": output.html}
    named = {option: path for option, path in targets.items() if path is not None}
    for option, path in named.items():
        check_target(path, option, paths)
    if len({os.path.realpath(path) for path in named.values()}) < len(named):
        raise UserError("--out and --html name the same file; give two different ones.")
    return list(named.values())


def _collected(outcomes: Iterator[PictureOutcome], notes: Sequence[str]) -> list[PictureOutcome]:
    """Collect all outcomes; print failures immediately and, on a terminal, the progress.

    Of many failures, only the first are printed, then their number, then the notes that have
    come up.
    """
    collected: list[PictureOutcome] = []
    failed = 0
    with _quiet_libraries() as terminal:
        spinner = "line" if terminal.ascii_only else "dots"
        with terminal.status("reading pictures", spinner=spinner) as status:
            for outcome in outcomes:
                collected.append(outcome)
                if isinstance(outcome, Unreadable):
                    failed += 1
                    if failed <= MOST_ERRORS:
                        _print(terminal, f"error: {outcome.source}: {outcome.reason}", RED)
                status.update(f"{len(collected):,} pictures")
        if failed > MOST_ERRORS:
            more = (
                f"{failed - MOST_ERRORS:,} more could not be read; add --json to see all of them."
            )
            _print(terminal, f"error: {more}", RED)
        for note in notes[:MOST_ERRORS]:
            _print(terminal, f"note: {note}")
        if len(notes) > MOST_ERRORS:
            left = len(notes) - MOST_ERRORS
            _print(terminal, f"note: {left:,} more notes; add --json to see all of them.")
    return collected


def _print(terminal: Screen, message: str, style: str = "") -> None:
    # The terminal wraps long lines; if we did, paths could not be copied.
    terminal.print(Text(brief(message)), style=style, soft_wrap=True)


@contextmanager
def _quiet_libraries() -> Iterator[Screen]:
    """Discard what libraries write to file descriptor 2; yield a screen on the real stderr."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    try:
        with os.fdopen(os.dup(before), "w", 1, encoding, errors) as stream:
            yield Screen(file=stream, stderr=True)
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def as_json(outcomes: Sequence[PictureOutcome], trained: TrainedModel, top: int) -> dict[str, Any]:
    """The model, and for each picture its most probable classes, or why it could not be read."""
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
    """Print `top` rows for each picture, and what was done to the pictures."""
    dataset = trained.usage.dataset
    line(f"{trained.title}, trained on: {'own images' if dataset == 'own' else dataset}")
    inverted = any(item.inverted for item in predicted)
    made = table()
    made.add_column("image", overflow="fold")
    made.add_column("class", overflow="fold", max_width=24)
    made.add_column("probability", justify="right", no_wrap=True)
    if inverted:
        made.add_column("", no_wrap=True)
    for item in predicted:
        for number, (index, value) in enumerate(item.ranked(top)):
            name, mark = ("", "") if number else (item.source, "inverted" * item.inverted)
            cells = (name, trained.usage.class_names[index], f"{100 * value:.1f} %")
            add_row(made, *cells, *([mark] if inverted else []))
    show(made)
    for note in _notes(predicted, trained.usage.image_format, invert):
        out.print(Text(note))


def _notes(predicted: Sequence[Prediction], like: ImageFormat, invert: Invert) -> Iterator[str]:
    """Notes on pictures that `auto` inverted, or left as given despite an unlike background."""
    if invert != "auto":
        return
    background = "light" if like.background < 0.5 else "dark"
    inverted = sum(item.inverted for item in predicted)
    if inverted:
        yield (
            f"{_of(inverted, len(predicted))} inverted because of a {background} background, "
            "unlike that of the images that the model was trained on; --invert no prevents that."
        )
    unlike = sum(item.unlike for item in predicted)
    if unlike:
        yield (
            f"{_of(unlike, len(predicted))} not inverted despite a {background} background: a "
            f"picture of {like.height} x {like.width} pixels is assumed to be an image of the data "
            "set; --invert yes inverts all."
        )


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} images {'was' if count == 1 else 'were'}"
