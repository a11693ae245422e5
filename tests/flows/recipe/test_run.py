"""Wiring: the seal is checked before a stage is taken."""

from __future__ import annotations

import pytest

from tasks.core.errors import SealedError
from tasks.core.records import Stage
from tasks.core.settings.training import TrainSettings
from tasks.core.stage_specs import EvaluateSpec, LoadSpec, PreprocessSpec, RetrainSpec
from tests.wiring import Wiring

LOAD = Stage("load", LoadSpec(dataset="fashion-mnist"))
RETRAIN = RetrainSpec(training=TrainSettings(), seed=0)


def names(run: Wiring) -> list[str]:
    return [wired.stage for wired in run.taken]


def test_a_stage_is_taken_with_its_inputs_and_what_it_comes_after() -> None:
    run = Wiring()
    raw = run(LOAD)
    other = run(Stage("other", PreprocessSpec()))
    found = run(Stage("final", RETRAIN, {"arrays": ("train",)}), [other], arrays=raw)
    assert names(run) == ["load", "other", "final"]
    assert found.inputs == {"arrays": raw}
    assert found.after == (other,)


def test_a_stage_that_the_seal_refuses_is_not_taken() -> None:
    run = Wiring()
    raw = run(LOAD)
    with pytest.raises(SealedError, match="stage 'final' reads arrays/test, which derives from"):
        run(Stage("final", RETRAIN, {"arrays": ("train", "test")}), arrays=raw)
    assert names(run) == ["load"]
    # Its name is free.
    run(Stage("final", RETRAIN, {"arrays": ("train",)}), arrays=raw)
    assert names(run) == ["load", "final"]


def test_waiting_for_a_stage_is_not_reading_it() -> None:
    """The final model may be trained after a scoring, as long as it does not read it."""
    run = Wiring()
    scored = run(Stage("test_baseline", EvaluateSpec(model="b", loss="categorical_crossentropy")))
    run(Stage("final", RETRAIN), [scored])
    assert names(run) == ["test_baseline", "final"]


def test_a_second_stage_of_one_name_is_refused_if_its_marks_differ() -> None:
    run = Wiring()
    raw = run(LOAD)
    with pytest.raises(
        SealedError,
        match="two stages are named 'load', but their files derive from different test data",
    ):
        run(Stage("load", PreprocessSpec(), {"split": ("test",)}), split=raw)
    assert names(run) == ["load"]
    # The same stage may be done again, as benchmarks do.
    run(LOAD)
    assert names(run) == ["load", "load"]
