"""A survey of a cluster compares what its workers say about themselves."""

from __future__ import annotations

from typing import Any

import pytest

from flows.runners.survey import agreed
from tasks.core.errors import StageError, UserError
from tasks.engine.libraries import installation

GPU = {"device": "gpu", "threads": 2}
CPU = {"device": "cpu", "threads": 2}


def answer(profile: dict[str, Any], **other: str) -> dict[str, Any]:
    return {"profile": profile, "installation": {**installation(), **other}}


def test_the_workers_with_gpus_determine_the_profile() -> None:
    answers: dict[str, Any] = {"tcp://a": answer(CPU), "tcp://b": answer(GPU)}
    assert agreed(answers, ["tcp://b"]) == GPU
    answers["tcp://a"] = UserError("no NVIDIA device is visible here")
    assert agreed(answers, ["tcp://b"]) == GPU
    with pytest.raises(UserError, match="worker tcp://a: no NVIDIA device"):
        agreed(answers, ["tcp://a"])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            answer(GPU),
            "tcp://a and tcp://b would not compute the same results: tcp://b has device gpu",
        ),
        (
            answer(CPU, matplotlib="3.9"),
            f"tcp://b has other code or libraries than the run: matplotlib 3.9 instead of "
            f"{installation()['matplotlib']}",
        ),
        (answer(CPU, code="0" * 64), "code 000000000000 instead of"),
        (ModuleNotFoundError("No module named 'tasks'"), "tcp://b can't run this program"),
        (StageError("its code can't be read"), "tcp://b: its code can't be read"),
    ],
)
def test_workers_that_would_compute_something_else_are_refused(other: Any, said: str) -> None:
    with pytest.raises(StageError, match=said):
        agreed({"tcp://a": answer(CPU), "tcp://b": other}, ["tcp://a", "tcp://b"])
