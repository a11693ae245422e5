"""The rounds of step 7: change the incumbent, train, decide, go on with the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows import stages
from tasks.core.records import Record
from tasks.core.settings import Settings
from tasks.core.specs import LOWEST_VALIDATION_LOSS, Iteration, TrainSettings, changed

if TYPE_CHECKING:
    from flows.recipe import Run


@dataclass(frozen=True)
class Survivor:
    """The settings that the gates left standing, and the handles of all verdicts."""

    training: TrainSettings
    verdicts: tuple[Any, ...]


def iterate(run: Run, settings: Settings, arrays: Any, made: dict[str, Any]) -> Survivor:
    """Play the plan's iterations against the overfitting model; add what runs to `made`."""
    incumbent, training = "overfitting", settings.overfitting
    verdicts = []
    for number, iteration in enumerate(settings.plan, start=1):
        name = f"iteration_{number}"
        candidate = resolved(run, changed(training, iteration.change), made["overfitting"])
        # Fewer epochs of the same training: the incumbent has been there.
        begun = changed(candidate, {"epochs": training.epochs}) == training
        beginning = {"beginning": made[incumbent]} if begun else {}
        later = beginnings(settings.plan[number:])
        stage = stages.train(name, candidate, settings.seed, later, begun=begun)
        made[name] = run(stage, arrays=arrays, **beginning)
        gate = stages.decide(number, incumbent, name, settings, iteration.replay)
        verdict = run(gate, incumbent=made[incumbent], candidate=made[name])
        made[gate.name] = verdict
        verdicts.append(verdict)
        # A replayed decision is known beforehand, so the next round need not wait for it.
        replayed = settings.rule == "notebook"
        decision = iteration.replay if replayed else _decision(run, verdict)
        if decision == "forward":
            incumbent, training = name, candidate
    return Survivor(training, tuple(verdicts))


def beginnings(plan: Sequence[Iteration]) -> list[int | str]:
    """The epochs after which a training may be the beginning of one that the plan has later."""
    return [entry.change["epochs"] for entry in plan if set(entry.change) == {"epochs"}]


def _decision(run: Run, verdict: Any) -> str:
    record = run.value(verdict)
    assert isinstance(record, Record), "gates are never skipped"
    return str(record.facts["decision"])


def resolved(run: Run, training: TrainSettings, overfitting: Any) -> TrainSettings:
    """`training` with its epochs as a number, taken from the overfitting model where it says so."""
    if training.epochs != LOWEST_VALIDATION_LOSS:
        return training
    record = run.value(overfitting)
    assert isinstance(record, Record), "the overfitting model is never skipped"
    return changed(training, {"epochs": record.facts["lowest_validation_loss_epoch"]})
