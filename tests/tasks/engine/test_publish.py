"""What the UI shows of a stage, and how a run copes with a server that it cannot reach."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.flow_engine import FlowRunEngine

from flows.build_model import build_model
from flows.planning.stage_selection import EVERYTHING
from flows.recipe.presets import NOTEBOOK
from flows.running.flow_run import logged
from flows.running.launch import _heartbeat
from tasks.core.errors import StageError
from tasks.core.records import Skipped, Stage
from tasks.engine import publish
from tasks.reporting.rendering import environment
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store
from tests.support import spec_of


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time that publishing sees, in seconds."""
    now = {"now": 1000.0}
    monkeypatch.setattr("tasks.engine.publish.time.monotonic", lambda: now["now"])
    monkeypatch.setitem(publish._silence, "until", 0.0)
    return now


# What nginx accepts by default, less the rest of the request.
PROXY_LIMIT = 2**20 - 2**14


def answer(status: int, words: str) -> httpx.HTTPStatusError:
    """The error of a request to which the server gave that answer."""
    request = httpx.Request("POST", "http://x/api/artifacts/")
    return httpx.HTTPStatusError(words, request=request, response=httpx.Response(status))


def attempt(error: Exception | None = None) -> bool:
    """Try to publish; return whether the attempt was made."""
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
def test_after_a_lost_connection_nothing_is_published_for_a_while(
    clock: dict[str, float], lost: Exception
) -> None:
    assert attempt(lost)
    clock["now"] += publish.SILENCE_S - 1
    assert not attempt()
    clock["now"] += 2
    assert attempt()
    assert attempt()


@pytest.mark.parametrize(
    "failure",
    [
        ValueError("a table of another kind"),
        answer(413, "Request Entity Too Large"),
        answer(404, "Not Found"),
    ],
    ids=str,
)
def test_another_failure_does_not_stop_publishing(failure: Exception) -> None:
    assert attempt(failure)
    assert attempt()


def test_an_overloaded_server_is_left_alone_for_a_while() -> None:
    assert attempt(answer(503, "Service Unavailable"))
    assert not attempt()


def sent_bytes(data: Any) -> int:
    """The size of an artifact's data in a request."""
    return len(json.dumps(data if isinstance(data, str) else json.dumps(data)))


def test_artifacts_are_smaller_than_what_proxies_accept() -> None:
    small, large = ("A" * (publish.MOST_BYTES // part) for part in (4, 1))
    text = f"Éé\n\n![confusion](data:image/png;base64,{large})\n\n![calibration](data:x,{small})\n"
    shown = publish.without_large_pictures(text)
    assert sent_bytes(shown) < PROXY_LIMIT
    assert "*confusion: too large to show here; it is in the report.*" in shown
    assert f"![calibration](data:x,{small})" in shown
    assert publish.without_large_pictures(shown) == shown


@pytest.mark.parametrize("classes", [3, 256])
def test_a_table_of_many_classes_is_cut(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(publish, "create_table_artifact", lambda *given: sent.append(given))
    rows = [
        {"model": f"iteration_{model}", "class": f'名字 {number} "x"', "recall": 1 / 3}
        | dict.fromkeys(("precision", "f1", "ci_low", "ci_high", "images", "predicted"), 2 / 3)
        for model in range(40)
        for number in range(classes)
    ]
    publish._publish_table("per_class", rows)
    ((shown, key, words),) = sent
    assert sent_bytes(shown) < PROXY_LIMIT
    assert shown == rows[: len(shown)]
    assert key == "table-per-class"
    if classes == 3:
        assert words == "The table per_class"
    else:
        assert 1000 < len(shown) < len(rows)
        assert words == f"The first {len(shown):,} of 10,240 rows of the table per_class"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("val_accuracy", 0.8765, "87.65 %"),
        ("delta_accuracy", -0.024, "-2.40 points"),
        ("gain_low", -0.024, "-2.40 points"),
        ("best_corrected", 0.871, "87.10 %"),
        ("ci_low", -0.02497, "-2.50 points"),
        ("gap_candidate", 0.0, "+0.00 points"),
        ("val_loss", 0.123456, "0.1235"),
        ("params", 534026, "534,026"),
        ("met", True, "yes"),
        ("sizes", {"train": 8000, "test": 2000}, "train: 8,000, test: 2,000"),
    ],
)
def test_numbers_have_their_units(name: str, value: Any, words: str) -> None:
    assert publish.short_facts({name: value}) == {name.replace("_", " "): words}


@pytest.mark.parametrize(
    "value", [[{"criterion": "better"}], list(range(100)), "a long reason " * 9, None]
)
def test_tables_and_long_facts_are_not_shown_as_numbers(value: Any) -> None:
    assert publish.short_facts({"criteria": value}) == {}


def test_names_from_a_data_set_are_escaped_in_markdown() -> None:
    name = "[click](http://a.example) ![x](http://a.example/t.png) <b>*a*</b> |\n_b_ `c`"
    text = environment().from_string("{{ name | markdown }}").render(name=name)
    assert text == (
        r"\[click\](http\://a.example) \!\[x\](http\://a.example/t.png) "
        r"&lt;b&gt;\*a\*&lt;/b&gt; \| \_b\_ \`c\`"
    )


def test_a_lost_server_is_recognised_by_the_cause_of_an_error() -> None:
    lost = RuntimeError("no slot")
    lost.__cause__ = httpx.ConnectError("connection refused")
    assert publish.is_lost_server(lost)
    assert publish.is_lost_server(RuntimeError("Failed to reach API at http://127.0.0.1:1/api"))
    assert not publish.is_lost_server(RuntimeError("no slot"))
    assert publish.is_lost_server(answer(502, "Bad Gateway"))
    assert not publish.is_lost_server(answer(413, "Request Entity Too Large"))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], threading.Event]]:
    """A server that answers once the event is set, and the threads in which it was called."""
    threads: list[str] = []
    answer = threading.Event()

    def publish_slowly(*_arguments: Any) -> None:
        assert answer.wait(60)
        threads.append(threading.current_thread().name)

    monkeypatch.setattr("tasks.engine.publish._publish_stage", publish_slowly)
    monkeypatch.setattr(
        "tasks.engine.publish.TaskRunContext", SimpleNamespace(get=lambda: "a task's run")
    )
    yield threads, answer
    answer.set()
    publish.await_published()


def publish_one(tmp_path: Path, *, background: bool = True) -> None:
    stage = Stage("load", spec_of("load"))
    publish.publish_stage(
        Store(str(tmp_path / "store")),
        stage,
        Skipped("load", ""),
        "",
        "",
        "",
        background=background,
    )


def test_a_stage_does_not_wait_for_the_server(
    slow: tuple[list[str], threading.Event], tmp_path: Path
) -> None:
    threads, answer = slow
    for _ in range(5):
        publish_one(tmp_path)
    assert not threads
    answer.set()
    publish.await_published()
    assert len(threads) == 5


def test_a_stage_can_publish_in_its_own_thread(
    slow: tuple[list[str], threading.Event], tmp_path: Path
) -> None:
    threads, answer = slow
    answer.set()
    publish_one(tmp_path, background=False)
    assert threads == [threading.current_thread().name]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "done"), (StageError("a stage failed"), "failed")]
)
def test_a_run_ends_after_its_stages_have_been_published(
    slow: tuple[list[str], threading.Event],
    tmp_path: Path,
    error: Exception | None,
    status: str,
) -> None:
    threads, answer = slow
    run_log = RunLog(Store(str(tmp_path / "store")), "run-1")
    with suppress(StageError), logged(run_log, NOTEBOOK, {}, EVERYTHING):
        publish_one(tmp_path)
        threading.Timer(0.2, answer.set).start()
        if error:
            raise error
    assert len(threads) == 1
    assert run_log.status() == status


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_that_computes_nothing_sends_no_heartbeats(wanted: bool) -> None:
    with publish.prefect_settings("flows", heartbeat_frequency=30), _heartbeat(wanted=wanted):
        seconds = FlowRunEngine(flow=build_model).heartbeat_seconds
    assert seconds == (30 if wanted else None)


def test_the_artifact_of_numbered_figures_has_their_legend() -> None:
    facts = {"balanced": True, "font_advice": "Install a font.", "legend": ["猫", "a|b"]}
    assert publish.short_facts(facts) == {"balanced": "yes"}
    shown = publish._template().render(
        state="Completed", message="", purpose="", figures={}, numbers={}, files=[], **facts
    )
    assert "numbers in place of names. Install a font" in shown
    assert "- class 1: 猫\n- class 2: a\\|b\n" in shown
