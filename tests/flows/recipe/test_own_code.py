"""Own networks in a recipe: where their files are, what their keys cover, who may name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flows.planning.differences import changes
from flows.recipe.compose import compose
from flows.recipe.own_code import functions_of, is_allowed, read_codes
from tasks.core.errors import UserError
from tasks.core.own_code import OWN_CODE
from tasks.core.records import digest_of
from tasks.core.settings.base import changed
from tasks.core.settings.network import NetworkSettings, shown_function
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import TrainSettings
from tasks.engine.keys import basis_of
from tests.own_nets import BLOCKS, NETS, written
from tests.wiring import wire

PLAN = """
[[iteration]]
name = "mine"
change = { "network.function" = "nets/nets.py:build", "network.options" = { width = 6 } }

[[iteration]]
name = "theirs"
change = { network = { application = "MobileNetV2", options = { alpha = 0.35 } } }
"""


def basis(function: str, model: str = "overfitting", **network: Any) -> dict[str, Any]:
    group = {"function": function} | network
    made = wire(dataset="synthetic", plan=(), overfitting={"network": group})
    return basis_of(made[model].definition, {}, {})


def test_the_key_has_the_code_and_not_its_place(tmp_path: Path) -> None:
    first, other = (basis(written(tmp_path / name)) for name in ("a", "b"))
    assert digest_of(first) == digest_of(other)
    assert str(tmp_path) not in str(first)
    assert first["settings"]["training"]["network"]["function"] == "own:build"
    assert set(first[OWN_CODE]) == {"", "blocks"}
    assert first["libraries"]["keras"]
    for nets, blocks, phrase in (
        (NETS.replace("0.3", "0.2"), BLOCKS, "your code of the function changed"),
        (NETS, BLOCKS.replace("0.8", "0.7"), "your code of blocks changed"),
    ):
        edited = basis(written(tmp_path / "c", nets, blocks))
        assert changes(first, edited, {}) == [phrase]
    wider = basis(written(tmp_path / "a"), options={"width": 5})
    assert changes(first, wider, {}) == [
        "training.network.options {} → unset",
        "training.network.options.width unset → 5",
    ]
    commented = basis(written(tmp_path / "d", f"{NETS}# more\n"))
    assert digest_of(commented) == digest_of(first)


def test_other_trainings_know_nothing_of_it(tmp_path: Path) -> None:
    found = basis(written(tmp_path), model="baseline")
    assert OWN_CODE not in found


def test_libraries_of_own_code_are_in_the_key(tmp_path: Path) -> None:
    nets = NETS.replace("import keras", "import keras\nimport rich, no_such_library")
    found = basis(written(tmp_path, nets))["libraries"]
    assert found["no_such_library"] == "none"
    assert found["rich"] != "none"


def test_relative_files_are_below_the_plan_s_or_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    plan = tmp_path / "plans" / "plan.toml"
    plan.parent.mkdir()
    plan.write_text(PLAN)
    settings = compose("smoke", plan, {}, ["overfitting.network.function=nets.py:build", "seed=1"])
    assert settings.overfitting.network.function == f"{tmp_path}/elsewhere/nets.py:build"
    assert settings.plan[0].change["network.function"] == f"{tmp_path}/plans/nets/nets.py:build"
    assert functions_of(settings) == [
        f"{tmp_path}/{at}/nets.py:build" for at in ("elsewhere", "plans/nets")
    ]
    with pytest.raises(UserError, match=r"there is no file '.*elsewhere/nets.py'"):
        read_codes(settings)
    written(tmp_path / "elsewhere")
    written(tmp_path / "plans" / "nets", NETS.replace("width=4", "depth=4"))
    with pytest.raises(UserError, match=r"nets\.py, line \d+: build has no argument width"):
        read_codes(settings)
    written(tmp_path / "plans" / "nets")
    assert len(read_codes(settings)) == 2
    named = compose("smoke", None, {}, ["plan=[]", "overfitting.network.function=a.b:build"])
    assert named.overfitting.network.function == "a.b:build"


def test_options_that_come_later_than_the_function_are_no_mistake(tmp_path: Path) -> None:
    needs = NETS.replace("width=4", "width")
    settings = Settings.model_validate(
        {
            "rule": "replay",
            "overfitting": {"network": {"family": "compact"}},
            "plan": [
                {"name": "stack", "change": {"network": {"family": "stack"}}, "replay": "forward"},
                {
                    "name": "mine",
                    "change": {
                        "network.function": written(tmp_path, needs),
                        "network.options": {"width": 6},
                    },
                    "replay": "forward",
                },
            ],
        }
    )
    assert list(read_codes(settings)) == [f"{tmp_path}/nets.py:build"]


@pytest.mark.parametrize("force", [{}, {1: "forward"}], ids=["open", "forced"])
def test_options_of_several_changes_are_checked_before_the_run(
    force: dict[int, str], tmp_path: Path
) -> None:
    function = written(tmp_path)
    written(tmp_path / "other", NETS.replace("width=4", "depth=4"))
    given = {
        "rule": "validation",
        "overfitting": {"network": {"function": function}},
        "plan": [
            {"name": "wide", "change": {"network.options": {"width": 6}}},
            {"name": "other", "change": {"network.function": f"{tmp_path}/other/nets.py:build"}},
        ],
    }
    with pytest.raises(UserError, match=r"build has no argument width"):
        read_codes(Settings.model_validate(given | {"force": force}))
    # What a decision excludes is never called.
    assert len(read_codes(Settings.model_validate(given | {"force": {1: "back"}}))) == 2


def test_a_function_or_an_application_implies_its_family(tmp_path: Path) -> None:
    function = written(tmp_path)
    training = changed(TrainSettings(), {"network.function": function})
    assert training.network.family == "function"
    assert "filters" in training.unused()
    assert NetworkSettings(application="VGG16").family == "application"
    other = changed(training, {"network": {"family": "residual"}})
    assert other.network.function is None
    assert shown_function(function) == "nets.py:build"
    assert len({training, changed(TrainSettings(), {"network.function": function}), other}) == 2


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"function": "nets.py"}, "expected FILE.py:FUNCTION"),
        ({"function": "nets/it.txt:build"}, "expected FILE.py:FUNCTION"),
        ({"family": "function"}, "family 'function' needs function"),
        ({"function": "a:b", "application": "VGG16"}, "application: unused in family 'function'"),
        ({"function": "a:b", "widths": [8]}, "widths: unused in family 'function'"),
        ({"family": "residual", "function": "a:b"}, "function: unused in family 'residual'"),
        ({"family": "compact", "options": {"a": 1}}, "options: unused in family 'compact'"),
        ({"options": {"a": 1}}, "options: unused in family 'stack'"),
        ({"function": "a:b", "options": {"a b": 1}}, "expected names of keyword arguments"),
        ({"function": "a:b", "options": {"a": float("inf")}}, "expected finite numbers"),
        ({"function": "a:b", "options": {"a": "x" * 4000}}, "more than 4000 characters"),
        ({"application": "AlexNet"}, "DenseNet121"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSettings(**network)


def test_a_family_that_a_function_would_override_is_refused_in_a_plan() -> None:
    with pytest.raises(ValueError, match=r"network.family: the incumbent's function"):
        Settings.model_validate(
            {
                "overfitting": {"network": {"function": "a.b:build"}},
                "plan": [{"name": "stack", "change": {"network.family": "stack"}}],
            }
        )


def test_a_worker_allows_folders_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    function, foreign = written(allowed), written(other)
    both = os.pathsep.join([str(tmp_path / "none"), str(allowed)])
    assert not is_allowed(function, "")
    assert is_allowed(function, "1")
    assert is_allowed(function, both)
    assert not is_allowed(foreign, both)
    assert not is_allowed(f"{allowed}/../other/nets.py:build", both)
    # Links: to a file elsewhere, and from elsewhere to a file that is allowed.
    (allowed / "link.py").symlink_to(other / "nets.py")
    (other / "link.py").symlink_to(allowed / "nets.py")
    assert not is_allowed(f"{allowed}/link.py:build", both)
    assert not is_allowed(f"{other}/link.py:build", both)
    # A home folder is not a folder of the name `~`.
    monkeypatch.setenv("HOME", str(other))
    monkeypatch.chdir(allowed)
    assert not is_allowed("~/nets.py:build", both)
    monkeypatch.setenv("HOME", str(allowed))
    monkeypatch.chdir(other)
    assert is_allowed("~/nets.py:build", both)


def test_a_worker_allows_only_functions_whose_imports_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    function = written(allowed)
    written(other)
    (allowed / "blocks.py").unlink()
    (allowed / "blocks.py").symlink_to(other / "blocks.py")
    assert not is_allowed(function, str(allowed))
    assert is_allowed(function, os.pathsep.join(map(str, (allowed, other))))
    # Nothing is said about files elsewhere, not even that they are missing.
    assert not is_allowed(f"{other}/missing.py:build", str(allowed))
    package = tmp_path / "library" / "vision"
    written(package / "nets", "from vision import blocks\ndef build(input_shape, classes): ...")
    (package / "blocks.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    assert is_allowed("vision.nets.nets:build", str(package))
    assert not is_allowed("vision.nets.nets:build", str(package / "nets"))
