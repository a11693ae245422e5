"""Options become settings, or an error names the field that is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows.recipe.compose import compose, read_plan
from flows.recipe.presets import PRESETS
from tasks.core.errors import UserError
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings

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


# Values


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
        ("metric=log_loss", "log_loss"),
        ("class_weight=none", None),
        ("class_weight=balanced", "balanced"),
        ('class_weight={"a class" = 5, 3 = 0.5}', {"a class": 5.0, "3": 0.5}),
        ("transfer.weights_file=none", None),
        ("transfer.weights_file=w.h5", "w.h5"),
        ("transfer.weights=off", "off"),
        ("transfer.variant=none", "none"),
        ("overfitting.decay=none", "none"),
        ("overfitting.augmentation=none", None),
        ("overfitting.augmentation={}", AugmentSettings()),
        ("overfitting.augmentation={zoom_range = 0.1}", AugmentSettings(zoom_range=0.1)),
        ("execution.device=cpu", "cpu"),
        ("dataset=5\nseed = 3", "5\nseed = 3"),
    ],
)
def test_a_value_of_each_type(assignment: str, expected: Any) -> None:
    found = value(compose(assignments=[assignment]), assignment.partition("=")[0].strip())
    assert found == expected
    assert type(found) is type(expected)


def test_setting_a_part_of_something_off_turns_it_on() -> None:
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
        compose().model_dump(),
        compose(assignments=["transfer.corrected.side=48"]).model_dump(),
    )
    assert after["transfer"]["corrected"].pop("side") == 48
    before["transfer"]["corrected"].pop("side")
    assert after == before


def test_the_last_value_counts() -> None:
    assert compose(values={"seed": 1}, assignments=["seed=2", "seed=3"]).seed == 3
    assert compose("smoke", values={"dataset": "fashion-mnist"}).dataset == "fashion-mnist"


def test_composing_does_not_change_the_presets() -> None:
    before = {name: repr(preset) for name, preset in PRESETS.items()}
    for name in PRESETS:
        compose(name, assignments=["overfitting.augmentation.zoom_range=0.1", "baseline.epochs=9"])
    assert {name: repr(preset) for name, preset in PRESETS.items()} == before


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    epochs=st.integers(1, 10_000),
    rate=st.floats(0, 10, exclude_min=True, allow_subnormal=False),
    dense=st.lists(st.integers(1, 65_536), max_size=4),
    flag=st.booleans(),
)
def test_any_value_in_range_is_accepted(
    epochs: int, rate: float, dense: list[int], flag: bool
) -> None:
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
        ("rule=coin", r"rule: .*'one_standard_error', 'replay' or 'notebook' \(got 'coin'\)"),
        ("transfer.corrected.side=31", r"transfer\.corrected\.side: .*32, 48, 64 or 96 \(got 31\)"),
        ("seed=-1", r"seed: .*\(got -1\)"),
        ("seed=2147483648", r"seed: .*\(got 2147483648\)"),
        ("execution.threads=0", r"execution\.threads: .*\(got 0\)"),
        (
            "baseline.epochs=lowest_validation_loss",
            r"baseline\.epochs: .* is only allowed in the plan",
        ),
        ("plan.name=x", r"--set plan\.name: 'plan' contains no named settings; .*--plan FILE"),
        ("dataset.name=x", r"--set dataset\.name: 'dataset' contains no named settings"),
        ("seed", r"--set 'seed': expected name=value, e\.g\. overfitting\.epochs=3"),
        ("", r"--set '': expected name=value"),
    ],
)
def test_an_error_names_the_field_and_what_came(assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose(assignments=[assignment])


def test_all_wrong_fields_are_named_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        compose(assignments=["seed=-1", "overfitting.batch_size=0", "nonsense=1"])
    for name in ("seed", "overfitting.batch_size", "nonsense"):
        assert f"{name}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset() -> None:
    with pytest.raises(
        UserError, match=r"unknown preset 'huge'; expected one of notebook, smoke, full, modern"
    ):
        compose("huge")


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
        ("iteration = " + "[" * 5000, r"is not valid TOML"),
        ("[[iteration]", r"is not valid TOML .*line 1"),
        (PLAN + PLAN.replace("change", "name"), r"is not valid TOML"),
        (b"\xff\xfe", r"can't be read .*decode"),
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
def test_a_wrong_plan_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose("notebook", plan_file(tmp_path, text))


@pytest.mark.parametrize("nested", ["[" * 5000, "[" * 5000 + "]" * 5000])
def test_a_value_that_is_nested_too_deeply_is_refused(nested: str) -> None:
    with pytest.raises(UserError, match=r"overfitting\.filters: .*valid tuple"):
        compose(assignments=[f"overfitting.filters={nested}"])


def test_a_plan_that_never_ends_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match=r"is not a file; give a TOML file\."):
            read_plan(path)
    large = plan_file(tmp_path, PLAN)
    os.truncate(large, 2**20 + 1)
    with pytest.raises(UserError, match=r"has more than 1048576 bytes; expected"):
        read_plan(large)


def test_errors_of_a_plan_file_name_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(UserError, match=rf"plan {path} can't be read \([^\[\]]+\); check"):
            read_plan(path)
    with pytest.raises(UserError, match=f"plan {tmp_path / 'plan.toml'}"):
        read_plan(plan_file(tmp_path, iteration("name = 'x'")))


def test_the_notebook_s_rule_needs_decisions_to_replay(tmp_path: Path) -> None:
    path = plan_file(tmp_path, PLAN)
    said = r"plan, iteration 2 \(stop at the lowest loss\): rule 'notebook' replays decisions"
    with pytest.raises(UserError, match=said):
        compose("notebook", path, {"rule": "notebook"})
    assert len(compose("notebook", path, {"rule": "validation"}).plan) == 2


def test_a_replayed_plan_is_checked_along_its_own_path(tmp_path: Path) -> None:
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


def test_weights_of_classes_add_up() -> None:
    given = ("class_weight.rare=5", "class_weight.2=0.5")
    assert compose("smoke", assignments=given).class_weight == {"rare": 5.0, "2": 0.5}
    assert Settings.model_validate({"class_weight": "none"}).class_weight is None


@pytest.mark.parametrize("given", ["0", "-1", "inf", "1e9", '"five"', "{a = 1}"])
def test_a_weight_of_a_class_is_a_positive_number(given: str) -> None:
    with pytest.raises(UserError, match=r"class_weight\.rare"):
        compose("smoke", assignments=(f"class_weight.rare={given}",))


@pytest.mark.parametrize("given", ["metric=recall", "class_weight=even", "class_weight={}"])
def test_unknown_metrics_and_weights_are_refused(given: str) -> None:
    with pytest.raises(UserError, match=given.split("=")[0]):
        compose("smoke", assignments=(given,))
