"""Presets are valid, and the notebook's has the notebook's numbers."""

from __future__ import annotations

import math

import pytest

from flows.recipe.compose import asked, compose
from flows.recipe.presets import FULL, NOTEBOOK, PRESETS, SMOKE
from tasks.core.data.splitting import NOTEBOOK_SIZES
from tasks.core.settings.base import changed
from tasks.core.settings.modern_plan import MODERN_OVERFITTING, MODERN_PLAN
from tasks.core.settings.notebook_plan import NOTEBOOK_PLAN
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import TrainSettings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_its_own_validation(name: str) -> None:
    preset = PRESETS[name]
    for settings in filter(None, (preset.settings, preset.own)):
        assert settings.rule == "auto"
        assert Settings.model_validate(settings.model_dump()) == settings
        assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert asked(name) == preset.settings
    rule = preset.replays or "validation"
    assert compose(name) == preset.settings.model_copy(update={"rule": rule})


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("rule", ["validation", "one_standard_error", "replay", "notebook"])
def test_every_preset_runs_under_every_rule(name: str, rule: str) -> None:
    found = compose(name, values={"rule": rule}).rule
    # What another plan replays are not the notebook's decisions.
    assert found == ("replay" if (name, rule) == ("modern", "notebook") else rule)


def test_only_the_notebook_s_plan_has_the_notebook_s_figures() -> None:
    assert NOTEBOOK.has_notebook_plan
    assert FULL.has_notebook_plan
    assert not SMOKE.has_notebook_plan
    assert not compose("modern").has_notebook_plan
    assert not compose(assignments=["overfitting.epochs=3"]).has_notebook_plan


def test_the_notebook_s_numbers() -> None:
    settings = compose()
    assert settings.model_copy(update={"rule": "auto"}) == NOTEBOOK
    assert (settings.dataset, settings.rule) == ("fashion-mnist", "notebook")
    subset = settings.subset
    assert (subset.method, subset.train, subset.validation, subset.test) == (
        "auto",
        None,
        None,
        None,
    )
    assert NOTEBOOK_SIZES == {"train": 8000, "validation": 2000, "test": 2000}
    assert (settings.baseline.dense, settings.baseline.epochs) == ((128,), 5)
    low = settings.low_capacity
    assert (low.filters, low.kernel_sizes, low.epochs, low.batch_size) == ((16,), (7,), 20, 512)
    high = settings.overfitting
    assert (high.filters, high.dense, high.epochs) == ((64, 128, 128), (256, 64), 40)
    notebooks, corrected = settings.transfer.as_notebook, settings.transfer.corrected
    assert (notebooks.epochs, notebooks.fine_tune_epochs) == (11, 11)
    assert (notebooks.preprocessing, notebooks.side, notebooks.features) == (
        "raw",
        32,
        "block5_pool",
    )
    assert (notebooks.loss, notebooks.decay) == ("binary_crossentropy", "none")
    assert math.isclose(notebooks.learning_rate, 1e-5)
    assert math.isclose(notebooks.fine_tune_learning_rate, 1e-5)
    assert (notebooks.dense, notebooks.dropout, notebooks.batch_size) == (256, 0.25, 128)
    assert (corrected.preprocessing, corrected.loss) == ("vgg16", "categorical_crossentropy")


def test_the_full_preset_is_the_notebook_on_all_images() -> None:
    assert FULL.subset.method == "everything"
    assert FULL.model_dump() | {"subset": None} == NOTEBOOK.model_dump() | {"subset": None}


def test_the_smoke_preset_has_every_stage_of_the_notebook_and_is_small() -> None:
    assert SMOKE.dataset == "synthetic"
    assert [entry.name for entry in SMOKE.plan] == [entry.name for entry in NOTEBOOK_PLAN]
    assert [entry.replay for entry in SMOKE.plan] == [entry.replay for entry in NOTEBOOK_PLAN]
    for entry in SMOKE.plan:
        network = changed(SMOKE.overfitting, entry.change)
        assert isinstance(network.epochs, int)
        assert network.epochs <= 4
        assert sum(network.filters) <= 40
        assert sum(network.dense) <= 48
    assert isinstance(SMOKE.subset.train, int)
    assert SMOKE.subset.train <= SMOKE.synthetic.train <= 1000
    assert SMOKE.transfer.weights == "random"


def test_the_plan_replays_the_decisions_that_the_notebook_reports() -> None:
    reported = {name: model.decision for name, model in NOTEBOOK_RESULTS.items() if model.decision}
    replayed = {f"iteration_{n}": entry.replay for n, entry in enumerate(NOTEBOOK_PLAN, start=1)}
    assert replayed == reported
    assert len(NOTEBOOK_PLAN) == 9


def parameters(network: TrainSettings, side: int = 28, channels: int = 1) -> int:
    """Weights of a network on `side` x `side` images with 10 classes, counted by hand."""
    count = 0
    layers = zip(network.filters, network.kernel_sizes, network.pooled, strict=True)
    for filters, kernel, pooled in layers:
        count += (kernel * kernel * channels + 1) * filters
        count += 4 * filters if network.batch_norm else 0
        side = side if network.padding == "same" else side - kernel + 1
        side, channels = side // 2 if pooled else side, filters
    inputs = side * side * channels
    for units in (*network.dense, 10):
        count, inputs = count + (inputs + 1) * units, units
    return count


def test_the_settings_describe_networks_of_the_size_that_the_notebook_reports() -> None:
    assert parameters(NOTEBOOK.baseline) == NOTEBOOK_RESULTS["baseline"].params
    assert parameters(NOTEBOOK.low_capacity) == NOTEBOOK_RESULTS["low_capacity"].params
    incumbent = NOTEBOOK.overfitting
    assert parameters(incumbent) == NOTEBOOK_RESULTS["overfitting"].params
    for number, entry in enumerate(NOTEBOOK_PLAN, start=1):
        candidate = changed(incumbent, entry.change)
        assert parameters(candidate) == NOTEBOOK_RESULTS[f"iteration_{number}"].params
        incumbent = candidate if entry.replay == "forward" else incumbent
    assert parameters(incumbent) == NOTEBOOK_RESULTS["final"].params


def test_each_change_of_modern_has_hypothesis_and_evidence() -> None:
    assert len(MODERN_PLAN) <= 12
    for entry in MODERN_PLAN:
        assert entry.hypothesis
        assert entry.evidence
        # A gain alone is not enough to be kept.
        assert entry.replay == "back" or entry.evidence.startswith("+")


def test_own_images_start_from_what_modern_settled() -> None:
    own = compose("modern", values={"dataset": "photos"})
    settled = MODERN_OVERFITTING
    for entry in MODERN_PLAN:
        if entry.replay == "forward":
            settled = changed(settled, entry.change)
    assert own.overfitting == MODERN_OVERFITTING
    recipe, mirror, longer = own.plan
    # Mirror images are apart, since they mean something else in letters and signs.
    found = changed(own.overfitting, recipe.change)
    one_way = {"variation.flip": "none", "network.views": "one"}
    assert found == changed(settled, one_way)
    both = changed(found, mirror.change)
    assert (both.variation.flip, both.network.views) == ("alternating", "flips")
    assert changed(both, longer.change).epochs == 3 * settled.epochs


def test_with_a_rule_own_images_are_decided_on_change_by_change() -> None:
    own = compose("modern", values={"dataset": "photos", "rule": "validation"})
    assert own.plan == MODERN_PLAN
