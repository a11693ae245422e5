"""All settings of a run as one value; the defaults are the notebook's."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks.core.errors import UserError
from tasks.core.messages import listed
from tasks.core.settings.base import Seed, Spec, changed
from tasks.core.settings.evaluation import (
    REPLAYING,
    EvaluationSettings,
    GivenRule,
    Metric,
    Rule,
)
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.images import (
    GuardSettings,
    ImageSettings,
    SubsetSettings,
    SyntheticSettings,
)
from tasks.core.settings.notebook_plan import NOTEBOOK_PLAN
from tasks.core.settings.training import (
    LOWEST_VALIDATION_LOSS,
    ClassWeight,
    Decision,
    Iteration,
    TrainSettings,
)
from tasks.core.settings.transfer import TRANSFER_CHANGE, TransferSettings

# Each change doubles the incumbents that gates may leave; of more, some are not checked.
_MOST_INCUMBENTS = 1_024


def _depends(iteration: Iteration) -> bool:
    """Whether a change may fit one incumbent and not another."""
    return any(
        "." in name or name == "network" or (isinstance(value, dict) and set(value) == {"times"})
        for name, value in iteration.change.items()
    )


def _candidate(incumbent: TrainSettings, iteration: Iteration) -> TrainSettings:
    """The incumbent's settings with a change.

    Raises:
        UserError: the change does not fit.
    """
    candidate = changed(incumbent, iteration.change)
    wanted = iteration.change.get("network.family", candidate.network.family)
    if wanted != candidate.network.family:
        raise UserError(
            f"network.family: the incumbent's function or application is still there, so it stays "
            f"'{candidate.network.family}'; set the whole group, network = {{ family = ... }}"
        )
    return candidate


def _baseline() -> TrainSettings:
    return TrainSettings(filters=(), kernel_sizes=(), pooled=(), dense=(128,), epochs=5)


def _low_capacity() -> TrainSettings:
    return TrainSettings(
        filters=(16,), kernel_sizes=(7,), pooled=(True,), dense=(16,), epochs=20, batch_size=512
    )


class Settings(Spec):
    """All settings of a run; the defaults are the notebook's."""

    dataset: str = Field(
        "fashion-mnist",
        min_length=1,
        description=(
            "fashion-mnist, synthetic, or your own images: the path or s3:// address of a folder, "
            "a table, arrays or an archive."
        ),
    )
    synthetic: SyntheticSettings = SyntheticSettings()
    images: ImageSettings = ImageSettings()
    subset: SubsetSettings = SubsetSettings()
    baseline: TrainSettings = _baseline()
    low_capacity: TrainSettings = _low_capacity()
    overfitting: TrainSettings = TrainSettings()
    plan: tuple[Iteration, ...] = Field(
        NOTEBOOK_PLAN, description="The iterations of step 7 in order."
    )
    rule: GivenRule = Field(
        "auto",
        description=(
            "auto: replay the decisions in a preset's plan on the images that they were made on; "
            "validation with other images, another plan, overfitting model or metric. "
            "validation: keep a change with a better validation score by `metric`, or with a lower "
            "loss at an equal score. significant: keep a change that is better in a one-sided "
            "test, each gate at `alpha` divided by the number of gates; needs 3 trainings of each "
            "model. "
            "one_standard_error: keep the simpler of two models unless the other is better by more "
            "than one standard error. replay: replay the decisions in the plan. notebook: the "
            "same, for the notebook's decisions on Fashion-MNIST."
        ),
    )
    metric: Metric = Field(
        "accuracy",
        description=(
            "What gates, success criteria and the optimism of choosing are judged by. accuracy: "
            "the share of images classified correctly. balanced_accuracy: the mean of that share "
            "over classes, so rare classes count as much as common ones. log_loss: the "
            "cross-entropy of the probabilities, in nats; lower is better."
        ),
    )
    class_weight: ClassWeight = Field(
        None,
        description=(
            "How much the images of each class count in training. none: all the same. balanced: "
            "in inverse proportion to the number of training images of the class. Or weights by "
            "class name or label, e.g. {rare = 5}; other classes have 1. Scores ignore them."
        ),
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description=(
            "Probability that rule `significant` keeps at least one change if none is an "
            "improvement; also the level of the success criteria."
        ),
    )
    force: dict[int, Decision] = Field(
        {},
        description=(
            "Decisions by gate that override the rule, e.g. {4 = 'forward'}. The gate of transfer, "
            "if there is one, has the number after the plan's last."
        ),
    )
    guard: GuardSettings = GuardSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    transfer: TransferSettings = TransferSettings()
    seed: Seed = Field(
        0, description="Seed of initial weights, sample order, dropout and augmentation."
    )
    execution: ExecutionSettings = ExecutionSettings()

    @property
    def on_own_images(self) -> bool:
        """Whether the images are the user's."""
        return self.dataset not in ("fashion-mnist", "synthetic")

    @property
    def has_notebook_plan(self) -> bool:
        """Whether the overfitting model and its changes are the notebook's."""
        changes = [(entry.change, entry.replay) for entry in self.plan]
        notebooks = [(entry.change, entry.replay) for entry in NOTEBOOK_PLAN]
        return self.overfitting == TrainSettings() and changes == notebooks

    @property
    def change_names(self) -> tuple[str, ...]:
        """What each gate of the run decides on: the plan's changes, then perhaps transfer."""
        last = (TRANSFER_CHANGE,) if self.transfer.competes else ()
        return (*(entry.name for entry in self.plan), *last)

    @property
    def replays(self) -> bool:
        """Whether gates replay the decisions in the plan."""
        return self.rule in REPLAYING

    @property
    def gate_rule(self) -> Rule:
        """The rule, which must no longer be `auto` when stages are described."""
        assert self.rule != "auto", "settings are settled first, flows/recipe/settle.py"
        return self.rule

    @field_validator("class_weight", mode="before")
    @classmethod
    def _no_class_weight(cls, value: Any) -> Any:
        """Take `none` for no weights, as `--set` does."""
        return None if value == "none" else value

    @field_validator("baseline", "low_capacity", mode="before")
    @classmethod
    def _fill_in_defaults(cls, value: Any, info: ValidationInfo) -> Any:
        """Complete a partly given network with its own defaults instead of the class's."""
        if not isinstance(value, dict):
            return value
        own = _baseline() if info.field_name == "baseline" else _low_capacity()
        return own.model_dump() | value

    @model_validator(mode="after")
    def _check_epochs_outside_the_plan(self) -> Self:
        for name in ("baseline", "low_capacity", "overfitting"):
            if getattr(self, name).epochs == LOWEST_VALIDATION_LOSS:
                raise ValueError(
                    f"{name}.epochs: '{LOWEST_VALIDATION_LOSS}' is only allowed in the plan"
                )
        return self

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        """Check that each change gives valid settings.

        If decisions are replayed, it is applied to the incumbent at that point of the replay,
        otherwise to the overfitting model.
        """
        incumbent = self.overfitting
        for number, iteration in enumerate(self.plan, start=1):
            where = f"plan, iteration {number} ({iteration.name})"
            try:
                candidate = _candidate(incumbent, iteration)
            except UserError as error:
                raise ValueError(f"{where}: {error}") from None
            idle = {field for field in iteration.change if field in candidate.unused()}
            if idle == set(iteration.change):
                raise ValueError(
                    f"{where}: {listed(idle)} of no effect in family '{candidate.network.family}'; "
                    "give a plan of your own (--plan FILE)"
                )
            if not self.replays:
                continue
            if iteration.replay is None:
                raise ValueError(
                    f"{where}: rule '{self.rule}' replays decisions, so each iteration must have "
                    "replay = 'forward' or 'back'"
                )
            if self.force.get(number, iteration.replay) == "forward":
                incumbent = candidate
        return self

    @model_validator(mode="after")
    def _check_what_gates_leave(self) -> Self:
        """Check that each change fits every incumbent that earlier gates may leave.

        Only changes of parts of groups, of the network, or by a factor depend on what is there.
        """
        if self.replays or not any(map(_depends, self.plan)):
            return self
        incumbents = {self.overfitting}
        for number, iteration in enumerate(self.plan, start=1):
            try:
                forward = {_candidate(training, iteration) for training in incumbents}
            except UserError as error:
                raise ValueError(
                    f"plan, iteration {number} ({iteration.name}): it does not fit if earlier "
                    f"changes are kept; set the whole group, or put it first: {error}"
                ) from None
            decision = self.force.get(number)
            if decision == "forward":
                incumbents = forward
            elif decision is None and len(incumbents) + len(forward) <= _MOST_INCUMBENTS:
                incumbents |= forward
        return self

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        if self.rule == "notebook" and self.on_own_images:
            raise ValueError(
                "rule 'notebook' replays what the notebook decided on Fashion-MNIST; use another "
                "rule for your own images"
            )
        return self

    @model_validator(mode="after")
    def _check_forced_gates(self) -> Self:
        gates = len(self.change_names)
        beyond = sorted(set(self.force) - set(range(1, gates + 1)))
        if beyond:
            last = " and the last for transfer" if self.transfer.competes else ""
            raise ValueError(
                f"force: there is no gate {listed(beyond)}; expected gates from 1 to {gates}, one "
                f"for each change of the plan{last}"
            )
        return self

    @model_validator(mode="after")
    def _check_number_of_trainings(self) -> Self:
        trainings = self.evaluation.replicates
        if self.evaluation.protocol == "kfold":
            trainings *= self.evaluation.folds
        if self.rule == "significant" and trainings < 3:
            raise ValueError(
                "rule 'significant' needs 3 trainings of each model or more, since fewer do not "
                "show the spread between seeds; set evaluation.replicates=5, or "
                "evaluation.protocol=kfold with several replicates"
            )
        return self

    @model_validator(mode="after")
    def _check_weights_file(self) -> Self:
        if self.transfer.weights_file and self.transfer.weights in ("random", "off"):
            raise ValueError(
                f"transfer.weights is '{self.transfer.weights}', so transfer.weights_file would "
                "not be used; remove one of them"
            )
        return self
