"""Print lines, tables, notes and errors, on any terminal or pipe."""

from __future__ import annotations

import json
import os
import re
import select
import textwrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tasks.core.errors import StageError
from tasks.core.messages import COLUMNS, MOST_LINES, brief

# ASCII replacements for the other characters that we print.
SIGNS = str.maketrans({"\N{RIGHTWARDS ARROW}": "->", "\N{HORIZONTAL ELLIPSIS}": "..."})
LONGEST_VALUE = 120


class Closed(Exception):  # noqa: N818 - no error: `fashion-flow results | head -1` is fine
    """The reader has closed the pipe that standard output goes to."""


class Screen(Console):
    """A console that also supports ASCII-only terminals and pipes that close early."""

    @property
    def ascii_only(self) -> bool:
        """Whether the output encoding is not Unicode."""
        return not self.encoding.startswith("utf")

    def render_lines(self, *args: Any, **kwargs: Any) -> list[list[Segment]]:
        """Render a cell; in ASCII, replace the ellipsis that marks truncated text by three dots."""
        lines = super().render_lines(*args, **kwargs)
        if not self.ascii_only:
            return lines
        return [[segment._replace(text=_dotted(segment.text)) for segment in row] for row in lines]

    def on_broken_pipe(self) -> None:
        """Discard all further output.

        Raises:
            Closed: this is standard output. A command continues without standard error.
        """
        self._discard()
        if not self.stderr:
            raise Closed

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print; without a place for standard error, e.g. on a full disk, a command continues.

        Raises:
            StageError: standard output can't be written.
        """
        try:
            super().print(*args, **kwargs)
        except OSError as error:
            self.on_unwritable(error)

    def on_unwritable(self, error: OSError) -> None:
        """Discard all further output.

        Raises:
            StageError: this is standard output.
        """
        self._discard()
        if not self.stderr:
            raise StageError(
                f"standard output can't be written ({error.strerror}); write it elsewhere."
            ) from error

    def _discard(self) -> None:
        """Send all further output nowhere, so that Python reports no error when it exits."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)

    def is_closed(self) -> bool:
        """Whether this is a pipe whose reader has closed it."""
        poll = select.poll()
        poll.register(self.file, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))


out = Screen()
err = Screen(stderr=True)


def _dotted(text: str) -> str:
    """The text, equally wide, with an ellipsis and up to two characters before it as dots."""
    return re.sub(".{0,2}\N{HORIZONTAL ELLIPSIS}", lambda found: "." * len(found[0]), text)


def spelled(text: str) -> str:
    """The text as standard output can show it."""
    return text.translate(SIGNS) if out.ascii_only else text


def warn(message: str) -> None:
    """Print a framed note to standard error."""
    # The frame takes two of the lines, and two signs at each end of the others.
    inner = min(err.width, COLUMNS) - 4
    text = Text(brief(spelled(message), columns=inner, lines=MOST_LINES - 2))
    err.print(Panel(text, border_style="yellow", title="note", title_align="left"))


def fail(message: str) -> None:
    """Print the message of an error to standard error."""
    begin = "error: "
    err.print(Text(begin + brief(spelled(message), taken=len(begin))), style="bold red")


def line(text: str) -> None:
    """Print a line unchanged: paths are neither wrapped nor coloured, so they can be copied."""
    try:
        print(spelled(text), flush=True)
    except BrokenPipeError:
        out.on_broken_pipe()
    except OSError as error:
        out.on_unwritable(error)


def sentence(text: str) -> None:
    """Print a sentence; it continues on the next line if it is wider than the narrowest screen."""
    for part in textwrap.wrap(text, 80):
        line(part)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    line(json.dumps(value, indent=1))


def table(*columns: str) -> Table:
    """A plain table: the first column is aligned left, the others right."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    return made


def add_row(to: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of plain texts: rich must not take brackets and colons for markup."""
    to.add_row(*(Text(spelled(cell)) for cell in cells), style=style)


def show(shown: Table) -> None:
    """Print a table."""
    out.print(shown)


def shortened(value: Any) -> str:
    """A value as text or JSON, cut after 120 characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
