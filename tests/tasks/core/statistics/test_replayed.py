"""What the run's own evidence says about decisions that were replayed."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.statistics.replayed import evidence_sentences, own_decision, replayed

CHANGES = ("shorter", "dropout", "padding")


def verdict(
    gate: int, decision: str, validation: str, significant: str | None = None, **other: Any
) -> dict[str, Any]:
    return {
        "gate": gate,
        "decision": decision,
        "rule": "notebook",
        "forced": False,
        "by_validation": validation,
        "by_significant": significant,
    } | other


def test_decisions_that_the_evidence_contradicts_are_listed() -> None:
    rows = [
        verdict(1, "forward", "back"),
        verdict(2, "back", "back"),
        verdict(3, "back", "forward", rule="replay"),
    ]
    first, caveat = evidence_sentences(rows, CHANGES)
    assert first == (
        "The run's own evidence would decide 2 of 3 differently: 1 shorter (back), 3 padding "
        "(forward)."
    )
    assert "incumbent of the replayed path" in caveat


def test_evidence_that_agrees_is_said_to() -> None:
    rows = [verdict(1, "forward", "forward"), verdict(2, "back", "back")]
    assert evidence_sentences(rows, CHANGES)[0] == (
        "The run's own evidence would decide none of 2 differently."
    )


def test_with_enough_trainings_the_test_has_its_say_and_inconclusive_means_back() -> None:
    rows = [
        verdict(1, "forward", "forward", "inconclusive"),
        verdict(2, "back", "forward", "inconclusive"),
        verdict(3, "back", "forward", "forward"),
    ]
    first, second, _ = evidence_sentences(rows, CHANGES)
    assert "2 of 3 differently: 2 dropout (forward), 3 padding (forward)." in first
    assert second == (
        "Rule significant would decide 2 of 3 differently: 1 shorter (back), 3 padding (forward)."
    )
    assert own_decision(rows[0], "significant") == "back"
    assert own_decision(verdict(1, "back", "back"), "significant") is None


@pytest.mark.parametrize(
    "row",
    [
        verdict(1, "forward", "back", rule="validation"),
        verdict(1, "forward", "back", rule="significant"),
        verdict(1, "forward", "back", forced=True),
    ],
)
def test_only_replayed_decisions_count(row: dict[str, Any]) -> None:
    assert evidence_sentences([row], CHANGES) == []
    two = [row, verdict(2, "back", "forward")]
    assert replayed(two) == two[1:]
    assert evidence_sentences(two, CHANGES)[0].endswith("1 of 1 differently: 2 dropout (forward).")


def test_an_empty_plan_has_nothing_to_say() -> None:
    assert evidence_sentences([], []) == []
