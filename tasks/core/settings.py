"""Everything that a run depends on, as one value; its defaults are the notebook's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.errors import UserError
from tasks.core.notebook_plan import NOTEBOOK_PLAN
from tasks.core.specs import (
    LOWEST_VALIDATION_LOSS,
    ExecutionSettings,
    Iteration,
    Seed,
    Spec,
    SubsetSettings,
    SyntheticSettings,
    TrainSettings,
    TransferSettings,
    changed,
)


def _baseline() -> TrainSettings:
    return TrainSettings(filters=(), kernel_sizes=(), pooled=(), dense=(128,), epochs=5)


def _low_capacity() -> TrainSettings:
    return TrainSettings(
        filters=(16,), kernel_sizes=(7,), pooled=(True,), dense=(16,), epochs=20, batch_size=512
    )


class Settings(Spec):
    """Everything that a run depends on; the defaults are the notebook's."""

    dataset: str = Field(
        "fashion-mnist",
        min_length=1,
        description="fashion-mnist, synthetic, or the path of a folder of IDX files or an .npz.",
    )
    synthetic: SyntheticSettings = SyntheticSettings()
    subset: SubsetSettings = SubsetSettings()
    baseline: TrainSettings = Field(default_factory=_baseline)
    low_capacity: TrainSettings = Field(default_factory=_low_capacity)
    overfitting: TrainSettings = TrainSettings()
    plan: tuple[Iteration, ...] = Field(
        NOTEBOOK_PLAN, description="The iterations of step 7, in order."
    )
    rule: Literal["validation", "notebook"] = Field(
        "validation",
        description=(
            "validation: keep a change that raises validation accuracy (ties: lowers validation "
            "loss). notebook: replay the notebook's decisions."
        ),
    )
    transfer: TransferSettings = TransferSettings()
    seed: Seed = Field(0, description="Seed of weights, order, dropout and augmentation.")
    execution: ExecutionSettings = ExecutionSettings()

    @model_validator(mode="after")
    def _fixed_epochs_outside_the_plan(self) -> Self:
        for name in ("baseline", "low_capacity", "overfitting"):
            if getattr(self, name).epochs == LOWEST_VALIDATION_LOSS:
                raise ValueError(f"{name}.epochs: '{LOWEST_VALIDATION_LOSS}' is for the plan only")
        return self

    @model_validator(mode="after")
    def _applicable_plan(self) -> Self:
        for number, iteration in enumerate(self.plan, start=1):
            try:
                changed(self.overfitting, iteration.change)
            except UserError as error:
                raise ValueError(f"plan, iteration {number} ({iteration.name}): {error}") from None
            if self.rule == "notebook" and iteration.replay is None:
                raise ValueError(
                    f"plan, iteration {number} ({iteration.name}): rule 'notebook' replays "
                    "decisions, so each iteration needs replay = 'forward' or 'back'"
                )
        return self
