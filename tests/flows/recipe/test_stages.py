"""Stages as values: a setting is part of the specs that it matters to, and of no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.recipe import stages
from flows.recipe.contents import recipe_models
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_spec import StageSpec
from tasks.core.stage_specs import (
    FiguresSpec,
    GuardSpec,
    LabelCheckSpec,
    LoadSpec,
    ResultsSpec,
    SubsetSpec,
    SuccessSpec,
)
from tests.wiring import Wired, wire

OFF = {"transfer": {"weights": "off"}}


def of(**values: Any) -> Settings:
    return Settings.model_validate(values)


def subset(**values: Any) -> StageSpec:
    dataset = values.pop("dataset", "synthetic")
    return stages.subset(of(dataset=dataset, subset=values)).spec


# subset


@pytest.mark.parametrize(
    ("method", "unused", "used"),
    [
        ("slices", ("seed",), ("train", "validation", "test")),
        ("stratified", (), ("train", "validation", "test", "seed")),
        ("everything", ("train", "validation", "test", "seed"), ()),
    ],
)
def test_settings_that_the_method_of_the_subset_does_not_use_change_nothing(
    method: str, unused: tuple[str, ...], used: tuple[str, ...]
) -> None:
    spec = subset(method=method)
    for name in unused:
        assert subset(method=method, **{name: 77}) == spec
    for name in used:
        changed = subset(method=method, **{name: 77})
        assert isinstance(changed, SubsetSpec)
        assert changed != spec
        assert getattr(changed.subset, name) == 77


@pytest.mark.parametrize(
    ("dataset", "method"), [("fashion-mnist", "slices"), ("synthetic", "stratified")]
)
def test_an_automatic_method_is_the_one_that_it_stands_for(dataset: str, method: str) -> None:
    spec = subset(dataset=dataset, method="auto", train=5)
    assert spec == subset(dataset=dataset, method=method, train=5)
    assert isinstance(spec, SubsetSpec)
    assert spec.subset.method == method


# load, guard


def test_settings_of_drawn_images_matter_to_drawn_images_only() -> None:
    drawn = {"train": 100, "test": 50}
    spec = stages.load(of(dataset="synthetic", synthetic=drawn)).spec
    assert isinstance(spec, LoadSpec)
    assert spec.synthetic is not None
    assert spec.synthetic.train == 100
    real = stages.load(of(dataset="fashion-mnist", synthetic=drawn))
    assert real == stages.load(of(dataset="fashion-mnist"))


def test_pairs_within_a_split_matter_to_folds_only() -> None:
    across = (("train", "validation"), ("train", "test"), ("validation", "test"))
    plain = stages.guard(of()).spec
    folded = stages.guard(of(evaluation={"protocol": "kfold"})).spec
    assert isinstance(plain, GuardSpec)
    assert isinstance(folded, GuardSpec)
    assert plain.compared == across
    assert folded.compared == (*across, ("train", "train"), ("validation", "validation"))


# Notes


def test_drawn_images_are_called_so_on_every_picture() -> None:
    for dataset, note in (("synthetic", stages.SYNTHETIC_NOTE), ("fashion-mnist", "")):
        notes = {
            name: wired.definition.spec.as_json()["note"]
            for name, wired in wire(dataset=dataset, **OFF).items()
            if "note" in type(wired.definition.spec).model_fields
        }
        assert set(notes.values()) == {note}
        assert {"explore", "guard", "curves_baseline", "quality", "figures"} <= set(notes)


def test_the_notebook_s_figures_are_shown_beside_those_of_its_own_data() -> None:
    for dataset, shown in (("synthetic", False), ("fashion-mnist", True)):
        settings = of(dataset=dataset)
        spec = stages.results(recipe_models(settings), settings).spec
        assert isinstance(spec, ResultsSpec)
        assert spec.notebook is shown


# Folds and replicates


def test_success_reads_one_training_of_the_baseline_for_each_seed() -> None:
    """The final model has no folds."""
    settings = of(evaluation={"protocol": "kfold", "folds": 3, "replicates": 2}, **OFF)
    spec = stages.success(recipe_models(settings), settings).spec
    assert isinstance(spec, SuccessSpec)
    assert spec.final == ("test_final", "test_final_r2")
    assert spec.baseline == ("test_baseline_f1", "test_baseline_f1_r2")


def folded(**values: Any) -> dict[str, Wired]:
    """A run of two folds in which the gates decide for the candidates."""
    plan = [{"name": "dropout", "change": {"dropout": 0.25}}]
    evaluation = {"protocol": "kfold", "folds": 2, "replicates": 2}
    return wire(plan=plan, evaluation=evaluation, **OFF, **values)


def test_labels_are_checked_by_the_model_that_survived_the_gates() -> None:
    trainings = {f"iteration_1_f{fold}{again}" for fold in (1, 2) for again in ("", "_r2")}
    made = folded()["label_check"]
    spec = made.definition.spec
    assert isinstance(spec, LabelCheckSpec)
    assert spec.model.name == "iteration_1"
    assert {training.stage for training in spec.model.trainings} == trainings
    assert set(made.inputs) == trainings | {"subset", "folds", "folds_r2"}
    made = folded(force={1: "back"})["label_check"]
    assert {"overfitting_f1", "overfitting_f2_r2"} <= set(made.inputs)
    assert not {name for name in made.inputs if name.startswith("iteration")}


def test_labels_are_checked_without_the_test_split() -> None:
    files = {file for read in folded()["label_check"].definition.reads.values() for file in read}
    assert files == {"train", "validation", "index", "facts", "folds", "validation_predictions"}


def test_only_own_images_have_files_to_name(tmp_path: Path) -> None:
    images = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
    np.savez(tmp_path / "own.npz", x=images, y=np.arange(12) % 2)
    made = folded(dataset=str(tmp_path / "own.npz"))["label_check"].definition
    assert isinstance(made.spec, LabelCheckSpec)
    assert made.spec.origins
    assert made.reads["load"] == ("origins",)


def test_labels_are_checked_with_folds_only() -> None:
    assert "label_check" not in wire(**OFF)


def test_pictures_of_distorted_images_show_the_first_distortion_that_is_tried() -> None:
    plan = [
        {"name": "little", "change": {"augmentation": {"zoom_range": 0.1}}},
        {"name": "much", "change": {"augmentation": {"zoom_range": 0.5}}},
    ]
    spec = stages.figures(of(plan=plan), {}).spec
    assert isinstance(spec, FiguresSpec)
    assert spec.augmentation is not None
    assert spec.augmentation.zoom_range == 0.1
    assert spec.changes == ("little", "much")
    nothing = stages.figures(of(plan=plan[:0]), {}).spec
    assert isinstance(nothing, FiguresSpec)
    assert nothing.augmentation is None


# What waits for what


def test_nothing_is_preprocessed_before_the_splits_were_searched_for_duplicates() -> None:
    made = wire(**OFF)
    assert made["preprocess"].after == (made["guard"],)


@pytest.mark.parametrize("protocol", ["holdout", "kfold"])
def test_nothing_is_scored_on_test_images_before_the_last_verdict(protocol: str) -> None:
    made = wire(dataset="synthetic", evaluation={"protocol": protocol, "folds": 2}, **OFF)
    gates = {name for name, wired in made.items() if wired.definition.kind == "decide"}
    assert len(gates) == 9
    scorings = [wired for wired in made.values() if wired.definition.kind == "evaluate"]
    assert scorings
    for wired in scorings:
        assert {gate.stage for gate in wired.after} == gates


def test_every_stage_is_given_what_it_reads() -> None:
    for settings in (OFF, {"transfer": {"weights": "random"}}):
        for wired in wire(**settings).values():
            assert set(wired.inputs) == set(wired.definition.reads), wired.stage


# Metric and class weights


def specs_with(field: str, **values: Any) -> dict[str, Any]:
    """The value of a field of all specs that have it, by stage."""
    made = wire(dataset="synthetic", transfer={"weights": "random"}, **values)
    specs = {name: wired.definition.spec for name, wired in made.items()}
    return {name: getattr(spec, field) for name, spec in specs.items() if hasattr(spec, field)}


@pytest.mark.parametrize("protocol", ["holdout", "kfold"])
def test_every_training_gets_the_weights_of_classes_and_nothing_else_does(protocol: str) -> None:
    evaluation = {"protocol": protocol, "folds": 2}
    found = specs_with("class_weight", class_weight={"Bag": 5}, evaluation=evaluation)
    assert set(map(str, found.values())) == {"{'Bag': 5.0}"}
    made = wire(dataset="synthetic", transfer={"weights": "random"}, evaluation=evaluation)
    kinds = ("train", "retrain", "vgg16_train")
    assert set(found) == {name for name, wired in made.items() if wired.definition.kind in kinds}


def test_the_metric_matters_to_what_judges_by_it() -> None:
    found = specs_with("metric", metric="log_loss")
    assert set(found.values()) == {"log_loss"}
    gates = {f"gate_{number}" for number in range(1, 10)}
    assert set(found) == gates | {"selection", "success", "figures"}
