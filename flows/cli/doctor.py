"""`fashion-flow doctor`: what the program sees on this machine, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, JsonFlag, StoreOption
from flows.cli.screen import add_row, fail, line, show, show_json, table
from flows.running.checkup import Finding, check_up


def doctor(
    *,
    dataset: Annotated[str, Parameter(help="A data set that a run shall read.")] = "auto",
    as_json: JsonFlag = False,
    store: StoreOption = ARTIFACTS,
) -> int:
    """Print everything that a run depends on; return 1 if anything is wrong, else 0."""
    findings = [*check_up(store, dataset)]
    wrong = [finding for finding in findings if finding.problem]
    if as_json:
        show_json([finding.as_json() for finding in findings])
    else:
        _show(findings)
        for finding in wrong:
            fail(f"{finding.topic}, {finding.name}: {finding.problem}")
        if not wrong:
            line("Nothing is wrong.")
    return 1 if wrong else 0


def _show(findings: Sequence[Finding]) -> None:
    made = table("about", "")
    made.columns[1].justify = "left"
    made.add_column("found", overflow="fold")
    topic = ""
    for finding in findings:
        style = "bold red" if finding.problem else None
        sign = "! " if finding.problem else ""
        shown = finding.topic if finding.topic != topic else ""
        add_row(made, shown, finding.name, sign + finding.value, style=style)
        topic = finding.topic
    show(made)
