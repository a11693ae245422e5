"""The settings of a run: what is filled in, and which combinations are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import corrected_transfer

DEFAULTS = Settings()


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    return str(caught.value)


def test_a_partly_given_transfer_is_filled_in_with_its_own_defaults() -> None:
    """A deployment's parameters are nested dictionaries that name what they change."""
    found = Settings.model_validate(
        {"transfer": {"as_notebook": {"side": 64}, "corrected": {"side": 32}}}
    ).transfer
    assert found.as_notebook == DEFAULTS.transfer.as_notebook.model_copy(update={"side": 64})
    assert found.corrected == DEFAULTS.transfer.corrected.model_copy(update={"side": 32})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULTS.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("network", ["baseline", "low_capacity", "overfitting"])
def test_a_partly_given_network_is_filled_in_with_its_own_defaults(network: str) -> None:
    found = getattr(Settings.model_validate({network: {"epochs": 3}}), network)
    assert found == getattr(DEFAULTS, network).model_copy(update={"epochs": 3})


def test_the_corrected_variant_differs_from_the_notebook_s() -> None:
    assert DEFAULTS.transfer.corrected == corrected_transfer() != DEFAULTS.transfer.as_notebook


@pytest.mark.parametrize("network", ["baseline", "low_capacity", "overfitting"])
def test_the_epoch_of_the_lowest_loss_is_for_iterations_only(network: str) -> None:
    said = refusal(**{network: {"epochs": "lowest_validation_loss"}})
    assert f"{network}.epochs: 'lowest_validation_loss' is only allowed in the plan" in said


def entry(change: dict[str, Any], replay: str | None = None) -> dict[str, Any]:
    return {"name": "mine", "change": change, "replay": replay}


def test_a_change_that_does_not_fit_names_its_iteration() -> None:
    said = refusal(plan=[entry({"epochs": 3}), entry({"dropout": 2})])
    assert "plan, iteration 2 (mine): change to TrainSettings: dropout" in said


def test_rule_notebook_needs_a_decision_for_each_iteration() -> None:
    said = refusal(rule="notebook", plan=[entry({"epochs": 3})])
    assert "must have replay = 'forward' or 'back'" in said


@pytest.mark.parametrize(("forced", "fits"), [("forward", True), ("back", False)])
def test_rule_notebook_checks_changes_along_its_path(forced: str, fits: bool) -> None:
    """The second change fits the two convolutions of the first, but not the default's three."""
    two = {"filters": [8, 8], "kernel_sizes": [3, 3], "pooled": [True, True]}
    plan = [entry(two, "forward"), entry({"kernel_sizes": [2, 2]}, "back")]
    values: dict[str, Any] = {"rule": "notebook", "plan": plan, "force": {1: forced}}
    if fits:
        assert len(Settings.model_validate(values).plan) == 2
    else:
        assert "plan, iteration 2 (mine)" in refusal(**values)


def test_a_forced_gate_has_to_be_in_the_plan() -> None:
    assert Settings.model_validate({"force": {9: "back"}}).force == {9: "back"}
    assert "there is no gate 10, 11; expected gates from 1 to 9, one" in refusal(
        force={10: "back", 11: "forward"}
    )


@pytest.mark.parametrize(
    ("evaluation", "enough"),
    [
        ({"replicates": 2}, False),
        ({"replicates": 3}, True),
        ({"folds": 5}, False),
        ({"protocol": "kfold", "folds": 3}, True),
        ({"protocol": "kfold", "folds": 2}, False),
        ({"protocol": "kfold", "folds": 2, "replicates": 2}, True),
    ],
)
def test_rule_significant_needs_three_trainings(evaluation: dict[str, Any], enough: bool) -> None:
    values = {"rule": "significant", "evaluation": evaluation}
    if enough:
        assert Settings.model_validate(values).rule == "significant"
    else:
        assert "needs 3 trainings of each model" in refusal(**values)


def plan(*changes: dict[str, Any], **overfitting: Any) -> dict[str, Any]:
    entries = [{"name": f"change {at}", "change": change} for at, change in enumerate(changes)]
    return {"plan": entries, "overfitting": overfitting, "rule": "validation"}


def test_a_change_may_name_parts_of_groups_and_be_relative() -> None:
    change = {"optimizer.name": "adamw", "batch_size": {"times": 0.5}, "filters": {"times": 2}}
    (found,) = Settings.model_validate(plan(change)).plan
    candidate = changed(Settings().overfitting, found.change)
    assert (candidate.optimizer.name, candidate.batch_size) == ("adamw", 64)
    assert candidate.filters == (128, 256, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (plan({"optimizer.nme": "sgd"}), r"optimizer\.nme: no such setting"),
        (plan({"dropout.x": 1}), r"'dropout\.x': 'dropout' is no group of settings"),
        (plan({"network.family": {"times": 2}}), r"'network\.family': 'stack' can't be multiplied"),
        (plan({"l2": {"times": float("inf")}}), "can't be multiplied by inf"),
        (plan({"dense": [8]}, network={"family": "compact"}), "dense of no effect in family 'comp"),
        (
            plan(
                {"network": {"family": "stack"}},
                {"network.depth": 2},
                network={"family": "compact"},
            ),
            r"iteration 2 .* does not fit if earlier changes are kept; .* depth: unused",
        ),
    ],
    ids=str,
)
def test_changes_that_would_fail_or_do_nothing_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


def test_forced_decisions_count_when_changes_are_checked() -> None:
    settings = plan(
        {"network": {"family": "stack"}}, {"network.depth": 2}, network={"family": "compact"}
    )
    Settings.model_validate(settings | {"force": {1: "back"}})
