"""The success criteria: met, not met, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tasks.core.records import Record, Stage
from tasks.core.settings.evaluation import Metric
from tasks.core.stage_specs import SuccessSpec
from tests.tasks.stages.workbench import Computed, Workbench

LABELS = [0, 1, 2] * 20


def scoring(bench: Workbench, right: int, labels: Sequence[int] = LABELS) -> Record:
    """Test predictions of which the first `right` are right."""
    given = [label if n < right else (label + 1) % 3 for n, label in enumerate(labels)]
    return bench.predicted("test", "test", labels, given)


def judged(
    bench: Workbench,
    final: Sequence[Record],
    baseline: Sequence[Record],
    alpha: float = 0.05,
    metric: Metric = "accuracy",
    train: Sequence[int] = (20, 20, 20),
) -> Computed:
    inputs = {f"test_final_{n}": record for n, record in enumerate(final)}
    roles = tuple(inputs)
    others = {f"test_baseline_{n}": record for n, record in enumerate(baseline)}
    spec = SuccessSpec(alpha=alpha, metric=metric, final=roles, baseline=tuple(others))
    reads = dict.fromkeys((*inputs, *others), ("test_predictions",))
    stage = Stage("success", spec, {**reads, "subset": ("index", "facts")})
    return bench.compute(stage, **inputs, **others, subset=bench.chosen(train=train))


def test_both_criteria_are_met(bench: Workbench) -> None:
    done = judged(bench, [scoring(bench, 50)], [scoring(bench, 35)])
    assert (done.state, done.message) == ("CriteriaMet", "both criteria are met")
    assert done.facts["met"]
    alone, gain = done.rows("criteria")
    assert done.facts["criteria"] == [alone, gain]
    assert alone["criterion"] == "better than the commonest class"
    assert (alone["met"], alone["alpha"]) == (True, 0.05)
    assert alone["value"] == pytest.approx(50 / 60)
    assert alone["threshold"] == pytest.approx(1 / 3)
    assert alone["low"] < 50 / 60 < alone["high"]
    assert gain["criterion"] == "better than the dense baseline"
    assert gain["value"] == pytest.approx(15 / 60)
    assert gain["threshold"] == 0
    # Fifteen images that only the final model gets right, none that only the baseline does.
    assert gain["p_value"] == pytest.approx(0.5**15)


def test_a_final_model_no_better_than_the_baseline_fails(bench: Workbench) -> None:
    done = judged(bench, [scoring(bench, 50)], [scoring(bench, 49)])
    assert done.state == "CriteriaFailed"
    assert done.message == "the final model is not shown to be better than the dense baseline"
    assert not done.facts["met"]
    alone, gain = done.rows("criteria")
    assert (alone["met"], gain["met"]) == (True, False)
    assert gain["p_value"] == pytest.approx(0.5)


def test_a_final_model_that_guesses_fails_twice(bench: Workbench) -> None:
    done = judged(bench, [scoring(bench, 20)], [scoring(bench, 20)])
    assert done.message == (
        "the final model is not shown to be better than the commonest class nor "
        "better than the dense baseline"
    )


def test_the_commonest_class_is_that_of_the_training_images(bench: Workbench) -> None:
    """Its share of the test images is what always naming it gets right."""
    labels = [0] * 45 + [1] * 10 + [2] * 5
    records = [scoring(bench, 50, labels)], [scoring(bench, 20, labels)]
    done = judged(bench, *records, train=(9, 2, 1))
    alone, gain = done.rows("criteria")
    assert alone["threshold"] == pytest.approx(0.75)
    assert (alone["met"], gain["met"]) == (False, True)
    assert done.state == "CriteriaFailed"
    other, _ = judged(bench, *records, train=(1, 2, 9)).rows("criteria")
    assert other["threshold"] == pytest.approx(5 / 60)


def test_balanced_accuracy_asks_for_more_than_one_class(bench: Workbench) -> None:
    """The final model recognises the rare classes, the baseline names the common one."""
    labels = [0] * 45 + [1] * 10 + [2] * 5
    final = bench.predicted("test", "test", labels, [0] * 30 + [1] * 25 + [2] * 5)
    baseline = bench.predicted("test", "test", labels, [0] * 60)
    done = judged(bench, [final], [baseline], metric="balanced_accuracy", train=(9, 2, 1))
    alone, gain = done.rows("criteria")
    assert {row["metric"] for row in (alone, gain)} == {"balanced_accuracy"}
    assert alone["threshold"] == pytest.approx(1 / 3)
    assert alone["value"] == pytest.approx((30 / 45 + 2) / 3)
    assert gain["value"] == pytest.approx((30 / 45 + 2 - 1) / 3)
    assert done.state == "CriteriaMet"
    # By accuracy it is no better.
    assert judged(bench, [final], [baseline], train=(9, 2, 1)).state == "CriteriaFailed"


def test_a_log_loss_has_to_be_lower(bench: Workbench) -> None:
    sure, unsure = (
        bench.predicted("test", "test", LABELS, LABELS, confidence=[c, c - 0.1] * 30)
        for c in (0.95, 0.7)
    )
    done = judged(bench, [sure], [unsure], metric="log_loss", train=(30, 20, 10))
    alone, gain = done.rows("criteria")
    expected = -(math.log(1 / 2) + math.log(1 / 3) + math.log(1 / 6)) / 3
    assert alone["threshold"] == pytest.approx(expected)
    assert alone["low"] < alone["value"] < alone["high"] < alone["threshold"]
    better = (math.log(0.95 * 0.85) - math.log(0.7 * 0.6)) / 2
    assert gain["value"] == pytest.approx(better, abs=1e-6)
    assert done.state == "CriteriaMet"
    assert judged(bench, [unsure], [sure], metric="log_loss").state == "CriteriaFailed"


def test_the_level_is_what_p_values_are_compared_with(bench: Workbench) -> None:
    """Five images more: 1 / 32."""
    records = [scoring(bench, 50)], [scoring(bench, 45)]
    assert judged(bench, *records, alpha=0.05).state == "CriteriaMet"
    strict = judged(bench, *records, alpha=0.03)
    assert strict.state == "CriteriaFailed"
    assert {row["alpha"] for row in strict.rows("criteria")} == {0.03}


def test_replicates_are_averaged(bench: Workbench) -> None:
    final = [scoring(bench, right) for right in (50, 52, 54)]
    baseline = [scoring(bench, right) for right in (40, 41, 45)]
    alone, gain = judged(bench, final, baseline).rows("criteria")
    assert alone["value"] == pytest.approx(52 / 60)
    assert gain["value"] == pytest.approx(10 / 60)


def test_seeds_that_disagree_show_nothing(bench: Workbench) -> None:
    """On average as much better as above, but one replicate is worse."""
    final = [scoring(bench, right) for right in (58, 38, 60)]
    baseline = [scoring(bench, right) for right in (40, 41, 45)]
    _, gain = judged(bench, final, baseline).rows("criteria")
    assert gain["value"] == pytest.approx(10 / 60)
    assert not gain["met"]
