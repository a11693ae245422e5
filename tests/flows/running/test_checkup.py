"""`fashion-flow doctor` names what is wrong, and finds nothing wrong where nothing is."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from flows.cli.app import main
from flows.running import checkup
from flows.running.checkup import Finding, check_up
from tests.conftest import ROOT
from tests.processes import Command

TOPICS = [
    *("program", "computation", "variables", "environment"),
    *("folders", "store", "server", "data"),
]


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without faults, whose oneDNN need not be asked each time."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PREFECT_API_URL", "FASHION_MNIST_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("FASHION_FLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tasks.engine.profile.check_processor", lambda _profile: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(dataset: str = "auto", store: str = "artifacts") -> dict[str, Finding]:
    return {f"{one.topic}, {one.name}": one for one in check_up(store, dataset)}


def problems(**given: str) -> dict[str, str]:
    return {name: one.problem for name, one in found(**given).items() if one.problem}


def test_a_healthy_machine_has_no_problem() -> None:
    everything = found()
    assert list(dict.fromkeys(one.topic for one in everything.values())) == TOPICS
    assert problems() == {}
    assert "tensorflow" in everything["program, libraries"].value
    assert everything["store, can be"].value == "read, written, locked"
    assert everything["server, address"].value == "none; a run starts a temporary one"


def test_looking_at_a_store_leaves_nothing_in_it(healthy: Path) -> None:
    (healthy / "artifacts").mkdir()
    found()
    assert not [*(healthy / "artifacts").rglob("*")]


@pytest.mark.parametrize(
    ("variable", "value", "name", "said"),
    [
        ("PREFECT_HOME", "/proc/none", "folders, Prefect's home", "export PREFECT_HOME=FOLDER"),
        ("FASHION_FLOW_CACHE", "/proc/none", "folders, cache", "FASHION_FLOW_CACHE"),
        ("ONEDNN_MAX_CPU_ISA", "AVX9", "computation, profile", "expected one of SSE41"),
        ("KERAS_BACKEND", "torch", "computation, profile", "expected one of tensorflow, jax"),
        ("HTTP_PROXY", "ftp://x", "environment, proxies", "expected http://HOST:PORT"),
        ("FASHION_MNIST_DIR", "/nowhere", "data, Fashion-MNIST", "/nowhere"),
        ("PREFECT_API_URL", "http://127.0.0.1:1/api", "server, address", "it "),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in problems()[name]


def test_a_full_temporary_folder_is_a_problem(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a full disk: Python then takes another folder without a word.
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/proc/none")
    assert problems()["folders, temporary"].startswith("TMPDIR names '/proc/none', which can't be")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(healthy))
    assert problems() == {}
    assert found()["folders, temporary"].value == str(healthy)
    monkeypatch.setattr(checkup, "WRITTEN", -1)
    monkeypatch.setattr(checkup, "bytes", lambda _: full_disk(), raising=False)
    assert "No space left on device" in problems()["folders, temporary"]


def full_disk() -> bytes:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def variables_of_users() -> list[str]:
    """The names in the table of docs/usage.md, with an end for those that end in dots."""
    page = (ROOT / "docs" / "usage.md").read_text()
    table = page.partition("## Environment variables")[2].partition("`fashion-flow doctor`")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    names = [name for cell in first for name in re.findall("`([A-Z0-9_.]+)`", cell)]
    return [name.replace("...", "X") for name in names if not name.endswith("_PROXY")]


def test_every_variable_of_the_manual_is_shown_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = variables_of_users()
    assert len(names) > 10
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "no",
        "PREFECT_API_KEY": "no",
        "PREFECT_CLIENT_CUSTOM_HEADERS": '{"a": "no"}',
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://me:no@far/x",
    }
    shown = {
        "AWS_SHARED_CREDENTIALS_FILE": "/etc/keys",
        "AWS_ENDPOINT_URL": "https://me:no@far",
        "DASK_CONFIG": "/etc/dask",
    }
    with monkeypatch.context() as given:
        for name in names:
            given.setenv(name, "seen")
        for name, value in (secrets | shown).items():
            given.setenv(name, value)
        rows = {one.name: one.value for one in checkup._variables()}
    assert set(names) <= set(rows)
    assert {rows[name] for name in secrets} == {"set"}
    assert rows["AWS_SHARED_CREDENTIALS_FILE"] == "/etc/keys"
    assert rows["AWS_ENDPOINT_URL"] == "https://far"
    assert rows["DASK_CONFIG"] == "/etc/dask"


def test_prefects_settings_are_checked_even_if_no_server_is_named(
    fashion_flow: Command, tmp_path: Path
) -> None:
    quick = ("doctor", "--store", str(tmp_path / "store"))
    wrong = {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "maybe", "PREFECT_HOME": str(tmp_path)}
    done = fashion_flow(*quick, **wrong)
    assert done.status == 1
    said = " ".join(done.err.split())
    assert "server, address: Prefect's settings are not valid (APISettings.tls_insecure" in said
    # Each is a finding of its own.
    (tmp_path / "broken.yaml").write_text("a: [b\n")
    done = fashion_flow(*quick, **wrong, DASK_CONFIG=str(tmp_path))
    said = " ".join(done.err.split())
    assert "environment, Dask's settings: Dask can't be used with its settings" in said
    assert "server, address: Prefect's settings are not valid" in said
    unused = {"PREFECT_SERVER_API_AUTH_STRING": "a:b", "PREFECT_HOME": str(tmp_path)}
    done = fashion_flow(*quick, "--json", **unused)
    assert done.status == 0
    rows = {row["name"]: row["value"] for row in json.loads(done.out)}
    assert rows["settings it ignores"] == "PREFECT_SERVER_API_AUTH_STRING"
    assert "a:b" not in done.out


def test_a_store_that_cannot_be_written_is_a_problem() -> None:
    assert "--store" in problems(store="/proc/none")["store, can be"]


def test_a_machine_without_homes_and_folders_has_findings(
    healthy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "correct --dataset" in problems(dataset="~ghost/x")["data, ~ghost/x"]
    assert "without ~" in problems(store="~ghost/x")["store, can be"]
    monkeypatch.delenv("FASHION_FLOW_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    (healthy / "gone").mkdir()
    monkeypatch.chdir(healthy / "gone")
    (healthy / "gone").rmdir()

    def homeless(_cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    wrong = problems(store=str(healthy / "artifacts"))
    assert wrong["folders, working folder"].endswith("; change to a folder that exists.")
    assert "FASHION_FLOW_CACHE" in wrong["folders, cache"]
    assert "HOME" in wrong["data, VGG16's weights"]


def test_with_a_named_server_prefects_home_need_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/proc/none")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:99999/api")
    assert list(problems()) == ["server, address"]
    assert found()["folders, Prefect's home"].value == (
        "/proc/none, not written to: a server is named"
    )


def test_little_space_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "RUN_GB", 1e9)
    assert "fashion-flow clean" in problems()["store, free space"]


def test_a_data_set_is_read(healthy: Path) -> None:
    (healthy / "x.npz").write_bytes(b"<html>")
    assert "x.npz" in problems(dataset="x.npz")["data, x.npz"]


def test_libraries_of_other_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "version", lambda name: "9.9" if name == "prefect" else "9999.0")
    assert "prefect 9.9 (needed: " in problems()["program, libraries"]


def test_ignored_variables_are_named_and_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    # TensorFlow sets it, where another test of this process has imported it.
    monkeypatch.delenv("TF2_BEHAVIOR", raising=False)
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=2")
    one = found()["environment, ignored variables"]
    assert (one.value, one.problem) == ("TF_XLA_FLAGS", None)


def test_the_command_ends_with_1_if_anything_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    assert "Nothing is wrong." in capsys.readouterr().out
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert main(["doctor", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows if row["problem"]] == ["profile"]
    assert main(["doctor"]) == 1
    assert "error: computation, profile: KERAS_BACKEND is 'torch'" in capsys.readouterr().err
