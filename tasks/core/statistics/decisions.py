"""The decision whether to keep a change: pure functions of validation results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.core.errors import UserError
from tasks.core.messages import quoted
from tasks.core.settings.evaluation import Metric
from tasks.core.settings.training import Decision
from tasks.core.statistics.estimates import Estimate
from tasks.core.statistics.evidence import (
    Scored,
    accuracy_difference,
    gain,
    loss_difference,
)
from tasks.core.statistics.metric_words import NAMES, gain_words, unit
from tasks.core.statistics.proportions import McNemar, mcnemar

FORWARD, BACK = "RolledForward", "KeptIncumbent"
INCONCLUSIVE = "Inconclusive"
FEWEST_TRAININGS = 3
_TIE = 1e-12
FORCED = {"forward": "ForcedForward", "back": "ForcedBack"}


@dataclass(frozen=True)
class Contender:
    """A model at a gate, with its scores averaged over its trainings.

    Attributes:
        name: the model's name.
        score: on held-out images, by the metric that decides.
        accuracy: on held-out images, in [0, 1].
        loss: cross-entropy on held-out images in nats, without weight penalties.
        train_accuracy: on training images, in [0, 1].
        params: number of weights.
        epochs: passes over the training images.
    """

    name: str
    score: float
    accuracy: float
    loss: float
    train_accuracy: float
    params: int
    epochs: int

    @property
    def gap(self) -> float:
        """Training accuracy minus held-out accuracy, in [-1, 1]."""
        return self.train_accuracy - self.accuracy

    def simpler_than(self, other: Contender) -> bool:
        """Whether it has fewer weights, or equally many and fewer epochs of training."""
        return (self.params, self.epochs) < (other.params, other.epochs)


@dataclass(frozen=True)
class Evidence:
    """The comparison of a candidate with the incumbent.

    Attributes:
        incumbent: the model to beat.
        candidate: the model with the change.
        metric: what decides.
        gain: by how much the candidate's score is better; positive also if lower scores are better.
        accuracy: the candidate's accuracy minus the incumbent's.
        loss: the candidate's loss minus the incumbent's.
        mcnemar: McNemar's test of the first pair of trainings.
        trainings: the number of trainings of each model.
    """

    incumbent: Contender
    candidate: Contender
    metric: Metric
    gain: Estimate
    accuracy: Estimate
    loss: Estimate
    mcnemar: McNemar
    trainings: int


@dataclass(frozen=True)
class Verdict:
    """The decision of a gate and its reason; `state` is its name in Prefect."""

    decision: Decision
    state: str
    reason: str

    @property
    def keep(self) -> bool:
        """Whether the candidate becomes the incumbent."""
        return self.decision == "forward"


def gather(
    incumbent: Contender,
    candidate: Contender,
    before: Sequence[Scored],
    after: Sequence[Scored],
    folds: int | None,
    metric: Metric,
) -> Evidence:
    """Compare the trainings of two models, paired by their order."""
    return Evidence(
        incumbent,
        candidate,
        metric,
        gain(metric, before, after, folds),
        accuracy_difference(before, after, folds),
        loss_difference(before, after, folds),
        mcnemar(before[0].correct, after[0].correct),
        len(before),
    )


# The rules that replay a plan's decisions. Settings name them too, but no key covers that module.
REPLAYED = frozenset({"replay", "notebook"})


def decide(
    evidence: Evidence,
    rule: str,
    level: float = 0.05,
    replay: Decision | None = None,
    forced: Decision | None = None,
) -> Verdict:
    """Decide whether the candidate replaces the incumbent.

    Args:
        evidence: the comparison of both.
        rule: `validation`, `significant`, `one_standard_error`, `replay` or `notebook`.
        level: the probability of a type I error allowed at this gate, in (0, 1).
        replay: the decision that `replay` and `notebook` replay.
        forced: a decision that overrides the rule.

    Raises:
        UserError: an unknown rule, no decision to replay, or too few trainings for `significant`.
    """
    verdict = _by_rule(evidence, rule, level, replay)
    if forced is None:
        return verdict
    said = "the same" if verdict.decision == forced else verdict.decision
    return Verdict(
        forced,
        FORCED[forced],
        f"forced {forced}; rule {rule} says {said}: {verdict.reason}",
    )


def _by_rule(evidence: Evidence, rule: str, level: float, replay: Decision | None) -> Verdict:
    if rule == "validation":
        return _validation(evidence)
    if rule == "significant":
        return _significant(evidence, level)
    if rule == "one_standard_error":
        return _one_standard_error(evidence)
    if rule in REPLAYED:
        return _replayed(evidence, rule, replay)
    raise UserError(
        f"unknown rule {quoted(rule)}; expected 'validation', 'significant', "
        "'one_standard_error', 'replay' or 'notebook'"
    )


def opinions(evidence: Evidence, level: float) -> Mapping[str, str | None]:
    """The decision of each rule that uses the evidence; None if it has too few trainings."""
    significant = None
    if evidence.trainings >= FEWEST_TRAININGS:
        verdict = _significant(evidence, level)
        undecided = verdict.state == INCONCLUSIVE
        significant = "inconclusive" if undecided else verdict.decision
    return {
        "validation": _validation(evidence).decision,
        "significant": significant,
        "one_standard_error": _one_standard_error(evidence).decision,
    }


def _replayed(evidence: Evidence, rule: str, replay: Decision | None) -> Verdict:
    """Replay the decision in the plan."""
    if replay is None:
        raise UserError(
            f"rule '{rule}' has no decision to replay for this iteration; set its replay to "
            "'forward' or 'back'."
        )
    whose = "the notebook's decision" if rule == "notebook" else "the plan's decision"
    return _verdict(replay, f"{whose}; {_seen(evidence)}")


def _validation(evidence: Evidence) -> Verdict:
    """Keep a candidate with a better score, or with the same score and a lower loss."""
    found, change = evidence.gain.value, evidence.loss.value
    # If gains and losses of folds cancel, their floating-point mean is not exactly 0.
    tie = abs(found) < _TIE
    keep = change < 0 if tie else found > 0
    return _verdict("forward" if keep else "back", _seen(evidence))


def _significant(evidence: Evidence, level: float) -> Verdict:
    """Keep a candidate that is better in a one-sided test at `level`."""
    if evidence.trainings < FEWEST_TRAININGS:
        raise UserError(
            f"rule 'significant' needs {FEWEST_TRAININGS} trainings of each model or more, since "
            "fewer do not show the spread between seeds. Set evaluation.replicates=5, or "
            "evaluation.protocol=kfold with several replicates."
        )
    found = evidence.gain
    seen = f"{_seen(evidence)}; p {_p(found.p_value)}, level {level:.3g}"
    if found.p_value <= level:
        return _verdict("forward", f"better; {seen}")
    if 1 - found.p_value <= level:
        return _verdict("back", f"worse; {seen}")
    return Verdict("back", INCONCLUSIVE, f"inconclusive, so roll back; {seen}")


def _one_standard_error(evidence: Evidence) -> Verdict:
    """Keep the simpler model unless the other is better by more than one standard error.

    The standard error is that of the difference (after Breiman et al. 1984; Hastie et al. 2009,
    section 7.10).
    """
    found, error = evidence.gain.value, evidence.gain.error
    simpler = evidence.candidate.simpler_than(evidence.incumbent)
    keep = found >= -error if simpler else found > error
    which = "candidate" if simpler else "incumbent"
    size = f"{gain_words(evidence.metric, error).lstrip('+')} {unit(evidence.metric)}"
    reason = f"the {which} is the simpler; standard error {size}; "
    return _verdict("forward" if keep else "back", reason + _seen(evidence))


def _verdict(decision: Decision, reason: str) -> Verdict:
    return Verdict(decision, FORWARD if decision == "forward" else BACK, reason)


def _seen(evidence: Evidence) -> str:
    incumbent, candidate, metric = evidence.incumbent, evidence.candidate, evidence.metric
    found = evidence.gain
    value, low, high = (gain_words(metric, end) for end in (found.value, found.low, found.high))
    lower = "decrease " if metric == "log_loss" else ""
    others = {"accuracy": (candidate.accuracy, incumbent.accuracy)} if metric != "accuracy" else {}
    if metric != "log_loss":
        others["loss"] = (candidate.loss, incumbent.loss)
    return (
        f"validation {NAMES[metric]} {candidate.score:.4f} against {incumbent.score:.4f} of "
        f"{incumbent.name} ({lower}{value} {unit(metric)}, 95 % interval {low} to {high})"
        + "".join(
            f", {name} {one:.4f} against {other:.4f}" for name, (one, other) in others.items()
        )
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}"
