"""Decisions at gates and their reasons, for each rule."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.settings.evaluation import Metric
from tasks.core.settings.training import Decision
from tasks.core.statistics.decisions import Contender, Evidence, decide, opinions
from tasks.core.statistics.estimates import Estimate
from tasks.core.statistics.proportions import McNemar

OLD = Contender("overfitting", 0.85, 0.85, 0.50, train_accuracy=0.99, params=1_000, epochs=40)
NEW = Contender("iteration_1", 0.85, 0.85, 0.50, train_accuracy=0.90, params=1_000, epochs=40)


def evidence(
    gain: float = 0.0,
    loss: float = 0.0,
    error: float = 0.005,
    p_value: float = 0.5,
    trainings: int = 5,
    candidate: Contender = NEW,
) -> Evidence:
    accuracy = Estimate(gain, error, gain - 2 * error, gain + 2 * error, p_value)
    change = Estimate(loss, 0.01, loss - 0.02, loss + 0.02, 0.5)
    given = replace(
        candidate, score=OLD.score + gain, accuracy=OLD.accuracy + gain, loss=OLD.loss + loss
    )
    counts = McNemar(10, 12, 0.83)
    return Evidence(OLD, given, "accuracy", accuracy, accuracy, change, counts, trainings)


# Rule validation


@pytest.mark.parametrize(
    ("gain", "loss", "decision"),
    [
        (0.01, -0.10, "forward"),
        (0.01, 0.40, "forward"),
        (1e-10, 0.0, "forward"),
        (-0.01, -0.40, "back"),
        (-1e-10, 0.0, "back"),
        (0.0, -0.01, "forward"),
        (0.0, 0.01, "back"),
        (0.0, 0.0, "back"),
        (math.nan, -0.4, "back"),
        (0.0, math.nan, "back"),
    ],
    ids=[
        "better",
        "more accurate though its loss is higher",
        "a little better",
        "less accurate though its loss is lower",
        "a little worse",
        "tie, lower loss",
        "tie, higher loss",
        "no difference",
        "no accuracy",
        "tie, and a loss that is no number",
    ],
)
def test_validation_accuracy_decides_and_loss_breaks_ties(
    gain: float, loss: float, decision: Decision
) -> None:
    verdict = decide(evidence(gain, loss), "validation")
    assert verdict.decision == decision
    assert verdict.keep is (decision == "forward")
    assert verdict.state == {"forward": "RolledForward", "back": "KeptIncumbent"}[decision]


def test_the_reason_gives_the_evidence() -> None:
    verdict = decide(evidence(0.0225, 0.1125), "validation")
    assert verdict.reason == (
        "validation accuracy 0.8725 against 0.8500 of overfitting (+2.25 points, 95 % interval "
        "+1.25 to +3.25), loss 0.6125 against 0.5000"
    )


# Rule significant


@pytest.mark.parametrize(
    ("p_value", "decision", "state"),
    [
        (0.0049, "forward", "RolledForward"),
        (0.005, "forward", "RolledForward"),
        (0.0051, "back", "Inconclusive"),
        (0.5, "back", "Inconclusive"),
        (0.9949, "back", "Inconclusive"),
        (0.9951, "back", "KeptIncumbent"),
    ],
)
def test_significant_keeps_a_change_only_below_its_level(
    p_value: float, decision: Decision, state: str
) -> None:
    verdict = decide(evidence(0.01, p_value=p_value), "significant", level=0.005)
    assert (verdict.decision, verdict.state) == (decision, state)
    assert "level 0.005" in verdict.reason


def test_significant_says_when_it_is_undecided() -> None:
    reason = decide(evidence(0.01, p_value=0.2), "significant").reason
    assert reason.startswith("inconclusive, so roll back; validation accuracy ")
    assert "p = 0.2000" in reason
    assert "p < 0.0001" in decide(evidence(0.01, p_value=1e-9), "significant").reason


def test_significant_needs_several_trainings() -> None:
    with pytest.raises(UserError, match="needs 3 trainings of each model") as error:
        decide(evidence(0.05, p_value=1e-9, trainings=2), "significant")
    assert "evaluation.replicates" in str(error.value)


# Rule one_standard_error

SMALLER = replace(NEW, params=999, epochs=80)
SHORTER = replace(NEW, epochs=11)
LARGER = replace(NEW, params=1_001, epochs=1)


@pytest.mark.parametrize(
    ("candidate", "gain", "decision"),
    [
        (SMALLER, 0.001, "forward"),
        (SMALLER, -0.004, "forward"),
        (SMALLER, -0.006, "back"),
        (SHORTER, -0.004, "forward"),
        (SHORTER, -0.006, "back"),
        (LARGER, 0.004, "back"),
        (LARGER, 0.006, "forward"),
        (NEW, 0.004, "back"),
        (NEW, 0.006, "forward"),
        (LARGER, math.nan, "back"),
        (SMALLER, math.nan, "back"),
    ],
)
def test_one_standard_error_keeps_the_simpler_unless_the_other_is_clearly_better(
    candidate: Contender, gain: float, decision: Decision
) -> None:
    """The standard error is 0.005; as simple as each other means that the incumbent stays."""
    verdict = decide(evidence(gain, candidate=candidate), "one_standard_error")
    assert verdict.decision == decision
    simpler = "candidate" if candidate in (SMALLER, SHORTER) else "incumbent"
    assert verdict.reason.startswith(f"the {simpler} is the simpler; standard error 0.50 points; ")


# Rule notebook, and force


@pytest.mark.parametrize("replay", ["forward", "back"])
@pytest.mark.parametrize("gain", [-0.8, 0.1])
def test_the_notebook_s_decision_is_replayed_whatever_the_scores(
    replay: Decision, gain: float
) -> None:
    verdict = decide(evidence(gain), "notebook", replay=replay)
    assert verdict.decision == replay
    assert verdict.reason.startswith("the notebook's decision; validation accuracy ")


def test_nothing_to_replay() -> None:
    with pytest.raises(UserError, match="rule 'notebook' has no decision to replay"):
        decide(evidence(), "notebook")


@pytest.mark.parametrize("forced", ["forward", "back"])
@pytest.mark.parametrize("rule", ["validation", "significant", "one_standard_error", "notebook"])
def test_a_forced_decision_overrides_every_rule_and_states_the_rule_s_own(
    rule: str, forced: Decision
) -> None:
    found = evidence(0.03, p_value=1e-6)
    verdict = decide(found, rule, replay="forward", forced=forced)
    assert verdict.decision == forced
    assert verdict.state == {"forward": "ForcedForward", "back": "ForcedBack"}[forced]
    own = decide(found, rule, replay="forward")
    said = "the same" if own.decision == forced else own.decision
    assert verdict.reason == f"forced {forced}; rule {rule} says {said}: {own.reason}"


def test_an_unknown_rule() -> None:
    with pytest.raises(UserError, match="unknown rule 'coin'; expected 'validation', "):
        decide(evidence(), "coin")


# All rules

gains = st.floats(-1, 1)


@given(gains, gains, st.floats(1e-6, 0.5), st.floats(0, 1))
def test_opinions_are_what_the_rules_decide(
    gain: float, loss: float, error: float, p_value: float
) -> None:
    found = evidence(gain, loss, error, p_value)
    says = opinions(found, 0.05)
    for rule, opinion in says.items():
        verdict = decide(found, rule, 0.05)
        assert opinion in (verdict.decision, "inconclusive")
        assert (opinion == "inconclusive") is (verdict.state == "Inconclusive")


def test_few_trainings_have_no_opinion_on_significance() -> None:
    assert opinions(evidence(trainings=2), 0.05)["significant"] is None


def test_the_gap_between_seen_and_unseen() -> None:
    assert OLD.gap == pytest.approx(0.14)


# Metrics


def by(metric: Metric, gain: float, error: float = 0.01, p_value: float = 0.5) -> Evidence:
    """Evidence whose accuracy says the opposite of its gain by the metric."""
    found = evidence(-gain, loss=0.5)
    score = OLD.score - gain if metric == "log_loss" else OLD.score + gain
    return replace(
        found,
        metric=metric,
        candidate=replace(found.candidate, score=score),
        gain=Estimate(gain, error, gain - 2 * error, gain + 2 * error, p_value),
    )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
@pytest.mark.parametrize("rule", ["validation", "significant", "one_standard_error"])
def test_every_rule_decides_by_the_metric(rule: str, metric: Metric) -> None:
    assert decide(by(metric, 0.1, p_value=0.001), rule).decision == "forward"
    worse = decide(by(metric, -0.1, p_value=0.999), rule)
    assert (worse.decision, worse.state) == ("back", "KeptIncumbent")
    opinion = opinions(by(metric, 0.1, p_value=0.001), 0.05)[rule]
    assert opinion == "forward"


def test_reasons_name_the_metric_and_its_units() -> None:
    assert decide(by("balanced_accuracy", 0.1), "validation").reason == (
        "validation balanced accuracy 0.9500 against 0.8500 of overfitting (+10.00 points, 95 % "
        "interval +8.00 to +12.00), accuracy 0.7500 against 0.8500, loss 1.0000 against 0.5000"
    )
    assert decide(by("log_loss", 0.1), "validation").reason == (
        "validation log loss 0.7500 against 0.8500 of overfitting (decrease +0.1000 nats, 95 % "
        "interval +0.0800 to +0.1200), accuracy 0.7500 against 0.8500"
    )
    assert (
        "standard error 0.0100 nats; " in decide(by("log_loss", 0.1), "one_standard_error").reason
    )
    replayed = decide(by("log_loss", -0.1), "notebook", replay="forward")
    assert replayed.decision == "forward"
    assert replayed.reason.startswith("the notebook's decision; validation log loss ")
