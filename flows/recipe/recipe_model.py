"""A model of the recipe: its name, its trainings, and the gate that decides on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.names import FINAL
from tasks.core.settings.transfer import TransferVariant
from tasks.core.statistics.replicates import Replicate


@dataclass(frozen=True)
class RecipeModel:
    """A model and the stages that train it.

    Attributes:
        name: its name.
        step: its step in the notebook.
        trainings: its trainings by the name of their stage.
        gate: the stage that decides whether to keep it, if there is one.
        transfer: its variant of transfer learning, if it is a VGG16 model.
    """

    name: str
    step: str
    trainings: Mapping[str, Replicate]
    gate: str | None = None
    transfer: TransferVariant | None = None

    @property
    def validated(self) -> bool:
        """Whether it was scored on images held out from its training."""
        return self.name != FINAL
