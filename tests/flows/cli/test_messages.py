"""Messages with what users give in them: short, without a traceback, with what to do.

tests/test_messages.py holds all messages to the same rules, as far as their constant parts go.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import screen
from flows.cli.app import main
from flows.cli.predict import MOST_ERRORS, _collected
from flows.running.live import LiveView
from flows.running.run_logging import logging_run
from tasks.core.data.arrangement import arranged
from tasks.core.data.frame_choice import chosen_frame
from tasks.core.data.own_splits import Members, choose_own
from tasks.core.data.photographs import ImageFormat
from tasks.core.errors import UserError
from tasks.core.messages import COLUMNS, LONGEST, MOST_LINES
from tasks.core.settings.images import ImageSettings, SubsetSettings
from tasks.engine.events import FAILED, stage_is
from tasks.sources.datasets import opened_data_set
from tasks.sources.decoded_images import decoded_images
from tasks.sources.own_images import described, traits_of
from tasks.sources.pictures import Unreadable, read_pictures
from tasks.storage.local_path import LocalPath
from tests.tasks.core.test_messages import on_terminal

LONG = "name" * 300
MODEL = ImageFormat(28, 28, 1)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen.err, "_width", COLUMNS)


def check(shown: str) -> str:
    """Check the size of what was printed; return it as one line."""
    text = " ".join(shown.split())
    assert text
    assert "Traceback" not in text
    assert len(shown.replace("\n", "")) <= LONGEST
    assert len(on_terminal(shown.rstrip("\n"))) <= MOST_LINES
    return text


# Data


def archive(path: Path, train: Any, test: Any, names: Any = None, **more: Any) -> Path:
    """A data set of random images with these labels."""
    rng = np.random.default_rng(0)
    sets = {"train": np.asarray(train), "test": np.asarray(test)}
    arrays: dict[str, Any] = {f"y_{name}": labels for name, labels in sets.items()}
    for name, labels in sets.items():
        arrays[f"x_{name}"] = rng.integers(0, 256, (len(labels), 8, 8), np.uint8)
    if names is not None:
        arrays["class_names"] = np.array(names)
    np.savez(path, **arrays, **more)
    return path


EACH = np.arange(10).repeat(12)
MANY = [f"sign number {index}" for index in range(62)]
DATA: dict[str, tuple[tuple[Any, ...], str]] = {
    "a class without test images": (
        ([0, 1, 2] * 9, [0, 1, 1], ["cap", "hat", "shoe"]),
        "the test split of 3 images has none of class 'shoe' (2); add some, leave the class out",
    ),
    "too few names": (([0, 1, 2] * 9, [0, 1, 2], ["cap", "hat"]), "label 2 has no class; expected"),
    "62 classes of which two are tested": (
        (list(range(62)) * 2, [0, 1], MANY),
        "class 'sign number 2' (2), 'sign number 3' (3), ",
    ),
    "endless names": (
        (list(range(10)) * 9, [0, 1], ["cap", *(f"{n}{LONG}" for n in range(9))]),
        "has none of class '1",
    ),
    "the same name often": (([0, 1] * 9, [0, 1], [LONG, LONG]), "class names must differ"),
    "one of a class": (
        ([0] * 30 + [1], [0, 1], ["cap", "hat"]),
        "split of 26 images has none of class 'hat' (1); add images",
    ),
    "only one class": (([7] * 20, [7]), "have 1 class (7); expected 2 to 1,000"),
}


def load(path: Path) -> None:
    """What the stages `load` and `subset` do."""
    settings = ImageSettings()
    with opened_data_set(str(path)) as found:
        frame = chosen_frame(traits_of(found, settings), settings)
        with decoded_images(found.images, frame) as pixels:
            whole = arranged(described(found, pixels, settings), found.class_names, None, 0)
    choose_own(
        Members(whole.train.labels, np.arange(len(whole.train.labels))),
        whole.test.labels,
        whole.class_names,
        SubsetSettings(method="everything"),
        validation=whole.validation,
        test_drawn=whole.test_drawn,
    )


@pytest.mark.parametrize("case", DATA)
def test_data_are_refused_in_a_few_lines(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, said = DATA[case]
    with pytest.raises(UserError) as refused:
        load(archive(tmp_path / "data.npz", *given))
    screen.fail(str(refused.value))
    text = check(capsys.readouterr().err)
    assert said in text
    assert text.endswith(".")
    assert str(refused.value) == refused.value.whole, "short without being cut"


def test_an_archive_of_many_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many: dict[str, Any] = {f"array_{number}": np.zeros(1) for number in range(300)}
    np.savez(tmp_path / "data.npz", **many)
    with pytest.raises(UserError) as refused:
        load(tmp_path / "data.npz")
    screen.fail(str(refused.value))
    assert check(capsys.readouterr().err).endswith("and 294 more.")


# Pictures


def parquet(path: Path) -> None:
    pq.write_table(pa.table({f"feature {name}": [0] for name in map(chr, range(97, 600))}), path)


def arrays(path: Path) -> None:
    pixels = np.zeros((2, 8, 8), np.uint8)
    many: dict[str, Any] = {f"{number}_{LONG[:60]}": pixels for number in range(50)}
    np.savez(path, **many)


PICTURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "columns.parquet": (parquet, " more; expected pictures as encoded bytes"),
    "arrays.npz": (arrays, " more); save the one you mean as a file"),
    "words.png": (lambda path: path.write_text("no picture"), "convert it to PNG"),
    "empty.png": (Path.touch, "get another copy, or leave it out"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_unreadable_pictures_have_a_short_reason(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = PICTURES[name]
    make(tmp_path / name)
    _collected(iter(read_pictures([tmp_path / name], MODEL)), [])  # type: ignore[arg-type]
    assert said in check(capfd.readouterr().err)


def test_of_a_hundred_bad_pictures_the_first_are_named_and_the_others_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(100):
        (tmp_path / f"{number:03}.png").write_text("no picture")
    found = _collected(iter(read_pictures([tmp_path], MODEL)), [])  # type: ignore[arg-type]
    assert sum(isinstance(item, Unreadable) for item in found) == 100
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == MOST_ERRORS + 1
    assert all(f"{number:03}.png: " in lines[number] for number in range(MOST_ERRORS))
    assert lines[-1] == "error: 90 more could not be read; add --json to see all of them."


# Arguments

GATES = ", ".join(f"{number} = 'back'" for number in range(50, 300))
ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "preset": (["--preset", LONG], "preset"),
    "no value": (["--set", LONG], "expected name=value"),
    "many unknown settings": (
        [part for n in range(60) for part in ("--set", f"overfitting.epoch{n}=3")],
        "overfitting.epoch0: no such setting; did you mean overfitting.epochs?",
    ),
    "a long value": (["--set", f"baseline.epochs={LONG}"], "baseline.epochs: "),
    "a long list": (["--set", f"overfitting.filters={['x'] * 400}"], "overfitting.filters."),
    "a group that is none": (["--set", f"seed.{LONG}=1"], "use --plan FILE"),
    "gates": (
        ["--set", f"force={{{GATES}}}"],
        "more;",
    ),
    "a forced gate": (["--force", LONG], "expected a gate's number"),
    "data set": (["--dataset", f"/nowhere/{LONG}.npz"], "there is no such path"),
    "stage": (["--only", LONG, "--dataset", "synthetic"], "no stage 'name"),
    "an extra argument": ([LONG], "See fashion-flow plan --help."),
    "an unknown option": ([f"--{LONG}"], "See fashion-flow plan --help."),
    "cluster": (["--dask-address", f"tcp://{LONG}:1"], "use tls://HOST:PORT"),
    "a number": (["--replicates", "9" * 900], "expected a whole number from 1 to 100"),
    "a plan that is none": (["--plan", "/proc/self/cmdline"], "TOML"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_mistakes_in_arguments_have_a_short_message_and_status_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, said = ARGUMENTS[case]
    assert main(["plan", *given, "--store", str(tmp_path / "store")]) == 2
    assert said in check(capsys.readouterr().err)


def test_a_plan_with_many_unknown_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("".join(f"unknown_{number} = 1\n" for number in range(300)))
    assert main(["plan", "--plan", str(plan), "--store", str(tmp_path / "store")]) == 2
    assert "expected [[iteration]] tables and nothing else, found unknown_0, " in check(
        capsys.readouterr().err
    )


def test_an_error_of_the_system_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", f"/home/{LONG}")

    monkeypatch.setattr("flows.cli.ui.serve_ui", broken)
    assert main(["ui"]) == 1
    text = check(capsys.readouterr().err)
    assert text.startswith("error: /home/namename")
    assert text.endswith(": Permission denied; check that it exists and that you may use it.")


def test_notes_take_six_lines_with_their_frame(capsys: pytest.CaptureFixture[str]) -> None:
    screen.warn(f"this happened: {'word ' * 300}; do that.")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST_LINES
    assert "do that." in lines[-2]


# Runs


def test_long_messages_of_a_run_are_whole_in_its_log_and_short_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("fashion_flow")
    path = LocalPath(tmp_path / "run.log")
    message = f"expected {'this, ' * 500}; do that."
    with logging_run(path, logging.INFO):
        log.error("%s", message)
        stage_is("guard", FAILED, message)
        log.info("short")
    said, failed, short = capfd.readouterr().err.splitlines()
    for line in (said, failed):
        assert check(line).endswith(f"do that. (all of it: {path.log_file()})")
    assert short.endswith("  short")
    assert path.log_file().read_text().count(message) == 2


@pytest.mark.parametrize("width", [80, 120])
def test_so_they_are_in_the_live_view(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    view = LiveView(stream, more=" (all of it: run.log)")
    log = logging.getLogger("messages in the live view")
    log.addHandler(view)
    log.propagate = False
    monkeypatch.setattr("tasks.engine.events.log", log)
    log.setLevel(logging.INFO)
    message = f"expected {'this, ' * 500}; do that."
    log.error("%s", message)
    stage_is("guard", FAILED, message)
    view.stop()
    shown = stream.getvalue()
    assert " ".join(shown.split()).count("do that. (all of it: run.log)") == 2
    assert len(shown) < 4 * LONGEST
    assert len(shown.splitlines()) <= 2 * MOST_LINES + 4
