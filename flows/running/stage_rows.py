"""Rows with progress bars below the log lines: one for each stage in progress, one for the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich.console import Console, OverflowMethod, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from tasks.engine.events import EpochEvent

REFRESHES_PER_SECOND = 5
NAMES, STATES = 31, 14
# rich forgets epochs that ended earlier than this when it estimates the speed. Its default of 30 s
# would give no estimate for epochs that take longer.
SPEED_PERIOD_S = 24 * 3600.0
# The scores of an epoch that are shown if its event has them.
SCORES = {"loss": "loss {:.3f}", "accuracy": "acc {:.1%}", "val_accuracy": "val acc {:.1%}"}
# Empty cells at the end of each row for the ^C that a terminal echoes. If it wrapped to the next
# line, it would remain on the screen.
ECHO = 2


class StageRows(Progress):
    """A row for each stage in progress, in order of their start, and a last one for the run."""

    def __init__(self, console: Console, run_text: Callable[[Task], Text]) -> None:
        plain = not console.encoding.startswith("utf")
        cut: OverflowMethod = "crop" if plain else "ellipsis"
        names = Column(max_width=NAMES, no_wrap=True, overflow=cut)
        super().__init__(
            TextColumn("{task.description}", style="bold", markup=False, table_column=names),
            BarColumn(STATES, table_column=Column(width=STATES, no_wrap=True)),
            _StateColumn(Column(ratio=1, no_wrap=True, overflow=cut)),
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            speed_estimate_period=SPEED_PERIOD_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_time=time.monotonic,
            expand=True,
        )
        self._getting_ready = Spinner(
            "line" if plain else "dots", Text("getting ready", style="dim")
        )
        self._run = self.add_task("", total=1, text=run_text)

    def add_stage(self, name: str, doing: str) -> TaskID:
        """Add a stage that is `doing` something, e.g. computing."""
        return self.add_task(name, total=None, text=_doing_text, doing=doing)

    def add_epoch(self, row: TaskID, event: EpochEvent) -> None:
        """Show an epoch that has ended in the row of its stage."""
        self.update(
            row,
            total=event.epochs,
            completed=event.epoch,
            text=_epoch_text,
            event=event,
            at=self.get_time(),
        )

    def count(self, ended: int, total: int) -> None:
        """Show in the last row how many of the run's stages have ended."""
        self.update(
            self._run, completed=ended, total=total, description=f"{ended} of {total} stages"
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """What rich draws: as many rows as fit above the last one."""
        if not self.tasks:
            return  # rich also draws while it is set up
        run, *stages = self.tasks
        if not stages:
            yield self._getting_ready
        table = self.make_tasks_table([*stages[: max(1, self.console.height - 4)], run])
        table.width = max(1, self.console.width - ECHO)
        yield table


class _StateColumn(ProgressColumn):
    """The text beside a bar, computed when it is drawn because it contains times."""

    def render(self, task: Task) -> Text:
        text: Text = task.fields["text"](task)
        return text


def _doing_text(task: Task) -> Text:
    return Text(f"{task.fields['doing']}, {clock(task.elapsed or 0.0)}", style="dim")


def _epoch_text(task: Task) -> Text:
    event: EpochEvent = task.fields["event"]
    text = Text(f"epoch {event.epoch}/{event.epochs}")
    if event.epoch < event.epochs:
        text.append(f"  {clock(_seconds_left(task))} left", style="bold")
    for name, form in SCORES.items():
        if name in event.row:
            text.append("  " + form.format(event.row[name]))
    return text


def _seconds_left(task: Task) -> float:
    """Seconds that the remaining epochs will take; unlike rich's estimate it counts down.

    rich has no speed after a stage's first epoch. The time since its start is all that is known
    then, though it includes the start-up.
    """
    assert task.start_time is not None, "rich starts tasks when they are added"
    at: float = task.fields["at"]
    each = 1 / task.speed if task.speed else at - task.start_time
    return each * (task.remaining or 0.0) - min(each, task.get_time() - at)


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. `3:07`; after an hour `1:03:07`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
