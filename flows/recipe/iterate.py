"""The rounds of step 7: change the incumbent, train, decide, go on with the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Any

from flows.recipe import stages
from tasks.core.errors import UserError
from tasks.core.records import Record
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import LOWEST_VALIDATION_LOSS, Iteration, TrainSettings
from tasks.core.statistics.replicates import replicates

if TYPE_CHECKING:
    from flows.recipe.contents import Run


# Where decisions are open, what may be tried doubles with each round; beyond this a plan is only
# looked through in part, and a training may begin at its first epoch that need not.
MOST_AHEAD = 4_096

# What models were trained with, in the order of their training.
Trained = dict[str, TrainSettings]


@dataclass(frozen=True)
class Survivor:
    """The settings that the gates left standing, and the handles of all verdicts."""

    training: TrainSettings
    verdicts: tuple[Any, ...]


def train(
    run: Run,
    settings: Settings,
    made: dict[str, Any],
    trained: Trained,
    model: str,
    training: TrainSettings,
    ahead: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Have a model trained once for each replicate, side by side, and its curves drawn.

    A training that differs from an earlier one in its number of epochs alone goes on from there.
    What runs is added to `made`, what it is trained with to `trained`. `ahead` are the settings
    that may be tried later; without it, those of all rounds.
    """
    ahead = candidates(settings, [settings.overfitting], 0) if ahead is None else ahead
    beginnings = [name for name, other in trained.items() if _but_epochs(other, dict(training))]
    other = [later["epochs"] for later in ahead if _but_epochs(training, later)]
    epochs = {number for number in other if number != training.epochs}
    snapshots = sorted(epochs, key=lambda number: (isinstance(number, str), number))
    trainings = {}
    for replicate in replicates(settings.evaluation, settings.seed):
        inputs = {"arrays": made["preprocess"]}
        if replicate.fold:
            inputs["folds"] = made[stages.folds_name(replicate.number)]
        begun = [f"{name}{replicate.suffix}" for name in beginnings]
        inputs |= {name: made[name] for name in begun}
        stage = stages.train(model, training, replicate, snapshots, begun)
        trainings[stage.name] = run(stage, **inputs)
    made |= trainings
    trained[model] = training
    drawing = stages.curves(model, list(trainings), settings)
    made[drawing.name] = run(drawing, **trainings)


def iterate(run: Run, settings: Settings, made: dict[str, Any], trained: Trained) -> Survivor:
    """Play the plan's iterations against the overfitting model; add what runs to `made`."""
    incumbent, training = "overfitting", settings.overfitting
    verdicts = []
    for number, iteration in enumerate(settings.plan, start=1):
        name = f"iteration_{number}"
        candidate = resolved(run, changed(training, iteration.change), settings, made)
        # What is known beforehand keeps no round waiting.
        foregone = _foregone(settings, number, iteration)
        standing = {"forward": [candidate], None: [training, candidate]}.get(foregone, [training])
        ahead = candidates(settings, standing, number)
        train(run, settings, made, trained, name, candidate, ahead)
        gate = stages.decide(number, incumbent, name, settings, iteration.replay)
        verdict = made[gate.name] = run(gate, **_compared(settings, made, incumbent, name))
        verdicts.append(verdict)
        if (foregone or _decision(run, verdict)) == "forward":
            incumbent, training = name, candidate
    return Survivor(training, tuple(verdicts))


def candidates(
    settings: Settings, standing: Sequence[TrainSettings], after: int
) -> list[dict[str, Any]]:
    """What the rounds after round `after` may try, whatever their gates decide, as fields.

    `standing` are the settings of which one is the incumbent then. No epochs are resolved.
    """
    incumbents = {tuple(dict(known).values()): dict(known) for known in standing}
    tried = []
    for number, iteration in enumerate(settings.plan[after:], start=after + 1):
        with suppress(UserError):  # it does not fit the overfitting model itself
            fitting = changed(settings.overfitting, iteration.change)
            change = {name: getattr(fitting, name) for name in iteration.change}
            found = [known | change for known in incumbents.values()]
            tried += found
            forward = {tuple(candidate.values()): candidate for candidate in found}
            foregone = _foregone(settings, number, iteration)
            if foregone == "forward":
                incumbents = forward
            elif foregone is None and len(incumbents) + len(forward) <= MOST_AHEAD:
                incumbents |= forward
    return tried


def _but_epochs(training: TrainSettings, fields: Mapping[str, Any]) -> bool:
    """Whether a training is that of all fields but, it may be, `epochs`."""
    return dict(training) | {"epochs": fields["epochs"]} == fields


def _compared(
    settings: Settings, made: Mapping[str, Any], incumbent: str, candidate: str
) -> dict[str, Any]:
    """All trainings of both models, as a gate calls them."""
    return {
        f"{role}{replicate.suffix}": made[f"{model}{replicate.suffix}"]
        for replicate in replicates(settings.evaluation, settings.seed)
        for role, model in (("incumbent", incumbent), ("candidate", candidate))
    }


def _foregone(settings: Settings, gate: int, iteration: Iteration) -> str | None:
    """A decision that does not depend on how the trainings come out."""
    replayed = iteration.replay if settings.rule == "notebook" else None
    return settings.force.get(gate, replayed)


def _decision(run: Run, verdict: Any) -> str:
    record = run.value(verdict)
    assert isinstance(record, Record), "gates are never skipped"
    return str(record.facts["decision"])


def resolved(
    run: Run, training: TrainSettings, settings: Settings, made: Mapping[str, Any]
) -> TrainSettings:
    """`training` with its epochs as a number, taken from the overfitting model where it says so.

    Of several trainings of that model it is the median, the lower of two.
    """
    if training.epochs != LOWEST_VALIDATION_LOSS:
        return training
    found = []
    for replicate in replicates(settings.evaluation, settings.seed):
        record = run.value(made[f"overfitting{replicate.suffix}"])
        assert isinstance(record, Record), "the overfitting model is never skipped"
        found.append(record.facts["lowest_validation_loss_epoch"])
    return changed(training, {"epochs": median_low(found)})
