"""What Prefect's form shows, and what the form and the API accept as parameters of the flow."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from flows.build_model import build_model
from flows.recipe.presets import NOTEBOOK


def test_the_form_shows_type_default_bounds_and_help_of_each_setting() -> None:
    schema: dict[str, Any] = build_model.parameters.model_dump()
    groups = schema["definitions"]
    for group in ("Settings", "SubsetSettings", "TrainSettings", "TransferSettings"):
        for name, setting in groups[group]["properties"].items():
            assert setting.get("description") or "$ref" in setting, f"{group}.{name}"
    dropout = groups["TrainSettings"]["properties"]["dropout"]
    assert dropout["type"] == "number"
    assert dropout["default"] == 0
    assert (dropout["minimum"], dropout["exclusiveMaximum"]) == (0, 1)
    assert schema["properties"]["settings"]["default"] == NOTEBOOK.model_dump(mode="json")


def test_settings_that_are_left_out_are_the_notebook_s() -> None:
    given = build_model.validate_parameters({"settings": {"subset": {"train": 5000}}})
    changed = NOTEBOOK.subset.model_copy(update={"train": 5000})
    assert given["settings"] == NOTEBOOK.model_copy(update={"subset": changed})


@pytest.mark.parametrize("network", ["baseline", "low_capacity", "overfitting"])
def test_a_partly_given_network_keeps_its_other_settings(network: str) -> None:
    given = build_model.validate_parameters({"settings": {network: {"epochs": 3}}})["settings"]
    own = getattr(NOTEBOOK, network)
    assert getattr(given, network) == own.model_copy(update={"epochs": 3})
    schema: dict[str, Any] = build_model.parameters.model_dump()
    shown = schema["definitions"]["Settings"]["properties"][network]["default"]
    assert shown == own.model_dump(mode="json")


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(ParameterTypeError, match="dropout"):
        build_model.validate_parameters({"settings": {"overfitting": {"dropout": 2}}})
