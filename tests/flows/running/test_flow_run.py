"""What surrounds the stages of a flow run: its characteristics, its checks, its success."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.planning.stage_selection import EVERYTHING, StageSelection
from flows.recipe.presets import NOTEBOOK
from flows.running import flow_run
from flows.running.flow_run import (
    MOST_ATTEMPTS,
    characteristics,
    check_attempts,
    check_functions,
    check_request,
    check_success,
    crash_without_server,
    flow_run_name,
)
from tasks.core.errors import CriteriaError, StageError, UserError
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tests.own_nets import written

LOST = RuntimeError("Failed to reach API at http://127.0.0.1:4200/api")


def runtime(
    monkeypatch: pytest.MonkeyPatch, *, run_count: int = 1, deployment: str = "", **parameters: Any
) -> None:
    found = SimpleNamespace(
        flow_run=SimpleNamespace(run_count=run_count, parameters=parameters),
        deployment=SimpleNamespace(id=deployment),
    )
    monkeypatch.setattr(flow_run, "prefect", SimpleNamespace(runtime=found))


def success(*, met: bool) -> Record:
    facts = {"met": met, "message": "the final model is too weak"}
    return Record("success", "success", key="0" * 64, files={}, facts=facts, basis={})


def test_synthetic_data_stand_out_in_the_list_of_runs() -> None:
    drawn = NOTEBOOK.model_copy(update={"dataset": "synthetic"})
    assert characteristics(drawn)[0] == "SYNTHETIC DATA"
    assert characteristics(NOTEBOOK)[:2] == ["fashion-mnist", f"rule {NOTEBOOK.rule}"]


def test_a_run_is_named_by_the_rule_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(**settings: Any) -> str:
        runtime(monkeypatch, settings=settings, run_id="r1")
        return flow_run_name()

    assert named() == "r1, fashion-mnist, rule notebook"
    assert named(dataset="/data/shoes.npz") == "r1, shoes.npz, rule validation"
    assert named(rule="one_standard_error") == "r1, fashion-mnist, rule one_standard_error"


def test_a_path_is_shown_by_its_last_part() -> None:
    own = NOTEBOOK.model_copy(update={"dataset": "/data/private/shoes.npz"})
    assert characteristics(own)[0] == "shoes.npz"


def test_a_run_that_dies_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(monkeypatch, run_count=MOST_ATTEMPTS)
    check_attempts()
    runtime(monkeypatch, run_count=MOST_ATTEMPTS + 1)
    with pytest.raises(StageError, match=f"died {MOST_ATTEMPTS} times"):
        check_attempts()


@pytest.mark.parametrize(
    "named",
    [
        lambda function: {"plan": [], "overfitting": {"network": {"function": function}}},
        lambda function: {"plan": [{"name": "a", "change": {"network.function": function}}]},
        lambda function: {"plan": [{"name": "a", "change": {"network": {"function": function}}}]},
    ],
    ids=["overfitting", "part of a change", "change"],
)
def test_parameters_of_a_deployment_name_a_function_only_if_the_worker_allows_it(
    named: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = written(tmp_path / "nets")
    given = Settings.model_validate(named(function))
    monkeypatch.delenv("FASHION_FLOW_ALLOW_FUNCTIONS", raising=False)
    runtime(monkeypatch, deployment="an id")
    with pytest.raises(UserError, match=r"nets.py:build': this worker does not allow it"):
        check_request(given, EVERYTHING, require_success=False)
    monkeypatch.setenv("FASHION_FLOW_ALLOW_FUNCTIONS", str(tmp_path / "other"))
    ways = r"FASHION_FLOW_ALLOW_FUNCTIONS .*worker's environment, for containers by .*deploy --env"
    with pytest.raises(UserError, match=ways):
        check_functions(given)
    for allowed in (str(tmp_path / "nets"), "1"):
        monkeypatch.setenv("FASHION_FLOW_ALLOW_FUNCTIONS", allowed)
        check_functions(given)
    # On a user's own command line.
    monkeypatch.delenv("FASHION_FLOW_ALLOW_FUNCTIONS")
    runtime(monkeypatch)
    check_functions(given)


def test_success_can_be_required_only_of_a_run_that_determines_it() -> None:
    check_request(NOTEBOOK, EVERYTHING, require_success=True)
    check_request(NOTEBOOK, StageSelection(only=frozenset({"success"})), require_success=True)
    check_request(NOTEBOOK, StageSelection(only=frozenset({"baseline"})), require_success=False)
    with pytest.raises(UserError, match="add --only success"):
        check_request(NOTEBOOK, StageSelection(only=frozenset({"baseline"})), require_success=True)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean baseline"):
        check_request(NOTEBOOK, StageSelection(only=frozenset({"basline"})), require_success=False)


def test_a_criterion_that_is_not_met_fails_the_run_and_names_the_report() -> None:
    check_success(success(met=True), "/store/report.html")
    with pytest.raises(CriteriaError, match=r"too weak; .*report: /store/report\.html$"):
        check_success(success(met=False), "/store/report.html")
    with pytest.raises(CriteriaError, match=r"too weak$"):
        check_success(success(met=False), "")


def test_a_worker_s_run_crashes_if_it_lost_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(monkeypatch, deployment="3f6b")
    with pytest.raises(SystemExit, match="can't be reached"), crash_without_server():
        raise LOST
    with pytest.raises(StageError), crash_without_server():
        raise StageError("a stage failed")


def test_a_run_without_a_worker_keeps_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(monkeypatch)
    with pytest.raises(RuntimeError, match="Failed to reach API"), crash_without_server():
        raise LOST
