"""The Jinja environment for all pages and Markdown texts, with filters that format values."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

UNKNOWN = "\N{EN DASH}"
# Characters with a meaning in Markdown; Jinja escapes those of HTML.
MARKDOWN = re.compile(r"[\\`*_\[\]!|~]|://")


def environment() -> Environment:
    """The Jinja environment with the project's filters and functions; all values are escaped."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "count": lambda value: UNKNOWN if value is None else f"{value:,}",
        "data_uri": _data_uri,
        "duration": lambda seconds: str(timedelta(seconds=round(seconds))),
        "loss": lambda value: UNKNOWN if value is None else f"{value:.4f}",
        "percent": lambda value: (
            UNKNOWN if value is None else f"{100 * value:.2f}\N{NO-BREAK SPACE}%"
        ),
        "pretty_json": lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    }
    templates.filters |= {
        "markdown": _markdown,
        "p_value": _p_value,
        "unbroken": _unbroken,
        "when": _when,
    }
    templates.globals |= {"points": _points, "range_of": _range_of}
    return templates


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _points(accuracy: float | None, other: float | None) -> str:
    """The difference of two accuracies in percentage points, with its sign, e.g. `+1.25`."""
    if accuracy is None or other is None:
        return UNKNOWN
    return f"{100 * (accuracy - other):+.2f}".replace("-", "\N{MINUS SIGN}")


def _range_of(low: float | None, high: float | None, scale: float = 100, digits: int = 2) -> str:
    """An interval with signs, e.g. `−1.25 to +3.00`."""
    if low is None or high is None:
        return UNKNOWN
    ends = (f"{scale * end:+.{digits}f}".replace("-", "\N{MINUS SIGN}") for end in (low, high))
    return " to ".join(ends)


def _when(time: str) -> str:
    """A UTC time from `tasks.storage.run_log.now`, to the minute."""
    return f"{time[:16].replace('T', ' ')} UTC"


def _markdown(text: object) -> str:
    """Escape text for Markdown, so that it cannot create links, pictures, tables or emphasis."""
    return MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


def _p_value(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _unbroken(text: object) -> str:
    """Keep numbers and their percent signs on one line."""
    return str(text).replace(" %", "\N{NO-BREAK SPACE}%")
