"""What is printed on terminals that know only ASCII, and into pipes that close early."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import screen
from flows.cli.app import main
from flows.cli.screen import Screen, add_row, table
from tasks.core.records import Stage, digest_of
from tasks.storage.run_log import DONE
from tasks.storage.store import Store
from tests.flows.cli.test_run_tables import Begun, settings, trained, verdict
from tests.support import basis, spec_of

NAME = "a rather long name of a change"
ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of a change with a long name, and its `load` with other settings."""
    folder = tmp_path_factory.mktemp("store")
    plan = f"plan=[{{name='{NAME}', change={{dropout=0.25}}}}]"
    begun = Begun(folder, settings(plan))
    begun.finish("baseline", trained(0.75))
    begun.finish("gate_1", verdict(1))
    return folder


def flow(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *map(str, arguments)],
        env=os.environ | {"COLUMNS": "80"} | environment,
        capture_output=True,
        check=False,
    )


# ASCII


@pytest.mark.parametrize("environment", ASCII, ids=str)
def test_a_shortened_name_ends_in_dots_where_there_is_only_ascii(
    environment: dict[str, str], store: Path
) -> None:
    done = flow("verdicts", "--run", "run-1", "--store", store, **environment)
    assert done.returncode == 0
    lines = done.stdout.decode("ascii").splitlines()
    (row,) = [line for line in lines if line.startswith("1 a rather")]
    assert row.startswith("1 a rather long n... |forward ")
    assert "\\u" not in done.stdout.decode()
    assert all(len(line) <= 80 for line in lines)
    assert done.stderr.decode("ascii").startswith("+- note ---")


def test_a_shortened_name_ends_in_an_ellipsis_elsewhere(store: Path) -> None:
    done = flow("verdicts", "--run", "run-1", "--store", store, PYTHONIOENCODING="utf-8")
    assert "\n1 a rather long nam\u2026  forward " in done.stdout.decode()


@pytest.mark.parametrize("environment", ASCII, ids=str)
def test_reasons_have_arrows_of_ascii_signs(environment: dict[str, str], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    before = basis(settings={"dataset": "synthetic", "synthetic": {"train": 7}})
    outputs = store.writer(Stage("load", spec_of("load")), digest_of(before), before)
    store.commit(outputs, {})
    wide = environment | {"COLUMNS": "200"}
    done = flow("plan", "--preset", "smoke", "--store", tmp_path, **wide)
    assert done.returncode == 0, done.stderr
    assert "synthetic.train 7 -> 700" in done.stdout.decode("ascii")
    assert "\\u" not in done.stdout.decode()


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [("abcdefgh", 6, "abc..."), ("abcdefgh", 3, "..."), ("abcdefgh", 2, ".."), ("abc", 3, "abc")],
)
def test_dots_are_no_wider_than_the_column(text: str, width: int, shown: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    made = table("")
    made.columns[0].width = width
    made.show_header = False
    add_row(made, text)
    Screen(file=stream, width=40).print(made)
    stream.seek(0)
    assert stream.read().rstrip() == shown


def test_texts_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    made = table("name")
    add_row(made, "[red]:bug:[/red]")
    screen.show(made)
    screen.line("[red]:bug:[/red]")
    screen.fail("[red]:bug:[/red]")
    shown = capsys.readouterr()
    assert shown.out.count("[red]:bug:[/red]") == 2
    assert shown.err == "error: [red]:bug:[/red]\n"


# Closed pipes


def closed(*arguments: str | Path, start: tuple[str, ...] = ("-m", "flows")) -> tuple[int, str]:
    """Exit status and standard error of a command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, *start, *map(str, arguments)],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that is done."""
    folder = tmp_path_factory.mktemp("complete")
    begun = Begun(folder, settings())
    begun.finish("baseline", trained(0.75))
    begun.log.end(DONE)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "--help"],
        ["plan", "--preset", "smoke"],
        ["runs"],
        ["runs", "--json"],
        ["verify"],
        ["clean", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_pipe_that_closes_early_ends_a_command_quietly(
    command: list[str], complete: Path
) -> None:
    place = [] if "--help" in command else ["--store", str(complete)]
    assert closed(*command, *place) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        ["results"],
        ["results", "--json"],
        ["verdicts"],
        ["report"],
        ["compare", "run-1", "run-1"],
    ],
    ids=" ".join,
)
def test_so_does_one_that_shows_an_unfinished_run(command: list[str], store: Path) -> None:
    status, err = closed(*command, "--store", store)
    assert status == 0
    assert "note" in err
    assert not {"error", "Error", "Traceback", "Exception"} & set(err.split())


def test_so_does_one_that_prints_by_itself() -> None:
    code = (
        "import flows.__main__, flows.cli.ui\n"
        "flows.cli.ui.serve_ui = lambda *_, **__: print('Prefect UI', flush=True)\n"
        "flows.__main__.main()"
    )
    assert closed("ui", start=("-c", code)) == (0, "")


def test_a_connection_that_breaks_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe", "server")

    monkeypatch.setattr("flows.cli.ui.serve_ui", broken)
    monkeypatch.setattr(screen.out, "is_closed", lambda: False)
    assert main(["ui"]) == 1
    assert capsys.readouterr().err.startswith("error: server: Broken pipe; check that")


def test_damage_is_a_failure_even_if_nobody_reads_what_is_damaged(tmp_path: Path) -> None:
    begun = Begun(tmp_path, settings())
    begun.finish("baseline", trained(0.75))
    (record,) = tmp_path.rglob("record.json")
    record.write_text("{}")
    status, err = closed("verify", "--store", tmp_path)
    assert (status, err) == (1, "")


def test_a_shell_pipeline_with_head(store: Path) -> None:
    command = f"'{sys.executable}' -m flows results --store '{store}' 2>&1 | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# Streams that can't be written


@pytest.mark.parametrize("command", [["runs"], ["verify"], ["plan", "--preset", "smoke"]])
def test_a_full_disk_behind_standard_output_is_named(command: list[str], complete: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *command, "--store", str(complete)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert said == (
        "error: standard output can't be written (No space left on device); write it elsewhere."
    )


@pytest.mark.parametrize(
    ("command", "status"), [(["results"], 0), (["results", "--run", "nope"], 2)], ids=str
)
def test_a_command_needs_no_standard_error(command: list[str], status: int, store: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *command, "--store", str(store)],
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)


def test_too_little_memory_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("flows.cli.ui.serve_ui", hungry)
    assert main(["ui"]) == 1
    assert capsys.readouterr().err.startswith("error: there is not enough memory; free some")


def test_a_library_s_warning_is_no_error() -> None:
    """As PYTHONWARNINGS=error makes it; NumPy and Keras warn each other in every training."""
    code = (
        "import warnings, flows.__main__, flows.cli.ui\n"
        "flows.cli.ui.serve_ui = lambda *_, **__: warnings.warn('old', DeprecationWarning)\n"
        "flows.__main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "ui"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
