"""The thin wrapper that makes a cached Prefect task of a function that computes a stage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.core.errors import (
    NumericalError,
    SealedError,
    StageError,
    UnavailableError,
    UserError,
)
from tasks.core.records import Outcome, Record, Skipped, Stage
from tasks.fingerprint import changed_since
from tasks.runlog import RunLog, now
from tasks.runtime import configure
from tasks.store import Inputs as Inputs
from tasks.store import Outputs as Outputs
from tasks.store import Store

log = logging.getLogger("fashion_flow")

# The same for every task: Prefect 3.8 asks the server for a concurrency slot for each distinct set
# of tags, which costs about two seconds a set. What a task does is told by its name.
TAGS = ["fashion-flow"]

COMPUTED, CACHED, SKIPPED = "Completed", "Cached", "Skipped"

Facts = Mapping[str, Any]
Compute = Callable[[Mapping[str, Any], Inputs, Outputs], Facts]
StateOf = Callable[[Record], tuple[str, str]]
BeforeCompute = Callable[["RunContext", Stage, Mapping[str, Outcome]], None]


@dataclass(frozen=True)
class RunContext:
    """What every stage of a run is told: the store, the run's id, the execution profile."""

    store_url: str
    run_id: str
    profile: Mapping[str, Any]
    workers: int


@cache
def slots(_run_id: str, workers: int) -> threading.BoundedSemaphore:
    """What bounds how many stages of a run compute at once; waiting for inputs takes no slot."""
    return threading.BoundedSemaphore(workers)


def stage_task(
    *,
    retries: int = 0,
    state_of: StateOf | None = None,
    before_compute: BeforeCompute | None = None,
) -> Callable[[Compute], Task[..., State[Outcome]]]:
    """Decorate a function `(settings, inputs, outputs) -> facts` to become a Prefect task.

    The task takes `(stage, inputs, context)`. It returns the stage's record as a state named
    `Cached` where the store holds it intact, and computes, commits and reads it back otherwise.

    Args:
        retries: how often a failure that may pass (network, disk) is tried again.
        state_of: name and message of the final state, for stages whose outcome has a name.
        before_compute: what to do first where the stage is computed rather than found.
    """

    def decorate(compute: Compute) -> Task[..., State[Outcome]]:
        def run(stage: Stage, inputs: dict[str, Outcome], context: RunContext) -> State[Outcome]:
            started, clock = now(), time.monotonic()
            outcome, state, message = _outcome(compute, stage, inputs, context, before_compute)
            seconds = time.monotonic() - clock
            run_log = RunLog(Store(context.store_url), context.run_id)
            run_log.stage(outcome, state.lower(), seconds, started)
            if state_of and isinstance(outcome, Record):
                state, message = state_of(outcome)
            log.info("%-18s %-14s %s", stage.name, state, message)
            return Completed(name=state, message=message, data=outcome)

        return Task(
            fn=run,
            name=compute.__name__,
            description=compute.__doc__,
            task_run_name="{stage.name}",
            tags=TAGS,
            retries=retries,
            retry_delay_seconds=[2.0 * 2**attempt for attempt in range(retries)] or None,
            retry_condition_fn=_may_pass,
            persist_result=False,
            cache_result_in_memory=True,
        )

    return decorate


def _may_pass(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Whether a failure may pass by itself: not a user's mistake, a seal, or a number gone bad."""
    try:
        state.result()
    except (UserError, SealedError, NumericalError):
        return False
    except OSError:
        return True
    except Exception:
        return False
    return False


def _outcome(
    compute: Compute,
    stage: Stage,
    inputs: dict[str, Outcome],
    context: RunContext,
    before_compute: BeforeCompute | None,
) -> tuple[Outcome, str, str]:
    """The stage's outcome, the name of its state, and a message."""
    skipped = next((given for given in inputs.values() if isinstance(given, Skipped)), None)
    if skipped and not stage.tolerant:
        reason = f"{skipped.stage} was skipped"
        return Skipped(stage.name, reason), SKIPPED, reason
    store = Store(context.store_url)
    key, basis = store.key_of(stage, inputs, context.profile)

    def waiting() -> None:
        log.info("%-18s %-14s another run computes it", stage.name, "Waiting")

    with store.lock(stage, key, waiting):
        found = store.lookup(stage, key)
        if isinstance(found, Record):
            return found, CACHED, f"record {key[:16]}"
        with slots(context.run_id, context.workers):
            log.info("%-18s %-14s %s", stage.name, "Running", found.reason)
            clock = time.monotonic()
            try:
                if before_compute:
                    before_compute(context, stage, inputs)
                record = _compute(compute, stage, inputs, context, store, key, basis)
            except UnavailableError as error:
                if not stage.optional:
                    raise
                return Skipped(stage.name, str(error)), SKIPPED, str(error)
    return record, COMPUTED, f"{time.monotonic() - clock:.1f} s, record {key[:16]}"


def _compute(
    compute: Compute,
    stage: Stage,
    inputs: Mapping[str, Outcome],
    context: RunContext,
    store: Store,
    key: str,
    basis: Mapping[str, Any],
) -> Record:
    if stage.numerical:
        configure(context.profile)
    outputs = store.writer(stage, key)
    facts = compute(stage.settings, store.inputs(stage, inputs), outputs)
    edited = changed_since(basis["code"])
    if edited:
        raise StageError(
            f"{', '.join(edited)} changed while {stage.name} was computed. It is not clear which "
            "code made the result, so it is not kept; start the run again."
        )
    return store.commit(stage, key, basis, outputs, facts)
