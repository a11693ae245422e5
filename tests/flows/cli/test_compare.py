"""What `compare` says of the code of own networks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flows.cli.compare import _own_code
from tasks.core.own_code import OWN_CODE, short_digest
from tasks.core.records import Record
from tests.support import basis


def run(settings: dict[str, Any]) -> Any:
    code = {"": "1" * 64}
    records = {
        "load": Record("load", "load", "a" * 64, {}, {}, basis()),
        "overfitting": Record("overfitting", "train", "b" * 64, {}, {}, basis(**{OWN_CODE: code})),
        "skipped": None,
    }
    return SimpleNamespace(
        read=lambda: {"settings": settings},
        stages=lambda: [{"stage": name} for name in records],
        record=records.get,
    )


def test_the_code_of_each_training_counts_as_a_setting() -> None:
    expected = {"code of overfitting": short_digest({"": "1" * 64})}
    for settings in (
        {"overfitting": {"network": {"function": "/a/nets.py:build"}}},
        {"plan": [{"change": {"network.function": "/a/nets.py:build"}}]},
    ):
        assert _own_code(run(settings)) == expected


def test_runs_without_functions_are_not_read_again() -> None:
    assert _own_code(run({"overfitting": {"network": {"function": None}}})) == {}
