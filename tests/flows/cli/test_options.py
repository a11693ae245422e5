"""How arguments become settings, and what is said about arguments that are wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from flows.cli import screen
from flows.cli.app import COMMANDS, main
from flows.cli.options import RunnerOptions, SettingsOptions, StageOptions
from flows.deployment.deploy import DeploymentRequest
from flows.recipe.presets import PRESETS
from tasks.core.settings.evaluation import GivenRule


def made(**given: Any) -> dict[str, Any]:
    return SettingsOptions(**given).settings().model_dump()


@pytest.mark.parametrize("preset", PRESETS)
def test_without_other_options_settings_are_those_of_the_preset(preset: str) -> None:
    assert SettingsOptions(preset=preset).asked() == PRESETS[preset].settings
    rule = PRESETS[preset].replays or "validation"
    settled = PRESETS[preset].settings.model_copy(update={"rule": rule})
    assert SettingsOptions(preset=preset).settings() == settled


def test_each_option_sets_what_it_names() -> None:
    settings = made(
        preset="smoke",
        rule="one_standard_error",
        metric="log_loss",
        protocol="kfold",
        replicates=3,
        force=("2=forward", "4=back"),
        set_=("overfitting.epochs=7", "seed=5"),
    )
    assert settings["rule"] == "one_standard_error"
    assert settings["metric"] == "log_loss"
    assert settings["evaluation"]["protocol"] == "kfold"
    assert settings["evaluation"]["replicates"] == 3
    assert settings["force"] == {2: "forward", 4: "back"}
    assert settings["overfitting"]["epochs"] == 7
    assert settings["seed"] == 5


def test_a_file_of_weights_is_used_whatever_the_preset_says() -> None:
    given = Path("vgg16.h5")
    transfer = made(preset="smoke", vgg16_weights=given)["transfer"]
    assert transfer["weights"] == "imagenet"
    assert transfer["weights_file"] == str(given.absolute())
    required = made(preset="smoke", vgg16_weights=given, transfer_weights="required")["transfer"]
    assert required["weights"] == "required"


@pytest.mark.parametrize(
    ("dataset", "set_", "found", "replaceable"),
    [
        (None, (), "fashion-mnist", True),
        ("auto", (), "fashion-mnist", True),
        ("fashion-mnist", (), "fashion-mnist", False),
        ("synthetic", (), "synthetic", False),
        (None, ("dataset=fashion-mnist",), "fashion-mnist", False),
        (None, (" dataset = 'images'", "seed=1"), "images", False),
        (None, ("seed=1",), "fashion-mnist", True),
    ],
)
def test_only_a_data_set_that_nobody_asked_for_by_name_may_be_replaced(
    dataset: str | None, set_: tuple[str, ...], found: str, replaceable: bool
) -> None:
    options = SettingsOptions(dataset=dataset, set_=set_)
    assert options.settings().dataset == found
    assert options.replaceable == replaceable


def test_stages_are_selected_by_name() -> None:
    options = StageOptions(only=("a", "b"), from_=("c",), refresh=("d",))
    selection = options.selection()
    assert selection.only == {"a", "b"}
    assert selection.refresh_from == {"c"}
    assert selection.refresh == {"d"}


def test_an_address_means_a_cluster() -> None:
    assert RunnerOptions().chosen().kind == "local"
    assert RunnerOptions(runner="dask").chosen().kind == "dask"
    assert RunnerOptions(dask_address="tcp://127.0.0.1:8786").chosen().kind == "dask"


# The command line


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    shown = capsys.readouterr()
    return status, shown.out, " ".join(shown.err.split())


def test_options_given_twice_add_up_or_the_last_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = called(
        capsys,
        *("plan", "--preset", "full", "--preset=smoke", "--only", "load", "--only=explore"),
        *("--set", "seed=1", "--set=guard.exact=allow", "--store", str(tmp_path)),
    )
    assert (status, err) == (0, "")
    assert re.findall("^(load|explore|subset) ", out, re.M) == ["load", "explore"]
    assert "0 of 2 stages are cached." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "--preset", "huge"], 'Choose from: "notebook", "smoke", "full", "modern".'),
        (["plan", "--rule", "coin"], ", ".join(f'"{rule}"' for rule in get_args(GivenRule))),
        (["plan", "--pre", "smoke"], "Unknown option: --pre. Did you mean --preset?"),
        (["plan", "--replicates", "2.7"], 'expected a whole number from 1 to 100, got "2.7"'),
        (["plan", "--replicates", "0"], 'expected a whole number from 1 to 100, got "0"'),
        (["plan", "--replicates", "101"], 'expected a whole number from 1 to 100, got "101"'),
        (["clean", "--keep", "-1"], 'expected a whole number of 0 or more, got "-1"'),
        (["clean", "--no-dry-run"], "Unknown option: --no-dry-run. Did you mean --dry-run?"),
        (
            ["plan", "--set"],
            "--set needs a value; if it begins with a dash, write --set=VALUE. See fashion-flow",
        ),
        (["plan", "--set", "--preset", "smoke"], "--set needs a value;"),
        (["plan", "--rule", "none"], 'Invalid value "none" for --rule.'),
        (["run", "--transfer-weights", "null"], 'Invalid value "null" for --transfer-weights.'),
        (["deploy", "--runner", "None"], 'Invalid value "None" for --runner.'),
        (["plan", "--set", "seed"], "expected name=value, e.g. overfitting.epochs=3"),
        (["plan", "--force", "4=up"], "expected a gate's number, then '=forward' or '=back'"),
        (["plan", "notebook"], "unexpected extra argument notebook."),
        (["compare", "run-1"], "missing argument RUN2. See fashion-flow compare --help."),
        (["predict"], "missing argument PATH."),
        (["ui", "--port", "65536"], 'expected a whole number from 1 to 65535, got "65536"'),
        (["deploy", "--type", "cloud"], '"process", "docker", "kubernetes"'),
        (["reslts"], 'Unknown command "reslts". Did you mean "results"?'),
        (["--preset", "smoke"], 'Unknown command "--preset".'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = called(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err) <= 400


def test_every_option_of_every_command_is_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rich reads COLUMNS only once, when the console is made.
    monkeypatch.setattr(screen.out, "_width", 300)
    for command in COMMANDS:
        status, out, _ = called(capsys, command, "--help")
        assert status == 0
        assert COMMANDS[command].partition("\n")[0] in out
        options = [line for line in out.splitlines() if line.startswith(("│ --", "│ *"))]
        assert options
        for option in options:
            assert len(option.strip("│ ").split()) > 3, option


def test_alone_it_shows_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = called(capsys)
    assert (status, err) == (2, "")
    assert called(capsys, "--help") == (0, out, "")
    assert called(capsys, "-h") == (0, out, "")
    for command in COMMANDS:
        assert f"│ {command} " in out


def test_help_imports_no_command() -> None:
    code = (
        "import json, sys\nfrom flows.cli.app import main\n"
        "main(['--help'])\nprint(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "flows.cli.app" in modules
    assert not modules & {
        "pydantic",
        "numpy",
        "prefect",
        *(f"flows.cli.{name}" for name in COMMANDS),
    }


@pytest.mark.parametrize(
    ("options", "rule"), [([], "auto"), (["--rule", "validation"], "validation")]
)
def test_a_deployment_keeps_the_rule_as_it_was_given(
    options: list[str], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DeploymentRequest] = []

    def deployed(request: DeploymentRequest) -> str:
        asked.append(request)
        return "http://127.0.0.1:4200/api"

    monkeypatch.setattr("flows.cli.deploy.deployed", deployed)
    assert main(["deploy", *options, "--store", str(tmp_path)]) == 0
    assert [request.settings.rule for request in asked] == [rule]
