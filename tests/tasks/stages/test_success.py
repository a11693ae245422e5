"""The success criteria: met, not met, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tasks.core.records import Record, Stage
from tasks.core.stage_specs import SuccessSpec
from tests.tasks.stages.workbench import NAMES, Computed, Workbench

LABELS = [0, 1, 2] * 20


def scoring(bench: Workbench, right: int, labels: Sequence[int] = LABELS) -> Record:
    """Test predictions of which the first `right` are right."""
    given = [label if n < right else (label + 1) % 3 for n, label in enumerate(labels)]
    return bench.predicted("test", "test", labels, given)


def judged(
    bench: Workbench, final: Sequence[Record], baseline: Sequence[Record], alpha: float = 0.05
) -> Computed:
    inputs = {f"test_final_{n}": record for n, record in enumerate(final)}
    roles = tuple(inputs)
    others = {f"test_baseline_{n}": record for n, record in enumerate(baseline)}
    spec = SuccessSpec(alpha=alpha, final=roles, baseline=tuple(others))
    reads = dict.fromkeys((*inputs, *others), ("test_predictions",))
    stage = Stage("success", spec, {**reads, "preprocess": ("facts",)})
    about = bench.stored("preprocess", class_names=NAMES)
    return bench.compute(stage, **inputs, **others, preprocess=about)


def test_both_criteria_are_met(bench: Workbench) -> None:
    done = judged(bench, [scoring(bench, 50)], [scoring(bench, 35)])
    assert (done.state, done.message) == ("CriteriaMet", "both criteria are met")
    assert done.facts["met"]
    alone, gain = done.rows("criteria")
    assert done.facts["criteria"] == [alone, gain]
    assert alone["criterion"] == "better than a random classifier"
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
        "the final model is not shown to be better than a random classifier nor better than the "
        "dense baseline"
    )


def test_chance_is_the_share_of_the_most_frequent_class(bench: Workbench) -> None:
    """What a classifier gets right that always names it."""
    labels = [0] * 45 + [1] * 10 + [2] * 5
    done = judged(bench, [scoring(bench, 50, labels)], [scoring(bench, 20, labels)])
    alone, gain = done.rows("criteria")
    assert alone["threshold"] == pytest.approx(0.75)
    assert (alone["met"], gain["met"]) == (False, True)
    assert done.state == "CriteriaFailed"


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
