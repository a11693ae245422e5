"""The rounds of step 7: change the incumbent, train, decide, go on with the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Any

from flows import stages
from tasks.core.records import Record
from tasks.core.replicates import replicates
from tasks.core.settings import Settings
from tasks.core.specs import LOWEST_VALIDATION_LOSS, Iteration, TrainSettings, changed

if TYPE_CHECKING:
    from flows.recipe import Run


@dataclass(frozen=True)
class Survivor:
    """The settings that the gates left standing, and the handles of all verdicts."""

    training: TrainSettings
    verdicts: tuple[Any, ...]


def train(
    run: Run,
    settings: Settings,
    made: dict[str, Any],
    model: str,
    training: TrainSettings,
    snapshots: Sequence[int | str] = (),
    begins_as: str | None = None,
) -> None:
    """Have a model trained once for each replicate, side by side, and its curves drawn.

    What runs is added to `made`. `begins_as` is the model whose trainings these may be the
    beginnings of, if there is one.
    """
    trainings = {}
    for replicate in replicates(settings.evaluation, settings.seed):
        inputs = {"arrays": made["preprocess"]}
        if replicate.fold:
            inputs["folds"] = made[stages.folds_name(replicate.number)]
        if begins_as:
            inputs["beginning"] = made[f"{begins_as}{replicate.suffix}"]
        begun = begins_as is not None
        stage = stages.train(model, training, replicate, snapshots, begun=begun)
        trainings[stage.name] = run(stage, **inputs)
    made |= trainings
    drawing = stages.curves(model, list(trainings), settings)
    made[drawing.name] = run(drawing, **trainings)


def iterate(run: Run, settings: Settings, made: dict[str, Any]) -> Survivor:
    """Play the plan's iterations against the overfitting model; add what runs to `made`."""
    incumbent, training = "overfitting", settings.overfitting
    verdicts = []
    for number, iteration in enumerate(settings.plan, start=1):
        name = f"iteration_{number}"
        candidate = resolved(run, changed(training, iteration.change), settings, made)
        # Fewer epochs of the same training: the incumbent has been there.
        begun = changed(candidate, {"epochs": training.epochs}) == training
        later = beginnings(settings.plan[number:])
        train(run, settings, made, name, candidate, later, incumbent if begun else None)
        gate = stages.decide(number, incumbent, name, settings, iteration.replay)
        verdict = made[gate.name] = run(gate, **_compared(settings, made, incumbent, name))
        verdicts.append(verdict)
        # What is known beforehand keeps no round waiting.
        decision = _foregone(settings, number, iteration) or _decision(run, verdict)
        if decision == "forward":
            incumbent, training = name, candidate
    return Survivor(training, tuple(verdicts))


def beginnings(plan: Sequence[Iteration]) -> list[int | str]:
    """The epochs after which a training may be the beginning of one that the plan has later."""
    return [entry.change["epochs"] for entry in plan if set(entry.change) == {"epochs"}]


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
