"""What the UI is told of a stage, and what becomes of a run when the server can't be told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tasks import publish
from tasks.rendering import environment


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The seconds that publishing takes for the time."""
    now = {"now": 1000.0}
    monkeypatch.setattr("tasks.publish.time.monotonic", lambda: now["now"])
    monkeypatch.setitem(publish._silence, "until", 0.0)
    return now


def attempt(error: Exception | None = None) -> bool:
    """Whether publishing was tried."""
    tried = []

    def action() -> None:
        tried.append(True)
        if error:
            raise error

    publish._try("stage", action)
    return bool(tried)


@pytest.mark.parametrize(
    "lost", [httpx.ConnectError("refused"), RuntimeError("Failed to reach API at http://x")]
)
def test_a_server_that_is_lost_is_left_alone_for_a_while(
    clock: dict[str, float], lost: Exception
) -> None:
    assert attempt(lost)
    clock["now"] += publish.SILENCE_S - 1
    assert not attempt()
    clock["now"] += 2
    assert attempt()
    assert attempt()


def test_what_one_stage_can_not_publish_does_not_silence_the_others() -> None:
    assert attempt(ValueError("a table of another kind"))
    assert attempt()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("val_accuracy", 0.8765, "87.65 %"),
        ("delta_accuracy", -0.024, "-2.40 points"),
        ("ci_low", -0.02497, "-2.50 points"),
        ("gap_candidate", 0.0, "+0.00 points"),
        ("val_loss", 0.123456, "0.1235"),
        ("params", 534026, "534,026"),
        ("met", True, "yes"),
        ("sizes", {"train": 8000, "test": 2000}, "train: 8,000, test: 2,000"),
    ],
)
def test_numbers_have_their_units(name: str, value: Any, words: str) -> None:
    assert publish.numbers({name: value}) == {name.replace("_", " "): words}


@pytest.mark.parametrize(
    "value", [[{"criterion": "better"}], list(range(100)), "a long reason " * 9, None]
)
def test_what_is_a_table_or_too_long_is_no_number(value: Any) -> None:
    assert publish.numbers({"criteria": value}) == {}


def test_names_from_a_data_set_mean_nothing_in_markdown() -> None:
    name = "[click](http://a.example) ![x](http://a.example/t.png) <b>*a*</b> |\n_b_ `c`"
    text = environment().from_string("{{ name | markdown }}").render(name=name)
    assert text == (
        r"\[click\](http\://a.example) \!\[x\](http\://a.example/t.png) "
        r"&lt;b&gt;\*a\*&lt;/b&gt; \| \_b\_ \`c\`"
    )


def test_a_lost_server_is_known_by_what_caused_an_error() -> None:
    lost = RuntimeError("no slot")
    lost.__cause__ = httpx.ConnectError("connection refused")
    assert publish.is_lost_server(lost)
    assert publish.is_lost_server(RuntimeError("Failed to reach API at http://127.0.0.1:1/api"))
    assert not publish.is_lost_server(RuntimeError("no slot"))
