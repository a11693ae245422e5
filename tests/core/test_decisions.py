"""Gates: what is kept, what is rolled back, and why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.decisions import Decision, Scores, decide
from tasks.core.errors import UserError

INCUMBENT = Scores("overfitting", accuracy=0.85, loss=0.50)

accuracies = st.floats(0, 1)
losses = st.floats(0, 50)
scores = st.builds(Scores, st.just("x"), accuracies, losses)


@pytest.mark.parametrize(
    ("accuracy", "loss", "decision"),
    [
        (0.86, 0.40, "forward"),
        (0.86, 0.90, "forward"),
        (0.8500000001, 0.50, "forward"),
        (0.84, 0.10, "back"),
        (0.8499999999, 0.50, "back"),
        (0.85, 0.49, "forward"),
        (0.85, 0.51, "back"),
        (0.85, 0.50, "back"),
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
    ],
)
def test_validation_accuracy_decides_and_loss_breaks_ties(
    accuracy: float, loss: float, decision: Decision
) -> None:
    verdict = decide(INCUMBENT, Scores("iteration_1", accuracy, loss), "validation")
    assert verdict.decision == decision
    assert verdict.keep is (decision == "forward")
    assert verdict.rule == "validation"


@given(scores, scores)
def test_of_two_models_at_most_one_replaces_the_other(one: Scores, other: Scores) -> None:
    forth, back = decide(one, other, "validation"), decide(other, one, "validation")
    assert not (forth.keep and back.keep)
    alike = (one.accuracy, one.loss) == (other.accuracy, other.loss)
    assert (forth.keep or back.keep) or alike
    assert forth.delta_accuracy == -back.delta_accuracy
    assert forth.delta_loss == -back.delta_loss


@given(scores)
def test_a_model_never_replaces_itself(model: Scores) -> None:
    assert not decide(model, model, "validation").keep


@pytest.mark.parametrize("loss", [0.1, math.nan])
def test_a_candidate_without_an_accuracy_is_not_kept(loss: float) -> None:
    assert not decide(INCUMBENT, Scores("x", math.nan, loss), "validation").keep


def test_a_tie_with_a_loss_that_is_no_number_is_not_kept() -> None:
    assert not decide(INCUMBENT, Scores("x", 0.85, math.nan), "validation").keep


def test_the_reason_gives_the_evidence() -> None:
    verdict = decide(INCUMBENT, Scores("iteration_1", 0.8725, 0.6125), "validation")
    assert verdict.reason == (
        "validation accuracy 0.8725 against 0.8500 of overfitting, loss 0.6125 against 0.5000"
    )
    assert verdict.delta_accuracy == pytest.approx(0.0225)
    assert verdict.delta_loss == pytest.approx(0.1125)


@pytest.mark.parametrize("replay", ["forward", "back"])
@pytest.mark.parametrize("accuracy", [0.1, 0.99])
def test_the_notebook_s_decision_is_replayed_whatever_the_scores(
    replay: Decision, accuracy: float
) -> None:
    verdict = decide(INCUMBENT, Scores("x", accuracy, 0.4), "notebook", replay)
    assert verdict.decision == replay
    assert verdict.rule == "notebook"
    assert verdict.reason.startswith("the notebook's decision; validation accuracy ")
    assert f"{accuracy:.4f} against 0.8500" in verdict.reason
    assert verdict.delta_accuracy == pytest.approx(accuracy - 0.85)


@pytest.mark.parametrize("replay", ["forward", "back"])
def test_the_validation_rule_replays_nothing(replay: Decision) -> None:
    worse = Scores("x", 0.1, 9.0)
    assert decide(INCUMBENT, worse, "validation", replay) == decide(INCUMBENT, worse, "validation")


def test_nothing_to_replay() -> None:
    with pytest.raises(UserError, match="rule 'notebook' has no decision to replay"):
        decide(INCUMBENT, INCUMBENT, "notebook")


def test_an_unknown_rule() -> None:
    with pytest.raises(UserError, match="unknown rule 'coin'; expected 'validation' or 'notebook'"):
        decide(INCUMBENT, INCUMBENT, "coin")
