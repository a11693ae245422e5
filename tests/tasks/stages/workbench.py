"""A store in which stages compute on made-up inputs. Only this module knows how."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.core.array_types import Float32
from tasks.core.records import Outcome, Record, Skipped, Stage, digest_of
from tasks.core.seal import Mark
from tasks.core.stage_specs import PreprocessSpec
from tasks.core.tables.arrow import from_columns
from tasks.core.tables.trainings import EPOCHS
from tasks.engine.stage import RunContext
from tasks.models.prediction_tables import prediction_table
from tasks.storage.store import Store
from tests.support import basis

Write = Callable[[Path], None]
NAMES = ["boot", "coat", "shirt"]


@dataclass(frozen=True)
class Computed:
    """How a stage ended, and what it stored."""

    store: Store
    outcome: Outcome
    state: str
    message: str

    @property
    def record(self) -> Record:
        assert isinstance(self.outcome, Record)
        return self.outcome

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.record.facts

    @property
    def files(self) -> dict[str, str]:
        """The kind of each stored file, by name."""
        return {name: file.kind for name, file in self.record.files.items()}

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each stored file, by name."""
        return {name: file.sha256 for name, file in self.record.files.items()}

    @property
    def marks(self) -> dict[str, set[Mark]]:
        """The seal's marks on files and facts that have any."""
        return {name: set(marks) for name, marks in self.record.marks.items()}

    def content(self, name: str) -> bytes:
        return self.store.content(self.record, name)

    def table(self, name: str) -> pa.Table:
        return self.store.table(self.record, name)

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table(name).to_pylist()
        return rows

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        with np.load(io.BytesIO(self.content(name)), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def picture(self, name: str) -> Image.Image:
        """A stored PNG that shows something."""
        assert self.files[name] == "png"
        picture = Image.open(io.BytesIO(self.content(name)))
        assert picture.format == "PNG"
        lowest, highest = picture.convert("L").getextrema()
        assert lowest != highest, "the picture is of one colour"
        return picture


class Workbench:
    """Stores what made-up stages might have stored, and lets real ones compute with it.

    Stages run as in a flow, but without Prefect: inputs are sealed, results are committed.
    """

    def __init__(self, folder: Path, profile: Mapping[str, Any] | None = None) -> None:
        self.store = Store(str(folder / "store"))
        self.context = RunContext(str(folder / "store"), "run-1", profile or {}, workers=1)
        self._numbers = count()

    def stored(
        self,
        stage: str,
        *,
        arrays: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        tables: Mapping[str, pa.Table] | None = None,
        files: Mapping[str, tuple[str, Write]] | None = None,
        **facts: Any,
    ) -> Record:
        """The record of a made-up stage with these files; `files` are kinds and writers."""
        made = Stage(stage, PreprocessSpec())
        key = digest_of([stage, next(self._numbers)])
        outputs = self.store.writer(made, key, basis())
        for name, values in (arrays or {}).items():
            outputs.arrays(name, **values)
        for name, table in (tables or {}).items():
            outputs.table(name, table)
        for name, (kind, write) in (files or {}).items():
            outputs.file(name, kind, write)
        return self.store.commit(outputs, facts)

    def split(self, **changes: NDArray[np.uint8]) -> Record:
        """The record of a choice of splits: 12, 6 and 6 images of noise, or other images."""
        sizes = {"train": 12, "validation": 6, "test": 6}
        given = {name: labelled(size, seed=seed) for seed, (name, size) in enumerate(sizes.items())}
        for name, images in changes.items():
            given[name]["images"] = images
        facts: Any = {"dataset": "own", "class_names": NAMES, "fit": "pad", "white": 255}
        return self.stored("subset", arrays=given, **facts, sizes=sizes)

    def predicted(
        self,
        stage: str,
        split: str,
        labels: Sequence[int],
        predictions: Sequence[int],
        confidence: float | Sequence[float] = 0.5,
        **facts: Any,
    ) -> Record:
        """The record of a stage that predicted classes of `split` with that confidence."""
        table = prediction_table(
            probabilities(predictions, confidence, len(NAMES)), np.array(labels)
        )
        return self.stored(stage, tables={f"{split}_predictions": table}, **facts)

    def trained(
        self, stage: str, loss: Sequence[float], val_loss: Sequence[float] | None = None
    ) -> Record:
        """The record of a training with that loss by epoch."""
        epochs = len(loss)
        history: dict[str, Any] = {
            "epoch": range(1, epochs + 1),
            "loss": loss,
            "accuracy": [0.5 + 0.1 * number for number in range(epochs)],
        }
        if val_loss is not None:
            history |= {"val_loss": val_loss, "val_accuracy": [0.6] * epochs}
        return self.stored(stage, tables={"history": from_columns(EPOCHS, history)})

    def compute(self, stage: Stage, /, **inputs: Outcome) -> Computed:
        """What the stage's task does with these inputs."""
        task = getattr(import_module(f"tasks.stages.{stage.kind}"), stage.kind)
        state = task.fn(stage, inputs, self.context)
        return Computed(self.store, state.data, state.name, state.message)

    def scorings(self, arrays: Record) -> list[dict[str, Any]]:
        """The log of scorings on an input's test images."""
        return self.store.scorings(arrays.digest(("test",)))


def skipped(stage: str) -> Skipped:
    return Skipped(stage, f"{stage} is not available")


def probabilities(
    predictions: Sequence[int], confidence: float | Sequence[float], classes: int
) -> Float32:
    """`(n, classes)`: the confidence at the predicted class, the rest shared by the others."""
    chosen = np.eye(classes, dtype=np.float32)[list(predictions)]
    sure = np.broadcast_to(np.asarray(confidence, np.float32), len(predictions))[:, None]
    spread: Float32 = chosen * sure + (1 - chosen) * (1 - sure) / np.float32(classes - 1)
    return spread.astype(np.float32)


def images(count: int, side: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    """Images `(count, side, side, 1)` of noise, none like another."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, side, side, 1)).astype(np.uint8)


def labelled(count: int, side: int = 12, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of a split, its classes in turn."""
    labels = (np.arange(count) % len(NAMES)).astype(np.uint8)
    return {"images": images(count, side, seed), "labels": labels}
