"""Settings come out as they were meant, or an error names the field that is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.recipe.compose import compose, read_plan
from flows.recipe.presets import FULL, NOTEBOOK, PRESETS, SMOKE
from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.notebook_plan import NOTEBOOK_PLAN
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings, TrainSettings
from tasks.core.statistics.reported import REPORTED

PLAN = """
[[iteration]]
name = "fewer epochs"
hypothesis = "Less overfitting."
change = { epochs = 11 }
replay = "forward"

[[iteration]]
name = "stop at the lowest loss"
change = { epochs = "lowest_validation_loss", augmentation = { zoom_range = 0.1 } }
"""


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_its_own_validation(name: str) -> None:
    assert Settings.model_validate(PRESETS[name].model_dump()) == PRESETS[name]
    assert Settings.model_validate_json(PRESETS[name].model_dump_json()) == PRESETS[name]
    assert compose(name) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("rule", ["validation", "notebook"])
def test_every_preset_runs_under_every_rule(name: str, rule: str) -> None:
    assert compose(name, values={"rule": rule}).rule == rule


def test_the_notebook_s_numbers() -> None:
    settings = compose()
    assert settings == NOTEBOOK
    assert (settings.dataset, settings.rule) == ("fashion-mnist", "validation")
    subset = settings.subset
    assert (subset.method, subset.train, subset.validation, subset.test) == (
        "auto",
        8000,
        2000,
        2000,
    )
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


def test_a_transfer_partly_given_is_filled_with_its_own_values() -> None:
    """A deployment's parameters are nested dictionaries that name what they change."""
    found = Settings.model_validate(
        {"transfer": {"as_notebook": {"side": 64}, "corrected": {"side": 32}}}
    ).transfer
    assert found.as_notebook == NOTEBOOK.transfer.as_notebook.model_copy(update={"side": 64})
    assert found.corrected == NOTEBOOK.transfer.corrected.model_copy(update={"side": 32})


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
    assert SMOKE.subset.train <= SMOKE.synthetic.train <= 1000
    assert SMOKE.transfer.weights == "random"


def test_the_plan_replays_the_decisions_that_the_notebook_reports() -> None:
    reported = {name: model.decision for name, model in REPORTED.items() if model.decision}
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
    assert parameters(NOTEBOOK.baseline) == REPORTED["baseline"].params
    assert parameters(NOTEBOOK.low_capacity) == REPORTED["low_capacity"].params
    incumbent = NOTEBOOK.overfitting
    assert parameters(incumbent) == REPORTED["overfitting"].params
    for number, entry in enumerate(NOTEBOOK_PLAN, start=1):
        candidate = changed(incumbent, entry.change)
        assert parameters(candidate) == REPORTED[f"iteration_{number}"].params
        incumbent = candidate if entry.replay == "forward" else incumbent
    assert parameters(incumbent) == REPORTED["final"].params


# Overrides


def value(settings: Settings, name: str) -> Any:
    found: Any = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("seed=7", 7),
        (" seed = 7 ", 7),
        ("overfitting.epochs=3", 3),
        ("overfitting.learning_rate=0.5", 0.5),
        ("overfitting.learning_rate=1e-4", 1e-4),
        ("overfitting.l2=1", 1.0),
        ("overfitting.batch_norm=true", True),
        ("overfitting.dense=[32, 16]", (32, 16)),
        ("overfitting.dense=[]", ()),
        ("baseline.pooled=[]", ()),
        ("overfitting.padding=same", "same"),
        ('overfitting.padding="same"', "same"),
        ("dataset=~/data/a folder=of mine", "~/data/a folder=of mine"),
        ("rule=notebook", "notebook"),
        ("transfer.weights_file=none", None),
        ("transfer.weights_file=w.h5", "w.h5"),
        ("transfer.weights=off", "off"),
        ("overfitting.augmentation=none", None),
        ("overfitting.augmentation={}", AugmentSettings()),
        ("overfitting.augmentation={zoom_range = 0.1}", AugmentSettings(zoom_range=0.1)),
        ("execution.device=cpu", "cpu"),
    ],
)
def test_a_value_of_each_type(assignment: str, expected: Any) -> None:
    found = value(compose(assignments=[assignment]), assignment.partition("=")[0].strip())
    assert found == expected
    assert type(found) is type(expected)


def test_a_value_inside_what_is_off_switches_it_on() -> None:
    settings = compose(
        assignments=[
            "overfitting.augmentation.zoom_range=0.1",
            "overfitting.augmentation.horizontal_flip=false",
        ]
    )
    expected = AugmentSettings(zoom_range=0.1, horizontal_flip=False)
    assert settings.overfitting.augmentation == expected


def test_nothing_else_changes() -> None:
    before, after = (
        NOTEBOOK.model_dump(),
        compose(assignments=["transfer.corrected.side=48"]).model_dump(),
    )
    assert after["transfer"]["corrected"].pop("side") == 48
    before["transfer"]["corrected"].pop("side")
    assert after == before


def test_the_last_word_counts() -> None:
    assert compose(values={"seed": 1}, assignments=["seed=2", "seed=3"]).seed == 3
    assert compose("smoke", values={"dataset": "fashion-mnist"}).dataset == "fashion-mnist"


def test_a_preset_is_not_changed_by_what_is_made_of_it() -> None:
    before = {name: preset.model_dump_json() for name, preset in PRESETS.items()}
    for name in PRESETS:
        compose(name, assignments=["overfitting.augmentation.zoom_range=0.1", "baseline.epochs=9"])
    assert {name: preset.model_dump_json() for name, preset in PRESETS.items()} == before


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    epochs=st.integers(1, 10_000),
    rate=st.floats(0, 10, exclude_min=True, allow_subnormal=False),
    dense=st.lists(st.integers(1, 65_536), max_size=4),
    flag=st.booleans(),
)
def test_any_value_in_range_arrives(epochs: int, rate: float, dense: list[int], flag: bool) -> None:
    made = compose(
        assignments=[
            f"overfitting.epochs={epochs}",
            f"overfitting.learning_rate={rate!r}",
            f"overfitting.dense={dense}",
            f"overfitting.batch_norm={str(flag).lower()}",
        ]
    ).overfitting
    assert (made.epochs, made.learning_rate) == (epochs, rate)
    assert (made.dense, made.batch_norm) == (tuple(dense), flag)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("nonsense=1", r"settings: nonsense: no such setting$"),
        ("overfitting.epoch=1", r"\.epoch: no such setting; did you mean overfitting\.epochs\?$"),
        ("overfiting.epochs=1", r"overfiting: no such setting; did you mean overfitting\?$"),
        ("overfitting.augmentation.zoom=1", r"overfitting\.augmentation\.zoom: no such setting"),
        ("overfitting.epochs=0", r"overfitting\.epochs.*greater than or equal to 1 \(got 0\)"),
        ("overfitting.epochs=soon", r"overfitting\.epochs.*valid integer.*\(got 'soon'\)"),
        ("overfitting.epochs=2.5", r"overfitting\.epochs.*\(got 2\.5\)"),
        ("overfitting.batch_size=0", r"overfitting\.batch_size: .*\(got 0\)"),
        ("overfitting.learning_rate=0", r"overfitting\.learning_rate: .*greater than 0 \(got 0\)"),
        ("overfitting.learning_rate=inf", r"overfitting\.learning_rate: .*\(got inf\)"),
        ("overfitting.learning_rate=nan", r"overfitting\.learning_rate: .*\(got nan\)"),
        ("overfitting.l2=nan", r"overfitting\.l2: .*\(got nan\)"),
        ("overfitting.dropout=1", r"overfitting\.dropout: .*less than 1 \(got 1\)"),
        ("overfitting.dense=64", r"overfitting\.dense: .*tuple \(got 64\)"),
        ("overfitting.dense=[64, 0]", r"overfitting\.dense\.1: .*\(got 0\)"),
        ("overfitting.batch_norm=7", r"overfitting\.batch_norm: .*boolean.*\(got 7\)"),
        ("overfitting.padding=full", r"overfitting\.padding: .*'valid' or 'same' \(got 'full'\)"),
        ("overfitting.kernel_sizes=[3]", r"overfitting: filters, kernel_sizes and pooled need one"),
        ("overfitting.augmentation=3", r"overfitting\.augmentation: .*\(got 3\)"),
        (
            "overfitting.augmentation.zoom_range=2",
            r"overfitting\.augmentation\.zoom_range: .*less than 1 \(got 2\)",
        ),
        ("overfitting=3", r"overfitting: .*\(got 3\)"),
        ("dataset=", r"dataset: .*at least 1 character"),
        ("dataset=3", r"dataset: .*string \(got 3\)"),
        ("rule=coin", r"rule: .*'one_standard_error' or 'notebook' \(got 'coin'\)"),
        ("transfer.corrected.side=31", r"transfer\.corrected\.side: .*32, 48, 64 or 96 \(got 31\)"),
        ("seed=-1", r"seed: .*\(got -1\)"),
        ("seed=2147483648", r"seed: .*\(got 2147483648\)"),
        ("execution.threads=0", r"execution\.threads: .*\(got 0\)"),
        ("baseline.epochs=lowest_validation_loss", r"baseline\.epochs: .* is for the plan only"),
        ("plan.name=x", r"--set plan\.name: 'plan' has no settings inside it; .*--plan FILE"),
        ("dataset.name=x", r"--set dataset\.name: 'dataset' has no settings inside it"),
        ("seed", r"--set 'seed': expected name=value, e\.g\. overfitting\.epochs=3"),
        ("", r"--set '': expected name=value"),
    ],
)
def test_an_error_names_the_field_and_what_came(assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose(assignments=[assignment])


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        compose(assignments=["seed=-1", "overfitting.batch_size=0", "nonsense=1"])
    for name in ("seed", "overfitting.batch_size", "nonsense"):
        assert f"{name}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset() -> None:
    with pytest.raises(
        UserError, match=r"unknown preset 'huge'; expected one of notebook, smoke, full"
    ):
        compose("huge")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        NOTEBOOK.seed = 3  # type: ignore[misc]


# Plans


def plan_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "plan.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_plan_file(tmp_path: Path) -> None:
    settings = compose("smoke", plan_file(tmp_path, PLAN))
    first, second = settings.plan
    assert (first.name, first.hypothesis) == ("fewer epochs", "Less overfitting.")
    assert (first.change, first.replay) == ({"epochs": 11}, "forward")
    assert (second.hypothesis, second.replay) == ("", None)
    candidate = changed(settings.overfitting, second.change)
    assert candidate.epochs == "lowest_validation_loss"
    assert candidate.augmentation == AugmentSettings(zoom_range=0.1)


def iteration(fields: str) -> str:
    return f"[[iteration]]\n{fields}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"expected \[\[iteration\]\] tables and nothing else\."),
        ("iteration = []", r"expected \[\[iteration\]\] tables and nothing else\."),
        ("seed = 3", r"nothing else, found seed\."),
        (PLAN + "[extra]\nx = 1\n", r"nothing else, found extra\."),
        ("[[iteration]", r"is not valid TOML: .*line 1"),
        (PLAN + PLAN.replace("change", "name"), r"is not valid TOML"),
        (b"\xff\xfe", r"can't be read: .*decode"),
        ("iteration = 3", r"iteration"),
        ("[iteration]\nname = 'x'", r"iteration"),
        (iteration("name = 'x'"), r"0\.change: Field required"),
        (iteration("change = {epochs = 3}"), r"0\.name: Field required"),
        (iteration("name = ''\nchange = {}"), r"0\.name: .*at least 1 character"),
        (iteration("name = 'x'\nchange = 3"), r"0\.change: .*\(got 3\)"),
        (PLAN + iteration("name = 'x'\nchange = {}\nhope = 1"), r"2\.hope: no such setting"),
        (iteration("name = 'x'\nchange = {}\nreplay = 'up'"), r"0\.replay: .*\(got 'up'\)"),
        (
            PLAN + iteration("name = 'mine'\nchange = {epoch = 3}"),
            r"plan, iteration 3 \(mine\): .*epoch: no such setting",
        ),
        (
            iteration("name = 'mine'\nchange = {dropout = 2}"),
            r"plan, iteration 1 \(mine\): .*dropout: .*less than 1 \(got 2\)",
        ),
        (
            iteration("name = 'mine'\nchange = {filters = [8]}"),
            r"plan, iteration 1 \(mine\): .*need one entry for each convolution, got 1, 3 and 3",
        ),
    ],
)
def test_a_plan_that_is_wrong(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose("notebook", plan_file(tmp_path, text))


def test_errors_of_a_plan_file_name_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(UserError, match=rf"plan {path} can't be read: [^\[\]]+\.$"):
            read_plan(path)
    with pytest.raises(UserError, match=f"plan {tmp_path / 'plan.toml'}"):
        read_plan(plan_file(tmp_path, iteration("name = 'x'")))


def test_the_notebook_s_rule_needs_decisions_to_replay(tmp_path: Path) -> None:
    path = plan_file(tmp_path, PLAN)
    said = r"plan, iteration 2 \(stop at the lowest loss\): rule 'notebook' replays decisions"
    with pytest.raises(UserError, match=said):
        compose("notebook", path, {"rule": "notebook"})
    assert len(compose("notebook", path, {"rule": "validation"}).plan) == 2


# What Prefect's form for a run shows


def leaves(schema: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[Any]:
    """Every field of a JSON schema that is no group of settings itself, with its path."""
    for name, field in schema["properties"].items():
        inner = [field, *field.get("anyOf", []), field.get("items", {})]
        groups = [part["$ref"].rpartition("/")[2] for part in inner if "$ref" in part]
        if groups:
            yield from leaves(whole["$defs"][groups[0]], whole, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


SCHEMA = Settings.model_json_schema()
LEAVES = dict(leaves(SCHEMA, SCHEMA))


def test_the_schema_reaches_every_group() -> None:
    assert {
        "seed",
        "subset.method",
        "overfitting.epochs",
        "overfitting.augmentation.zoom_range",
        "plan.change",
        "transfer.corrected.learning_rate",
        "execution.device",
    } <= set(LEAVES)
    assert len(LEAVES) > 50


def test_each_field_of_the_form_explains_itself() -> None:
    for name, field in LEAVES.items():
        assert field["title"], name
        assert field["description"].endswith("."), name
        assert "default" in field or name in ("plan.name", "plan.change"), name


LOWER, UPPER = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def test_each_number_of_the_form_has_bounds() -> None:
    bounded = set()
    for name, field in LEAVES.items():
        for part in (field, *field.get("anyOf", []), field.get("items", {})):
            if part.get("type") in ("integer", "number") and "enum" not in part:
                assert part.keys() & LOWER, name
                assert part.keys() & UPPER, name
                bounded.add(name)
    assert {
        "seed",
        "overfitting.epochs",
        "overfitting.dense",
        "transfer.as_notebook.dropout",
    } <= bounded


def test_the_form_s_defaults_and_choices() -> None:
    assert LEAVES["subset.train"]["default"] == 8000
    assert LEAVES["subset.method"]["enum"] == ["auto", "slices", "stratified", "everything"]
    assert LEAVES["overfitting.learning_rate"]["exclusiveMinimum"] == 0
    assert math.isclose(LEAVES["transfer.as_notebook.learning_rate"]["default"], 1e-5)
    assert SCHEMA["additionalProperties"] is False


def test_a_replayed_plan_is_tried_on_its_own_path(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    two = "{ filters = [8, 8], kernel_sizes = [3, 3], pooled = [true, true] }"
    for second, works in (("[2, 2]", True), ("[3, 3, 3]", False)):
        plan.write_text(
            f'[[iteration]]\nname = "two"\nreplay = "forward"\nchange = {two}\n'
            f'[[iteration]]\nname = "k"\nreplay = "back"\nchange = {{ kernel_sizes = {second} }}\n'
        )
        if works:
            assert len(compose(plan_file=plan, values={"rule": "notebook"}).plan) == 2
        else:
            with pytest.raises(UserError, match="iteration 2"):
                compose(plan_file=plan, values={"rule": "notebook"})


@pytest.mark.parametrize("weights", ["random", "off"])
def test_a_weights_file_that_would_not_be_used_is_refused(weights: str) -> None:
    values = {"transfer.weights": weights, "transfer.weights_file": "w.h5"}
    with pytest.raises(UserError, match="weights_file would not be used"):
        compose(values=values)
