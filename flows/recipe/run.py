"""The interface that carries a recipe out: runs submit stages to Prefect, plans look them up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from flows.recipe.own_code import with_code
from tasks.core.errors import SealedError
from tasks.core.messages import quoted
from tasks.core.own_code import OwnCode
from tasks.core.records import Outcome, Record, Stage
from tasks.core.seal import MarkedFiles, check_seal
from tasks.storage.store import Store


class Handle(Protocol):
    """A reference to the outcome of a stage, which may not exist yet."""

    @property
    def stage(self) -> str:
        """The stage's name."""


H = TypeVar("H", bound=Handle)


class Run(ABC, Generic[H]):
    """Carries out the stages of a recipe.

    The seal of the test split is checked when stages are connected: no stage that trains, tunes
    or decides can read data derived from test images or scores, whatever their names.
    """

    def __init__(self, store: Store | None = None) -> None:
        # Where models of earlier runs are looked up.
        self.earlier_runs = store
        self._marks: dict[str, MarkedFiles] = {}
        # By function, the code of the user's own networks, read when the recipe begins.
        self.own_code: Mapping[str, OwnCode] = {}

    def __call__(self, stage: Stage, after: Sequence[H] = (), **inputs: H) -> H:
        """Add a stage that starts once its inputs and the stages in `after` have ended.

        Returns:
            The stage's handle.

        Raises:
            SealedError: the stage would read sealed data, or a stage of the same name has other
                marks.
        """
        stage = with_code(stage, self.own_code)
        read = {role: self._marks[given.stage] for role, given in inputs.items()}
        marks = check_seal(stage.name, stage.spec.seal, stage.reads, read)
        if self._marks.setdefault(stage.name, marks) != marks:
            raise SealedError(
                f"two stages are named {quoted(stage.name)}, but their files derive from "
                "different test data; rename one of them."
            )
        return self.take(stage, after, inputs)

    def earlier(self, name: str, record: Record) -> H:
        """A result of an earlier run as an input, under a name that no stage of this run has."""
        self._marks[name] = record.marked
        return self.known(name, record)

    @abstractmethod
    def known(self, name: str, record: Record) -> H:
        """The handle of a result that is there already."""

    @abstractmethod
    def take(self, stage: Stage, after: Sequence[H], inputs: Mapping[str, H]) -> H:
        """Add a stage whose inputs the seal allows; return its handle."""

    @abstractmethod
    def value(self, handle: H) -> Outcome:
        """Wait for the outcome of a stage, given its handle."""
