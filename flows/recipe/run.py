"""What carries a recipe out: Prefect in a run, a look into the store in a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from tasks.core.errors import SealedError
from tasks.core.records import Outcome, Stage
from tasks.core.seal import MarkedFiles, check_seal


class Handle(Protocol):
    """Stands for the outcome of a stage that may not be there yet."""

    @property
    def stage(self) -> str:
        """The stage's name."""


H = TypeVar("H", bound=Handle)


class Run(ABC, Generic[H]):
    """Carries out the stages of a recipe.

    The seal of the test split is checked as stages are wired: no stage that trains, tunes or
    decides can be given data that derive from test images or scores, whatever their names.
    """

    def __init__(self) -> None:
        self._marks: dict[str, MarkedFiles] = {}

    def __call__(self, stage: Stage, after: Sequence[H] = (), **inputs: H) -> H:
        """Have a stage done once its inputs and what it comes `after` are done; return its handle.

        Raises:
            SealedError: the stage would read sealed data, or its name is that of another stage
                with other marks.
        """
        read = {role: self._marks[given.stage] for role, given in inputs.items()}
        marks = check_seal(stage.name, stage.spec.seal, stage.reads, read)
        if self._marks.setdefault(stage.name, marks) != marks:
            raise SealedError(
                f"two stages are called {stage.name!r}, and different test data are in them; give "
                "one of them another name."
            )
        return self.take(stage, after, inputs)

    @abstractmethod
    def take(self, stage: Stage, after: Sequence[H], inputs: Mapping[str, H]) -> H:
        """Have a stage done that the seal allows."""

    @abstractmethod
    def value(self, handle: H) -> Outcome:
        """Wait for the outcome that a handle stands for."""
