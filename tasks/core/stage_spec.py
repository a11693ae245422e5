"""What the specs of all kinds of stages have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from tasks.core.arithmetic import Arithmetic
from tasks.core.seal import Origin, Purpose, SealRule
from tasks.core.settings.base import Spec
from tasks.core.settings.transfer import Loss, TransferDecay, VGG16Preprocessing

# Left out of the JSON where it is None, so that keys of trainings without a fold do not depend on
# whether their kind can have one.
Fold = Annotated[int | None, Field(exclude_if=lambda fold: fold is None)]

LEARNS = SealRule(Purpose.LEARN)
REPORTS = SealRule(Purpose.REPORT)


class StageSpec(Spec):
    """The values that a stage receives besides its inputs.

    Class attributes, the same for every stage of a kind:
        kind: the name of the function, of its module in `tasks/stages` and of the Prefect task.
        seal: which data the kind may read, and which marks its files get.
        arithmetic: what decides the last bits of its results, and so is part of the key.
        tolerant: whether the stage runs although inputs were skipped.
        draws: whether the stage draws figures.
        class_names_from: the input whose facts have the class names in its figures.
    """

    kind: ClassVar[str]
    seal: ClassVar[SealRule]
    arithmetic: ClassVar[Arithmetic] = Arithmetic.FLOATING
    tolerant: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    class_names_from: ClassVar[str] = ""

    def drawn_changes(self) -> tuple[str, ...]:
        """The names of changes in the stage's figures."""
        return ()

    def as_json(self) -> dict[str, Any]:
        """The values as JSON, for the key and the record."""
        return self.model_dump(mode="json")


class Training(Spec):
    """One training of a model, computed by `stage`."""

    stage: str
    replicate: int
    fold: int | None
    seed: int


class Model(Spec):
    """A model and its trainings; `validated` if they held out images."""

    name: str
    validated: bool
    trainings: tuple[Training, ...]


class ModelInResults(Model):
    """A model with its step in the notebook and the gate that decided on it."""

    step: str
    gate: str | None


def files_of(role: str, *files: str) -> Origin:
    """What derives from files of an input, and has no marks of its own."""
    return Origin(tuple(f"{role}/{file}" for file in files))


class TransferTraining(Spec):
    """How the layers after VGG16's frozen ones are trained."""

    epochs: int
    learning_rate: float
    batch_size: int
    loss: Loss
    decay: TransferDecay


class TransferHead(Spec):
    """The layers put on VGG16's base, which reads images of `side` x `side` pixels."""

    side: int
    dense: int
    dropout: float


class Vgg16Input(Spec):
    """How images are turned into VGG16's input."""

    side: int
    preprocessing: VGG16Preprocessing
