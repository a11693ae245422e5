"""The gate between the winner of step 7 and transfer: when there is one, and what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.planning.costs import estimated
from flows.planning.plan import plan
from flows.recipe.contents import build, recipe_models, stage_names
from flows.recipe.settle import rule_words, settled
from tasks.core.names import TRANSFER_GATE
from tasks.core.records import Outcome, Record
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import (
    DecideSpec,
    EvaluateSpec,
    FiguresSpec,
    LabelCheckSpec,
    ResultsSpec,
    RetrainSpec,
    SelectionSpec,
    Vgg16TrainSpec,
)
from tasks.core.transfer_specs import Vgg16RetrainSpec
from tasks.storage.store import Store
from tests.wiring import Wired, Wiring

PLAN = [
    {"name": "dropout", "change": {"dropout": 0.25}, "replay": "forward"},
    {"name": "fewer epochs", "change": {"epochs": 1}, "replay": "forward"},
]
REQUIRED = {"weights": "required"}
FOLDS = {"protocol": "kfold", "folds": 2, "replicates": 2}
SUFFIXES = ("_f1", "_f2", "_f1_r2", "_f2_r2")
# As in docs/architecture.md: without the gate, keys of these stages must not change.
ORDINARY_SPEC = {
    "training", "preprocessing", "after", "seed", "head", "class_weight",
}  # fmt: skip


class Decided(Wiring):
    """A recipe whose gates decide as they are told; `asked` are the gates that were waited for."""

    def __init__(self, **decisions: str) -> None:
        super().__init__()
        self.decisions = decisions
        self.asked: list[str] = []

    def value(self, handle: Wired) -> Outcome:
        self.asked.append(handle.stage)
        facts = {"decision": self.decisions.get(handle.stage, "forward")}
        return Record(handle.stage, handle.definition.kind, "", {}, facts, {})


def settings(**values: Any) -> Settings:
    given: dict[str, Any] = {"dataset": "synthetic", "plan": PLAN, "rule": "validation"}
    return Settings.model_validate(given | {"transfer": REQUIRED} | values)


def wired(run: Wiring | None = None, **values: Any) -> dict[str, Wired]:
    made: dict[str, Wired] = build(run or Decided(), settings(**values))
    return made


def spec(made: dict[str, Wired], name: str) -> Any:
    return made[name].definition.spec


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        ({"weights": "imagenet"}, False),
        ({"weights": "random"}, False),
        ({"weights": "off"}, False),
        ({"weights": "required"}, True),
        ({"weights_file": "weights.h5"}, True),
    ],
    ids=str,
)
def test_transfer_competes_only_with_weights_that_the_run_can_t_do_without(
    transfer: dict[str, str], expected: bool
) -> None:
    chosen = settings(transfer=transfer)
    assert (TRANSFER_GATE in stage_names(chosen)) is expected
    assert chosen.change_names[2:] == (("transfer learning",) if expected else ())


def test_without_the_gate_nothing_knows_of_it() -> None:
    """The same stages with the same settings as before there was such a gate."""
    made = wired(transfer={"weights": "imagenet"}, evaluation=FOLDS)
    assert TRANSFER_GATE not in made
    assert {name for name in made if name.startswith("vgg16_frozen")} == {
        "vgg16_frozen",
        "vgg16_frozen_corrected",
    }
    trainings = [spec(made, name) for name in made if isinstance(spec(made, name), Vgg16TrainSpec)]
    assert len(trainings) == 4
    for training in trainings:
        assert set(training.as_json()) == ORDINARY_SPEC
        assert training.seed == 0
    assert spec(made, "gate_1").level == pytest.approx(0.05 / 2)
    assert isinstance(spec(made, "final"), RetrainSpec)


def test_stages_that_no_gate_reaches_are_the_same_with_it() -> None:
    with_it, without = wired(), wired(transfer={"weights": "imagenet"})
    for name in ("preprocess", "baseline", "iteration_2", "vgg16_block5", "vgg16_frozen_corrected"):
        assert with_it[name].definition == without[name].definition, name


def test_the_last_variant_s_fine_tuned_model_competes_with_the_survivor() -> None:
    run = Decided(gate_2="back", gate_transfer="back")
    made = wired(run)
    found = spec(made, TRANSFER_GATE)
    assert isinstance(found, DecideSpec)
    assert (found.incumbent, found.candidate) == ("iteration_1", "vgg16_fine_tuned_corrected")
    assert (found.gate, found.rule, found.metric) == (3, "validation", "accuracy")
    inputs = {role: given.stage for role, given in made[TRANSFER_GATE].inputs.items()}
    assert inputs == {"incumbent": "iteration_1", "candidate": "vgg16_fine_tuned_corrected"}
    assert run.asked[-1] == TRANSFER_GATE
    assert spec(wired(transfer=REQUIRED | {"variant": "as_notebook"}), TRANSFER_GATE).candidate == (
        "vgg16_fine_tuned"
    )


def test_each_level_counts_the_last_gate() -> None:
    made = wired(rule="significant", evaluation={"replicates": 3})
    for gate in ("gate_1", "gate_2", TRANSFER_GATE):
        assert spec(made, gate).level == pytest.approx(0.05 / 3)


def test_the_model_that_competes_has_the_run_s_seeds_and_folds() -> None:
    """All trainings share the features, which depend on no seed."""
    made = wired(evaluation=FOLDS)
    seeds = set()
    for suffix in SUFFIXES:
        for name in ("vgg16_frozen_corrected", "vgg16_fine_tuned"):
            training, ours = made[name + suffix], spec(made, f"baseline{suffix}")
            assert (spec(made, name + suffix).seed, spec(made, name + suffix).fold) == (
                ours.seed,
                ours.fold,
            )
            folds = "folds_r2" if suffix.endswith("_r2") else "folds"
            assert training.inputs["folds"].stage == folds
            assert training.definition.reads["folds"] == ("folds",)
        seeds.add(spec(made, f"vgg16_frozen{suffix}").seed)
        start = made[f"vgg16_fine_tuned_corrected{suffix}"].inputs["start"]
        assert start.stage == f"vgg16_frozen_corrected{suffix}"
    assert len(seeds) == 4
    assert len([name for name in made if name.startswith("vgg16_block")]) == 4
    assert set(spec(made, TRANSFER_GATE).trainings) == set(SUFFIXES)
    curves = made["curves_vgg16_frozen"].inputs
    assert set(curves) == {f"vgg16_frozen{suffix}" for suffix in SUFFIXES}


@pytest.mark.parametrize("evaluation", [{}, {"replicates": 2}, FOLDS], ids=str)
@pytest.mark.parametrize("plan", [PLAN, []], ids=["two changes", "no change"])
@pytest.mark.parametrize("decision", ["forward", "back"])
def test_the_names_of_all_stages_are_known_before_the_gate_decides(
    evaluation: dict[str, Any], plan: list[Any], decision: str
) -> None:
    run = Decided(gate_transfer=decision)
    made = wired(run, evaluation=evaluation, plan=plan)
    chosen = settings(evaluation=evaluation, plan=plan)
    assert sorted(item.stage for item in run.taken) == sorted(stage_names(chosen)) == sorted(made)
    assert "selection" in made


def test_if_transfer_wins_the_final_model_is_trained_in_both_phases_on_all_images() -> None:
    made = wired(evaluation={"replicates": 2})
    for name, ours in (("final", "baseline"), ("final_r2", "baseline_r2")):
        found = spec(made, name)
        assert isinstance(found, Vgg16RetrainSpec)
        assert found.training == settings().transfer.corrected
        assert found.seed == spec(made, ours).seed
        inputs = {role: given.stage for role, given in made[name].inputs.items()}
        assert inputs == {
            "features": "vgg16_block4_corrected",
            "head_features": "vgg16_block5_corrected",
            "weights": "vgg16_weights",
        }
        tested = spec(made, f"test_{name}")
        assert isinstance(tested, EvaluateSpec)
        assert tested.vgg16_input is not None
        assert (tested.vgg16_input.side, tested.vgg16_input.preprocessing) == (64, "vgg16")
    assert set(made["curves_final"].inputs) == {"final", "final_r2"}


def test_the_final_model_of_the_notebook_s_variant_has_its_loss() -> None:
    made = wired(transfer=REQUIRED | {"variant": "as_notebook"})
    assert spec(made, "test_final").loss == "binary_crossentropy"
    assert spec(made, "curves_final").binary


def test_if_transfer_loses_the_final_model_is_the_one_of_step_7() -> None:
    made = wired(Decided(gate_transfer="back"))
    final = spec(made, "final")
    assert isinstance(final, RetrainSpec)
    assert (final.training.dropout, final.training.epochs) == (0.25, 1)
    assert spec(made, "test_final").vgg16_input is None
    assert spec(made, "test_final").loss == "categorical_crossentropy"
    assert not spec(made, "curves_final").binary


def test_labels_are_checked_by_the_model_that_survived_the_last_gate() -> None:
    for decision, name in (("forward", "vgg16_fine_tuned_corrected"), ("back", "iteration_2")):
        made = wired(Decided(gate_transfer=decision), evaluation=FOLDS)
        found = spec(made, "label_check")
        assert isinstance(found, LabelCheckSpec)
        assert found.model.name == name
        assert {training.stage for training in found.model.trainings} == {
            f"{name}{suffix}" for suffix in SUFFIXES
        }


@pytest.mark.parametrize("rule", ["notebook", "replay"])
def test_where_decisions_are_replayed_transfer_stays_out_and_nothing_waits(rule: str) -> None:
    run = Decided()
    made = wired(run, rule=rule)
    assert run.asked == []
    found = spec(made, TRANSFER_GATE)
    assert (found.replay, found.forced) == ("back", None)
    assert isinstance(spec(made, "final"), RetrainSpec)


def test_the_last_gate_can_be_forced() -> None:
    run = Decided()
    made = wired(run, rule="replay", force={3: "forward"})
    assert run.asked == []
    assert spec(made, TRANSFER_GATE).forced == "forward"
    assert isinstance(spec(made, "final"), Vgg16RetrainSpec)
    made = wired(force={3: "back"})
    assert isinstance(spec(made, "final"), RetrainSpec)


def test_a_gate_that_there_is_not_can_t_be_forced() -> None:
    with pytest.raises(ValidationError, match="no gate 4; expected gates from 1 to 3, one for"):
        settings(force={4: "back"})
    with pytest.raises(ValidationError, match="expected gates from 1 to 2, one for each change"):
        settings(force={3: "back"}, transfer={"weights": "imagenet"})


def test_tables_and_figures_count_the_last_gate() -> None:
    made = wired()
    results, selection, figures = (spec(made, name) for name in ("results", "selection", "figures"))
    assert isinstance(results, ResultsSpec)
    assert isinstance(selection, SelectionSpec)
    assert isinstance(figures, FiguresSpec)
    gates = ("gate_1", "gate_2", TRANSFER_GATE)
    assert results.gates == selection.gates == gates
    by_gate = {model.gate: model.name for model in results.models if model.gate}
    assert by_gate[TRANSFER_GATE] == "vgg16_fine_tuned_corrected"
    assert [model.name for model in selection.models] == [
        "overfitting",
        "iteration_1",
        "iteration_2",
        "vgg16_fine_tuned_corrected",
    ]
    assert figures.changes == ("dropout", "fewer epochs", "transfer learning")


def test_nothing_is_scored_on_the_test_split_before_the_last_gate() -> None:
    made = wired()
    tests = [item for item in made.values() if isinstance(item.definition.spec, EvaluateSpec)]
    assert len(tests) == len(recipe_models(settings()))
    for item in tests:
        assert TRANSFER_GATE in {before.stage for before in item.after}


def test_without_a_plan_the_last_gate_is_the_only_one() -> None:
    made = wired(plan=[], force={1: "forward"})
    found = spec(made, TRANSFER_GATE)
    assert (found.gate, found.incumbent, found.level) == (1, "overfitting", pytest.approx(0.05))
    assert isinstance(spec(made, "final"), Vgg16RetrainSpec)
    assert rule_words(settled(settings(plan=[]))).startswith("rule validation")
    assert rule_words(settled(settings(plan=[], transfer={"weights": "imagenet"}))) == ""


def test_a_plan_says_what_depends_on_the_last_gate(tmp_path: Path) -> None:
    """With the gate open, the final model is, too; it is known where decisions are replayed."""
    store = Store(str(tmp_path / "store"))
    planned = {item.stage: item for item in plan(store, settings(plan=[]), {})}
    assert planned[TRANSFER_GATE].state == "will run"
    for name in ("final", "test_final", "test_baseline", "results"):
        assert (planned[name].state, planned[name].reason) == ("open", "depends on gate_transfer")
    replayed = {item.state for item in plan(store, settings(plan=PLAN, rule="replay"), {})}
    assert replayed == {"will run"}


def test_trainings_for_the_gate_cost_what_they_cost() -> None:
    sizes = {"train": 100, "validation": 50, "test": 50}
    once, often = (
        estimated(settings(transfer=transfer, evaluation={"replicates": 3}), sizes, 200, (8, 8, 1))
        for transfer in ({"weights": "imagenet"}, REQUIRED)
    )
    # Frozen layers run once, whatever the number of trainings.
    assert once.vgg16_seconds < often.vgg16_seconds < 3 * once.vgg16_seconds
