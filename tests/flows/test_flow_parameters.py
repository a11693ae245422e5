"""What Prefect shows and accepts where the flow is started by form or API."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from flows.build_model import build_model
from flows.recipe.presets import NOTEBOOK


def test_the_run_form_shows_each_setting_with_type_default_bounds_and_help() -> None:
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


def test_what_is_left_out_is_the_notebooks() -> None:
    given = build_model.validate_parameters({"settings": {"subset": {"train": 5000}}})
    changed = NOTEBOOK.subset.model_copy(update={"train": 5000})
    assert given["settings"] == NOTEBOOK.model_copy(update={"subset": changed})


@pytest.mark.parametrize("network", ["baseline", "low_capacity", "overfitting"])
def test_a_partly_given_network_stays_the_network_that_it_is(network: str) -> None:
    given = build_model.validate_parameters({"settings": {network: {"epochs": 3}}})["settings"]
    own = getattr(NOTEBOOK, network)
    assert getattr(given, network) == own.model_copy(update={"epochs": 3})
    schema: dict[str, Any] = build_model.parameters.model_dump()
    shown = schema["definitions"]["Settings"]["properties"][network]["default"]
    assert shown == own.model_dump(mode="json")


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(ParameterTypeError, match="dropout"):
        build_model.validate_parameters({"settings": {"overfitting": {"dropout": 2}}})
