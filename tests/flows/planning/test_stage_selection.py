"""Which stages are carried out, and which of them are computed again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.planning.plan import CACHED, MAY_RUN, OPEN, WILL_RUN, Planned, plan
from flows.planning.stage_selection import EVERYTHING, Enough, StageSelection
from flows.recipe.contents import build, stage_names
from tasks.core.errors import StageError, UserError
from tasks.core.records import Outcome, Skipped, Stage
from tasks.storage.store import ABSENT, Store
from tests.flows.planning.test_plan import (
    PROFILE,
    FakeRun,
    FillingRun,
    filled_store,
    in_state,
    replayed,
)

NAMES = stage_names(replayed())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("store"))


def choice(**names: str) -> StageSelection:
    """E.g. `choice(only="load subset")`."""
    return StageSelection(**{field: frozenset(value.split()) for field, value in names.items()})


def chosen(store: Store, settings: Any = None, **names: str) -> list[Planned]:
    return plan(store, settings or replayed(), PROFILE, choice(**names))


def read_by() -> dict[str, set[str]]:
    """For each stage, the stages that it is given."""
    run = FakeRun()
    build(run, replayed())
    return {name: {given.stage for given in inputs.values()} for name, inputs in run.inputs.items()}


INPUTS = read_by()
# Recipe order, so inputs come first.
AFTER = FakeRun()
build(AFTER, replayed())


def dependents(*names: str) -> set[str]:
    found = set(names)
    for name in AFTER.names:
        if INPUTS[name] & found:
            found.add(name)
    return found


# Names


@pytest.mark.parametrize("field", ["only", "refresh", "refresh_from"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("baselin", "no stage 'baselin' in this run; did you mean baseline"),
        ("iteration_11", "no stage 'iteration_11' in this run; did you mean iteration_1"),
        ("Overfitting", "did you mean overfitting"),
        ("xyz", "no stage 'xyz' in this run; `plan` shows their names."),
        ("", "no stage '' in this run; `plan` shows their names."),
    ],
)
def test_an_unknown_stage_is_refused_with_similar_names(
    filled: Store, field: str, name: str, said: str
) -> None:
    wanted = StageSelection(**{field: frozenset({name, "load"})})
    with pytest.raises(UserError) as refused:
        wanted.check(NAMES)
    assert said in str(refused.value)
    with pytest.raises(UserError) as refused:
        plan(filled, replayed(), PROFILE, wanted)
    assert said in str(refused.value)


def test_the_stages_of_a_run_are_known_whatever_the_field() -> None:
    StageSelection(
        only=frozenset(NAMES), refresh=frozenset(NAMES), refresh_from=frozenset(NAMES)
    ).check(NAMES)
    EVERYTHING.check([])


def test_a_stage_that_other_settings_would_have_is_unknown() -> None:
    with pytest.raises(UserError, match="no stage 'vgg16_frozen'"):
        choice(only="vgg16_frozen").check(stage_names(replayed("transfer.weights=off")))


@pytest.mark.parametrize("given", [{"skip": ["load"]}, {"only": "load"}, {"only": [1]}])
def test_an_invalid_selection_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        StageSelection.model_validate(given)


# Anew


def test_without_a_selection_everything_is_as_it_is(filled: Store) -> None:
    assert chosen(filled) == plan(filled, replayed(), PROFILE)
    assert in_state(chosen(filled), CACHED) == set(NAMES)


@pytest.mark.parametrize("name", ["load", "baseline", "gate_3", "vgg16_block4", "results"])
def test_what_is_refreshed_leaves_its_dependents_cached(filled: Store, name: str) -> None:
    planned = chosen(filled, refresh=name)
    assert in_state(planned, WILL_RUN) == {name}
    assert in_state(planned, CACHED) == set(NAMES) - {name}
    (item,) = (item for item in planned if item.stage == name)
    assert item.reason == "recomputation requested"
    assert item.record is not None, "what is there already is still known"


@pytest.mark.parametrize(
    "names", ["load", "baseline", "iteration_3", "gate_9", "vgg16_block5 low_capacity", "figures"]
)
def test_from_a_stage_on_it_and_its_dependents_are_computed_again(
    filled: Store, names: str
) -> None:
    planned = chosen(filled, refresh_from=names)
    assert in_state(planned, WILL_RUN) == dependents(*names.split())
    assert in_state(planned, CACHED) == set(NAMES) - dependents(*names.split())
    named, reached = set(names.split()), dependents(*names.split())
    for item in planned:
        if item.stage in named:
            assert item.reason == "recomputation requested"
        elif item.stage in reached:
            assert item.reason == f"{min(INPUTS[item.stage] & reached)} is recomputed"


def test_some_dependents_by_name() -> None:
    assert dependents("load") == set(NAMES) - {"vgg16_weights"}
    after = {"gate_9", "results", "selection", "figures"}
    assert dependents("gate_9") == after, "tests come after it only"
    # Its snapshot may be where iteration 1 begins.
    assert {"iteration_1", "gate_1"} <= dependents("overfitting")


def test_a_refreshed_input_and_a_changed_one_are_both_planned(filled: Store) -> None:
    planned = chosen(filled, replayed("baseline.epochs=4"), refresh="load")
    assert in_state(planned, WILL_RUN) == {"load", "baseline"}
    assert in_state(planned, MAY_RUN) == {
        *("curves_baseline", "test_baseline", "results", "success", "quality", "figures")
    }


def test_on_an_empty_store_everything_runs_anyway(tmp_path: Path) -> None:
    planned = chosen(Store(str(tmp_path)), refresh_from="gate_9")
    assert in_state(planned, WILL_RUN) == set(NAMES)


@given(st.sets(st.sampled_from("abcd")), st.lists(st.sampled_from("wxyz"), max_size=4))
def test_a_stage_follows_if_it_is_named_or_one_of_its_inputs_follows(
    named: set[str], followed: list[str]
) -> None:
    wanted = StageSelection(refresh_from=frozenset(named), refresh=frozenset("abcd"))
    assert wanted.is_downstream("a", followed) == ("a" in named or followed != [])
    assert not EVERYTHING.is_downstream("a", [])


@given(
    st.sets(st.sampled_from("ab")),
    st.sets(st.sampled_from("ab")),
    st.lists(st.sampled_from("wxyz"), max_size=4),
)
def test_why_a_stage_is_computed_again(
    refresh: set[str], refresh_from: set[str], followed: list[str]
) -> None:
    wanted = StageSelection(refresh=frozenset(refresh), refresh_from=frozenset(refresh_from))
    reason = wanted.recompute("a", followed)
    if "a" in refresh | refresh_from:
        assert reason == "recomputation requested"
    elif followed:
        assert reason in {f"{name} is recomputed" for name in followed}
        assert reason == wanted.recompute("a", followed[::-1]), "the same whatever the order"
    else:
        assert reason == ""
    assert EVERYTHING.recompute("a", []) == ""


def test_an_input_that_is_computed_again_is_the_reason() -> None:
    assert choice(refresh_from="load").recompute("preprocess", ["subset"]) == "subset is recomputed"
    assert choice(refresh="subset").recompute("preprocess", []) == "", "it leads to nothing"


# Only


@given(st.sets(st.sampled_from("abc")), st.lists(st.sampled_from("abcd")))
def test_it_is_enough_when_all_selected_stages_are_made(only: set[str], made: list[str]) -> None:
    wanted = StageSelection(
        only=frozenset(only), refresh=frozenset("d"), refresh_from=frozenset("d")
    )
    if only and only <= set(made):
        with pytest.raises(Enough):
            wanted.check_enough(made)
    else:
        wanted.check_enough(made)


def shown(planned: list[Planned]) -> list[str]:
    return [item.stage for item in planned]


def test_only_shows_the_way_to_a_stage_that_is_cached_too(filled: Store) -> None:
    planned = chosen(filled, only="final")
    assert shown(planned) == ["load", "subset", "guard", "preprocess", "final"]
    assert in_state(planned, CACHED) == set(shown(planned))
    assert shown(chosen(filled, only="explore load")) == ["load", "explore"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("load", "load"),
        ("explore", "load explore"),
        ("baseline", "load subset guard preprocess baseline"),
        ("iteration_1", "load subset guard preprocess overfitting iteration_1"),
        ("iteration_2", "load subset guard preprocess iteration_2"),
        ("vgg16_weights", "vgg16_weights"),
        ("vgg16_block4 explore", "load explore subset guard preprocess vgg16_weights vgg16_block4"),
        ("gate_2", "load subset guard preprocess overfitting iteration_1 iteration_2 gate_2"),
    ],
)
def test_only_shows_what_the_stage_lacks(tmp_path: Path, only: str, expected: str) -> None:
    planned = chosen(Store(str(tmp_path)), only=only)
    assert shown(planned) == [name for name in NAMES if name in expected.split()]
    assert in_state(planned, WILL_RUN) == set(expected.split())


def test_scoring_only_one_model_takes_every_verdict_first(tmp_path: Path) -> None:
    names = shown(chosen(Store(str(tmp_path)), only="test_baseline"))
    assert {f"gate_{number}" for number in range(1, 10)} <= set(names)
    assert {"baseline", "preprocess", "load"} <= set(names)
    assert not {"final", "explore", "vgg16_frozen", "test_final", "results"} & set(names)


def test_only_runs_what_is_not_cached(filled: Store) -> None:
    planned = chosen(filled, replayed("baseline.epochs=4"), only="test_baseline")
    assert shown(planned)[:5] == ["load", "subset", "guard", "preprocess", "baseline"]
    assert not {"explore", "low_capacity", "test_final", "results"} & set(shown(planned))
    assert in_state(planned, WILL_RUN) == {"baseline"}
    assert in_state(planned, MAY_RUN) == {"test_baseline"}


def test_only_a_stage_behind_a_decision_that_is_not_made_is_open(tmp_path: Path) -> None:
    settings = replayed(rule="validation")
    planned = chosen(Store(str(tmp_path)), settings, only="iteration_4")
    assert in_state(planned, OPEN) == {"iteration_4"}
    assert {"overfitting", "iteration_1", "gate_1"} <= in_state(planned, WILL_RUN)
    (item,) = (item for item in planned if item.state == OPEN)
    assert item.reason == "depends on iteration_1"
    assert "results" not in shown(planned)


def test_only_and_anew_together(filled: Store) -> None:
    planned = chosen(filled, only="baseline", refresh="baseline")
    assert shown(planned) == ["load", "subset", "guard", "preprocess", "baseline"]
    assert in_state(planned, WILL_RUN) == {"baseline"}
    planned = chosen(filled, only="preprocess", refresh_from="subset")
    assert in_state(planned, WILL_RUN) == {"subset", "guard", "preprocess"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"only": "load", "refresh": "baseline"}, "baseline is not needed by load"),
        ({"only": "load", "refresh_from": "baseline"}, "baseline is not needed by load"),
        (
            {"only": "explore baseline", "refresh": "final", "refresh_from": "iteration_3 load"},
            "final, iteration_3 is not needed by baseline, explore",
        ),
        # What comes after it is no more needed than what is beside it.
        ({"only": "preprocess", "refresh_from": "results"}, "results is not needed by preprocess"),
        ({"only": "final", "refresh": "low_capacity"}, "low_capacity is not needed by final"),
    ],
    ids=str,
)
@pytest.mark.parametrize("cached", [True, False])
def test_refreshing_a_stage_that_is_not_needed_is_refused(
    filled: Store, tmp_path: Path, names: dict[str, str], said: str, cached: bool
) -> None:
    with pytest.raises(UserError) as refused:
        chosen(filled if cached else Store(str(tmp_path)), **names)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("only", "way"),
    [
        ("final", "load subset guard preprocess overfitting iteration_1 gate_1 final"),
        ("iteration_4", "load subset guard preprocess overfitting iteration_1 gate_1 iteration_4"),
        (
            "final explore",
            "load explore subset guard preprocess overfitting iteration_1 gate_1 final",
        ),
    ],
)
def test_only_behind_an_open_gate_shows_the_gate_and_what_is_asked_for(
    tmp_path: Path, only: str, way: str
) -> None:
    planned = chosen(Store(str(tmp_path)), replayed(rule="validation"), only=only)
    assert sorted(shown(planned)) == sorted(way.split())
    behind = {"final", "iteration_4"} & set(only.split())
    assert in_state(planned, OPEN) == behind
    assert in_state(planned, WILL_RUN) == set(way.split()) - behind


def test_only_behind_an_open_gate_anything_may_still_be_needed(tmp_path: Path) -> None:
    settings = replayed(rule="validation")
    names = {"only": "final", "refresh": "iteration_5"}
    planned = chosen(Store(str(tmp_path)), settings, **names)
    assert in_state(planned, OPEN) == {"final"}


class StoppedRun(FillingRun):
    """Skips VGG16, whose weights are not available, and fails at the second iteration."""

    def outcome(self, stage: Stage, inputs: Mapping[str, Outcome]) -> Outcome:
        skipped = any(isinstance(given, Skipped) for given in inputs.values())
        if stage.name == "vgg16_weights" or skipped:
            return Skipped(stage.name, "its weights are not available")
        if stage.name == "iteration_2":
            raise StageError("iteration_2 failed")
        return super().outcome(stage, inputs)


@pytest.mark.parametrize(
    ("names", "stage", "state", "said"),
    [
        ({"only": "iteration_2"}, "iteration_2", WILL_RUN, ABSENT),
        ({"only": "iteration_2"}, "preprocess", CACHED, "record "),
        ({"only": "gate_2"}, "gate_2", WILL_RUN, "after iteration_2"),
        ({"refresh": "iteration_2"}, "iteration_2", WILL_RUN, "recomputation requested"),
        ({"refresh_from": "overfitting"}, "iteration_1", WILL_RUN, "overfitting is recomputed"),
        ({"refresh_from": "overfitting"}, "baseline", CACHED, "record "),
        ({"only": "vgg16_frozen"}, "vgg16_weights", WILL_RUN, ABSENT),
        ({"only": "vgg16_frozen"}, "vgg16_frozen", WILL_RUN, "after vgg16_"),
        ({"refresh": "vgg16_weights"}, "vgg16_weights", WILL_RUN, "recomputation requested"),
    ],
)
def test_after_a_stage_that_failed_or_was_skipped_each_stage_says_why(
    tmp_path: Path, names: dict[str, str], stage: str, state: str, said: str
) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(StageError, match="iteration_2 failed"):
        build(StoppedRun(store, replayed()), replayed())
    (item,) = (item for item in chosen(store, **names) if item.stage == stage)
    assert (item.state, item.reason[: len(said)]) == (state, said)


# What Prefect is given


class Submitted:
    """In a task runner's place: notes what is submitted and whether it is to be done anew."""

    def __init__(self) -> None:
        self.anew: dict[str, str] = {}

    def submit(self, _task: Any, parameters: dict[str, Any], wait_for: list[Any]) -> Any:
        stage, context = parameters["stage"], parameters["context"]
        given = {future.name for future in (*parameters["inputs"].values(), *wait_for)}
        assert given <= set(self.anew), "what a stage waits for is submitted before it"
        self.anew[stage.name] = context.recompute
        return SimpleNamespace(name=stage.name)


def submitted(store: Store, **names: str) -> Submitted:
    from flows.build_model import TASKS
    from flows.running.prefect_run import PrefectRun
    from tasks.engine.stage import RunContext

    runner = Submitted()
    context = RunContext(str(store.root), "run-1", PROFILE, 2)
    run = PrefectRun(cast(Any, runner), TASKS, context, choice(**names))
    with suppress(Enough):
        build(run, replayed())
    return runner


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"refresh": "load gate_3"},
        {"refresh_from": "iteration_3"},
        {"only": "baseline"},
        {"only": "gate_2 iteration_1", "refresh": "iteration_1"},
        {"only": "test_baseline explore", "refresh_from": "subset"},
    ],
    ids=str,
)
def test_prefect_is_given_what_the_plan_shows(
    filled: Store, tmp_path: Path, names: dict[str, str]
) -> None:
    given = submitted(filled, **names).anew
    # With an empty store nothing that is needed is left out.
    assert set(given) == set(shown(chosen(Store(str(tmp_path)), **names)))
    planned = {i.stage: i.reason for i in chosen(filled, **names) if i.state == WILL_RUN}
    assert {name: anew for name, anew in given.items() if anew} == planned


@pytest.mark.parametrize("cached", [True, False])
def test_a_refreshed_stage_behind_an_only_is_planned_as_it_is_run(
    filled: Store, tmp_path: Path, cached: bool
) -> None:
    store = filled if cached else Store(str(tmp_path))
    names = {"only": "gate_2", "refresh": "iteration_1"}
    assert submitted(store, **names).anew["iteration_1"] == "recomputation requested"
    assert "iteration_1" in in_state(chosen(store, **names), WILL_RUN)
