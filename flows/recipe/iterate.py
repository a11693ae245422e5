"""Step 7: change the incumbent, train the candidate, decide, continue with the winner."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from flows.recipe import stages
from flows.recipe.ahead import candidates, known_decision
from flows.recipe.run import Run
from tasks.core.names import (
    ARRAYS,
    CANDIDATE,
    FOLDS,
    INCUMBENT,
    OVERFITTING,
    PREPROCESS,
    folds_name,
    iteration_name,
)
from tasks.core.records import Record
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import LOWEST_VALIDATION_LOSS, TrainSettings
from tasks.core.settings.transfer import TransferVariant
from tasks.core.statistics.replicates import replicates

# The settings of the models trained so far, by name and in order.
Trained = dict[str, TrainSettings]


@dataclass(frozen=True)
class Survivor:
    """The model that survived the gates, its settings, and the handles of all gates.

    If `transfer` is given, the model is of this variant, and `training` are the settings of the
    network that it replaced.
    """

    model: str
    training: TrainSettings
    verdicts: tuple[Any, ...]
    transfer: TransferVariant | None = None


def train(
    run: Run[Any],
    settings: Settings,
    made: dict[str, Any],
    trained: Trained,
    model: str,
    training: TrainSettings,
    ahead: Collection[TrainSettings] | None = None,
) -> None:
    """Train a model once for each replicate, in parallel, and draw its learning curves.

    A training that differs from an earlier one only in its number of epochs continues from a
    snapshot of the earlier one.

    Args:
        run: carries the stages out.
        settings: the run's settings.
        made: handles by stage name; those of this model are added.
        trained: settings by model; this model's are added.
        model: the model's name.
        training: the model's network and schedule.
        ahead: the settings that may be tried later; by default those of all iterations.
    """
    ahead = candidates(settings, [settings.overfitting], 0) if ahead is None else ahead
    beginnings = [name for name, other in trained.items() if _same_but_epochs(other, training)]
    other = [later.epochs for later in ahead if _same_but_epochs(training, later)]
    epochs = {number for number in other if number != training.epochs}
    snapshots = sorted(epochs, key=lambda number: (isinstance(number, str), number))
    trainings = {}
    for replicate in replicates(settings.evaluation, settings.seed):
        inputs = {ARRAYS: made[PREPROCESS]}
        if replicate.fold:
            inputs[FOLDS] = made[folds_name(replicate.number)]
        begun = [f"{name}{replicate.suffix}" for name in beginnings]
        inputs |= {name: made[name] for name in begun}
        stage = stages.train(model, training, replicate, snapshots, begun, settings.class_weight)
        trainings[stage.name] = run(stage, **inputs)
    made |= trainings
    trained[model] = training
    curves = stages.curves(model, list(trainings), settings)
    made[curves.name] = run(curves, **trainings)


def iterate(run: Run[Any], settings: Settings, made: dict[str, Any], trained: Trained) -> Survivor:
    """Try the plan's iterations, starting with the overfitting model; add stages to `made`."""
    incumbent, training = OVERFITTING, settings.overfitting
    verdicts = []
    for number, iteration in enumerate(settings.plan, start=1):
        name = iteration_name(number)
        candidate = resolved(run, changed(training, iteration.change), settings, made)
        # If the decision is known in advance, the next iteration does not wait for the gate.
        known = known_decision(settings, number, iteration)
        possible = {"forward": [candidate], "back": [training], None: [training, candidate]}[known]
        ahead = candidates(settings, possible, number)
        train(run, settings, made, trained, name, candidate, ahead)
        gate = stages.decide(number, incumbent, name, settings, iteration.replay)
        verdict = made[gate.name] = run(gate, **compared(settings, made, incumbent, name))
        verdicts.append(verdict)
        if (known or decision(run, verdict)) == "forward":
            incumbent, training = name, candidate
    return Survivor(incumbent, training, tuple(verdicts))


def _same_but_epochs(training: TrainSettings, other: TrainSettings) -> bool:
    """Whether a training may begin where another one, of another number of epochs, has been."""
    return training.is_open_ended and training.model_copy(update={"epochs": other.epochs}) == other


def compared(
    settings: Settings, made: Mapping[str, Any], incumbent: str, candidate: str
) -> dict[str, Any]:
    """The trainings of both models, by their roles as inputs of a gate."""
    return {
        f"{role}{replicate.suffix}": made[f"{model}{replicate.suffix}"]
        for replicate in replicates(settings.evaluation, settings.seed)
        for role, model in ((INCUMBENT, incumbent), (CANDIDATE, candidate))
    }


def decision(run: Run[Any], verdict: Any) -> str:
    """What a gate decided, once it has; `verdict` is its handle."""
    record = run.value(verdict)
    assert isinstance(record, Record), "gates are never skipped"
    return str(record.facts["decision"])


def resolved(
    run: Run[Any], training: TrainSettings, settings: Settings, made: Mapping[str, Any]
) -> TrainSettings:
    """`training` with a number of epochs, if it takes that from the overfitting model.

    The number is the median over the trainings of that model; of two middle ones, the lower.
    """
    if training.epochs != LOWEST_VALIDATION_LOSS:
        return training
    found = []
    for replicate in replicates(settings.evaluation, settings.seed):
        record = run.value(made[f"{OVERFITTING}{replicate.suffix}"])
        assert isinstance(record, Record), "the overfitting model is never skipped"
        found.append(record.facts["lowest_validation_loss_epoch"])
    return changed(training, {"epochs": median_low(found)})
