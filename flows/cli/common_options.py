"""Options and converters of commands of every sort; importing them imports no settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

ARTIFACTS = "artifacts"

StoreOption = Annotated[
    str,
    Parameter("--store", help="Where results are stored: a folder, or s3://bucket/prefix."),
]
RunOption = Annotated[
    str | None,
    Parameter("--run", help="A run's id, as `runs` shows it; by default the latest complete run."),
]
JsonFlag = Annotated[bool, Parameter("--json", help="Print JSON instead of a table.")]


def whole_number(low: int, high: int | None = None) -> Callable[[Any, Sequence[Token]], int]:
    """A converter for whole numbers from `low` to `high`, since cyclopts rounds 2.7 to 3."""
    bounds = f"from {low} to {high}" if high is not None else f"of {low} or more"

    def convert(_type: Any, tokens: Sequence[Token]) -> int:
        text = tokens[0].value
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise ValueError(f'expected a whole number {bounds}, got "{text}".')
        return number

    return convert
