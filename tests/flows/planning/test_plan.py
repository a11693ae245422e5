"""`plan` says what a run would do: which stages are cached, which will run, which are open."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.planning.plan import CACHED, MAY_RUN, OPEN, WILL_RUN, Planned, PlannedRun, plan
from flows.planning.stage_selection import Enough, StageSelection
from flows.recipe import stages
from flows.recipe.compose import compose
from flows.recipe.contents import build, recipe_models, stage_names
from flows.recipe.presets import NOTEBOOK, PRESETS
from flows.recipe.run import Run
from tasks.core.names import FACTS
from tasks.core.records import Outcome, Record, Stage, StoredFile
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings, Iteration
from tasks.core.stage_specs import Vgg16WeightsSpec
from tasks.engine import keys
from tasks.engine.fingerprint import code_of as real_code_of
from tasks.engine.keys import key_of
from tasks.engine.libraries import library_versions
from tasks.storage.run_log import DONE, RunLog, now
from tasks.storage.store import Store
from tests.support import basis, on_disk, spec_of

ROOT = Path(__file__).resolve().parents[3]
PROFILE: dict[str, Any] = {"device": "cpu", "threads": 2}
REPLAY = {"rule": "notebook", "dataset": "synthetic", "transfer.weights": "random"}

# Iterations 1 and 3 win, so that a later round has another incumbent than an earlier one.
DECISIONS = {"gate_1": "forward", "gate_3": "forward"}


def made_up_facts(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "decision": DECISIONS.get(stage.name, "back"),
        "lowest_validation_loss_epoch": 7,
    }


class FakeRun(Run[Outcome]):
    """Answers each stage with a made-up record, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[Stage] = []
        self.inputs: dict[str, dict[str, Outcome]] = {}
        self.after: dict[str, list[str]] = {}

    def known(self, name: str, record: Record) -> Outcome:
        return replace(record, stage=name)

    def take(
        self, stage: Stage, after: Sequence[Outcome], inputs: Mapping[str, Outcome]
    ) -> Outcome:
        assert set(inputs) == set(stage.reads), f"{stage.name} is given what it declares"
        self.stages.append(stage)
        self.inputs[stage.name] = dict(inputs)
        self.after[stage.name] = [outcome.stage for outcome in after]
        return self.outcome(stage, inputs)

    def outcome(self, stage: Stage, inputs: Mapping[str, Outcome]) -> Outcome:
        del inputs
        return Record(stage.name, stage.kind, "0" * 64, {}, made_up_facts(stage), {})

    def value(self, handle: Outcome) -> Outcome:
        return handle

    @property
    def names(self) -> list[str]:
        return [stage.name for stage in self.stages]


def files_read(settings: Settings) -> dict[str, set[str]]:
    """For each stage, the files that the stages after it read."""
    run = FakeRun()
    build(run, settings)
    read: dict[str, set[str]] = {name: set() for name in run.names}
    for stage in run.stages:
        for role, names in stage.reads.items():
            read[run.inputs[stage.name][role].stage] |= set(names) - {FACTS}
    return read


class FillingRun(FakeRun):
    """Puts tiny made-up files into a store for every stage."""

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__()
        self.store = store
        self.files = files_read(settings)

    def outcome(self, stage: Stage, inputs: Mapping[str, Outcome]) -> Outcome:
        key, basis = key_of(stage, inputs, PROFILE)
        outputs = self.store.writer(stage, key, basis)
        for name in self.files[stage.name]:
            outputs.blob(name, "bin", f"{name} of {stage.name} {key}".encode())
        return self.store.commit(outputs, made_up_facts(stage))


def replayed(*assignments: str, **values: Any) -> Settings:
    return compose("notebook", None, REPLAY | values, assignments)


def filled_store(folder: Path, settings: Settings | None = None) -> Store:
    """A store in which every stage is cached, by default of the replayed notebook."""
    store, settings = Store(str(folder)), settings or replayed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _descriptor: None)
        build(FillingRun(store, settings), settings)
    return store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("store"))


def states(planned: Sequence[Planned]) -> dict[str, str]:
    return {item.stage: item.state for item in planned}


def in_state(planned: Sequence[Planned], state: str) -> set[str]:
    return {item.stage for item in planned if item.state == state}


def not_cached(store: Store, settings: Settings) -> set[str]:
    planned = plan(store, settings, PROFILE)
    return {item.stage for item in planned} - in_state(planned, CACHED)


# The recipe


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("weights", ["random", "off"])
@pytest.mark.parametrize("rule", ["validation", "notebook"])
@pytest.mark.parametrize("plan_length", [0, 9])
def test_stage_names_are_those_that_the_recipe_makes(
    preset: str, weights: str, rule: str, plan_length: int
) -> None:
    settings = compose(
        preset,
        None,
        {
            "dataset": "synthetic",
            "rule": rule,
            "transfer.weights": weights,
            "plan": [entry.model_dump() for entry in PRESETS[preset].settings.plan[:plan_length]],
        },
    )
    run = FakeRun()
    made = build(run, settings)
    assert sorted(run.names) == sorted(stage_names(settings)) == sorted(made)
    assert len(set(run.names)) == len(run.names)
    assert {model.name for model in recipe_models(settings)} <= set(made)


def test_every_handle_made_is_the_stage_s_own() -> None:
    made = build(FakeRun(), replayed())
    assert {name: outcome.stage for name, outcome in made.items()} == {name: name for name in made}


def test_nothing_is_scored_on_the_test_split_before_the_last_verdict() -> None:
    run = FakeRun()
    build(run, replayed())
    gates = [name for name in run.names if name.startswith("gate_")]
    tests = [stage for stage in run.stages if stage.kind == "evaluate"]
    assert len(gates) == 9
    assert len(tests) == len(recipe_models(replayed()))
    for stage in tests:
        assert run.after[stage.name] == gates
        assert run.names.index(stage.name) > run.names.index(gates[-1])
    readers = {stage.kind for stage in run.stages for f in stage.reads.values() if "test" in f}
    assert readers == {"explore", "subset", "guard", "look", "preprocess", "evaluate", "quality"}


def test_the_winner_s_settings_are_those_of_the_iterations_that_were_kept() -> None:
    run = FakeRun()
    build(run, compose(values=REPLAY | {"rule": "validation"}))
    settings = {stage.name: stage.spec.as_json() for stage in run.stages}
    # Kept by DECISIONS: 11 epochs, then half the dense units.
    kept = settings["iteration_3"]["training"]
    assert settings["final"]["training"] == kept
    assert (kept["epochs"], kept["dense"]) == (11, [128, 32])
    assert settings["iteration_5"]["training"] == kept | {"dropout": 0.25}
    incumbents = [settings[f"gate_{number}"]["incumbent"] for number in range(1, 10)]
    assert incumbents == ["overfitting", *["iteration_1"] * 2, *["iteration_3"] * 6]


def test_a_replayed_notebook_ends_with_the_notebook_s_network() -> None:
    run = FakeRun()
    build(run, replayed())
    final = next(stage for stage in run.stages if stage.name == "final").spec.as_json()["training"]
    overfitting = replayed().overfitting.model_dump(mode="json")
    kept = {"epochs": 11, "dropout": 0.25, "kernel_sizes": [3, 3, 3], "padding": "same"}
    assert final == overfitting | kept


class HastyRun(FakeRun):
    """Notes which outcomes the recipe waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[str] = []

    def value(self, handle: Outcome) -> Outcome:
        self.awaited.append(handle.stage)
        return super().value(handle)


def test_a_replay_waits_for_no_gate_and_the_verdicts_still_come() -> None:
    run = HastyRun()
    settings = replayed("force={2 = 'forward'}")
    build(run, settings)
    assert run.awaited == [], "all trainings, the final one's too, are submitted at once"
    gates = [f"gate_{number}" for number in range(1, 10)]
    assert set(gates) <= set(run.names)
    assert set(run.after["test_final"]) >= set(gates)
    assert not any(run.after[f"iteration_{number}"] for number in range(1, 10))
    decided = HastyRun()
    build(decided, replayed(rule="validation"))
    assert decided.awaited == gates


def test_of_a_replay_only_the_lowest_validation_loss_has_to_be_awaited() -> None:
    lowest = Iteration(
        name="stop early", change={"epochs": "lowest_validation_loss"}, replay="forward"
    )
    run = HastyRun()
    build(run, replace_plan(replayed(), lowest, epochs_only(5)))
    assert set(run.awaited) == {"overfitting"}


def test_gates_replay_only_under_rules_that_replay() -> None:
    for rule, expected in (
        ("notebook", [entry.replay for entry in NOTEBOOK.plan]),
        ("replay", [entry.replay for entry in NOTEBOOK.plan]),
        ("validation", [None] * 9),
    ):
        run = FakeRun()
        build(run, replayed(rule=rule))
        gates = [stage.spec.as_json() for stage in run.stages if stage.kind == "decide"]
        assert [gate["replay"] for gate in gates] == expected
        assert {gate["rule"] for gate in gates} == {rule}
        assert [gate["candidate"] for gate in gates] == [f"iteration_{n}" for n in range(1, 10)]


def test_epochs_at_the_lowest_validation_loss_come_from_the_overfitting_model() -> None:
    lowest = Iteration(name="stop early", change={"epochs": "lowest_validation_loss"})
    run = FakeRun()
    build(run, replace_plan(NOTEBOOK, lowest))
    stage = next(stage for stage in run.stages if stage.name == "iteration_1")
    assert stage.spec.as_json()["training"]["epochs"] == 7


def replace_plan(settings: Settings, *entries: Iteration) -> Settings:
    return Settings.model_validate(
        settings.model_dump() | {"plan": [entry.model_dump() for entry in entries]}
    )


def test_the_pictures_of_distorted_images_depend_on_every_value_of_the_distortion() -> None:
    def shown(settings: Settings) -> Any:
        return stages.figures(settings, {}).spec.as_json()["augmentation"]

    assert NOTEBOOK.plan[8].change["augmentation"] == {}, "the defaults are meant"
    assert shown(NOTEBOOK) == AugmentSettings().model_dump()
    assert shown(replace_plan(NOTEBOOK)) is None
    other = compose(assignments=["overfitting.augmentation.zoom_range=0.5"])
    assert shown(other) == AugmentSettings(zoom_range=0.5).model_dump()


# Where a training may begin


def beginnings_of(run: FakeRun) -> dict[str, list[str]]:
    """For each training that may begin in others, those."""
    unread = {
        stage.name: [role for role, files in stage.reads.items() if not files]
        for stage in run.stages
        if stage.kind == "train"
    }
    return {
        name: [run.inputs[name][role].stage for role in roles]
        for name, roles in unread.items()
        if roles
    }


def snapshots_of(run: FakeRun) -> dict[str, tuple[int | str, ...]]:
    return {stage.name: stage.snapshots for stage in run.stages if stage.snapshots}


def played(*entries: Iteration) -> FakeRun:
    run = FakeRun()
    build(run, replace_plan(replayed(), *entries))
    return run


def epochs_only(number: int | str, replay: Any = "back") -> Iteration:
    return Iteration(name=f"{number} epochs", change={"epochs": number}, replay=replay)


def test_fewer_epochs_begin_in_the_overfitting_model_and_nothing_else_begins_elsewhere() -> None:
    run = FakeRun()
    build(run, replayed())
    assert beginnings_of(run) == {"iteration_1": ["overfitting"]}
    assert snapshots_of(run) == {"overfitting": (11,)}
    (stage,) = (stage for stage in run.stages if stage.name == "iteration_1")
    assert stage.reads == {"arrays": ("train", "validation", "facts"), "overfitting": ()}


def test_where_a_training_may_begin_is_no_part_of_its_key() -> None:
    run = FakeRun()
    build(run, replayed())
    begun = next(stage for stage in run.stages if stage.name == "iteration_1")
    arrays, splits = run.inputs["iteration_1"]["arrays"], begun.reads["arrays"]
    assert isinstance(arrays, Record)
    files = {name: StoredFile(f"{name}.npz", "1" * 64, 1, "npz", {}) for name in splits}
    given: dict[str, Outcome] = {"arrays": replace(arrays, files=files)}
    key = key_of(begun, given, PROFILE)[0]
    for other in ("overfitting", "baseline"):
        beginning = {"overfitting": run.inputs[f"test_{other}"]["model"]}
        assert key_of(begun, given | beginning, PROFILE)[0] == key
    alone = replace(begun, reads={"arrays": splits}, snapshots=(3,))
    assert key_of(alone, given, PROFILE)[0] == key


def test_other_epochs_later_in_the_plan_begin_in_all_that_are_the_same_but_for_them() -> None:
    drop = Iteration(name="dropout", change={"dropout": 0.5}, replay="forward")
    lost = Iteration(name="l2", change={"l2": 0.5}, replay="back")
    run = played(drop, lost, epochs_only(20), epochs_only(90, "forward"), epochs_only(5))
    assert beginnings_of(run) == {
        "iteration_3": ["iteration_1"],
        "iteration_4": ["iteration_1", "iteration_3"],
        "iteration_5": ["iteration_1", "iteration_3", "iteration_4"],
    }
    assert snapshots_of(run) == {
        "iteration_1": (5, 20, 90),
        "iteration_3": (5, 90),
        "iteration_4": (5,),
    }


def test_a_change_that_is_taken_back_begins_in_what_was_there_before() -> None:
    more = Iteration(name="more", change={"dropout": 0.5, "epochs": 30}, replay="forward")
    less = Iteration(name="less", change={"dropout": 0.0}, replay="forward")
    run = played(more, less)
    assert beginnings_of(run) == {"iteration_2": ["overfitting"]}
    assert snapshots_of(run) == {"overfitting": (30,)}


def test_where_the_gates_decide_snapshots_are_left_for_whatever_they_may_decide() -> None:
    run = FakeRun()
    drop = Iteration(name="dropout", change={"dropout": 0.5})
    plan = replace_plan(replayed(rule="validation"), epochs_only(5), drop, epochs_only(90))
    build(run, plan)
    # DECISIONS has the first kept and the second not; before it is decided both may be.
    assert snapshots_of(run) == {
        "overfitting": (5, 90),
        "iteration_1": (90,),
        "iteration_2": (90,),
    }
    assert beginnings_of(run) == {
        "iteration_1": ["overfitting"],
        "iteration_3": ["overfitting", "iteration_1"],
    }


def test_any_model_may_be_the_beginning_of_a_later_one() -> None:
    baseline = NOTEBOOK.baseline.model_dump()
    dense = {name: baseline[name] for name in ("filters", "kernel_sizes", "pooled", "dense")}
    again = Iteration(
        name="the baseline, longer",
        change=dense | {"epochs": 9, "batch_size": baseline["batch_size"]},
        replay="back",
    )
    run = played(again)
    assert beginnings_of(run) == {"iteration_1": ["baseline"]}
    assert snapshots_of(run) == {"baseline": (9,)}


def test_a_long_plan_is_looked_through_in_a_moment() -> None:
    entries = [
        Iteration(name=f"rate {number}", change={"learning_rate": 0.01 / number})
        for number in range(1, 13)
    ]
    entries += [
        Iteration(name=f"units {number}", change={"dense": (number,)}) for number in range(1, 13)
    ]
    run = FakeRun()
    build(run, replace_plan(replayed(rule="validation"), *entries, epochs_only(5)))
    assert snapshots_of(run)["overfitting"] == (5,)


def test_epochs_that_come_with_another_change_begin_nowhere() -> None:
    both = Iteration(name="both", change={"epochs": 5, "dropout": 0.5}, replay="back")
    run = played(both)
    assert beginnings_of(run) == {}
    assert snapshots_of(run) == {}


def test_a_change_back_to_what_is_there_begins_in_it_too() -> None:
    same = Iteration(name="same", change={"epochs": 7, "dropout": 0.0}, replay="back")
    assert beginnings_of(played(same)) == {"iteration_1": ["overfitting"]}


def test_the_epoch_of_the_lowest_validation_loss_is_kept_as_such() -> None:
    run = played(epochs_only("lowest_validation_loss"))
    assert beginnings_of(run) == {"iteration_1": ["overfitting"]}
    assert snapshots_of(run) == {"overfitting": ("lowest_validation_loss",)}


# An empty store


def test_on_an_empty_store_the_gates_are_open(tmp_path: Path) -> None:
    settings = compose(values={"dataset": "synthetic", "rule": "validation"})
    planned = plan(Store(str(tmp_path)), settings, PROFILE)
    assert [item.stage for item in planned] == stage_names(settings)
    first = planned[0]
    assert (first.stage, first.state) == ("load", WILL_RUN)
    assert first.reason == "not computed yet with these settings, inputs and code"
    found = states(planned)
    assert {found[name] for name in ("overfitting", "vgg16_frozen", "gate_1")} == {WILL_RUN}
    unseen = [name for name, state in found.items() if state == OPEN]
    assert unseen[:3] == ["iteration_2", "curves_iteration_2", "gate_2"]
    assert {"final", "test_baseline", "test_final", "results", "figures"} <= set(unseen)
    assert set(found.values()) == {WILL_RUN, OPEN}
    assert {item.reason for item in planned if item.state == OPEN} == {"depends on iteration_1"}
    assert not any(tmp_path.iterdir()), "planning writes nothing"


def test_a_replayed_plan_leaves_nothing_open(tmp_path: Path) -> None:
    planned = plan(Store(str(tmp_path)), replayed(), PROFILE)
    assert {item.state for item in planned} == {WILL_RUN}
    why = {item.stage: item.reason for item in planned}
    assert why["preprocess"] == "after subset"
    assert why["gate_1"] == "after overfitting"
    assert why["test_final"] == "after final"


def test_an_epoch_that_is_not_known_yet_is_open(tmp_path: Path) -> None:
    lowest = Iteration(name="x", change={"epochs": "lowest_validation_loss"}, replay="back")
    planned = plan(Store(str(tmp_path)), replace_plan(replayed(), lowest), PROFILE)
    assert states(planned)["overfitting"] == WILL_RUN
    assert {"iteration_1", "final"} <= in_state(planned, OPEN)
    assert {item.reason for item in planned if item.state == OPEN} == {"depends on overfitting"}


# A full store


def test_everything_is_cached(filled: Store) -> None:
    planned = plan(filled, replayed(), PROFILE)
    assert not_cached(filled, replayed()) == set()
    assert all(item.record and item.reason == f"record {item.record.key[:16]}" for item in planned)


def test_made_up_decisions_are_followed_where_they_are_cached(tmp_path: Path) -> None:
    settings = compose(values=REPLAY | {"rule": "validation"})
    store = Store(str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _descriptor: None)
        build(FillingRun(store, settings), settings)
    assert not_cached(store, settings) == set()
    gate = next(item for item in plan(store, settings, PROFILE) if item.stage == "gate_4")
    assert gate.record is not None
    (store.root / "stages/gate_4" / gate.record.key[:16] / "record.json").unlink()
    planned = plan(store, settings, PROFILE)
    assert in_state(planned, WILL_RUN) == {"gate_4"}
    assert states(planned)["iteration_4"] == CACHED
    assert {"iteration_5", "results"} <= in_state(planned, OPEN)
    assert {item.reason for item in planned if item.state == OPEN} == {"depends on iteration_4"}


def drawn(models: Iterable[str]) -> set[str]:
    """The stages that draw the curves of these models."""
    return {f"curves_{model}" for model in models}


MODELS = {model.name for model in recipe_models(replayed())}
TESTS = {f"test_{model}" for model in MODELS}
ITERATIONS = {f"iteration_{number}" for number in range(1, 10)}
GATES = {f"gate_{number}" for number in range(1, 10)}
SHOWN = {"results", "quality", "figures"}
TABLES = SHOWN | {"selection", "success"}
TRANSFER = {"vgg16_block4", "vgg16_block5", "vgg16_frozen", "vgg16_fine_tuned"}
TRANSFER_TESTS = {"test_vgg16_frozen", "test_vgg16_fine_tuned"}
CORRECTED = {f"{name}_corrected" for name in TRANSFER}
CORRECTED_TESTS = {f"{name}_corrected" for name in TRANSFER_TESTS}
AFTER_ARRAYS = MODELS | drawn(MODELS) | GATES | TRANSFER | CORRECTED | TESTS | TABLES
TUNED = {"vgg16_fine_tuned_corrected"}
SEARCH = {"overfitting", "final"} | ITERATIONS
SEEDED = MODELS | {"vgg16_weights", "results", "selection", "quality", "figures"}


# What only may run is named with the inputs that have to run first, the nearest one first.
@pytest.mark.parametrize(
    ("assignment", "surely", "perhaps"),
    [
        ("execution.workers=7", set(), set()),
        ("subset.seed=0", set(), set()),
        (
            "baseline.epochs=4",
            {"baseline"},
            {"curves_baseline", "test_baseline", "success"} | SHOWN,
        ),
        (
            "low_capacity.batch_size=64",
            {"low_capacity"},
            {"curves_low_capacity", "test_low_capacity"} | SHOWN,
        ),
        # Each iteration has the epochs of iteration 1, so only the first gate sees another model.
        (
            "overfitting.epochs=39",
            {"overfitting"},
            {"gate_1", "curves_overfitting", "test_overfitting", "selection"} | SHOWN,
        ),
        (
            "overfitting.learning_rate=0.01",
            SEARCH,
            {f"test_{name}" for name in SEARCH} | drawn(SEARCH) | GATES | TABLES,
        ),
        # The layers below the last block see other pixels; those above may find the same outputs.
        (
            "transfer.corrected.side=48",
            CORRECTED - TUNED | CORRECTED_TESTS,
            TUNED | drawn(CORRECTED & MODELS) | SHOWN,
        ),
        (
            "transfer.as_notebook.epochs=3",
            {"vgg16_frozen"},
            {"vgg16_fine_tuned"} | drawn(TRANSFER & MODELS) | TRANSFER_TESTS | SHOWN,
        ),
        ("subset.test=1999", {"subset"}, {"guard", "look", "preprocess"} | AFTER_ARRAYS),
        ("subset.method=slices", {"subset"}, {"guard", "look", "preprocess"} | AFTER_ARRAYS),
        (
            "synthetic.seed=1",
            {"load"},
            {"explore", "subset", "guard", "look", "preprocess"} | AFTER_ARRAYS,
        ),
        ("seed=1", SEEDED, AFTER_ARRAYS - SEEDED),
    ],
)
def test_one_setting_changes_its_stage_and_what_depends_on_it(
    filled: Store, assignment: str, surely: set[str], perhaps: set[str]
) -> None:
    planned = plan(filled, replayed(assignment), PROFILE)
    assert in_state(planned, WILL_RUN) == surely
    assert in_state(planned, MAY_RUN) == perhaps
    assert in_state(planned, CACHED) == set(stage_names(replayed())) - surely - perhaps


@pytest.mark.parametrize("assignment", ["baseline.epochs=4", "subset.test=1999", "seed=1"])
def test_what_may_run_is_said_with_the_first_input_that_is_not_known(
    filled: Store, assignment: str
) -> None:
    planned = {item.stage: item for item in plan(filled, replayed(assignment), PROFILE)}
    run = FakeRun()
    build(run, replayed(assignment))
    for stage in run.stages:
        item = planned[stage.name]
        read = [run.inputs[stage.name][role].stage for role, names in stage.reads.items() if names]
        unknown = [name for name in read if planned[name].state != CACHED]
        if item.state == MAY_RUN:
            more = " or another input" if len(unknown) > 1 else ""
            assert item.reason == f"if {unknown[0]}{more} changed"
        elif item.state == CACHED:
            assert unknown == []


def test_more_replicates_train_only_the_new_ones_and_fewer_train_none(tmp_path: Path) -> None:
    def repeated(times: int) -> Settings:
        return replayed(f"evaluation.replicates={times}", "plan=[]", "transfer.weights=off")

    store = filled_store(tmp_path, repeated(3))
    models = ("baseline", "low_capacity", "overfitting", "final")
    trainings = {f"{name}_r{number}" for name in models for number in (4, 5)}
    more = not_cached(store, repeated(5))
    assert {name for name in more if name.startswith(models)} == trainings
    build(FillingRun(store, repeated(5)), repeated(5))
    assert not_cached(store, repeated(5)) == set()
    # All trainings are there, but a table of five is not one of two.
    fewer = plan(store, repeated(2), PROFILE)
    anew = {"results", "success", "quality", "figures"}
    anew |= {f"curves_{name}" for name in models}
    assert in_state(fewer, CACHED) == {item.stage for item in fewer} - anew
    why = {item.stage: item.reason for item in fewer}
    assert all(why[name] for name in anew)
    assert not {name for name in why if name.endswith(("_r3", "_r4", "_r5"))}


def test_another_rule_changes_the_gates_and_opens_what_follows(filled: Store) -> None:
    planned = plan(filled, replayed(rule="validation"), PROFILE)
    assert in_state(planned, WILL_RUN) == {"gate_1"}
    later = (ITERATIONS - {"iteration_1"}) | (GATES - {"gate_1"})
    after = drawn(later & MODELS | {"final"})
    assert in_state(planned, OPEN) == later | {"final"} | after | TESTS | TABLES
    assert {item.reason for item in planned if item.state == OPEN} == {"depends on iteration_1"}


def test_another_hypothesis_changes_nothing(filled: Store) -> None:
    entries = [
        entry.model_copy(
            update={"hypothesis": f"hypothesis {number}", "evidence": f"evidence {number}"}
        )
        for number, entry in enumerate(replayed().plan)
    ]
    assert not_cached(filled, replace_plan(replayed(), *entries)) == set()


def test_another_name_of_a_change_is_drawn_and_changes_nothing_else(filled: Store) -> None:
    entries = [
        entry.model_copy(update={"name": f"n {number}"})
        for number, entry in enumerate(replayed().plan)
    ]
    assert not_cached(filled, replace_plan(replayed(), *entries)) == {"figures"}


def test_one_iteration_s_change_reaches_those_that_build_on_it(filled: Store) -> None:
    def with_change(number: int, change: dict[str, Any]) -> Settings:
        entries = list(replayed().plan)
        entries[number - 1] = entries[number - 1].model_copy(update={"change": change})
        return replace_plan(replayed(), *entries)

    # Rolled back, so nothing builds on it.
    four = {"iteration_4", "curves_iteration_4", "gate_4", "test_iteration_4", "selection"}
    assert not_cached(filled, with_change(4, {"l2": 0.01})) == four | SHOWN
    # Kept, so everything later builds on it.
    later = {f"iteration_{number}" for number in (7, 8, 9)} | {"final"}
    gates = {"gate_7", "gate_8", "gate_9"}
    tests = {f"test_{name}" for name in later}
    assert (
        not_cached(filled, with_change(7, {"kernel_sizes": [5, 3, 3]}))
        == later | drawn(later) | gates | tests | TABLES
    )


def test_another_profile_changes_the_numerical_stages(filled: Store) -> None:
    planned = plan(filled, replayed(), PROFILE | {"threads": 1})
    cached = {item.stage for item in planned if item.state == CACHED}
    assert cached == {"load", "explore", "subset", "guard", "look", "preprocess", "vgg16_weights"}


@pytest.mark.parametrize(
    ("stage", "file", "said", "dependent"),
    [
        ("subset", "test.bin", "test is missing", "preprocess"),
        ("iteration_8", "model.bin", "model is missing", "gate_8"),
        ("results", "results.bin", "results is missing", "figures"),
    ],
)
def test_a_deleted_file_is_noticed(
    filled: Store, stage: str, file: str, said: str, dependent: str
) -> None:
    (path,) = (on_disk(filled.root) / "stages" / stage).glob(f"*/{file}")
    content = path.read_bytes()
    path.unlink()
    try:
        found = {item.stage: item for item in plan(filled, replayed(), PROFILE)}
    finally:
        path.write_bytes(content)
    assert found[stage].state == WILL_RUN
    assert found[stage].reason.startswith(said)
    assert (found[dependent].state, found[dependent].reason) == (MAY_RUN, f"if {stage} changed")
    assert found["load"].state == CACHED
    assert not_cached(filled, replayed()) == set()


# Why


def planned_stage(store: Store, name: str, *assignments: str, **profile: Any) -> Planned:
    planned = plan(store, replayed(*assignments), PROFILE | profile)
    return next(item for item in planned if item.stage == name)


def test_a_setting_is_said_from_what_it_was_to_what_it_is(filled: Store) -> None:
    found = planned_stage(filled, "baseline", "baseline.epochs=3", "baseline.dropout=0.5")
    assert found.reason == "training.dropout 0.0 \u2192 0.5; training.epochs 5 \u2192 3"
    found = planned_stage(filled, "vgg16_frozen", "transfer.as_notebook.dense=8", "seed=4")
    assert found.reason == "head.dense 256 \u2192 8; seed 0 \u2192 4"


def test_another_profile_is_said_of_the_numerical_stages(filled: Store) -> None:
    assert planned_stage(filled, "baseline", threads=1).reason == "threads 1 instead of 2"
    assert planned_stage(filled, "load", threads=1).state == CACHED


def test_another_library_is_said_of_the_other_stages(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = library_versions("tasks.stages.load", None)
    monkeypatch.setattr(keys, "library_versions", lambda *_stage: versions | {"numpy": "0.1"})
    found = planned_stage(filled, "load")
    assert (found.state, found.reason) == (WILL_RUN, f"numpy {versions['numpy']} \u2192 0.1")


def test_the_modules_that_changed_are_named(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def code_of(module: str) -> dict[str, str]:
        found = real_code_of(module)
        edited = {"tasks.core.data.idx": "edited"} if "tasks.core.data.idx" in found else {}
        return found | edited | ({"tasks.core.new": "1"} if module == "tasks.stages.load" else {})

    monkeypatch.setattr(keys, "code_of", code_of)
    reason = planned_stage(filled, "load").reason
    assert reason == "code of tasks.core.data.idx changed; code of tasks.core.new was added"
    assert planned_stage(filled, "explore").state == MAY_RUN


def test_another_store_format_is_said(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "FORMAT_VERSION", 7)
    assert planned_stage(filled, "load").reason == "store format 1 \u2192 7"
    planned = plan(filled, replayed(), PROFILE)
    assert in_state(planned, WILL_RUN) == set(stage_names(replayed()))


def test_another_file_from_outside_is_said(tmp_path: Path) -> None:
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"first")
    settings = replayed("transfer.weights=imagenet", f"transfer.weights_file={weights}")
    store = Store(str(tmp_path / "store"))
    build(FillingRun(store, settings), settings)
    assert not_cached(store, settings) == set()
    weights.write_bytes(b"second")
    found = {item.stage: item for item in plan(store, settings, PROFILE)}
    assert found["vgg16_weights"].reason == "an external file changed"
    assert found["vgg16_block4"].reason == "if vgg16_weights changed"
    assert in_state(list(found.values()), WILL_RUN) == {"vgg16_weights"}


def test_an_input_that_came_out_otherwise_is_named(tmp_path: Path) -> None:
    settings = replayed()
    store = Store(str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _descriptor: None)
        build(FillingRun(store, settings), settings)
    record = planned_stage(store, "vgg16_weights").record
    assert record is not None
    stage = Stage("vgg16_weights", Vgg16WeightsSpec(**record.basis["settings"]))
    outputs = store.writer(stage, record.key, record.basis)
    outputs.blob("weights", "bin", b"other weights")
    store.commit(outputs, record.facts)
    said = {item.stage: item.reason for item in plan(store, settings, PROFILE)}
    assert said["vgg16_weights"] == f"record {record.key[:16]}"
    assert said["vgg16_block4"] == "vgg16_weights changed"
    planned = plan(store, settings, PROFILE)
    reads_weights = {"vgg16_block4", "vgg16_block5", "vgg16_frozen"}
    reads_weights |= {f"{name}_corrected" for name in reads_weights}
    assert in_state(planned, WILL_RUN) == reads_weights
    assert not {"overfitting", "load"} & not_cached(store, settings)


def loaded(store: Store, settings: Settings) -> Record:
    stage = stages.load(settings)
    key, stands_for = key_of(stage, {}, PROFILE)
    outputs = store.writer(stage, key, stands_for)
    for name in ("train", "test"):
        outputs.blob(name, "bin", name.encode())
    return store.commit(outputs, {})


def test_the_closest_record_is_compared_and_its_time_is_shown(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    run = RunLog(store, "20260101-000000-001")
    run.begin({}, PROFILE, None)
    for number, seed in enumerate((1, 2, 1, 3), start=1):
        record = loaded(store, replayed(f"synthetic.seed={seed}"))
        run.stage(record, "completed", now(), float(number), resumed_after=number)
        run.stage(record, "cached", now())

    def load(*assignments: str) -> Planned:
        return planned_stage(store, "load", *assignments)

    assert (load("synthetic.seed=2").state, load("synthetic.seed=2").last["seconds"]) == (CACHED, 2)
    # Of what was computed twice, the last time.
    assert load("synthetic.seed=1").last["seconds"] == 3
    assert load("synthetic.seed=1").last["resumed_after"] == 3
    near = load("synthetic.seed=3", "synthetic.train=7")
    assert (near.reason, near.last["seconds"]) == ("synthetic.train 60000 \u2192 7", 4)
    assert planned_stage(store, "subset").last == {}


def test_what_was_never_done_comes_after_its_first_unknown_input(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    loaded(store, replayed())
    said = {item.stage: item for item in plan(store, replayed(), PROFILE)}
    assert said["load"].state == CACHED
    assert (said["subset"].state, said["preprocess"].state) == (WILL_RUN, WILL_RUN)
    assert said["subset"].reason == "not computed yet with these settings, inputs and code"
    assert said["preprocess"].reason == "after subset"
    assert said["results"].reason == "after baseline"


def test_planning_with_only_stops_where_all_is_known(filled: Store) -> None:
    wanted = StageSelection(only=frozenset({"baseline", "explore"}))
    run = PlannedRun(filled, PROFILE, wanted)
    with pytest.raises(Enough):
        build(run, replayed())
    assert list(run.planned) == [
        "load",
        "explore",
        "subset",
        "guard",
        "look",
        "preprocess",
        "baseline",
    ]


def test_what_a_stage_needs_is_what_it_is_given_and_what_it_comes_after(filled: Store) -> None:
    run = FakeRun()
    build(run, replayed())
    for item in plan(filled, replayed(), PROFILE):
        given = [outcome.stage for outcome in run.inputs[item.stage].values()]
        assert item.needs == (*given, *run.after[item.stage])


# Weight


def modules_after(code: str, *arguments: str, status: int = 0) -> tuple[set[str], str]:
    """The top-level modules that a new process has imported after `code`, and what it printed."""
    tail = (
        "\nimport json, sys\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + tail, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, modules = done.stdout.splitlines()
    assert f"status {status}" in printed
    return set(json.loads(modules)), "\n".join(printed) + done.stderr


COMMAND = """
from flows.cli.app import main
print("status", main())
"""
HEAVY = {"prefect", "tensorflow", "keras", "torch", "matplotlib"}


# The columns that `results` shows; `tasks.stages.results` itself would import Prefect.
ROW = {
    "name": "final",
    "params": 1845066,
    "epochs": 11,
    "val_accuracy": None,
    "test_loss": 0.5,
    "test_accuracy": 0.875,
    "notebook_test_accuracy": None,
    "trainings": 1,
    "state": None,
}


@pytest.fixture(scope="module")
def with_a_run(filled: Store) -> Store:
    """The full store with a finished run whose table of results can be shown."""
    run = RunLog(filled, "20260101-000000-001")
    run.begin(replayed().model_dump(mode="json"), PROFILE, None)
    stage = Stage("results", spec_of("results"))
    outputs = filled.writer(stage, "d" * 64, basis())
    outputs.table("results", pa.Table.from_pylist([ROW]))
    record = filled.commit(outputs, {})
    run.stage(record, "completed", now(), 1.0)
    run.end(DONE)
    return filled


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--help"], 0, "Usage"),
        (["plan", "--rule", "notebook", "--dataset", "synthetic"], 0, "iteration_1"),
        (["results"], 0, "87.50"),
        (["runs"], 0, "20260101-000000-001"),
        (["results", "--json", "--run", "unknown"], 2, "no run 'unknown'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_looking_imports_neither_prefect_nor_tensorflow(
    with_a_run: Store, arguments: list[str], status: int, shown: str
) -> None:
    place = [] if "--help" in arguments else ["--store", str(with_a_run.root)]
    modules, printed = modules_after(COMMAND, *arguments, *place, status=status)
    assert shown in printed
    assert "flows" in modules
    assert not modules & HEAVY
    if "plan" in arguments:
        assert "pyarrow" not in modules


def transfer_stages(*assignments: str) -> tuple[list[str], FakeRun]:
    settings = replayed(*assignments)
    run = FakeRun()
    build(run, settings)
    made = [stage.name for stage in run.stages if stage.name.startswith("vgg16")]
    named = [name for name in stage_names(settings) if name.startswith("vgg16")]
    assert made == named
    return made, run


def samples_read(run: FakeRun) -> dict[str, str]:
    """The stages whose images the figures show; each begins at the images, so it keeps them."""
    made = {stage.name: stage for stage in run.stages}
    figures = made["figures"]
    read = {name for name, files in figures.reads.items() if "input_samples" in files}
    assert read == set(figures.spec.as_json()["vgg16_inputs"])
    assert {made[name].spec.as_json()["after"] for name in read} == {None}
    found: dict[str, str] = figures.spec.as_json()["vgg16_inputs"]
    return found


def test_both_ways_of_transfer_share_the_weights_and_nothing_else() -> None:
    made, run = transfer_stages()
    assert samples_read(run) == {
        "vgg16_block4": "as_notebook",
        "vgg16_block4_corrected": "corrected",
    }
    assert made == [
        "vgg16_weights",
        *("vgg16_block4", "vgg16_block5", "vgg16_frozen", "vgg16_fine_tuned"),
        *("vgg16_block4_corrected", "vgg16_block5_corrected"),
        *("vgg16_frozen_corrected", "vgg16_fine_tuned_corrected"),
    ]


def test_one_way_of_transfer_may_be_gone_alone() -> None:
    made, _ = transfer_stages("transfer.variant=as_notebook")
    assert set(made) == TRANSFER | {"vgg16_weights"}
    made, run = transfer_stages("transfer.variant=corrected")
    assert set(made) == CORRECTED | {"vgg16_weights"}
    assert samples_read(run) == {"vgg16_block4_corrected": "corrected"}


@pytest.mark.parametrize(
    ("features", "own", "head", "tuning"),
    [
        ("block5_pool", set(), "vgg16_block5", "vgg16_block4"),
        ("block4_pool", {"vgg16_block3_corrected"}, "vgg16_block4", "vgg16_block3_corrected"),
        (
            "block3_pool",
            {"vgg16_block2_corrected", "vgg16_block3_corrected"},
            "vgg16_block3_corrected",
            "vgg16_block2_corrected",
        ),
    ],
)
def test_outputs_of_one_layer_for_one_input_are_computed_once(
    features: str, own: set[str], head: str, tuning: str
) -> None:
    """Two ways that give VGG16 the same pixels share the layers that both need."""
    made, run = transfer_stages(
        "transfer.corrected.preprocessing=raw",
        "transfer.corrected.side=32",
        f"transfer.corrected.features={features}",
    )
    notebooks = TRANSFER | {"vgg16_weights"}
    assert set(made) == notebooks | own | {"vgg16_frozen_corrected", "vgg16_fine_tuned_corrected"}
    assert run.inputs["vgg16_frozen_corrected"]["features"].stage == head
    assert run.inputs["vgg16_fine_tuned_corrected"]["features"].stage == tuning
    stages_made = {stage.name: stage for stage in run.stages}
    for name in own:
        after = stages_made[name].spec.as_json()["after"]
        below = f"vgg16_{after.removesuffix('_pool')}_corrected" if after else "preprocess"
        assert run.inputs[name]["source"].stage == below
    assert samples_read(run) == {"vgg16_block4": "as_notebook"}


def test_the_second_way_may_go_on_where_the_first_one_ended() -> None:
    made, run = transfer_stages(
        "transfer.corrected.preprocessing=raw",
        "transfer.corrected.side=32",
        "transfer.as_notebook.features=block4_pool",
    )
    assert made == [
        *("vgg16_weights", "vgg16_block3", "vgg16_block4", "vgg16_frozen", "vgg16_fine_tuned"),
        *("vgg16_block5_corrected", "vgg16_frozen_corrected", "vgg16_fine_tuned_corrected"),
    ]
    assert run.inputs["vgg16_block5_corrected"]["source"].stage == "vgg16_block4"
    assert samples_read(run) == {"vgg16_block3": "as_notebook"}
