"""A gate: its verdict on given predictions, and the evidence that it stores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tasks.core.errors import SealedError, UserError
from tasks.core.records import Record, Stage
from tasks.core.stage_specs import DecideSpec
from tests.tasks.stages.workbench import Computed, Workbench

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
READS = ("facts", "validation_predictions")


def answers(right: int, of: int = 10) -> list[int]:
    """Predictions of which the first `right` are right."""
    labels = [LABELS[position % 10] for position in range(of)]
    return [label if n < right else (label + 1) % 3 for n, label in enumerate(labels)]


def last_answers(right: int) -> list[int]:
    """Predictions of which the last `right` of ten are right."""
    return [(LABELS[n] + (n < 10 - right)) % 3 for n in range(10)]


def training(
    bench: Workbench,
    right: int | Sequence[int],
    confidence: float = 0.5,
    train_accuracy: float = 0.9,
    params: int = 100,
    epochs: int = 5,
) -> Record:
    """A training that gets the first `right` of ten images right, or gives these answers."""
    given = answers(right) if isinstance(right, int) else list(right)
    labels = [LABELS[position % 10] for position in range(len(given))]
    facts = {"train_accuracy": train_accuracy, "params": params, "epochs": epochs}
    return bench.predicted("training", "validation", labels, given, confidence, **facts)


def spec(**changes: Any) -> DecideSpec:
    values: dict[str, Any] = {
        "gate": 3,
        "incumbent": "overfitting",
        "candidate": "iteration_3",
        "rule": "validation",
        "metric": "accuracy",
        "level": 0.05,
        "replay": None,
        "forced": None,
        "trainings": ("",),
        "replicates": 1,
        "folds": None,
    }
    return DecideSpec.model_validate(values | changes)


def decided(
    bench: Workbench, incumbents: Sequence[Record], candidates: Sequence[Record], **changes: Any
) -> Computed:
    suffixes = ["", *(f"_r{number}" for number in range(2, len(incumbents) + 1))]
    inputs = {f"incumbent{s}": r for s, r in zip(suffixes, incumbents, strict=True)}
    inputs |= {f"candidate{s}": r for s, r in zip(suffixes, candidates, strict=True)}
    given = spec(trainings=suffixes, replicates=len(suffixes), **changes)
    return bench.compute(Stage("gate_3", given, dict.fromkeys(inputs, READS)), **inputs)


def test_models_computed_under_different_profiles_are_named(bench: Workbench) -> None:
    def on(instruction_set: str, right: int = 6) -> Record:
        found = training(bench, right)
        profile = {"instruction_set": instruction_set, "threads": 2}
        return replace(found, basis={**found.basis, "profile": profile})

    assert "profiles" not in decided(bench, [on("AVX2")], [on("AVX2")]).message
    assert (
        decided(bench, [on("AVX-512")], [on("AVX2", 7)])
        .facts["reason"]
        .endswith(
            "; the models were computed under different execution profiles "
            "(instruction set AVX2 instead of AVX-512)"
        )
    )


def test_a_better_candidate_is_kept(bench: Workbench) -> None:
    done = decided(bench, [training(bench, 6)], [training(bench, 8)])
    assert (done.state, done.facts["decision"]) == ("RolledForward", "forward")
    assert done.message == done.facts["reason"]
    assert done.message.startswith(
        "validation accuracy 0.8000 against 0.6000 of overfitting (+20.00 points, 95 % interval"
    )


def test_a_worse_candidate_is_not(bench: Workbench) -> None:
    done = decided(bench, [training(bench, 8)], [training(bench, 6)])
    assert (done.state, done.facts["decision"]) == ("KeptIncumbent", "back")


def test_of_two_that_are_as_accurate_the_lower_loss_decides(bench: Workbench) -> None:
    """Seven of ten right: more confidence has a lower loss here."""
    sure, unsure = training(bench, 7, 0.6), training(bench, 7, 0.4)
    assert decided(bench, [unsure], [sure]).facts["decision"] == "forward"
    assert decided(bench, [sure], [unsure]).facts["decision"] == "back"
    assert decided(bench, [sure], [sure]).facts["decision"] == "back"


def test_the_evidence_is_stored_as_one_row(bench: Workbench) -> None:
    # The incumbent gets the first six images right, the candidate all but the first two.
    before = training(bench, 6, train_accuracy=0.7)
    after = training(bench, last_answers(8), 0.8, train_accuracy=0.95)
    done = decided(bench, [before], [after])
    (row,) = done.rows("verdict")
    assert row == done.facts, "a report reads the facts, other programs the table"
    assert (row["gate"], row["incumbent"], row["candidate"]) == (3, "overfitting", "iteration_3")
    assert (row["rule"], row["level"], row["forced"]) == ("validation", 0.05, False)
    assert (row["replicates"], row["folds"]) == (1, None)
    assert row["delta_accuracy"] == pytest.approx(0.8 - 0.6)
    assert row["ci_low"] < row["delta_accuracy"] < row["ci_high"]
    # Right with 0.5, wrong with 0.25; and right with 0.8, wrong with 0.1.
    incumbent = -(6 * math.log(0.5) + 4 * math.log(0.25)) / 10
    candidate_loss = -(8 * math.log(0.8) + 2 * math.log(0.1)) / 10
    assert row["delta_loss"] == pytest.approx(candidate_loss - incumbent, abs=1e-6)
    assert row["loss_ci_low"] < row["delta_loss"] < row["loss_ci_high"]
    assert (row["mcnemar_only_incumbent"], row["mcnemar_only_candidate"]) == (2, 4)
    # Two or fewer of six heads, and four or more: (1 + 6 + 15) * 2 / 64.
    assert row["mcnemar_p_value"] == pytest.approx(44 / 64)
    # Four or more of six.
    assert row["p_value"] == pytest.approx(22 / 64)
    assert row["gap_incumbent"] == pytest.approx(0.7 - 0.6)
    assert row["gap_candidate"] == pytest.approx(0.95 - 0.8)
    # Differences: four times +1, twice -1, four times 0.
    assert row["standard_error"] == pytest.approx(math.sqrt((6 / 10 - 0.2**2) / 10))


def test_every_rule_says_what_it_makes_of_the_evidence(bench: Workbench) -> None:
    simple = training(bench, 6, params=10)
    large = training(bench, last_answers(7), params=1_000)
    (row,) = decided(bench, [simple], [large]).rows("verdict")
    assert row["by_validation"] == "forward"
    # Four images against three are less than one standard error; the incumbent is the simpler.
    assert row["by_one_standard_error"] == "back"
    assert row["by_significant"] is None, "one training tells nothing of the spread"


def test_one_standard_error_prefers_fewer_parameters_then_fewer_epochs(bench: Workbench) -> None:
    rule = {"rule": "one_standard_error"}
    slightly_better = training(bench, last_answers(7))
    fewer = training(bench, 6, params=99)
    done = decided(bench, [slightly_better], [fewer], **rule)
    assert (done.state, done.facts["by_one_standard_error"]) == ("RolledForward", "forward")
    sooner = training(bench, 6, epochs=4)
    assert decided(bench, [slightly_better], [sooner], **rule).facts["decision"] == "forward"
    longer = training(bench, 6, epochs=6)
    assert decided(bench, [slightly_better], [longer], **rule).facts["decision"] == "back"


def test_replicates_are_averaged(bench: Workbench) -> None:
    before = [
        training(bench, right, train_accuracy=seen)
        for right, seen in ((5, 0.9), (6, 0.8), (7, 0.7))
    ]
    after = [
        training(bench, right, train_accuracy=seen) for right, seen in ((7, 1), (8, 0.9), (8, 0.8))
    ]
    done = decided(bench, before, after)
    (row,) = done.rows("verdict")
    assert row["replicates"] == 3
    assert "validation accuracy 0.7667 against 0.6000" in done.message
    assert row["delta_accuracy"] == pytest.approx((0.2 + 0.2 + 0.1) / 3)
    assert row["gap_incumbent"] == pytest.approx(0.8 - 0.6)
    assert row["gap_candidate"] == pytest.approx(0.9 - 23 / 30)
    # McNemar's test is of the first pair alone.
    assert (row["mcnemar_only_incumbent"], row["mcnemar_only_candidate"]) == (0, 2)


def test_the_significant_rule_needs_three_trainings(bench: Workbench) -> None:
    before, after = [training(bench, 5)] * 2, [training(bench, 9)] * 2
    with pytest.raises(UserError, match="needs 3 trainings of each model or more"):
        decided(bench, before, after, rule="significant")


def test_the_significant_rule_can_leave_it_open(bench: Workbench) -> None:
    before = [training(bench, right) for right in (6, 7, 5)]
    after = [training(bench, right) for right in (7, 6, 6)]
    done = decided(bench, before, after, rule="significant")
    assert (done.state, done.facts["decision"]) == ("Inconclusive", "back")
    assert done.message.startswith("inconclusive, so roll back; ")
    assert done.facts["by_significant"] == "inconclusive"


def test_the_level_is_what_a_significant_gain_is_compared_with(bench: Workbench) -> None:
    before = [training(bench, answers(right, 60)) for right in (30, 31, 32)]
    after = [training(bench, answers(right, 60)) for right in (44, 45, 46)]
    done = decided(bench, before, after, rule="significant")
    p_value = done.facts["p_value"]
    assert 1e-6 < p_value < 0.05
    assert (done.state, done.facts["by_significant"]) == ("RolledForward", "forward")
    strict = decided(bench, before, after, rule="significant", level=p_value / 2)
    assert (strict.state, strict.facts["by_significant"]) == ("Inconclusive", "inconclusive")
    assert f"level {p_value / 2:.3g}" in strict.message


def test_folds_count_as_overlapping_trainings(bench: Workbench) -> None:
    """Nadeau and Bengio's correction widens the interval that crossed replicates would have."""
    before = [training(bench, right) for right in (5, 6, 7)]
    after = [training(bench, right) for right in (7, 7, 9)]
    folded = decided(bench, before, after, folds=3).facts
    assert folded["folds"] == 3
    gains = [0.2, 0.1, 0.2]
    assert folded["delta_accuracy"] == pytest.approx(sum(gains) / 3)
    # The variance between folds is below what the choice of ten images alone does.
    least = sum(10 / 9 * (gain - gain**2) / 10 for gain in gains) / 3
    assert folded["standard_error"] == pytest.approx(math.sqrt((1 / 3 + 1 / 2) * least))


def test_the_notebook_s_decision_is_replayed(bench: Workbench) -> None:
    worse = [training(bench, 9)], [training(bench, 2)]
    done = decided(bench, *worse, rule="notebook", replay="forward")
    assert (done.state, done.facts["decision"]) == ("RolledForward", "forward")
    assert done.message.startswith("the notebook's decision; validation accuracy 0.2000")
    assert done.facts["by_validation"] == "back"
    with pytest.raises(UserError, match="no decision to replay"):
        decided(bench, *worse, rule="notebook")


@pytest.mark.parametrize(
    ("forced", "state", "said"),
    [
        ("forward", "ForcedForward", "forced forward; rule validation says back: validation acc"),
        ("back", "ForcedBack", "forced back; rule validation says the same: validation acc"),
    ],
)
def test_a_decision_can_be_forced(bench: Workbench, forced: str, state: str, said: str) -> None:
    done = decided(bench, [training(bench, 9)], [training(bench, 2)], forced=forced)
    assert (done.state, done.facts["decision"], done.facts["forced"]) == (state, forced, True)
    assert done.message.startswith(said)


def test_a_cached_verdict_has_the_same_state(bench: Workbench) -> None:
    trainings = [training(bench, 6)], [training(bench, 8)]
    first, again = (decided(bench, *trainings) for _ in range(2))
    assert (again.state, again.message, again.outcome) == (
        first.state,
        first.message,
        first.outcome,
    )


def test_models_must_be_scored_on_the_same_images(bench: Workbench) -> None:
    with pytest.raises(ValueError, match="on the same images"):
        decided(bench, [training(bench, 6)], [training(bench, answers(6, 12))])


def test_test_predictions_are_out_of_reach(bench: Workbench) -> None:
    scored = bench.predicted("test_training", "test", LABELS, LABELS, train_accuracy=1)
    with pytest.raises(SealedError, match="do not declare"):
        bench.compute(
            Stage("gate_3", spec(), dict.fromkeys(("incumbent", "candidate"), ("facts",))),
            incumbent=scored,
            candidate=scored,
        )


# Metrics


def rare(bench: Workbench, given: Sequence[int], confidence: float = 0.5) -> Record:
    """A training that gives these answers on ten images, of which the last is of a rare class."""
    facts = {"train_accuracy": 0.9, "params": 100, "epochs": 5}
    return bench.predicted("training", "validation", RARE, given, confidence, **facts)


RARE = [0] * 9 + [1]


def test_balanced_accuracy_keeps_what_recognises_a_rare_class(bench: Workbench) -> None:
    """One image of the rare class against two of the common one."""
    before, after = rare(bench, [0] * 10), rare(bench, [0] * 7 + [1] * 3)
    assert decided(bench, [before], [after]).facts["decision"] == "back"
    done = decided(bench, [before], [after], metric="balanced_accuracy")
    (row,) = done.rows("verdict")
    assert (row["metric"], row["decision"]) == ("balanced_accuracy", "forward")
    assert row["gain"] == pytest.approx((7 / 9 + 1) / 2 - 1 / 2)
    assert row["gain_low"] < 0 < row["gain"] < row["gain_high"], "a single image proves nothing"
    # The columns of accuracies stay.
    assert row["delta_accuracy"] == pytest.approx(-0.1)
    assert (row["mcnemar_only_incumbent"], row["mcnemar_only_candidate"]) == (2, 1)
    assert done.message.startswith("validation balanced accuracy 0.8889 against 0.5000 of ")


@pytest.mark.parametrize("trainings", [1, 3])
def test_log_loss_keeps_what_is_surer_of_the_truth(bench: Workbench, trainings: int) -> None:
    unsure, sure = rare(bench, RARE, 0.5), rare(bench, [*RARE[:9], 0], 0.8)
    done = decided(bench, [unsure] * trainings, [sure] * trainings, metric="log_loss")
    (row,) = done.rows("verdict")
    assert row["decision"] == "forward"
    assert row["gain"] == pytest.approx(-row["delta_loss"])
    assert row["gain"] == pytest.approx(
        (9 * math.log(0.8 / 0.5) + math.log(0.1 / 0.5)) / 10, abs=1e-6
    )
    assert (row["gain_low"], row["gain_high"]) == pytest.approx(
        (-row["loss_ci_high"], -row["loss_ci_low"])
    )


def test_folds_are_judged_together(bench: Workbench) -> None:
    """The rare class is in the second fold only."""
    facts = {"train_accuracy": 0.9, "params": 100, "epochs": 5}

    def fold(labels: list[int], given: list[int]) -> Record:
        return bench.predicted("training", "validation", labels, given, **facts)

    first = fold([0] * 5, [0] * 5)
    before, after = (fold([0] * 4 + [1], [0] * 4 + [rare]) for rare in (0, 1))
    done = decided(bench, [first, before], [first, after], metric="balanced_accuracy", folds=2)
    assert done.facts["gain"] == pytest.approx(0.5)
    assert done.message.startswith("validation balanced accuracy 1.0000 against 0.5000 of ")
