"""Settings of what a model is judged by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Spec

Protocol = Literal["holdout", "kfold"]


class EvaluationSettings(Spec):
    """What a model is judged by: the images held out, and how many seeds."""

    protocol: Protocol = Field(
        "holdout",
        description=(
            "holdout: the validation split. kfold: training and validation split together in "
            "stratified folds, each held out once."
        ),
    )
    folds: int = Field(5, strict=True, ge=2, le=20, description="Number of folds, for kfold.")
    replicates: int = Field(
        1,
        strict=True,
        ge=1,
        le=100,
        description="Trainings of each model, each with a seed (and folds) of its own.",
    )

    def words(self) -> list[str]:
        """Folds and replicates in words, where a model is trained more than once."""
        found = [f"{self.folds} folds"] if self.protocol == "kfold" else []
        return found + ([f"{self.replicates} replicates"] if self.replicates > 1 else [])
