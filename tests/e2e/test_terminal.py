"""What a run looks like on a real terminal, on a dumb one, and in a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from rich.cells import cell_len

from tasks.storage.run_log import INTERRUPTED, RunLog, all_runs
from tasks.storage.store import Store
from tests.processes import ONE_CHANGE, SMALL, Command, Finished, Server, latest_run
from tests.terminal import on_terminal

COLUMNS, ROWS = 100, 40
EPOCHS, MANY = 2, 5000
QUICK = (*SMALL, "--set", f"overfitting.epochs={EPOCHS}")
STAGES = 27
SHOWN = STAGES + 1  # The report is no stage, but is shown as one.
NOISE = ("Traceback", "oneDNN", "cuda", "absl", "WARNING", "Warning", "prefect.", "tensorflow")
# These set colours and widths, or keep TensorFlow quiet in other tests.
UNSET = (
    "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE",
    "TTY_INTERACTIVE", "TF_CPP_MIN_LOG_LEVEL",
)  # fmt: skip
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
SGR = re.compile(r"\x1b\[([\d;:]*)m")
COLOURS = re.compile(r"3\d|4\d|9[0-7]|10[0-7]")
CURSOR = re.compile(r"\x1b\[\?25([lh])")
EPOCH_BAR = re.compile(rf"overfitting +[━╸╺ ]+ epoch \d+/{MANY}  [\d:]+ left  loss \d\.\d+ ")
LAST_ROW = re.compile(rf"\d+ of {SHOWN} stages +[━╸╺ ]+ .*[\d:]+ so far")

Screen = list[str]


@dataclass(frozen=True)
class Shown:
    """A run on a terminal: its exit status, all that it wrote, and every screen that it showed."""

    status: int
    written: str
    screens: list[Screen]

    @property
    def lines(self) -> list[str]:
        """Every version of every line that was written, without control codes."""
        return [line.rstrip() for line in re.split("[\r\n]+", CONTROL.sub("", self.written))]

    @property
    def colours(self) -> list[str]:
        found = SGR.findall(self.written)
        return [codes for codes in found if any(map(COLOURS.fullmatch, re.split("[;:]", codes)))]

    def shows(self, pattern: re.Pattern[str]) -> bool:
        """Whether a line like this was on the screen at some time."""
        return any(pattern.search(line) for screen in self.screens for line in screen)


def never(_screen: Screen) -> bool:
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "plan.toml").write_text(ONE_CHANGE)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    return folder / "store"


@pytest.fixture(scope="module")
def arguments(folder: Path, store: Path) -> list[str]:
    return ["run", *QUICK, "--plan", str(folder / "plan.toml"), "--store", str(store)]


Show = Callable[..., Shown]


@pytest.fixture(scope="module")
def terminal(
    arguments: list[str], folder: Path, environment: dict[str, str], shared_server: Server
) -> Show:
    """Run the small workflow on a terminal; keywords are environment variables."""
    kept = {name: value for name, value in environment.items() if name not in UNSET}
    base = kept | {"TERM": "xterm-256color", "PREFECT_API_URL": shared_server.url}

    def show(*more: str, interrupt_when: Callable[[Screen], bool] = never, **extra: str) -> Shown:
        screens: list[Screen] = []
        typed: list[str] = []

        def watch(screen: pyte.Screen) -> str:
            screens.append([line.rstrip() for line in screen.display])
            if typed or not interrupt_when(screens[-1]):
                return ""
            typed.append("\x03")
            return typed[-1]

        done = on_terminal(
            [*arguments, *more], folder, base | extra, columns=COLUMNS, rows=ROWS, watch=watch
        )
        return Shown(done.status, done.written, screens)

    return show


@pytest.fixture(scope="module")
def whole(terminal: Show) -> Shown:
    """A run of every stage."""
    shown = terminal()
    assert shown.status == 0, "\n".join(shown.lines)
    return shown


@pytest.fixture(scope="module")
def run(whole: Shown, store: Path) -> RunLog:
    """The log of the run of every stage, the first in the store."""
    assert whole
    return all_runs(Store(str(store)))[0]


@pytest.fixture(scope="module")
def stopped(run: RunLog, terminal: Show) -> Shown:
    """A run without colours whose long training is interrupted with ^C."""
    assert run
    return terminal(
        "--set", f"overfitting.epochs={MANY}", NO_COLOR="1",
        interrupt_when=lambda screen: any(map(EPOCH_BAR.search, screen)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def dumb(run: RunLog, terminal: Show) -> Shown:
    """The first run again, all from the store, on a terminal that can only print."""
    assert run
    return terminal(TERM="dumb")


@pytest.fixture(scope="module")
def piped(
    run: RunLog, fashion_flow: Command, arguments: list[str], shared_server: Server
) -> Finished:
    """The first run again in a pipe, with one training recomputed and --verbose."""
    assert run
    more = ("--refresh", "low_capacity", "--verbose")
    url = shared_server.url
    return fashion_flow(
        *arguments, *more, PREFECT_API_URL=url, TERM="xterm-256color", TF_CPP_MIN_LOG_LEVEL="0"
    )


def test_progress_is_shown_live(whole: Shown, stopped: Shown) -> None:
    assert stopped.shows(EPOCH_BAR)
    assert whole.shows(re.compile(r"baseline +[━╸╺]+ computing, [\d:]+$"))
    assert whole.shows(LAST_ROW)
    counts = [
        int(line.split()[0]) for screen in whole.screens for line in screen if LAST_ROW.search(line)
    ]
    assert len(counts) > 20, "it moves"
    assert counts[0] == 0
    assert SHOWN - 3 <= counts[-1] <= SHOWN


def test_each_finished_stage_has_one_line(whole: Shown, run: RunLog) -> None:
    names = [entry["stage"] for entry in run.stages()]
    assert len(names) == STAGES
    for name in names:
        ends = [line for line in whole.lines if re.match(rf"{name} +[A-Z]\w+ ", line)]
        assert len(ends) == 1, name


def test_the_end_shows_scores_verdicts_the_report_and_next_steps(whole: Shown, run: RunLog) -> None:
    store = run.store.root
    screen = whole.screens[-1]
    text = "\n".join(screen)
    assert not any(LAST_ROW.search(line) for line in screen), "the bars are gone"
    for model in ("baseline", "low_capacity", "overfitting", "iteration_1", "final"):
        (scores,) = [line for line in screen if re.match(rf"{model} +[\d,]+ +\d+ ", line)]
        assert re.search(r" \d+\.\d\d( |$)", scores)
    assert re.search(r"^1 dropout +(forward|back) +[+-]\d+\.\d +[+-]\d+\.\d to ", text, re.M)
    unwrapped = "".join(line.ljust(COLUMNS) for line in screen)
    assert f"run {run.run_id}: data set synthetic" in unwrapped
    assert f"report:      {run.report}" in unwrapped
    assert f"final model: {run.model_folder}" in unwrapped
    assert f"fashion-flow report --open --store {store} " in unwrapped
    assert "--replicates 5 " in unwrapped
    assert f"fashion-flow predict IMAGE... --store {store} " in unwrapped
    assert run.report.is_file()


def test_nothing_is_wider_than_the_screen_and_libraries_are_silent(
    whole: Shown, stopped: Shown, dumb: Shown, piped: Finished, store: Path
) -> None:
    for shown in (whole, stopped):
        # Paths are never broken, so that they can be copied.
        wide = [line for line in shown.lines if cell_len(line) > COLUMNS and str(store) not in line]
        assert wide == []
    for text in (whole.written, stopped.written, dumb.written, piped.out + piped.err):
        assert [word for word in NOISE if word in text] == []


@pytest.mark.parametrize("name", ["whole", "stopped"])
def test_the_cursor_is_visible_again_at_the_end(name: str, request: pytest.FixtureRequest) -> None:
    cursor = CURSOR.findall(request.getfixturevalue(name).written)
    assert cursor[0] == "l", "it is hidden while the bars are drawn"
    assert cursor[-1] == "h"


def test_no_color_is_respected(whole: Shown, stopped: Shown) -> None:
    assert stopped.colours == []
    assert whole.colours, "colours are used unless forbidden"


def test_a_terminal_that_can_only_print_gets_plain_lines(dumb: Shown) -> None:
    assert dumb.status == 0
    assert "\x1b" not in dumb.written
    assert not dumb.shows(LAST_ROW)
    assert any(re.match(r"\d\d:\d\d:\d\d  low_capacity +Cached ", line) for line in dumb.lines)
    assert dumb.shows(re.compile(r"^baseline +101,770 "))
    assert dumb.shows(re.compile("^next:"))


def test_a_pipe_gets_plain_lines_and_results_on_standard_output(piped: Finished) -> None:
    assert piped.status == 0, piped.err
    assert "\x1b" not in piped.out + piped.err
    assert "\r" not in piped.out + piped.err
    assert "━" not in piped.err
    assert re.search(r"^\d\d:\d\d:\d\d  low_capacity +Completed ", piped.err, re.M)
    assert re.match(r"run \S+: data set synthetic", piped.out)
    assert "report: " in piped.out
    assert "next:" in piped.out


def test_verbose_has_a_line_for_each_epoch(piped: Finished, whole: Shown) -> None:
    epoch = re.compile(r"low_capacity +epoch 1/1 .* loss \d\.\d{4} .* val_loss \d\.\d{4}$", re.M)
    assert epoch.search(piped.err)
    assert not whole.shows(epoch)


def test_quiet_prints_only_the_path_of_the_report(
    run: RunLog,
    store: Path,
    arguments: list[str],
    fashion_flow: Command,
    shared_server: Server,
) -> None:
    assert run
    done = fashion_flow(
        *arguments, "--quiet", PREFECT_API_URL=shared_server.url, TF_CPP_MIN_LOG_LEVEL="0"
    )
    assert done.status == 0
    assert done.err == ""
    assert done.out == f"{latest_run(store).report}\n"
    assert latest_run(store).report.is_file()


def test_the_log_file_has_everything_shown_and_more(run: RunLog) -> None:
    text = (run.folder / "run.log").read_text()
    stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
    for entry in run.stages():
        name = entry["stage"]
        assert re.search(rf"{stamp}INFO +{name} +Running ", text, re.M), name
        assert re.search(rf"{stamp}INFO +{name} +(?!Running)[A-Z]\w+ ", text, re.M), name
    for epoch in range(1, EPOCHS + 1):
        assert re.search(rf"{stamp}DEBUG +overfitting +epoch {epoch}/{EPOCHS} ", text, re.M)
    assert "oneDNN" in text, "TensorFlow's messages too"
    assert "\x1b" not in text


def test_ctrl_c_leaves_the_terminal_clean_and_says_how_to_continue(
    stopped: Shown, store: Path
) -> None:
    assert stopped.status == 130
    screen = [line for line in stopped.screens[-1] if line]
    # The terminal breaks a long line anywhere.
    text = "".join(screen).replace(" ", "")
    assert "finished stages are kept in".replace(" ", "") in text
    assert "start the same command again to continue".replace(" ", "") in text
    assert not [line for line in screen if "━" in line or "^C" in line], "the bars are gone"
    assert not [line for line in screen if line.startswith("overfitting")], "and their names"
    assert [run.status() for run in all_runs(Store(str(store)))].count(INTERRUPTED) == 1
