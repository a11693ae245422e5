"""Replicates: their seeds, and the names of their stages."""

from __future__ import annotations

from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.statistics.replicates import final_replicates, replicates


def test_a_single_training_has_the_run_s_seed() -> None:
    (only,) = replicates(EvaluationSettings(), 7)
    assert (only.number, only.fold, only.seed, only.suffix) == (1, None, 7, "")


def test_more_replicates_keep_the_first_ones() -> None:
    few, many = (replicates(EvaluationSettings(replicates=n), 7) for n in (2, 5))
    assert many[:2] == few
    assert [found.suffix for found in many] == ["", "_r2", "_r3", "_r4", "_r5"]
    assert len({found.seed for found in many}) == 5


def test_each_fold_is_a_training_with_its_own_seed() -> None:
    found = replicates(EvaluationSettings(protocol="kfold", folds=3, replicates=2), 7)
    assert [item.suffix for item in found] == ["_f1", "_f2", "_f3", "_f1_r2", "_f2_r2", "_f3_r2"]
    assert len({item.seed for item in found}) == 6
    assert found[0].seed == 7


def test_the_final_model_has_no_folds() -> None:
    found = final_replicates(EvaluationSettings(protocol="kfold", replicates=2), 7)
    assert [item.suffix for item in found] == ["", "_r2"]
