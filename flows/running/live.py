"""The live view of a run: a line for each ended stage, and bars for stages in progress."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import Task, TaskID
from rich.table import Table
from rich.text import Text

from flows.running.stage_rows import NAMES, STATES, StageRows, clock
from tasks.core.messages import brief, listed
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
# Digests of records are only shown in the log file.
RECORD = re.compile(r",? ?record [0-9a-f]{16}$")
# The characters of the names of stages that were cached; a line of all would fill the screen.
MOST_CACHED = 300
# On narrower terminals, columns would leave too little room for the message.
NARROW = 90


class LiveView(logging.Handler):
    """Shows log records on a terminal: a line for each ended stage, bars for those in progress.

    Records may come from any thread. Stopping the view restores the terminal. `more` ends messages
    that were cut, and says where all of them is.
    """

    def __init__(self, stream: TextIO, level: int = logging.INFO, more: str = "") -> None:
        # Epochs move the bars even if they are not shown as lines.
        super().__init__(logging.DEBUG)
        self._shown = level
        self._more = more
        self._console = Console(file=stream)
        self._total = 0
        self._workers = 1
        self._expected: dict[str, float] = {}
        self._ended: dict[str, str] = {}
        self._in_progress: dict[str, TaskID] = {}
        self._cached: list[str] = []
        self._rows = StageRows(self._console, self._run_text)
        self._count()
        self._rows.start()

    def expect(self, total: int, seconds: Mapping[str, float], workers: int = 1) -> None:
        """Set the expected work, from which the remaining time is estimated.

        Args:
            total: how many stages the run has.
            seconds: by stage that will be computed, how long it took the last time.
            workers: how many stages are computed in parallel.
        """
        self._total = total
        self._expected = dict(seconds)
        self._workers = workers
        self._count()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        try:
            self._emit(record)
        except Exception:
            self.handleError(record)

    def stop(self) -> None:
        """Remove the bars from the terminal; the lines above them remain.

        `close` does not do this, because every new configuration of logging calls it.
        """
        self._flush_cached()
        self._rows.stop()

    def _emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if isinstance(event, EpochEvent) and event.stage in self._in_progress:
            self._rows.add_epoch(self._in_progress[event.stage], event)
        if record.levelno < self._shown:
            return
        if isinstance(event, StageEvent):
            self._stage(event)
            return
        self._flush_cached()
        # The terminal wraps long lines; if we did, they could not be copied as one line.
        message = brief(record.getMessage(), end=self._more)
        text = Text(message, style=LEVELS.get(record.levelno, ""))
        self._console.print(text, highlight=False, soft_wrap=True)

    def _stage(self, event: StageEvent) -> None:
        row = self._in_progress.pop(event.stage, None)
        if row is not None:
            self._rows.remove_task(row)
        if event.ended:
            self._expected.pop(event.stage, None)
            named = event.state in (CACHED, SKIPPED, FAILED)
            self._ended[event.stage] = event.state.lower() if named else "done"
        else:
            # A stage that failed may be retried.
            self._ended.pop(event.stage, None)
            doing = "waiting for another run" if event.state == WAITING else "computing"
            self._in_progress[event.stage] = self._rows.add_stage(event.stage, doing)
        self._count()
        if event.state == CACHED:
            # Collected and shown in one line.
            self._cached.append(event.stage)
        elif event.ended:
            self._flush_cached()
            self._print_end(event)

    def _print_end(self, event: StageEvent) -> None:
        style = STYLES.get(event.state, "green" if event.state == "Completed" else "")
        state = Text(event.state, style=style)
        message = RECORD.sub("", event.message)
        if self._console.width < NARROW:
            begin = len(event.stage) + len(event.state) + 4
            message = brief(message, taken=begin, end=self._more)
            line = Text.assemble(f"{event.stage}  ", state, f"  {message}")
            self._console.print(line, highlight=False)
            return
        columns = self._console.width - NAMES - STATES - 2
        message = brief(message, end=self._more, columns=columns)
        table = Table.grid(padding=(0, 1, 0, 0), expand=True)
        table.add_column(width=NAMES, no_wrap=True, overflow="ellipsis")
        table.add_column(width=STATES, no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        table.add_row(
            event.stage, state, Text(message, style="" if event.state in STYLES else "dim")
        )
        self._console.print(table, highlight=False)

    def _flush_cached(self) -> None:
        if self._cached:
            names = listed(self._cached, MOST_CACHED)
            self._cached = []
            self._console.print(Text(f"Cached: {names}", style=STYLES[CACHED]), highlight=False)

    def _count(self) -> None:
        ended = len(self._ended)
        self._rows.count(ended, max(self._total, ended, 1))

    def _run_text(self, run: Task) -> Text:
        """The text of the last row; called by rich's thread, so it iterates over copies."""
        words = [f"{clock(run.elapsed or 0.0)} so far"]
        left = self._seconds_left()
        if left >= 1:
            words.insert(0, f"about {clock(left)} left")
        ended = Counter(list(self._ended.values()))
        words += [f"{ended[state]} {state}" for state in ENDS if ended[state]]
        return Text(", ".join(words), style="dim")

    def _seconds_left(self) -> float:
        """Seconds until the run ends, if every stage takes as long as the last time.

        Workers share the stages, but the run takes at least as long as its longest stage.
        """
        elapsed = {task.description: task.elapsed or 0.0 for task in self._rows.tasks}
        left = [
            max(0.0, seconds - elapsed.get(name, 0.0))
            for name, seconds in list(self._expected.items())
        ]
        return max([sum(left) / self._workers, *left])
