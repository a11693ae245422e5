"""The wrapper that turns a function that computes a stage into a cached Prefect task."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.core.errors import StageError, UnavailableError, whole
from tasks.core.records import Outcome, Record, Skipped, Stage
from tasks.core.seal import MarkedFiles, check_seal
from tasks.core.stage_spec import StageSpec
from tasks.engine.events import FAILED, RUNNING, WAITING, log_epoch, stage_is
from tasks.engine.fingerprint import code_of, refuse_edits
from tasks.engine.keys import key_of, refuse_changes
from tasks.engine.lettering import legend
from tasks.engine.lettering import prepare as prepare_fonts
from tasks.engine.profile import prepare
from tasks.engine.publish import ProgressBar, publish_stage
from tasks.engine.retries import RETRY_DELAYS_S, worth_a_retry
from tasks.engine.worker import on_worker
from tasks.storage.exchange import Inputs as Inputs
from tasks.storage.exchange import Outputs as Outputs
from tasks.storage.files import explaining
from tasks.storage.run_log import RunLog, now
from tasks.storage.store import Miss, Store

log = logging.getLogger("fashion_flow")

# Kinds of stages that measure an accuracy. Other kinds may repeat the accuracy of another stage.
SCORED = ("train", "vgg16_train", "evaluate")

COMPUTED, CACHED, SKIPPED = "Completed", "Cached", "Skipped"

Facts = Mapping[str, Any]
SpecT = TypeVar("SpecT", bound=StageSpec)
Compute = Callable[[SpecT, Inputs, Outputs], Facts]
StateOf = Callable[[Record], tuple[str, str]]
BeforeCompute = Callable[["RunContext", Stage, Mapping[str, Outcome]], None]


@dataclass(frozen=True)
class RunContext:
    """The run that a stage is computed for.

    Attributes:
        store_url: the store in which results are looked up and kept.
        run_id: the run's id.
        profile: the execution profile, part of the key of numerical stages.
        workers: how many stages may compute at the same time in this process.
        recompute: why the stage is computed even if the store holds its result; empty if it is not.
        installation: the flow's code and library versions, if stages run on Dask workers.
    """

    store_url: str
    run_id: str
    profile: Mapping[str, Any]
    workers: int
    recompute: str = ""
    installation: Mapping[str, str] | None = None


@dataclass(frozen=True)
class StageEnd:
    """How a stage ended.

    Attributes:
        outcome: its record, or why it was skipped.
        state: the name of its state: `Completed`, `Cached` or `Skipped`.
        message: a line about it for the log and the UI.
        seconds: how long the computation took; 0 if nothing was computed.
        resumed_after: the number of epochs taken from a checkpoint.
    """

    outcome: Outcome
    state: str
    message: str
    seconds: float = 0.0
    resumed_after: int = 0


@dataclass(frozen=True)
class _Call:
    """A stage to find in the store or to compute, with the function that computes it."""

    compute: Compute[Any]
    before_compute: BeforeCompute | None
    stage: Stage
    inputs: Mapping[str, Outcome]
    context: RunContext
    store: Store

    @property
    def run_log(self) -> RunLog:
        return RunLog(self.store, self.context.run_id)

    @property
    def slot(self) -> threading.BoundedSemaphore:
        if self.context.installation is not None:
            return _worker_slot
        return slots(self.context.run_id, self.context.workers)


@cache
def slots(_run_id: str, workers: int) -> threading.BoundedSemaphore:
    """Limit how many stages of a run compute at the same time; waiting for inputs takes no slot."""
    return threading.BoundedSemaphore(workers)


# A Dask worker computes one stage at a time, even if several runs use it.
_worker_slot = threading.BoundedSemaphore(1)


@cache
def recomputed_keys(_store_url: str, _run_id: str) -> set[str]:
    """Keys that a run has already recomputed, so that a retry does not recompute them again."""
    return set()


class StageTask(Task[..., State[Outcome]]):
    """A task that is pickled by name, so a worker runs the code that is installed there.

    The worker also computes keys from that code. Prefect would pickle a copy of the function.
    """

    def __reduce__(self) -> str:
        return self.name


def stage_task(
    spec: type[SpecT],
    *,
    state_of: StateOf | None = None,
    before_compute: BeforeCompute | None = None,
) -> Callable[[Compute[SpecT]], Task[..., State[Outcome]]]:
    """Turn a function `(spec, inputs, outputs) -> facts` into a cached Prefect task.

    The task takes `(stage, inputs, context)`. If the store holds the stage's result intact, it
    returns the record as a state named `Cached`. Otherwise it computes the result, commits it and
    reads the record back. Temporary failures of the network or the storage are retried.

    Args:
        spec: the class of the values that the function receives.
        state_of: gives the final state's name and message, for stages whose outcome has a name.
        before_compute: called before a computation, but not if the result is cached.
    """

    def decorate(compute: Compute[SpecT]) -> Task[..., State[Outcome]]:
        # Fingerprint the code now, so that keys describe the code that this process imports.
        if compute.__module__.startswith("tasks."):
            code_of(compute.__module__)

        def run(stage: Stage, inputs: dict[str, Outcome], context: RunContext) -> State[Outcome]:
            assert isinstance(stage.spec, spec), f"{stage.name} is not of kind {compute.__name__}"
            store = Store(context.store_url)
            call = _Call(compute, before_compute, stage, inputs, context, store)
            with _checked_worker(call):
                return _run(call, state_of)

        # Unpickling looks the task up under this name (see `StageTask`).
        run.__module__, run.__qualname__ = compute.__module__, compute.__name__
        return StageTask(
            fn=run,
            name=compute.__name__,
            description=compute.__doc__,
            task_run_name="{stage.name}",
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=RETRY_DELAYS_S,
            retry_condition_fn=worth_a_retry,
            persist_result=False,
            cache_result_in_memory=True,
        )

    return decorate


def _checked_worker(call: _Call) -> AbstractContextManager[None]:
    """On a Dask worker, check the worker and send the log to the flow; elsewhere do nothing."""
    context = call.context
    if context.installation is None:
        return nullcontext()

    def sees_run() -> bool:
        try:
            return bool(call.run_log.read())
        except StageError:
            return False

    return on_worker(context.run_id, context.installation, sees_run)


def _run(call: _Call, state_of: StateOf | None) -> State[Outcome]:
    """Find or compute the stage, log how it ended, and publish it."""
    stage, started = call.stage, now()
    with explaining(call.store.root):
        try:
            # On another machine, the same folder may be another file system.
            call.store.check_usable()
            end = _find_or_compute(call)
        except Exception as error:
            stage_is(stage.name, FAILED, whole(error) or type(error).__name__)
            raise
        call.run_log.stage(end.outcome, end.state.lower(), started, end.seconds, end.resumed_after)
    state, message = end.state, end.message
    if state_of and isinstance(end.outcome, Record):
        state, message = state_of(end.outcome)
    stage_is(stage.name, state, message)
    purpose = (call.compute.__doc__ or "").partition("\n\n")[0]
    # A Dask worker may be shut down as soon as it is idle, before its threads are done.
    background = call.context.installation is None
    publish_stage(call.store, stage, end.outcome, state, message, purpose, background=background)
    return Completed(name=state, message=message, data=end.outcome)


def _find_or_compute(call: _Call) -> StageEnd:
    """Return the stage's result from the store, compute it, or skip the stage."""
    stage, context, store = call.stage, call.context, call.store
    skipped = next((given for given in call.inputs.values() if isinstance(given, Skipped)), None)
    if skipped and not stage.spec.tolerant:
        return _skip(stage, f"{skipped.stage} was skipped")
    marks = _marks(call)
    key, basis = key_of(stage, call.inputs, context.profile)

    def waiting() -> None:
        stage_is(stage.name, WAITING, "another run is computing it")

    with store.lock(stage, key, waiting) as held:
        recomputed = key in recomputed_keys(context.store_url, context.run_id)
        recompute = "" if recomputed else context.recompute
        # The first attempt starts from scratch. A retry resumes from the run's own checkpoint.
        discard = bool(recompute) and (stage.name, key) not in call.run_log.results()
        # Logged while the lock is held, so that `clean` keeps the results that this run uses.
        call.run_log.taken(stage.name, key)
        found = store.lookup(stage, key)
        if isinstance(found, Record):
            # The declarations of the seal may have changed since the record was stored.
            found = found.with_marks(marks)
        if isinstance(found, Record) and not recompute:
            # The process that computed it may have been killed before it could do this.
            store.settle(found)
            return StageEnd(found, CACHED, f"{_score(found)}record {key[:16]}")
        writer = partial(
            store.writer, stage, key, basis, call.inputs, held=held, from_scratch=discard
        )
        try:
            return _compute(call, writer, marks, found, recompute)
        except UnavailableError as error:
            if not stage.optional:
                raise
            return _skip(stage, str(error))


def _marks(call: _Call) -> MarkedFiles:
    """Check the seal on the files that the stage reads; return the marks of those it will store."""
    records = {role: given for role, given in call.inputs.items() if isinstance(given, Record)}
    marks = {role: record.marked for role, record in records.items()}
    return check_seal(call.stage.name, call.stage.spec.seal, call.stage.reads, marks)


def _skip(stage: Stage, reason: str) -> StageEnd:
    return StageEnd(Skipped(stage.name, reason), SKIPPED, reason)


def _compute(
    call: _Call,
    writer: Callable[[], Outputs],
    marks: MarkedFiles,
    found: Record | Miss,
    recompute: str,
) -> StageEnd:
    """Compute and commit the stage's result; compare it with the one found in the store, if any."""
    stage, context, store = call.stage, call.context, call.store
    with call.slot:
        stage_is(stage.name, RUNNING, found.reason if isinstance(found, Miss) else recompute)
        clock = time.monotonic()
        if call.before_compute:
            call.before_compute(context, stage, call.inputs)
        # Not earlier: it may remove checkpoints, and a run stopped while it waits should keep them.
        outputs = writer()
        _add_hooks(outputs, stage)
        prepare(stage.spec.arithmetic, context.profile)
        if stage.spec.draws:
            prepare_fonts(outputs.basis)
        facts = call.compute(stage.spec, store.inputs(stage, call.inputs), outputs)
        refuse_changes(stage, outputs.basis)
        record = store.commit(outputs, {**facts, **_legend(call, outputs)}, marks)
        if recompute:
            recomputed_keys(context.store_url, context.run_id).add(record.key)
        seconds = time.monotonic() - clock
    message = f"{seconds:.1f} s, {_score(record)}record {record.key[:16]}"
    if record == found:
        message += ", the same bytes as before"
    elif isinstance(found, Record):
        message += ", NOT the same bytes as before"
        log.warning("%s: recomputed; its bytes differ from the stored ones", stage.name)
    return StageEnd(record, COMPUTED, message, seconds, outputs.resumed_after)


def _legend(call: _Call, outputs: Outputs) -> Facts:
    """What the numbers mean that figures have in place of names; warn of it once in a run."""
    stage, run_id = call.stage, call.context.run_id
    found = legend(stage, call.inputs, outputs.basis)
    if found and run_id not in _warned:
        _warned.add(run_id)
        log.warning("%s: figures have numbers for names. %s", stage.name, found["font_advice"])
    return found


# Runs that were warned of missing fonts.
_warned: set[str] = set()


def _add_hooks(outputs: Outputs, stage: Stage) -> None:
    """Make a training refuse checkpoints of edited code, log its epochs and show them in the UI."""
    show = ProgressBar()

    def on_epoch(epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        show(log_epoch(stage.name, epoch, epochs, row))

    outputs.check = partial(refuse_edits, stage.name, outputs.basis["code"])
    outputs.on_epoch = on_epoch


def _score(record: Record) -> str:
    """The accuracy that the stage measured, as text; empty if it measured none."""
    if record.kind not in SCORED:
        return ""
    for split, name in (("test", "test_accuracy"), ("validation", "val_accuracy")):
        if (value := record.facts.get(name)) is not None:
            return f"{split} accuracy {100 * value:.2f} %, "
    return ""
