"""Runs looked back on: shown while unfinished, compared, opened in a browser; the final model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.records import Record
from tasks.storage.run_log import FAILED, RunLog, all_runs, now
from tasks.storage.store import Store
from tests.processes import ONE_CHANGE, SMALL, Command, Server
from tests.support import on_disk

QUICK = (*SMALL, "--set", "overfitting.epochs=1")
FIRST = ("--set", "low_capacity.epochs=1")
SECOND = ("--set", "low_capacity.epochs=2", "--set", "plan=[]")
MODELS = ("commonest_class", "baseline", "low_capacity", "overfitting", "iteration_1", "final")


@pytest.fixture(scope="module")
def store(
    fashion_flow: Command, shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with two runs: the second trains one model longer and tries no change."""
    folder = tmp_path_factory.mktemp("back")
    (folder / "plan.toml").write_text(ONE_CHANGE)
    for more in ((*FIRST, "--plan", folder / "plan.toml"), SECOND):
        url = shared_server.url
        done = fashion_flow("run", *QUICK, *more, "--store", folder / "store", PREFECT_API_URL=url)
        assert done.status == 0, done.err
    return folder / "store"


@pytest.fixture(scope="module")
def runs(store: Path) -> list[RunLog]:
    return all_runs(Store(str(store)))


@pytest.fixture(scope="module")
def ids(runs: list[RunLog]) -> list[str]:
    return [run.run_id for run in runs]


@pytest.fixture
def unfinished(store: Path, tmp_path: Path) -> tuple[Path, str]:
    """A copy of the store with a third run, which failed before its first stage ended."""
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    settings = all_runs(Store(str(store)))[0].read()["settings"]
    run = RunLog(Store(str(copy)), "99991231-235959-dead")
    run.begin(settings, {}, None)
    run.end(FAILED, "no space left")
    return copy, run.run_id


def results(fashion_flow: Command, store: Path, run_id: str) -> dict[str, dict[str, Any]]:
    shown = fashion_flow("results", "--json", "--run", run_id, "--store", store)
    return {row["name"]: row for row in json.loads(shown.out)}


# A run that is still running


@pytest.mark.parametrize("last", ["baseline", "gate_1", "test_final"])
def test_a_running_run_shows_what_it_will_show_at_the_end(
    last: str, store: Path, runs: list[RunLog], fashion_flow: Command, tmp_path: Path
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    run = RunLog(Store(str(copy)), "99991231-235959-beef")
    run.begin(runs[0].read()["settings"], runs[0].read()["profile"], None)
    names = [entry["stage"] for entry in runs[0].stages()]
    for name in names[: names.index(last) + 1]:
        record = runs[0].record(name)
        assert record is not None
        run.stage(record, "cached", now())
    try:
        found = results(fashion_flow, copy, run.run_id)
        complete = results(fashion_flow, copy, runs[0].run_id)
        assert {"baseline": set(), "gate_1": {"iteration_1"}}.get(last, {"final"}) <= set(found)
        for model, row in found.items():
            known = {name: value for name, value in row.items() if value is not None}
            assert known.items() <= complete[model].items()
        if last == "test_final":
            assert found["final"]["test_accuracy"] == complete["final"]["test_accuracy"]
        given = ("--run", run.run_id, "--store", copy)
        shown = json.loads(fashion_flow("verdicts", "--json", *given).out)
        decided = json.loads(
            fashion_flow("verdicts", "--json", "--run", runs[0].run_id, "--store", copy).out
        )
        blank = [row | {"p_value_adjusted": None} for row in decided]
        assert shown == ([] if last == "baseline" else blank)
        done = fashion_flow("results", "--store", copy)
        assert f"this is run {runs[-1].run_id}, the latest complete one" in plain(done.err)
    finally:
        run.end(FAILED)


def plain(err: str) -> str:
    """A note without its frame."""
    return " ".join(err.replace("│", " ").split())


# Two runs compared


def test_a_comparison_as_json_has_what_differs_and_both_results(
    store: Path, ids: list[str], fashion_flow: Command
) -> None:
    done = fashion_flow("compare", *ids, "--json", "--store", store)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["runs"] == ids
    assert found["same_test_images"] is True
    settings = found["settings"]
    assert {name for name in settings if not name.startswith("plan.1.")} == {"low_capacity.epochs"}
    assert settings["low_capacity.epochs"] == [1, 2]
    assert settings["plan.1.change.dropout"] == [0.25, None]
    assert settings["plan.1.change.epochs"] == [1, None]
    tables = [results(fashion_flow, store, run_id) for run_id in ids]
    assert list(found["results"]) == list(MODELS)
    for model, pair in found["results"].items():
        for shown, table in zip(pair, tables, strict=True):
            if shown is None:
                assert model not in table
            else:
                assert {name: table[model][name] for name in shown} == shown
                assert {"val_accuracy", "test_accuracy", "state"} == set(shown)
    assert found["results"]["iteration_1"][1] is None


def test_a_comparison_shows_both_runs_side_by_side(
    store: Path, ids: list[str], fashion_flow: Command
) -> None:
    done = fashion_flow("compare", *ids, "--store", store, COLUMNS="80")
    assert done.status == 0, done.err
    assert done.err == ""
    lines = done.out.splitlines()
    assert f"first: run {ids[0]}, second: run {ids[1]}" in lines
    assert all(len(line) <= 80 for line in lines)
    assert ["low_capacity.epochs", "1", "2"] in [line.split() for line in lines]
    one, other = (results(fashion_flow, store, run_id) for run_id in ids)
    shown = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(MODELS)}
    for model in ("baseline", "low_capacity", "overfitting"):
        percents = [
            f"{100 * table[model][name]:.2f}"
            for name in ("val_accuracy", "test_accuracy")
            for table in (one, other)
        ]
        gain = 100 * (other[model]["test_accuracy"] - one[model]["test_accuracy"])
        assert shown[model] == [*percents, f"{gain:+.2f}"]
    assert shown["baseline"][-1] == "+0.00"
    only_first = [
        f"{100 * one['iteration_1'][name]:.2f}" for name in ("val_accuracy", "test_accuracy")
    ]
    assert shown["iteration_1"][:2] == only_first
    assert shown["iteration_1"][2:] in (["forward,", "-"], ["back,", "-"])
    turned = fashion_flow("compare", *reversed(ids), "--store", store, COLUMNS="80").out
    assert re.search(r"^iteration_1 .* -, (forward|back) *$", turned, re.M)


def test_a_run_compared_with_itself_differs_in_nothing(
    store: Path, ids: list[str], fashion_flow: Command
) -> None:
    same = (ids[0], ids[0], "--store", store)
    done = fashion_flow("compare", *same)
    assert "Both runs have the same settings and execution profile." in done.out
    assert len(re.findall(r" [+-]\d+\.\d\d ", done.out)) == len(MODELS)
    assert len(re.findall(r" \+0\.00 ", done.out)) == len(MODELS)
    assert json.loads(fashion_flow("compare", *same, "--json").out)["settings"] == {}


def test_a_run_without_results_is_compared_in_its_settings(
    unfinished: tuple[Path, str], ids: list[str], fashion_flow: Command
) -> None:
    store, failed = unfinished
    done = fashion_flow("compare", ids[1], failed, "--store", store)
    assert done.status == 0
    assert f"Run {failed} did not finish (failed)" in plain(done.err)
    assert ["low_capacity.epochs", "2", "1"] in [line.split() for line in done.out.splitlines()]
    found = json.loads(fashion_flow("compare", ids[1], failed, "--json", "--store", store).out)
    assert found["results"]["final"][0] is not None
    assert {other for _, other in found["results"].values()} == {None}


def test_what_cannot_be_compared_is_explained(
    store: Path, ids: list[str], fashion_flow: Command, tmp_path: Path
) -> None:
    for arguments, message in (
        ((ids[0], "nope", "--store", store), "no run 'nope'"),
        (("../runs", ids[0], "--store", store), "no run '../runs'"),
        ((*ids, "--store", tmp_path / "nowhere"), "no run in"),
        ((ids[0], "--store", store), "missing argument RUN2"),
        ((*ids, ids[0], "--store", store), "unexpected extra argument"),
    ):
        for as_json in ((), ("--json",)):
            done = fashion_flow("compare", *arguments, *as_json)
            assert done.status == 2, arguments
            assert message in " ".join(done.err.split()), arguments
            assert "Traceback" not in done.err
            assert done.out == ""


# Reports


def browser(folder: Path, status: int = 0) -> Path:
    """A program in place of a browser that writes down its arguments."""
    script = folder / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/opened"\nexit {status}\n')
    script.chmod(0o755)
    return script


def test_the_latest_report_is_opened_in_the_users_browser(
    store: Path, runs: list[RunLog], fashion_flow: Command, tmp_path: Path
) -> None:
    done = fashion_flow("report", "--open", "--store", store, BROWSER=str(browser(tmp_path)))
    assert done.status == 0, done.err
    assert done.err == ""
    page = on_disk(runs[-1].report)
    assert done.out == f"{page}\n"
    assert (tmp_path / "opened").read_text() == f"{page.as_uri()}\n"
    assert page.is_file()


def test_the_report_of_a_given_run_is_not_opened_unless_asked_for(
    store: Path, runs: list[RunLog], fashion_flow: Command, tmp_path: Path
) -> None:
    given = ("--run", runs[0].run_id, "--store", store)
    done = fashion_flow("report", *given, BROWSER=str(browser(tmp_path)))
    assert (done.status, done.out) == (0, f"{runs[0].report}\n")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("given", [True, False])
def test_without_a_browser_the_path_is_printed_all_the_same(
    given: bool, store: Path, runs: list[RunLog], fashion_flow: Command, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    done = fashion_flow(
        "report", "--open", "--store", store, PATH=str(bare), DISPLAY="", WAYLAND_DISPLAY="",
        BROWSER=str(browser(tmp_path, status=1)) if given else "",
    )  # fmt: skip
    assert done.status == 2
    assert done.out == f"{runs[-1].report}\n"
    assert "error: no browser was found" in done.err
    assert "Traceback" not in done.err


def test_reports_that_do_not_exist_are_explained(
    unfinished: tuple[Path, str], ids: list[str], fashion_flow: Command, tmp_path: Path
) -> None:
    store, failed = unfinished
    for arguments, message in (
        (("--run", "nope", "--store", store), "no run 'nope'"),
        (("--store", tmp_path / "nowhere"), "no run in"),
    ):
        done = fashion_flow("report", "--open", *arguments, BROWSER=str(browser(tmp_path)))
        assert done.status == 2, arguments
        assert message in " ".join(done.err.split()), arguments
        assert "Traceback" not in done.err
        assert done.out == ""
    assert not (tmp_path / "opened").exists()
    latest = fashion_flow("report", "--store", store)
    assert latest.out == f"{store}/runs/{ids[-1]}/report.html\n"
    said = f"The latest run, {failed}, did not finish (failed); this is run {ids[-1]}"
    assert said in plain(latest.err)
    without = fashion_flow("report", "--run", failed, "--store", store)
    assert (without.status, without.out) == (0, f"{store}/runs/{failed}\n")
    assert "so it has no report" in plain(without.err)


# The model and its card


@pytest.fixture(scope="module")
def card(runs: list[RunLog]) -> str:
    return (runs[0].model_folder / "README.md").read_text()


@pytest.fixture(scope="module")
def final(runs: list[RunLog]) -> Record:
    found = runs[0].record("final")
    assert found is not None
    return found


def block(card: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", card, re.M | re.S)
    return str(found)


def test_the_model_is_beside_its_card_byte_by_byte(
    runs: list[RunLog], final: Record, card: str
) -> None:
    folder, store = runs[0].model_folder, runs[0].store
    usage = json.loads((folder / "usage.json").read_text())
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(["README.md", "usage.json", *usage["files"].values()])
    for name in names:
        if name != "README.md":
            (stored,) = [f.path for f in final.files.values() if Path(f.path).name == name]
            assert (folder / name).read_bytes() == (store.root / stored).read_bytes(), name
    (digest,) = re.findall(r"SHA-256 of `model\.keras`: `([0-9a-f]{64})`", card)
    assert digest == (folder / "model.keras").digest()[0] == final.files["model"].sha256
    assert digest in card


def test_the_card_says_in_yaml_what_a_hub_wants_to_know(
    store: Path, ids: list[str], card: str, fashion_flow: Command
) -> None:
    start, front, text = card.split("---\n", 2)
    assert start == ""
    about = yaml.safe_load(front)
    assert about["library_name"] == "keras"
    assert about["pipeline_tag"] == "image-classification"
    assert about["metrics"] == ["accuracy"]
    assert "datasets" not in about, "drawn images are no data set of the hub"
    (model,) = about["model-index"]
    assert model["name"] == f"fashion-flow {ids[0]}"
    (result,) = model["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"]["name"] == "synthetic garments"
    assert result["dataset"]["split"] == "test"
    (metric,) = result["metrics"]
    accuracy = results(fashion_flow, store, ids[0])["final"]["test_accuracy"]
    assert metric == {"type": "accuracy", "value": pytest.approx(accuracy, abs=5e-5)}
    assert f"| Accuracy | {100 * accuracy:.2f}\N{NO-BREAK SPACE}% |" in text


def test_the_card_says_what_the_model_is_and_is_not(
    runs: list[RunLog], final: Record, card: str
) -> None:
    text = card.split("---\n", 2)[2]
    assert re.match(r"\s*# ", text)
    assert "**SYNTHETIC DATA.**" in text
    assert json.loads(block(card, "json")) == final.basis["settings"]["training"]
    record = runs[0].record("quality")
    assert record is not None
    scores = [
        row
        for row in Store(str(runs[0].store.root)).table(record, "per_class").to_pylist()
        if row["model"] == "final"
    ]
    assert len(scores) == 10
    for row in scores:
        percents = [
            f"{100 * row[name]:.2f}\N{NO-BREAK SPACE}%" for name in ("precision", "recall", "f1")
        ]
        assert f"| {' | '.join([row['class'], *percents])} |" in text
    assert f"{final.facts['params']:,} parameters" in text
    assert f"Run `{runs[0].run_id}`" in text
    assert not re.search(r"\{\{|\{%|&(amp|lt|gt|#\d+);|\bNone\b|\bnan\b", text)


def test_the_code_in_the_card_runs_where_the_model_is(
    runs: list[RunLog], card: str, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(on_disk(runs[0].model_folder), folder)
    code = block(card, "python") + "import sys\nprint('tasks' in sys.modules)\n"
    mine = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=mine | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer, ours = done.stdout.splitlines()
    assert answer in json.loads((folder / "usage.json").read_text())["class_names"]
    assert ours == "False", "plain Keras is enough"


def test_each_run_has_its_own_model_folder(runs: list[RunLog]) -> None:
    one, other = (on_disk(run.model_folder) / "README.md" for run in runs)
    assert one.read_text() != other.read_text()
    assert os.path.commonpath([one, other]) == str(on_disk(runs[0].store.root) / "runs")


@pytest.mark.parametrize("kept", [False, True])
def test_cleaning_removes_an_old_runs_model_unless_somebody_added_a_file(
    kept: bool, store: Path, ids: list[str], fashion_flow: Command, tmp_path: Path
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    old, new = (RunLog(Store(str(copy)), run_id) for run_id in ids)
    if kept:
        (on_disk(old.model_folder) / "notes.md").write_text("somebody else's")
    done = fashion_flow("clean", "--keep", "1", "--store", copy)
    assert done.status == 0, done.err
    assert old.folder.exists() == kept
    assert (new.model_folder / "model.keras").is_file()
