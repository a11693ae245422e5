"""Which rule `auto` stands for, and what starts a run on the user's own images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from flows.recipe import presets
from flows.recipe.compose import asked, compose
from flows.recipe.presets import NOTEBOOK, PRESETS, SMOKE, Preset
from flows.recipe.settle import rule_words, settled
from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.evaluation import Rule
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import Iteration

# A plan of the user's own may have decisions to replay, too: they are replayed on request only.
OWN_PLAN = """
[[iteration]]
name = "shorter"
change = {epochs = 3}
replay = "forward"
"""
OWN_IMAGES = "a folder/of mine"


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(OWN_PLAN)
    return path


@pytest.mark.parametrize(
    ("preset", "dataset", "rule"),
    [
        ("notebook", "fashion-mnist", "notebook"),
        ("notebook", "synthetic", "notebook"),
        ("notebook", OWN_IMAGES, "validation"),
        ("notebook", "s3://a-bucket/images", "validation"),
        ("smoke", "synthetic", "notebook"),
        ("smoke", "fashion-mnist", "notebook"),
        ("smoke", OWN_IMAGES, "validation"),
        ("full", "fashion-mnist", "validation"),
        ("full", "synthetic", "validation"),
        ("full", OWN_IMAGES, "validation"),
        ("modern", "fashion-mnist", "replay"),
        ("modern", "synthetic", "replay"),
        ("modern", OWN_IMAGES, "validation"),
    ],
)
def test_the_rule_follows_from_preset_and_data_set(
    preset: str, dataset: str, rule: str, plan_file: Path
) -> None:
    assert compose(preset, values={"dataset": dataset}).rule == rule
    assert compose(preset, assignments=[f"dataset={dataset}"]).rule == rule
    # Another plan is decided on by its own evidence, wherever it runs.
    assert compose(preset, plan_file, {"dataset": dataset}).rule == "validation"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", ["fashion-mnist", "synthetic", OWN_IMAGES])
@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_rule_that_is_given_stays(preset: str, dataset: str, rule: str, plan_file: Path) -> None:
    given: dict[str, Any] = {"rule": rule, "dataset": dataset, "evaluation.replicates": 3}
    if rule == "notebook" and dataset == OWN_IMAGES:
        with pytest.raises(UserError, match="what the notebook decided on Fashion-MNIST"):
            compose(preset, values=given)
        return
    # Decisions in other plans than the notebook's are not the notebook's.
    elsewhere = "replay" if rule == "notebook" else rule
    assert compose(preset, values=given).rule == (elsewhere if preset == "modern" else rule)
    assert compose(preset, plan_file, given).rule == elsewhere
    assert settled(compose(preset, values=given)) == compose(preset, values=given)


@pytest.mark.parametrize(
    ("assignment", "rule"),
    [
        ("overfitting.epochs=30", "validation"),
        ("overfitting.optimizer.name=adamw", "validation"),
        ("metric=log_loss", "validation"),
        ("subset.method=everything", "validation"),
        ("plan=[]", "validation"),
        # What decisions are not about.
        ("baseline.epochs=3", "notebook"),
        ("subset.train=4000", "notebook"),
        ("subset.method=stratified", "notebook"),
        ("seed=3", "notebook"),
        ("evaluation.replicates=5", "notebook"),
        ("evaluation.protocol=kfold", "notebook"),
        ("force={4 = 'forward'}", "notebook"),
        ("transfer.weights=off", "notebook"),
        ("rule=auto", "notebook"),
    ],
)
def test_decisions_are_replayed_where_they_were_made(assignment: str, rule: str) -> None:
    assert compose(assignments=[assignment]).rule == rule


def test_settings_that_arrive_without_a_rule_are_settled_alike() -> None:
    """A deployment has settings as they were asked for; the run form may change each of them."""
    in_form = asked("notebook").model_dump(mode="json")
    assert in_form["rule"] == "auto"
    for dataset in ("fashion-mnist", "synthetic", OWN_IMAGES):
        found = settled(Settings.model_validate(in_form | {"dataset": dataset}))
        assert found == compose("notebook", values={"dataset": dataset})
    assert settled(Settings()) == compose()


def test_a_plan_that_does_not_fit_its_rule_is_refused_when_it_is_settled() -> None:
    same = {"replay": "back", "change": {"l2": 0.1}}
    plan = [Iteration.model_validate({"name": "first", **same})]
    # The plan replays on Fashion-MNIST as long as it is a preset's.
    assert settled(NOTEBOOK.model_copy(update={"plan": tuple(plan)})).rule == "validation"
    with pytest.raises(UserError, match="rule 'replay' replays decisions"):
        compose(values={"rule": "replay", "plan": [{"name": "x", "change": {"l2": 0.1}}]})


# A preset with settings for the user's own images

STARTED = changed(NOTEBOOK.overfitting, {"dense": [32], "epochs": 9})
TRIED = tuple(
    Iteration(name=f"change {value}", change={"dropout": value}, replay="forward")
    for value in (0.1, 0.2)
)
SHIPPED = changed(NOTEBOOK, {"overfitting": STARTED.model_dump(), "plan": TRIED})
SETTLED = changed(
    SHIPPED, {"overfitting": changed(STARTED, {"dropout": 0.2}).model_dump(), "plan": []}
)


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(presets.PRESETS, "shipped", Preset(SHIPPED, "replay", SETTLED))
    return "shipped"


def test_a_preset_may_start_own_images_from_what_it_settled(shipped: str) -> None:
    assert compose(shipped).rule == "replay"
    own = compose(shipped, values={"dataset": OWN_IMAGES})
    assert (own.rule, own.plan, own.overfitting.dropout) == ("validation", (), 0.2)
    changed_too = compose(shipped, None, {"dataset": OWN_IMAGES}, ["overfitting.epochs=4"])
    assert changed_too.overfitting == changed(SETTLED.overfitting, {"epochs": 4})
    form = asked(shipped).model_dump(mode="json") | {"dataset": OWN_IMAGES, "seed": 8}
    assert settled(Settings.model_validate(form)) == own.model_copy(update={"seed": 8})
    # Who changes the plan in the form, decides on that plan.
    form["plan"] = form["plan"][:1]
    assert settled(Settings.model_validate(form)).plan == SHIPPED.plan[:1]


@pytest.mark.parametrize("rule", ["validation", "significant"])
def test_a_rule_decides_anew_on_own_images(shipped: str, rule: str) -> None:
    given = {"dataset": OWN_IMAGES, "rule": rule, "evaluation.replicates": 3}
    found = compose(shipped, values=given)
    assert (found.plan, found.overfitting) == (SHIPPED.plan, STARTED)
    assert found.rule == rule


# In words


@pytest.mark.parametrize(
    ("preset", "assignments", "said"),
    [
        ("notebook", [], "rule notebook: replays the notebook's decisions; --rule validation"),
        (
            "notebook",
            ["rule=replay"],
            "rule replay: replays the plan's decisions; --rule validation",
        ),
        ("notebook", ["rule=validation"], "rule validation: decides by this run's evidence$"),
        ("notebook", ["dataset=mine"], "rule validation: .*, as by default on your own images$"),
        ("notebook", ["metric=log_loss"], "rule validation: .* with another plan, overfitting"),
        ("full", [], "rule validation: .*, as by default on all images of the data set$"),
        ("full", ["rule=one_standard_error"], "rule one_standard_error: .* evidence$"),
        ("smoke", ["plan=[]"], "^$"),
    ],
)
def test_the_rule_in_words(preset: str, assignments: list[str], said: str) -> None:
    found = rule_words(compose(preset, assignments=assignments))
    assert re.search(said, found)


def test_the_smoke_test_has_the_notebook_s_decisions() -> None:
    assert [one.replay for one in SMOKE.plan] == [one.replay for one in NOTEBOOK.plan]
