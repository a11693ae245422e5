"""A spec is a frozen value, and its JSON, which the key is made of, tells any two specs apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.arithmetic import Arithmetic
from tasks.core.records import Stage, canonical_json
from tasks.core.stage_spec import StageSpec
from tasks.core.stage_specs import SPECS
from tasks.core.transfer_specs import BackboneCheckSpec
from tasks.engine.stage import RunContext
from tests.wiring import wire

KINDS = [spec.kind for spec in SPECS]


def examples() -> list[StageSpec]:
    """What the recipe makes of several settings, every kind among it."""
    recipes: list[dict[str, Any]] = [
        # Trainings of transfer say which fold they hold out only if they do.
        {
            "transfer": {"weights": "required"},
            "evaluation": {"protocol": "kfold", "folds": 2},
            "force": {10: "forward"},
        },
        {
            "dataset": "synthetic",
            "transfer": {"weights": "random", "backbone": {"name": "MobileNetV2"}},
        },
        {"evaluation": {"protocol": "kfold", "folds": 2, "replicates": 2}, "force": {1: "back"}},
    ]
    specs = [wired.definition.spec for recipe in recipes for wired in wire(**recipe).values()]
    # Only a store with an earlier run could make it.
    return [*specs, BackboneCheckSpec()]


SPECS_MADE = examples()
ONE_OF_EACH = [next(spec for spec in SPECS_MADE if spec.kind == kind) for kind in KINDS]


def ids(spec: Any) -> str:
    return str(spec.kind)


def test_the_recipe_makes_every_kind() -> None:
    assert {spec.kind for spec in SPECS_MADE} == set(KINDS)


def test_each_kind_has_a_name_and_a_rule_of_its_own() -> None:
    assert len(set(KINDS)) == len(KINDS)
    for spec in SPECS:
        assert {"kind", "seal"} <= set(vars(spec)), f"{spec.__name__} says neither kind nor seal"
        assert spec.__name__ == "".join(part.title() for part in spec.kind.split("_")) + "Spec"


def test_no_spec_is_left_out() -> None:
    found = {spec for spec in StageSpec.__subclasses__() if spec.__module__.startswith("tasks.")}
    assert found == set(SPECS)
    assert len(found) > 15


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_a_kind_is_a_function_in_a_module_of_its_name(spec: StageSpec) -> None:
    module = import_module(f"tasks.stages.{spec.kind}")
    task = getattr(module, spec.kind)
    assert task.name == spec.kind
    # And that function is the one that receives such a spec.
    other = next(one for one in ONE_OF_EACH if one.kind != spec.kind)
    with pytest.raises(AssertionError, match=rf"is not of kind {spec.kind}\b"):
        task.fn(Stage("name", other), {}, RunContext("nowhere", "run", {}, 1))


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_a_spec_is_frozen(spec: StageSpec) -> None:
    for name in type(spec).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(spec, name, getattr(spec, name))


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_a_spec_refuses_unknown_fields(spec: StageSpec) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(spec).model_validate({**spec.model_dump(), "another": 1})


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_a_spec_needs_its_values(spec: StageSpec) -> None:
    required = {name for name, item in type(spec).model_fields.items() if item.is_required()}
    for name in required:
        values = spec.model_dump()
        del values[name]
        with pytest.raises(ValidationError, match=rf"{name}\n +Field required"):
            type(spec).model_validate(values)


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_the_json_of_a_spec_is_plain_and_says_everything(spec: StageSpec) -> None:
    values = spec.as_json()
    assert set(values) == set(type(spec).model_fields)
    assert json.loads(canonical_json(values)) == values
    assert type(spec).model_validate(values) == spec


def test_a_training_of_transfer_without_a_fold_does_not_say_that_there_could_be_one() -> None:
    """So its key is that of times when there could be none."""
    (one, *_) = (spec for spec in SPECS_MADE if spec.kind == "vgg16_train")
    assert "fold" in one.as_json()
    assert "fold" not in one.model_copy(update={"fold": None}).as_json()


def others(value: Any) -> Iterator[Any]:
    """Values that might be put in place of a JSON value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from ({**value, name: other} for other in others(inner))
        yield {**value, "another": "x"}
    elif isinstance(value, list):
        yield [*value, *(value[-1:] or ["train"])]
        yield value[:-1]
        # What holds of the first item holds of the others.
        yield from ([other, *value[1:]] for first in value[:1] for other in others(first))
    else:
        yield from (None, True, False, 0, 1, 2, 7, 0.5, "x", ["x"], {"x": "y"}, {"train": 9})
        yield from ("random", "file", "own", "forward", "back", "raw", "vgg16", "notebook", "auto")
        yield from ("validation", "binary_crossentropy", "categorical_crossentropy", "none")
        yield from (
            "allow",
            "same",
            "cosine",
            "lowest_validation_loss",
            "log_loss",
            {"dense": 1, "dropout": 0},
        )
        yield from ({"side": 32, "preprocessing": "raw"}, {"zoom_range": 0.1})
        yield {"content": "x", "images": {}, "test": None, "seed": 0}


def variants(spec: StageSpec) -> dict[str, list[StageSpec]]:
    """Valid specs that differ from `spec` in one field, by that field."""
    values = spec.as_json()
    found: dict[str, list[StageSpec]] = {}
    for name in values:
        for other in others(values[name]):
            try:
                variant = type(spec).model_validate(values | {name: other})
            except ValidationError:
                continue
            if variant != spec and variant not in found.setdefault(name, []):
                found[name].append(variant)
    return found


@pytest.mark.parametrize("spec", ONE_OF_EACH, ids=ids)
def test_the_json_of_a_spec_differs_if_any_field_differs(spec: StageSpec) -> None:
    found = variants(spec)
    assert set(found) == set(type(spec).model_fields), "each field was changed"
    for variant in (other for several in found.values() for other in several):
        assert canonical_json(variant.as_json()) != canonical_json(spec.as_json()), variant
        # No two values have the same JSON, since the value can be read from it.
        assert type(spec).model_validate(variant.as_json()) == variant


def test_nested_values_are_changed_too() -> None:
    """So that the test above means something for them."""
    (spec,) = (spec for spec in ONE_OF_EACH if spec.kind == "train")
    changed = {
        name
        for variant in variants(spec)["training"]
        for name, value in variant.as_json()["training"].items()
        if value != spec.as_json()["training"][name]
    }
    assert changed >= {"dense", "epochs", "learning_rate", "dropout", "augmentation", "padding"}


def test_only_computations_in_floating_point_depend_on_the_execution_profile() -> None:
    assert {spec.kind for spec in SPECS if spec.arithmetic is Arithmetic.NETWORK} == {
        "train",
        "retrain",
        "vgg16_features",
        "vgg16_train",
        "backbone",
        "backbone_features",
        "backbone_train",
        "vgg16_retrain",
        "evaluate",
    }


def test_only_data_stages_compute_the_same_on_every_processor() -> None:
    assert {spec.kind for spec in SPECS if spec.arithmetic is Arithmetic.EXACT} == {
        "load",
        "subset",
        "preprocess",
        "folds",
        "vgg16_weights",
        "backbone_check",
    }


def test_only_summaries_are_made_though_an_input_was_skipped() -> None:
    assert {spec.kind for spec in SPECS if spec.tolerant} == {"results", "quality", "figures"}
