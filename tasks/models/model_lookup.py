"""Find a trained model by its path, or by run and stage, and check that its file is intact."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import StageError, UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.core.names import FINAL, MODEL, USAGE
from tasks.core.records import Record
from tasks.models.usage_file import USAGE_FILE, Usage, read_usage
from tasks.sources.picture_decoding import printable
from tasks.storage.files import file_digest
from tasks.storage.run_log import RunLog, all_runs, find_run, no_run
from tasks.storage.store import RECORD, Store

KERAS_SUFFIX, H5_SUFFIX = ".keras", ".h5"

_ONE_MODEL_FILE = f"one {KERAS_SUFFIX} or {H5_SUFFIX} file"


@dataclass(frozen=True)
class TrainedModel:
    """A model's file with its SHA-256 and its usage; `title` names it in messages and pages."""

    title: str
    path: Path
    sha256: str
    usage: Usage


def find_model(model: str | None, run_id: str | None, store: Store) -> TrainedModel:
    """Find a model by its path, or by the stage of a run that trained it.

    Args:
        model: a path if it contains a slash, ends in `.keras` or `.h5`, or is a folder with a
            `usage.json`; otherwise a stage's name. None means the stage `final`.
        run_id: the run that the stage belongs to; None means the latest run that has the stage,
            even if that run did not finish.
        store: where runs are looked up.

    Raises:
        UserError: there is no such model, or its `usage.json` is missing or invalid.
        StageError: the model's file is damaged.
    """
    if model and _is_path(model):
        if run_id is not None:
            raise UserError("--run: a model given as a path belongs to no run; leave --run out.")
        return _from_path(Path(model).expanduser())
    run, record = model_of(store, model or FINAL, run_id)
    title = f"{record.stage} of run {run.run_id}"
    usage = read_usage(store.content(record, USAGE), f"usage.json of {title}")
    file = record.files[MODEL]
    with store.opened(record, MODEL):
        return TrainedModel(title, store.local(file), file.sha256, usage)


def _is_path(model: str) -> bool:
    like_a_file = model.endswith((KERAS_SUFFIX, H5_SUFFIX))
    return "/" in model or like_a_file or (Path(model) / USAGE_FILE).is_file()


def model_of(store: Store, stage: str, run_id: str | None) -> tuple[RunLog, Record]:
    """The run and the record of a model, by the stage that trained it; arguments as above.

    Raises:
        UserError: there is no such model, or it has no `usage.json`.
    """
    runs = [find_run(store, run_id)] if run_id is not None else all_runs(store)[::-1]
    if not runs:
        raise UserError(
            f"{no_run(store)}; start one with `fashion-flow run`, give a model's file with "
            "--model, or another store with --store."
        )
    for run in runs:
        record = run.record(stage)
        if record is not None and MODEL in record.files:
            if USAGE in record.files:
                return run, record
            raise UserError(
                f"{stage} of run {run.run_id} was made before models were stored with a "
                "usage.json, which describes their classes and input; make it again: fashion-flow "
                f"run --only {stage}."
            )
    where = f"run {runs[0].run_id}" if run_id is not None else f"any run in {store.root}"
    known = listed(_models_of(runs[0])) or "none"
    raise UserError(
        f"there is no model {quoted(stage)} in {where}; models of run {runs[0].run_id}: {known}. "
        "Choose one of them; to name a folder, write a slash, as in ./model."
    )


def _models_of(run: RunLog) -> list[str]:
    names = []
    for stage in dict.fromkeys(entry["stage"] for entry in run.stages()):
        # A record that `fashion-flow clean` has removed cannot be read.
        with suppress(StageError):
            record = run.record(stage)
            if record is not None and MODEL in record.files:
                names.append(stage)
    return names


def _from_path(given: Path) -> TrainedModel:
    path = _in_folder(given) if given.is_dir() else given
    if path.suffix not in (KERAS_SUFFIX, H5_SUFFIX):
        raise UserError(f"{given}: expected {_ONE_MODEL_FILE}, or a folder that contains one.")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give {_ONE_MODEL_FILE}, or its folder.")
    beside = path.with_name(USAGE_FILE)
    if not beside.is_file():
        raise UserError(
            f"{beside} is missing. It describes the model's classes and input; copy it together "
            "with the model."
        )
    usage = read_usage(beside.read_bytes(), str(beside))
    sha256, _ = file_digest(path)
    _compare_with_record(path, sha256)
    return TrainedModel(printable(path), path, sha256, usage)


def _in_folder(folder: Path) -> Path:
    """The only `.keras` file in a folder or, if it has none, the only `.h5` file."""
    files = sorted(folder.iterdir())
    by_kind = [
        [path for path in files if path.suffix == kind] for kind in (KERAS_SUFFIX, H5_SUFFIX)
    ]
    found = by_kind[0] or by_kind[1]
    if len(found) != 1:
        names = listed([path.name for path in found]) or "none"
        raise UserError(
            f"{folder}: expected {_ONE_MODEL_FILE} in it, found {names}; name the file."
        )
    return found[0]


def _compare_with_record(path: Path, sha256: str) -> None:
    """Check a file against the `record.json` beside it, if there is one."""
    beside = path.with_name(RECORD)
    if not beside.is_file():
        return
    try:
        files = Record.from_json(beside.read_text(encoding="utf-8")).files
    except ValueError as error:
        raise StageError(
            f"{beside} is damaged ({first_line(error)}); run the flow again to restore it."
        ) from None
    expected = {file.sha256 for file in files.values() if Path(file.path).name == path.name}
    if expected and sha256 not in expected:
        raise StageError(f"{path} does not match its record; run the flow again to restore it.")
