"""What a terminal shows during a run: log records go in, an emulated screen is read."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyte
import pytest

from flows.running.live import LiveView
from tasks.engine.events import FAILED, RUNNING, WAITING, log_epoch, stage_is
from tests.processes import wait_for

ROWS = 12
DRAWN_S = 10
log = logging.getLogger("fashion_flow")


class Terminal(io.StringIO):
    """An emulated terminal whose screen can be read."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._screen = pyte.HistoryScreen(columns, ROWS, history=1000, ratio=0.5)
        self._screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self._screen)
        # Each write is seen as a whole, never in part.
        self._lock = threading.Lock()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            self._stream.feed(text)
            return len(text)

    def lines(self) -> list[str]:
        """The lines on the screen without empty ones."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        return [line for line in lines if line]

    def scrolled(self) -> int:
        with self._lock:
            return len(self._screen.history.top)

    def ever(self) -> list[str]:
        """All lines since the beginning: those that scrolled off the top, then the screen's."""
        with self._lock:
            top = [
                "".join(line[column].data for column in range(self._screen.columns)).rstrip()
                for line in self._screen.history.top
            ]
        return top + self.lines()

    def has_cursor(self) -> bool:
        with self._lock:
            return not self._screen.cursor.hidden


@dataclass
class Shown:
    """A view, its terminal, and the clock that it reads."""

    view: LiveView
    terminal: Terminal
    clock: dict[str, float]

    def soon(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Wait until a condition holds for the lines on the terminal; return them."""
        found: list[str] = []

        def holds() -> bool:
            found[:] = self.terminal.lines()
            return condition(found)

        try:
            wait_for(holds, DRAWN_S, "the view")
        except pytest.fail.Exception:
            pytest.fail("\n".join(["the terminal shows:", *found]))
        return found

    def line(self, *words: str) -> str:
        """Wait for a line that contains all these words; return it."""

        def fits(line: str) -> bool:
            return all(word in line for word in words)

        return next(filter(fits, self.soon(lambda lines: any(map(fits, lines)))))


Show = Callable[..., Shown]


class AsciiTerminal(Terminal):
    """A terminal that is not UTF-8; it fails where Python would have to escape a character."""

    encoding = "ascii"

    def write(self, text: str) -> int:
        assert text.isascii(), text
        return super().write(text)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Start a view of the project's log, with a level and a terminal width."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(log, "propagate", False)
    begun: list[LiveView] = []
    before = log.level

    def begin(level: int = logging.INFO, columns: int = 100) -> Shown:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(ROWS))
        clock = {"now": 1000.0}
        monkeypatch.setattr("flows.running.stage_rows.time", Clock(clock))
        terminal = Terminal(columns)
        view = LiveView(terminal, level)
        begun.append(view)
        log.addHandler(view)
        log.setLevel(logging.DEBUG)
        return Shown(view, terminal, clock)

    yield begin
    for view in begun:
        log.removeHandler(view)
        view.stop()
    log.setLevel(before)


class Clock:
    """A replacement for the module `time`."""

    def __init__(self, clock: dict[str, float]) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock["now"]


@pytest.fixture
def shown(show: Show) -> Shown:
    return show()


def row(**values: float) -> dict[str, float]:
    return {"epoch": 1.0, "loss": 0.5, "accuracy": 0.25} | values


def test_it_says_getting_ready_before_the_first_stage(shown: Shown) -> None:
    assert "getting ready" in shown.line("getting ready")
    assert not shown.terminal.has_cursor()


def test_a_stage_in_progress_has_a_bar_until_it_ends(shown: Shown) -> None:
    stage_is("baseline", RUNNING, "not computed yet")
    shown.clock["now"] += 65
    assert "━" in shown.line("baseline", "computing, 1:05")
    assert not [line for line in shown.terminal.lines() if "getting ready" in line]
    stage_is("baseline", "Completed", "65.0 s, record abc")
    shown.soon(lambda lines: not any("computing" in line for line in lines))
    assert shown.line("baseline").split() == [
        "baseline",
        "Completed",
        "65.0",
        "s,",
        "record",
        "abc",
    ]


def test_waiting_for_another_run_differs_from_computing(shown: Shown) -> None:
    stage_is("load", WAITING, "another run is computing it")
    assert "waiting for another run" in shown.line("load")
    stage_is("load", RUNNING, "not computed yet")
    assert "computing" in shown.line("load", "computing")


def test_a_training_shows_its_epochs_scores_and_the_time_left(shown: Shown) -> None:
    stage_is("overfitting", RUNNING, "not computed yet")
    shown.clock["now"] += 10
    log_epoch("overfitting", 1, 5, row(val_accuracy=0.125))
    first = shown.line("overfitting", "epoch 1/5")
    assert "0:40 left" in first, "only the first epoch is known, which took 10 s"
    assert first.endswith("loss 0.500  acc 25.0%  val acc 12.5%"), "everything fits in 100 columns"
    shown.clock["now"] += 4
    log_epoch("overfitting", 2, 5, row())
    assert "0:12 left" in shown.line("epoch 2/5")
    shown.clock["now"] += 3
    assert "0:09 left" in shown.line("epoch 2/5", "0:09"), "it counts down"
    shown.clock["now"] += 60
    assert "0:08 left" in shown.line("epoch 2/5", "0:08"), (
        "but not below the time of the later epochs"
    )
    log_epoch("overfitting", 5, 5, row())
    assert "left" not in shown.line("epoch 5/5")


def test_epochs_from_a_checkpoint_do_not_count_as_time(shown: Shown) -> None:
    stage_is("final", RUNNING, "not computed yet")
    shown.clock["now"] += 30
    log_epoch("final", 41, 50, row())
    shown.clock["now"] += 2
    log_epoch("final", 42, 50, row())
    assert "0:16 left" in shown.line("epoch 42/50")


def test_a_bar_grows_with_the_epochs(show: Show) -> None:
    shown = show(columns=120)
    bars = []
    stage_is("baseline", RUNNING, "")
    for epoch in (1, 3, 4):
        log_epoch("baseline", epoch, 4, row())
        bars.append(shown.line(f"epoch {epoch}/4").split()[1])
    # Half a cell separates the two parts: an end of the first or a beginning of the second.
    assert bars == ["━━━╸━━━━━━━━━━", "━━━━━━━━━━╸━━━", "━━━━━━━━━━━━━━"]


def test_scores_are_cut_at_the_edge_of_the_terminal(show: Show) -> None:
    shown = show(columns=70)
    stage_is("baseline", RUNNING, "")
    log_epoch("baseline", 1, 4, row(val_accuracy=0.125))
    assert shown.line("epoch 1/4").endswith("…")


def test_digests_of_records_are_not_shown(shown: Shown) -> None:
    stage_is("baseline", "Completed", "65.0 s, accuracy 80.00 %, record 0123456789abcdef")
    assert shown.line("baseline", "Completed").endswith("65.0 s, accuracy 80.00 %")


def test_the_last_line_counts_stages_and_estimates_the_time_left(show: Show) -> None:
    shown = show(columns=140)
    shown.view.expect(9, {"baseline": 30.0, "final": 60.0})
    assert "about 1:30 left" in shown.line("0 of 9 stages")
    stage_is("load", "Cached", "record abc")
    stage_is("vgg16_weights", "Skipped", "there are none")
    stage_is("gate_1", "KeptIncumbent", "no better")
    stage_is("baseline", RUNNING, "")
    shown.clock["now"] += 10
    last = shown.line("3 of 9 stages", "0:10 so far, 1 cached, 1 done, 1 skipped")
    assert "about 1:20 left, 0:10 so far" in last, "10 of 90 s have passed"
    stage_is("baseline", "Completed", "")
    stage_is("final", "Completed", "")
    shown.clock["now"] += 50
    assert shown.line("5 of 9 stages").endswith("1:00 so far, 1 cached, 3 done, 1 skipped")


def test_workers_share_the_time_left_but_it_is_never_below_the_longest_stage(
    shown: Shown,
) -> None:
    shown.view.expect(3, {"baseline": 30.0, "final": 60.0, "overfitting": 70.0}, workers=2)
    assert "about 1:20 left" in shown.line("0 of 3 stages")
    stage_is("baseline", "Completed", "")
    assert "about 1:10 left" in shown.line("1 of 3 stages")


def test_a_narrow_terminal_gets_plain_lines(show: Show) -> None:
    shown = show(columns=60)
    stage_is("low_capacity", "Completed", "3.6 s, validation accuracy 28.00 %")
    assert shown.line("low_capacity") == (
        "low_capacity  Completed  3.6 s, validation accuracy 28.00 %"
    )


def test_a_stage_that_takes_longer_than_last_time_does_not_shorten_the_others(
    shown: Shown,
) -> None:
    shown.view.expect(2, {"baseline": 30.0, "final": 60.0})
    stage_is("baseline", RUNNING, "")
    shown.clock["now"] += 500
    assert "about 1:00 left" in shown.line("0 of 2 stages", "8:20 so far")


def test_lines_of_ended_stages_remain(shown: Shown) -> None:
    stage_is("vgg16_weights", "Skipped", "there are no weights")
    stage_is("gate_1", "RolledForward", "better by 3 points")
    stage_is("gate_2", "ForcedBack", "by hand")
    stage_is("train", FAILED, "No space left on device")
    shown.view.stop()
    assert [line.split(maxsplit=2) for line in shown.terminal.lines()] == [
        ["vgg16_weights", "Skipped", "there are no weights"],
        ["gate_1", "RolledForward", "better by 3 points"],
        ["gate_2", "ForcedBack", "by hand"],
        ["train", "Failed", "No space left on device"],
    ]


def test_a_retried_stage_no_longer_counts_as_failed(shown: Shown) -> None:
    shown.view.expect(1, {})
    stage_is("load", RUNNING, "")
    stage_is("load", FAILED, "Connection reset by peer")
    assert "1 failed" in shown.line("1 of 1 stages")
    stage_is("load", RUNNING, "retried")
    assert "failed" not in shown.line("0 of 1 stages")
    stage_is("load", "Completed", "")
    assert "1 done" in shown.line("1 of 1 stages")


def test_cached_stages_share_a_line(shown: Shown) -> None:
    for name in ("load", "explore", "subset"):
        stage_is(name, "Cached", "record abc")
    assert "3 cached" in shown.line("3 of 3 stages")
    assert not [line for line in shown.terminal.lines() if "explore" in line]
    stage_is("guard", "Completed", "0.1 s")
    stage_is("preprocess", "Cached", "record abc")
    shown.view.stop()
    assert [line.split() for line in shown.terminal.lines()] == [
        ["Cached:", "load,", "explore,", "subset"],
        ["guard", "Completed", "0.1", "s"],
        ["Cached:", "preprocess"],
    ]


def test_other_log_lines_scroll_by(shown: Shown) -> None:
    log.info("Prefect server: %s", "http://127.0.0.1:4200/api")
    log.warning("images [0] of [/tmp/x] are odd")
    log.debug("of no interest")
    shown.view.stop()
    assert shown.terminal.lines() == [
        "Prefect server: http://127.0.0.1:4200/api",
        "images [0] of [/tmp/x] are odd",
    ]


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 3)])
def test_epochs_have_lines_only_at_the_debug_level(level: int, lines: int, show: Show) -> None:
    shown = show(level)
    stage_is("baseline", RUNNING, "")
    for epoch in (1, 2, 3):
        log_epoch("baseline", epoch, 3, row())
    shown.view.stop()
    found = [line for line in shown.terminal.lines() if "loss 0.5000" in line]
    assert len(found) == lines


ODD: dict[str, Callable[[], Any]] = {
    "state": lambda: stage_is("load", "Exploded", "nobody knows why"),
    "end without a beginning": lambda: stage_is("never_begun", "Completed", ""),
    "epoch of no stage": lambda: log_epoch("nowhere", 1, 2, row()),
    "epoch without scores": lambda: log_epoch("baseline", 1, 2, {"mae": 1.0}),
    "epoch of none": lambda: log_epoch("baseline", 0, 0, row()),
    "loss that is no number": lambda: log_epoch("baseline", 1, 2, row(loss=float("nan"))),
    "event": lambda: log.info("an event", extra={"event": "of another kind"}),
    "empty": lambda: log.info(""),
    "stage with an empty name": lambda: stage_is("", RUNNING, ""),
}


@pytest.mark.parametrize("odd", ODD)
def test_unexpected_records_do_not_stop_it(odd: str, shown: Shown) -> None:
    stage_is("baseline", RUNNING, "")
    ODD[odd]()
    shown.clock["now"] += 3600
    assert shown.line("1:00:00 so far"), "it is still drawn"
    log.info("and on it goes")
    shown.view.stop()
    assert "and on it goes" in shown.terminal.lines()


def test_a_record_that_can_not_be_formatted_does_not_stop_it(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given to the view alone: pytest's own handler would raise.
    wrong = {"levelno": logging.INFO, "msg": "%d images", "args": ("no number",)}
    shown.view.handle(logging.makeLogRecord(wrong))
    assert "--- Logging error ---" in capsys.readouterr().err
    log.info("and on it goes")
    assert shown.line("and on it goes")


def test_the_last_line_stays_on_the_screen_with_any_number_of_stages(shown: Shown) -> None:
    for number in range(3 * ROWS):
        stage_is(f"stage_{number}", RUNNING, "")
    found = shown.soon(lambda lines: any("stage_7" in line for line in lines))
    assert "0 of 1 stages" in found[-1]
    assert len(found) <= ROWS
    assert shown.terminal.scrolled() == 0
    shown.view.stop()
    assert shown.terminal.lines() == []


@pytest.mark.parametrize("columns", [50, 80, 132])
def test_rows_fit_the_terminal_and_leave_nothing_behind(columns: int, show: Show) -> None:
    shown = show(columns=columns)
    shown.view.expect(30, {"overfitting": 500.0})
    stage_is("overfitting", RUNNING, "not computed yet with these settings, inputs and code")
    log_epoch("overfitting", 1, 5, row(val_accuracy=0.125))
    shown.clock["now"] += 1
    found = shown.soon(lambda lines: len(lines) == 2)
    # The terminal echoes typed characters, ^C above all, at the end of the last line.
    assert all(len(line) <= columns - 2 for line in found)
    shown.terminal.write("^C")
    shown.view.stop()
    assert shown.terminal.lines() == []


def test_a_very_narrow_terminal_gets_what_fits(show: Show) -> None:
    shown = show(columns=10)
    stage_is("overfitting", RUNNING, "not computed yet with these settings, inputs and code")
    log_epoch("overfitting", 1, 5, row(val_accuracy=0.125))
    assert shown.line("ove…", "━")
    shown.view.stop()
    assert shown.terminal.lines() == []


def test_stopping_restores_the_terminal(shown: Shown) -> None:
    stage_is("load", "Completed", "0.1 s")
    stage_is("overfitting", RUNNING, "")
    assert shown.line("overfitting", "computing")
    shown.view.stop()
    assert shown.terminal.has_cursor()
    assert [line.split()[0] for line in shown.terminal.lines()] == ["load"]
    shown.view.stop()
    assert [line.split()[0] for line in shown.terminal.lines()] == ["load"]


def test_records_may_come_from_many_threads(show: Show) -> None:
    shown = show()
    names = [f"stage_{number}" for number in range(8)]
    shown.view.expect(len(names), dict.fromkeys(names, 1.0))

    def live(name: str) -> None:
        stage_is(name, RUNNING, "")
        for epoch in range(1, 51):
            log_epoch(name, epoch, 50, row())
        stage_is(name, "Completed", "")

    threads = [threading.Thread(target=live, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "8 done" in shown.line("8 of 8 stages")
    shown.view.stop()
    ends = [line.split()[0] for line in shown.terminal.ever() if "Completed" in line]
    assert sorted(ends) == names


def test_a_terminal_that_is_not_utf_8_gets_bars_and_names_in_ascii() -> None:
    terminal = AsciiTerminal(60)
    view = LiveView(terminal)
    try:
        view.expect(3, {})
        view._rows.refresh()
        assert "getting ready" in terminal.lines()[0]
        view._rows.add_stage("a_name_that_is_longer_than_its_column_is_wide", "computing")
        view._rows.refresh()
        assert any("a_name_that_is_longer" in line for line in terminal.ever())
    finally:
        view.stop()
