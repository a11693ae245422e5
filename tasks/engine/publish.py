"""Publish a stage's numbers, figures, tables and progress to the Prefect UI.

A stage is published each time it ends, cached or not. If publishing fails, the failure is logged
and the stage's result is kept.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import SettingsContext, TaskRunContext, get_settings_context
from prefect.runtime import flow_run

from tasks.core.names import CRITERIA, PER_CLASS, QUALITY, REPLICATES, RESULTS, SUCCESS, VERDICTS
from tasks.core.records import Outcome, Record, Stage
from tasks.engine.events import EpochEvent
from tasks.storage.store import Store

if TYPE_CHECKING:
    from jinja2 import Template

log = logging.getLogger("fashion_flow")

# The tables that are published unchanged, by kind of stage.
TABLES = {
    RESULTS: (RESULTS, REPLICATES, VERDICTS),
    SUCCESS: (CRITERIA,),
    QUALITY: (PER_CLASS,),
}
# Beginnings of the names of facts that are differences of accuracies, and scores or gains by the
# metric that the facts name.
DIFFERENCES = ("delta_accuracy", "ci_", "gap_")
GAINS = ("gain", "optimism")
SCORES = ("val_score", "best_corrected")
# Facts with more values or longer texts are not shown.
MOST_VALUES = 12
LONGEST_TEXT = 60
# A server or a proxy before it that answers with these is overloaded.
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
# Proxies such as nginx refuse requests of more than 1 MiB by default.
MOST_BYTES = 900_000
PICTURE = re.compile(r"!\[([^\]]*)\]\(data:[^)]*\)")
# These facts are above the numbers.
ABOUT_FONTS = ("font_advice", "legend")
# Seconds between updates of a progress bar, and without attempts to reach a lost server.
UPDATE_S = 2.0
SILENCE_S = 60.0
# The server's database cannot handle more at the same time.
SENDERS = 2

_senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="publish")
_sent: set[Future[None]] = set()


def publish_stage(
    store: Store,
    stage: Stage,
    outcome: Outcome,
    state: str,
    message: str,
    purpose: str,
    *,
    background: bool,
) -> None:
    """Publish a Markdown artifact about a stage that ended, and the tables of its kind.

    An artifact's key depends on the stage alone, so the UI can show how it changed over runs.

    Args:
        store: holds the stage's result.
        stage: the stage.
        outcome: its record, or why it was skipped.
        state: the name of its state.
        message: what the log says about its end.
        purpose: a sentence that says what the stage does.
        background: whether to return before the server has answered; `await_published` waits for
            the answer. Otherwise this thread publishes.
    """
    if TaskRunContext.get() is None:
        return

    def publish() -> None:
        _publish_stage(store, stage, outcome, state, message, purpose)

    if not background:
        _try(stage.name, publish)
        return
    try:
        future = _senders.submit(copy_context().run, _try, stage.name, publish)
    except RuntimeError as error:
        # The interpreter is shutting down.
        _not_shown(stage.name, error)
        return
    _sent.add(future)
    future.add_done_callback(_sent.discard)


def await_published() -> None:
    """Wait until everything in the background has been published or has failed."""
    wait(_sent.copy())


def _publish_stage(
    store: Store, stage: Stage, outcome: Outcome, state: str, message: str, purpose: str
) -> None:
    record = outcome if isinstance(outcome, Record) else None
    files = list(record.files.items()) if record else []
    text = _template().render(
        state=state,
        message=message,
        purpose=purpose,
        figures={
            name: store.content(record, name)
            for name, file in files
            if record and file.kind == "png"
        },
        font_advice=record.facts.get("font_advice", "") if record else "",
        legend=record.facts.get("legend", ()) if record else (),
        numbers=short_facts(record.facts) if record else {},
        files=[file for _, file in files],
    )
    text = without_large_pictures(text)
    create_markdown_artifact(text, artifact_key(stage.name), f"{stage.name}: {state}")
    for name in TABLES.get(stage.kind, ()) if record else ():
        assert record
        _publish_table(name, store.table(record, name).to_pylist())


def _publish_table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    shown = first_rows(rows)
    if shown:
        part = (
            f"The first {len(shown):,} of {len(rows):,} rows of the"
            if len(shown) < len(rows)
            else "The"
        )
        create_table_artifact(shown, f"table-{artifact_key(name)}", f"{part} table {name}")


def without_large_pictures(text: str) -> str:
    """Markdown of at most `MOST_BYTES`, if its largest pictures are what exceeds them."""
    for picture in sorted(PICTURE.finditer(text), key=lambda found: -len(found[0])):
        if len(text.encode()) <= MOST_BYTES:
            break
        words = f"*{picture[1]}: too large to show here; it is in the report.*"
        text = text.replace(picture[0], words)
    return text


def first_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many of a table's first rows as fit into `MOST_BYTES`."""
    shown = list(rows)
    # A table is sent as JSON in a JSON string.
    while shown and (size := len(json.dumps(json.dumps(shown, default=str)))) > MOST_BYTES:
        shown = shown[: min(len(shown) - 1, len(shown) * MOST_BYTES // size)]
    return shown


def publish_summary(text: str, description: str) -> None:
    """Publish a Markdown artifact of the flow run; the UI shows it before the tasks' artifacts."""
    summary = ArtifactCreate(
        key="summary",
        type="markdown",
        description=description,
        data=without_large_pictures(text),
        flow_run_id=flow_run.id,
    )
    _try("summary", lambda: _create(summary))


def tag_run(words: Collection[str]) -> None:
    """Add tags to the flow run, by which the UI can filter runs."""
    tags = sorted({*flow_run.tags, *words})

    def tag() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, tags=tags)

    _try("tags", tag)


def _create(artifact: ArtifactCreate) -> None:
    with get_client(sync_client=True) as client:
        client.create_artifact(artifact)


@cache
def _template() -> Template:
    from tasks.reporting.rendering import environment

    return environment().get_template("stage.md.j2")


def short_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """A record's short facts as text, by name; long ones and tables are left out."""
    found = {
        name.replace("_", " "): _words(name, value, facts.get("metric", "accuracy"))
        for name, value in facts.items()
        if name not in ABOUT_FONTS
    }
    return {name: words for name, words in found.items() if words}


def _words(name: str, value: Any, metric: str = "accuracy") -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float() if metric == "log_loss" and name.startswith((*GAINS, *SCORES)):
            return f"{value:.4f} nats"
        case float() if name.startswith((*DIFFERENCES, *GAINS)):
            return f"{100 * value:+.2f} points"
        case float() if "accuracy" in name or name.startswith(SCORES):
            return f"{100 * value:.2f} %"
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
        case str():
            # A gate's reason is already above its numbers.
            return value if len(value) <= LONGEST_TEXT else ""
        case [dict(), *_]:
            # These are published as tables.
            return ""
        case list() if len(value) <= MOST_VALUES:
            return ", ".join(filter(None, (_words(name, item) for item in value)))
        case dict() if len(value) <= MOST_VALUES:
            words = ((key, _words(key, item)) for key, item in value.items())
            return ", ".join(f"{key}: {item}" for key, item in words if item)
    return ""


def artifact_key(name: str) -> str:
    """A name as the key of an artifact, which must not contain underscores."""
    return name.replace("_", "-")


class ProgressBar:
    """A progress bar in the UI for one training, updated at most every other second."""

    def __init__(self) -> None:
        self._id: Any = None
        self._updated = 0.0

    def __call__(self, event: EpochEvent) -> None:
        """Show how many epochs are done."""
        if TaskRunContext.get() is None:
            return
        now = time.monotonic()
        if event.epoch < event.epochs and now - self._updated < UPDATE_S:
            return
        self._updated = now
        _try(event.stage, lambda: self._show(event))

    def _show(self, event: EpochEvent) -> None:
        done = 100 * event.epoch / event.epochs
        accuracy = event.row["accuracy"]
        words = f"{event.stage}: epoch {event.epoch} of {event.epochs}, accuracy {accuracy:.2%}"
        if self._id is None:
            key = f"progress-{artifact_key(event.stage)}"
            self._id = create_progress_artifact(done, key, words)
        else:
            update_progress_artifact(self._id, done, words)


_silence = {"until": 0.0}


def _try(subject: str, publish: Callable[[], None]) -> None:
    """Publish something; log a failure, and waste no time on a server that cannot be reached.

    Prefect's client would retry for over a minute each time; here it retries once. After a failure
    to reach the server, no stage publishes anything for `SILENCE_S` seconds.
    """
    if time.monotonic() < _silence["until"]:
        return
    try:
        with prefect_settings("client", max_retries=1):
            publish()
    except Exception as error:
        if is_lost_server(error):
            _silence["until"] = time.monotonic() + SILENCE_S
        _not_shown(subject, error)


def _not_shown(subject: str, error: Exception) -> None:
    log.debug("%-31s is not shown in the UI: %s", subject, error)


def prefect_settings(section: str, **changes: Any) -> SettingsContext:
    """A context in which some of Prefect's settings in one section have other values.

    Prefect's `temporary_settings` would read the environment and all settings files, which takes
    60 ms each time.
    """
    now = get_settings_context()
    part = getattr(now.settings, section).model_copy(update=changes)
    settings = now.settings.model_copy(update={section: part})
    return SettingsContext(profile=now.profile, settings=settings)


def is_lost_server(error: BaseException) -> bool:
    """Whether an error means that the Prefect server cannot be reached.

    A server that refuses a request, e.g. because it is too large (413), is there.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in BUSY or error.response.is_server_error
    if isinstance(error, httpx.HTTPError) or "Failed to reach API" in str(error):
        return True
    return error.__cause__ is not None and is_lost_server(error.__cause__)
