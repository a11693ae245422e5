"""Changes of settings, and messages about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.errors import UserError
from tasks.core.settings.base import changed, explain
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import TrainSettings


def test_a_change_replaces_only_its_fields() -> None:
    before = TrainSettings(dropout=0.5)
    after = changed(before, {"epochs": 3, "dense": [8]})
    assert after == before.model_copy(update={"epochs": 3, "dense": (8,)})
    assert before.epochs != 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": 3}, "change to TrainSettings: epoch: no such setting"),
        ({"epochs": 0}, r"epochs: .*greater than or equal to 1 \(got 0\)"),
        ({"filters": [8]}, "need one entry for each convolution, got 1, 3 and 3"),
    ],
)
def test_a_wrong_change_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        changed(TrainSettings(), change)


def explained(values: dict[str, Any], *known: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return explain(caught.value, "settings", known)


def test_an_unknown_name_suggests_a_similar_one() -> None:
    assert (
        explained({"sed": 1}, "seed", "rule")
        == "settings: sed: no such setting; did you mean seed?"
    )
    assert explained({"zzz": 1}, "seed", "rule") == "settings: zzz: no such setting"


def test_every_wrong_field_is_named_once() -> None:
    said = explained({"seed": -1, "overfitting": {"epochs": "soon"}})
    assert said.count("seed: ") == 1
    assert said.count("overfitting.epochs: ") == 2, "one for each member of the union"
    assert "constrained-int" not in said


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (EvaluationSettings(), []),
        (EvaluationSettings(replicates=3), ["3 replicates"]),
        (EvaluationSettings(protocol="kfold", folds=4), ["4 folds"]),
        (EvaluationSettings(protocol="kfold", replicates=2), ["5 folds", "2 replicates"]),
    ],
)
def test_folds_and_replicates_in_words(evaluation: EvaluationSettings, words: list[str]) -> None:
    assert evaluation.words() == words
