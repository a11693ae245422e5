"""Settings of how models are judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Spec

# What decides at a gate.
Rule = Literal["validation", "significant", "one_standard_error", "replay", "notebook"]
# What a user may ask for: `auto` becomes one of the rules before a run starts.
GivenRule = Literal["auto", Rule]
Protocol = Literal["holdout", "kfold"]
Metric = Literal["accuracy", "balanced_accuracy", "log_loss"]

# The rules that replay the decisions in the plan. `notebook` is older: it is for Fashion-MNIST.
REPLAYING: frozenset[str] = frozenset({"replay", "notebook"})


class EvaluationSettings(Spec):
    """How models are judged: on which held-out images, and with how many seeds."""

    protocol: Protocol = Field(
        "holdout",
        description=(
            "holdout: score on the validation split. kfold: divide the training and validation "
            "images into stratified folds and hold out each fold once."
        ),
    )
    folds: int = Field(5, strict=True, ge=2, le=20, description="Number of folds (kfold only).")
    replicates: int = Field(
        1,
        strict=True,
        ge=1,
        le=100,
        description="Trainings of each model, each with its own seed (and folds).",
    )

    def words(self) -> list[str]:
        """Folds and replicates in words, or nothing if each model is trained once."""
        found = [f"{self.folds} folds"] if self.protocol == "kfold" else []
        return found + ([f"{self.replicates} replicates"] if self.replicates > 1 else [])
