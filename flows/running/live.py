"""A run as a terminal shows it: what ended scrolls by, below it what goes on, with time left."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tasks.engine.events import FAILED, WAITING, EpochEvent, StageEvent

CACHED, SKIPPED = "Cached", "Skipped"
ENDS = ("cached", "done", "skipped", "failed")
STYLES = {
    CACHED: "dim",
    SKIPPED: "yellow",
    FAILED: "bold red",
    "RolledForward": "bold blue",
    "ForcedForward": "bold yellow",
    "ForcedBack": "bold yellow",
}
LEVELS = {logging.WARNING: "yellow", logging.ERROR: "bold red"}
REFRESHES_PER_SECOND = 5
# What is told of an epoch where its row has it, and how.
SCORES = {"loss": "loss {:.3f}", "accuracy": "acc {:.1%}", "val_accuracy": "val acc {:.1%}"}
# The log has it; nobody reads it off a terminal.
RECORD = re.compile(r",? ?record [0-9a-f]{16}$")
NAMES, STATES = 31, 14
LEAST_NAMES = 18
# Columns on terminals that are not as wide leave too little for words.
NARROW = 90
# Cells at the end of a row for the ^C that a terminal echoes: in the next line it would stay.
ECHO = 2


@dataclass
class Going:
    """A stage that is being computed, and how far its training is."""

    since: float
    waiting: bool = False
    first: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    last: EpochEvent | None = None

    def epoch(self, event: EpochEvent, at: float) -> None:
        """Take note of an epoch."""
        if self.last is None:
            self.first, self.first_at = event.epoch, at
        # The time first: what is drawn meanwhile is drawn without a lock.
        self.last_at = at
        self.last = event

    def left(self, at: float) -> float | None:
        """Seconds that the rest of the epochs will take, by those seen; None while unknown."""
        if self.last is None:
            return None
        seen = self.last.epoch - self.first
        # A stage's first epoch comes with start-up, but it is all that is known.
        each = (self.last_at - self.first_at) / seen if seen else self.first_at - self.since
        # The epoch that goes on takes at least as long as it has taken.
        return each * (self.last.epochs - self.last.epoch) - min(each, at - self.last_at)


class LiveView(logging.Handler):
    """Shows log records on a terminal: ended stages as lines, those that go on as bars below.

    It may be told of things from any thread. Stopping it leaves the terminal as it was.
    """

    def __init__(self, stream: TextIO, level: int = logging.INFO) -> None:
        # Epochs move the bars also where they get no line.
        super().__init__(logging.DEBUG)
        self._shown = level
        self._console = Console(file=stream)
        self._started = time.monotonic()
        self._total = 0
        self._workers = 1
        self._expected: dict[str, float] = {}
        self._ended: dict[str, str] = {}
        self._going: dict[str, Going] = {}
        self._cached: list[str] = []
        # Drawn by a thread of its own, which reads what `emit` writes and takes no lock for it:
        # each value is replaced whole.
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def expect(self, total: int, seconds: Mapping[str, float], workers: int = 1) -> None:
        """Say what is to come.

        Args:
            total: how many stages there will be.
            seconds: how long those to come took the last time.
            workers: how many are computed at once.
        """
        self._total = total
        self._expected = dict(seconds)
        self._workers = workers

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        try:
            self._emit(record)
        except Exception:
            self.handleError(record)

    def stop(self) -> None:
        """Take the bars off the terminal; what scrolled by stays.

        Not done by `close`, which whoever configures logging anew calls for every handler.
        """
        self._flush_cached()
        self._live.stop()

    def _emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if isinstance(event, EpochEvent) and event.stage in self._going:
            self._going[event.stage].epoch(event, time.monotonic())
        if record.levelno < self._shown:
            return
        if isinstance(event, StageEvent):
            self._stage(event)
            return
        self._flush_cached()
        # Whole, since what is broken by us can't be copied from a terminal.
        text = Text(record.getMessage(), style=LEVELS.get(record.levelno, ""))
        self._console.print(text, highlight=False, soft_wrap=True)

    def _stage(self, event: StageEvent) -> None:
        if not event.ended:
            # What failed may be tried again.
            self._ended.pop(event.stage, None)
            waiting = event.state == WAITING
            self._going[event.stage] = Going(time.monotonic(), waiting)
            return
        self._going.pop(event.stage, None)
        self._expected.pop(event.stage, None)
        named = event.state in (CACHED, SKIPPED, FAILED)
        self._ended[event.stage] = event.state.lower() if named else "done"
        if event.state == CACHED:
            # Dozens of them say one thing: that they are there.
            self._cached.append(event.stage)
            return
        self._flush_cached()
        style = STYLES.get(event.state, "green" if event.state == "Completed" else "")
        words = RECORD.sub("", event.message)
        if self._console.width < NARROW:
            self._line(Text.assemble(f"{event.stage}  ", (event.state, style), f"  {words}"))
            return
        line = _columns()
        message = Text(words, style="" if event.state in STYLES else "dim")
        line.add_row(event.stage, Text(event.state, style=style), message)
        self._line(line)

    def _flush_cached(self) -> None:
        if self._cached:
            names = ", ".join(self._cached)
            self._cached = []
            self._line(Text(f"Cached: {names}", style=STYLES[CACHED]))

    def _line(self, line: RenderableType) -> None:
        self._console.print(line, highlight=False)

    def _draw(self) -> RenderableType:
        at = time.monotonic()
        going = list(self._going.items())
        # More than fits would push the last line off the screen.
        shown = going[: max(1, self._console.height - 4)]
        # No wider than the names are: the words beside them need the room.
        rows = _columns(max([LEAST_NAMES, *(len(stage) for stage, _ in shown)]), no_wrap=True)
        rows.width = max(1, self._console.width - ECHO)
        for stage, found in shown:
            rows.add_row(Text(stage, style="bold"), *_progress(found, at))
        rows.add_row(*self._summary(at, dict(going)))
        if going:
            return rows
        return Group(Spinner("dots", Text("getting ready", style="dim")), rows)

    def _summary(self, at: float, going: Mapping[str, Going]) -> tuple[RenderableType, ...]:
        ended = Counter(list(self._ended.values()))
        total = max(self._total, ended.total(), 1)
        words = []
        # Of stages that go on, what they took the last time is in part behind us.
        left = [
            max(0.0, seconds - (at - going[name].since if name in going else 0.0))
            for name, seconds in list(self._expected.items())
        ]
        # No sooner than the longest of them, however many are computed at once.
        seconds = max([sum(left) / self._workers, *left])
        if seconds >= 1:
            words.append(f"about {_clock(seconds)} left")
        words.append(f"{_clock(at - self._started)} so far")
        words += [f"{ended[state]} {state}" for state in ENDS if ended[state]]
        bar = ProgressBar(total=total, completed=ended.total())
        count = f"{ended.total()} of {total} stages"
        return Text(count, style="dim"), bar, Text(", ".join(words), style="dim")


def _columns(names: int = NAMES, *, no_wrap: bool = False) -> Table:
    """Stage, state or bar, and words; by default as wide as in the lines of a plain log."""
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=min(names, NAMES), no_wrap=True, overflow="ellipsis")
    table.add_column(width=STATES, no_wrap=True)
    table.add_column(ratio=1, no_wrap=no_wrap, overflow="ellipsis" if no_wrap else "fold")
    return table


def _progress(found: Going, at: float) -> tuple[RenderableType, Text]:
    if found.last is None:
        word = "waiting for another run" if found.waiting else "computing"
        words = Text(f"{word}, {_clock(at - found.since)}", style="dim")
        return ProgressBar(total=None, pulse=True), words
    last = found.last
    words = Text(f"epoch {last.epoch}/{last.epochs}")
    left = found.left(at)
    if left is not None and last.epoch < last.epochs:
        words.append(f"  {_clock(left)} left", style="bold")
    for name, form in SCORES.items():
        if name in last.row:
            words.append("  " + form.format(last.row[name]))
    return ProgressBar(total=last.epochs, completed=last.epoch), words


def _clock(seconds: float) -> str:
    """Minutes and seconds, after hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
