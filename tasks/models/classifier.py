"""A trained model as a thing that classifies pictures: found, compared, loaded, asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from tasks.core.array_types import Float32, UInt8
from tasks.core.data.photographs import ImageFormat
from tasks.core.data.preprocessing import scaled
from tasks.core.errors import NumericalError, StageError, UserError
from tasks.core.records import Record
from tasks.core.settings.base import explain
from tasks.core.settings.execution import ExecutionSettings
from tasks.models.usage import SCALED
from tasks.sources.pictures import Picture, Shown, Unreadable, readable
from tasks.storage.files import file_digest
from tasks.storage.run_log import RunLog, all_runs, find_run, no_run
from tasks.storage.store import RECORD, Store

if TYPE_CHECKING:
    import keras

FINAL, MODEL, USAGE = "final", "model", "usage"
USAGE_FILE = "usage.json"
KERAS_SUFFIX, H5_SUFFIX = ".keras", ".h5"
# As many as pass at once where a model is scored, so that the same images give the same bits.
BATCH = 256

_KINDS = f"one {KERAS_SUFFIX} or {H5_SUFFIX} file"
# They are printed, in pages too.
Name = Annotated[str, AfterValidator(readable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Image(_Part):
    shape: tuple[PositiveInt, PositiveInt, Literal[1, 3]]
    ground: Annotated[float, Field(ge=0, le=1)]


class _Input(_Part):
    shape: tuple[Literal["n"], PositiveInt, PositiveInt, PositiveInt]
    method: Literal["scaled", "raw", "vgg16"]


class Usage(_Part):
    """What `usage.json` beside a model says; see `tasks.models.usage`."""

    dataset: Name
    class_names: Annotated[tuple[Name, ...], Field(min_length=2)]
    image: _Image
    input: _Input

    @property
    def like(self) -> ImageFormat:
        """The images that the model has learned from."""
        return ImageFormat(*self.image.shape, self.image.ground)


@dataclass(frozen=True)
class TrainedModel:
    """A model's file, its digest, and what is known of it; `title` is for people."""

    title: str
    path: Path
    sha256: str
    usage: Usage


@dataclass(frozen=True)
class Prediction:
    """What a model makes of a picture: `(classes,)` probabilities; `shown` where asked for."""

    source: str
    probabilities: Float32
    inverted: bool
    unlike: bool
    shown: Shown | None

    def ranked(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes by index, with their probabilities, the first one first."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in best]


Outcome = Prediction | Unreadable


def find_model(model: str | None, run_id: str | None, store: Store) -> TrainedModel:
    """The model that is meant: a path, or the stage of a run, `final` unless another is named.

    A path is what has a slash in it, ends like a model's file, or is a folder with a `usage.json`.
    Without `run_id`, a stage is taken from the latest run that has it, whether or not that run came
    to its end.

    Raises:
        UserError: there is no such model, or no usable `usage.json` beside it.
        StageError: a file is not what was written.
    """
    if model and _is_path(model):
        if run_id is not None:
            raise UserError(
                "--run: a model that is given as a path belongs to no run; leave it out."
            )
        return _from_path(Path(model).expanduser())
    run, record = _stage_of(store, model or FINAL, run_id)
    title = f"{record.stage} of run {run.run_id}"
    if USAGE not in record.files:
        raise UserError(
            f"{title} was made before models had their usage.json beside them, which says what the "
            f"classes and the input are; make it again: fashion-flow run --only {record.stage}."
        )
    usage = _usage(store.content(record, USAGE), f"usage.json of {title}")
    file = record.files[MODEL]
    with store.opened(record, MODEL):
        return TrainedModel(title, store.local(file), file.sha256, usage)


def _is_path(model: str) -> bool:
    like_a_file = model.endswith((KERAS_SUFFIX, H5_SUFFIX))
    return "/" in model or like_a_file or (Path(model) / USAGE_FILE).is_file()


def _stage_of(store: Store, stage: str, run_id: str | None) -> tuple[RunLog, Record]:
    runs = [find_run(store, run_id)] if run_id is not None else all_runs(store)[::-1]
    if not runs:
        raise UserError(
            f"{no_run(store)}; start one with `fashion-flow run`, or name a model's file with "
            "--model, or another store with --store."
        )
    for run in runs:
        record = run.record(stage)
        if record is not None and MODEL in record.files:
            return run, record
    where = f"run {runs[0].run_id}" if run_id is not None else f"any run in {store.root}"
    known = ", ".join(_models_of(runs[0])) or "none"
    raise UserError(
        f"there is no model {stage!r} in {where}; models of run {runs[0].run_id}: {known}. "
        "A folder needs a slash, such as ./model, or a usage.json in it."
    )


def _models_of(run: RunLog) -> list[str]:
    names = []
    for stage in dict.fromkeys(entry["stage"] for entry in run.stages()):
        # What `clean` has removed is not there to be named.
        with suppress(StageError):
            record = run.record(stage)
            if record is not None and MODEL in record.files:
                names.append(stage)
    return names


def _from_path(given: Path) -> TrainedModel:
    path = _in_folder(given) if given.is_dir() else given
    if path.suffix not in (KERAS_SUFFIX, H5_SUFFIX):
        raise UserError(f"{given}: expected {_KINDS}, or a folder with one in it.")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give {_KINDS}, or its folder.")
    beside = path.with_name(USAGE_FILE)
    if not beside.is_file():
        raise UserError(
            f"{beside} is missing: it says which classes the model knows and how pixels become its "
            "input. Copy it together with the model."
        )
    usage = _usage(beside.read_bytes(), str(beside))
    sha256, _ = file_digest(path)
    _compare_with_record(path, sha256)
    return TrainedModel(readable(path), path, sha256, usage)


def _in_folder(folder: Path) -> Path:
    files = sorted(folder.iterdir())
    by_kind = [
        [path for path in files if path.suffix == kind] for kind in (KERAS_SUFFIX, H5_SUFFIX)
    ]
    found = by_kind[0] or by_kind[1]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{folder}: expected {_KINDS} in it, found {names}; name the file.")
    return found[0]


def _compare_with_record(path: Path, sha256: str) -> None:
    """Hold a file that lies in a store, or was copied with its record, against that record."""
    beside = path.with_name(RECORD)
    if not beside.is_file():
        return
    try:
        files = Record.from_json(beside.read_text(encoding="utf-8")).files
    except ValueError as error:
        raise StageError(f"{beside}: {error}; run again to restore it.") from None
    expected = {file.sha256 for file in files.values() if Path(file.path).name == path.name}
    if expected and sha256 not in expected:
        raise StageError(
            f"{path} is not what its record says was written; run again to restore it."
        )


def _usage(content: bytes, origin: str) -> Usage:
    """Read `usage.json`.

    Raises:
        UserError: it is no JSON, or lacks something, as those of earlier versions do.
    """
    try:
        return Usage.model_validate(json.loads(content))
    except ValidationError as error:
        again = "models of earlier versions lack it: run the stage again, or copy both files anew."
        raise UserError(f"{explain(error, origin)}; {again}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is no JSON ({error}); copy it anew.") from None


def predictions(
    pictures: Iterable[Picture | Unreadable], trained: TrainedModel
) -> Iterator[Outcome]:
    """What the model makes of each picture, in order; what could not be read is handed through.

    Pictures pass in batches. The model is loaded for the first of them.

    Raises:
        UserError: the file is no model, or another one than `usage.json` speaks of.
        NumericalError: the model's output is not finite.
    """
    classifier: Classifier | None = None
    for batch in _batches(pictures):
        images = [item.prepared.pixels for item in batch if isinstance(item, Picture)]
        if images:
            classifier = classifier or Classifier(trained)
            yield from _classified(batch, classifier.probabilities(np.stack(images)))
        else:
            yield from (item for item in batch if isinstance(item, Unreadable))


def _batches(items: Iterable[Picture | Unreadable]) -> Iterator[list[Picture | Unreadable]]:
    """The items in order, `BATCH` pictures at a time, and what could not be read among them."""
    batch: list[Picture | Unreadable] = []
    count = 0
    for item in items:
        batch.append(item)
        count += isinstance(item, Picture)
        if count == BATCH:
            yield batch
            batch, count = [], 0
    yield batch


def _classified(batch: list[Picture | Unreadable], probabilities: Float32) -> Iterator[Outcome]:
    rows = iter(probabilities)
    for item in batch:
        if isinstance(item, Unreadable):
            yield item
        else:
            seen = item.prepared
            yield Prediction(item.source, next(rows), seen.inverted, seen.unlike, item.shown)


class Classifier:
    """A model in memory that is asked by images of its data set's format.

    Raises:
        UserError: the file is no model, or another one than `usage.json` speaks of.
    """

    def __init__(self, trained: TrainedModel) -> None:
        from tasks.engine.profile import configure, resolve_profile

        configure(resolve_profile(ExecutionSettings()))
        self._usage = trained.usage
        self._model = _loaded(trained)

    def probabilities(self, images: UInt8) -> Float32:
        """`(n, height, width, channels)` as in the data set to `(n, classes)`, rows that add to 1.

        Raises:
            NumericalError: they are not finite.
        """
        import keras

        expected = self._usage.input
        x, step = scaled(images), len(images)
        if expected.method != SCALED:
            from tasks.core.networks.vgg16 import batch_size

            step = batch_size(expected.shape[1])
        parts = [
            keras.ops.convert_to_numpy(
                self._model(self._as_input(x[start : start + step]), training=False)
            )
            for start in range(0, len(x), step)
        ]
        found: Float32 = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise NumericalError("the model's output is not finite, so it says nothing.")
        return found

    def _as_input(self, x: Float32) -> Float32:
        from tasks.core.networks.vgg16 import as_vgg16_input

        expected = self._usage.input
        if expected.method == SCALED:
            return x
        return as_vgg16_input(x, expected.shape[1], expected.method)


def _loaded(trained: TrainedModel) -> keras.Model:
    from tasks.models.model_files import load_keras

    try:
        model: Any = load_keras(trained.path)
        shapes = (model.input_shape, model.output_shape)
    except Exception as error:
        # Keras has no error of its own for files that are no models.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{trained.path}: Keras can't load it ({lines[0]}).") from error
    usage = trained.usage
    expected = ((None, *usage.input.shape[1:]), (None, len(usage.class_names)))
    fits = usage.input.method != SCALED or usage.input.shape[1:] == usage.image.shape
    if shapes != expected or not fits:
        raise UserError(
            f"{trained.path}: the model turns {shapes[0]} into {shapes[1]}, but usage.json "
            f"speaks of {expected[0]} and {expected[1]}; they do not belong together."
        )
    return model
