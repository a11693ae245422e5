"""Decisions that were replayed, beside what the run's own evidence says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.settings.evaluation import REPLAYING

Row = Mapping[str, Any]


def replayed(rows: Sequence[Row]) -> list[Row]:
    """The rows of verdicts whose decision was replayed, neither made nor forced in this run."""
    return [row for row in rows if row["rule"] in REPLAYING and not row["forced"]]


def own_decision(row: Row, rule: str) -> str | None:
    """What a rule would decide by the evidence of a row; None if there is too little for it."""
    opinion: str | None = row[f"by_{rule}"]
    return "back" if opinion == "inconclusive" else opinion


def evidence_sentences(rows: Sequence[Row], changes: Sequence[str]) -> list[str]:
    """Which of the replayed decisions the run's own evidence would make differently.

    Args:
        rows: all verdicts of a run, as in the table `verdicts`.
        changes: the name of the change at each gate, in order.

    Returns:
        A sentence on rule `validation`, one on rule `significant` if each model was trained often
        enough, and a caveat; nothing if no decision was replayed.
    """
    found = [row for row in replayed(rows) if own_decision(row, "validation")]
    if not found:
        return []
    sentences = [
        f"The run's own evidence would decide {_differently(found, changes, 'validation')}"
    ]
    if all(own_decision(row, "significant") for row in found):
        sentences.append(
            f"Rule significant would decide {_differently(found, changes, 'significant')}"
        )
    return [
        *sentences,
        "Each gate compares with the incumbent of the replayed path; decided anew, later gates "
        "may have another one.",
    ]


def _differently(rows: Sequence[Row], changes: Sequence[str], rule: str) -> str:
    others = [row for row in rows if own_decision(row, rule) != row["decision"]]
    if not others:
        return f"none of {len(rows)} differently."
    names = [
        f"{row['gate']} {changes[row['gate'] - 1]} ({own_decision(row, rule)})" for row in others
    ]
    return f"{len(others)} of {len(rows)} differently: {', '.join(names)}."
