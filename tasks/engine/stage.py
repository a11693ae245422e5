"""The thin wrapper that makes a cached Prefect task of a function that computes a stage."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.core.errors import StageError, StorageError, UnavailableError
from tasks.core.records import Outcome, Record, Skipped, Stage
from tasks.core.seal import check_seal
from tasks.core.stage_specs import StageSpec
from tasks.engine.events import FAILED, RUNNING, WAITING, stage_is
from tasks.engine.fingerprint import code_of
from tasks.engine.profile import configure
from tasks.engine.publish import Progress, publish_stage
from tasks.engine.worker import away_from_home
from tasks.storage.files import explaining
from tasks.storage.run_log import RunLog, now
from tasks.storage.store import Inputs as Inputs
from tasks.storage.store import Miss, Store
from tasks.storage.store import Outputs as Outputs

log = logging.getLogger("fashion_flow")

# The kinds of stages that measure an accuracy; others may have one of another stage.
SCORED = ("train", "vgg16_train", "evaluate")

COMPUTED, CACHED, SKIPPED = "Completed", "Cached", "Skipped"

# Waiting may help here; a file that is not there, or a path that is none, is not mended by it.
PASSING = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOLCK,
        errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
        errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNABORTED,
        errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE,
    }
)  # fmt: skip
RETRY_DELAYS_S = [2.0, 4.0, 8.0]

Facts = Mapping[str, Any]
SpecT = TypeVar("SpecT", bound=StageSpec)
Compute = Callable[[SpecT, Inputs, Outputs], Facts]
StateOf = Callable[[Record], tuple[str, str]]
BeforeCompute = Callable[["RunContext", Stage, Mapping[str, Outcome]], None]


@dataclass(frozen=True)
class RunContext:
    """What every stage of a run is told: the store, the run's id, the execution profile.

    `anew` says why the stage is to be computed though the store may hold it; empty where not.
    `home` is the installation of the flow where stages run on the workers of a cluster.
    """

    store_url: str
    run_id: str
    profile: Mapping[str, Any]
    workers: int
    anew: str = ""
    home: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Ended:
    """How a stage ended: what it left, the name of its state and a message.

    Where it was computed: in how many seconds, and after how many epochs taken from a checkpoint.
    """

    outcome: Outcome
    state: str
    message: str
    seconds: float = 0.0
    resumed_after: int = 0


@cache
def slots(_run_id: str, workers: int) -> threading.BoundedSemaphore:
    """What bounds how many stages of a run compute at once; waiting for inputs takes no slot."""
    return threading.BoundedSemaphore(workers)


# A worker of a cluster computes one stage at a time, whichever runs it works for.
_one = threading.BoundedSemaphore(1)


@cache
def made_anew(_store_url: str, _run_id: str) -> set[str]:
    """The keys of what a run has made anew, which its retries need not make again."""
    return set()


class StageTask(Task[..., State[Outcome]]):
    """A task that is sent to other processes as its name: what runs there is the code of there.

    Its keys are made there, too, of that code. Prefect would send a copy of the function.
    """

    def __reduce__(self) -> str:
        return self.name


def stage_task(
    spec: type[SpecT],
    *,
    state_of: StateOf | None = None,
    before_compute: BeforeCompute | None = None,
) -> Callable[[Compute[SpecT]], Task[..., State[Outcome]]]:
    """Decorate a function `(spec, inputs, outputs) -> facts` to become a Prefect task.

    The task takes `(stage, inputs, context)`. It returns the stage's record as a state named
    `Cached` where the store holds it intact, and computes, commits and reads it back otherwise.
    What fails in a way that may pass (network, storage) is tried again after a while.

    Args:
        spec: the class of the values that the function receives.
        state_of: name and message of the final state, for stages whose outcome has a name.
        before_compute: what to do first where the stage is computed rather than found.
    """

    def decorate(compute: Compute[SpecT]) -> Task[..., State[Outcome]]:
        # The keys speak of the code as it is now, which is what this process imports.
        if compute.__module__.startswith("tasks."):
            code_of(compute.__module__)

        def run(stage: Stage, inputs: dict[str, Outcome], context: RunContext) -> State[Outcome]:
            assert isinstance(stage.spec, spec), f"{stage.name} is not of kind {compute.__name__}"
            started = now()
            store = Store(context.store_url)
            with _place(store, context):
                with explaining(store.root):
                    try:
                        ended = _end(compute, stage, inputs, context, before_compute)
                    except Exception as error:
                        stage_is(stage.name, FAILED, str(error) or type(error).__name__)
                        raise
                    RunLog(store, context.run_id).stage(
                        ended.outcome,
                        ended.state.lower(),
                        started,
                        ended.seconds,
                        ended.resumed_after,
                    )
                state, message = ended.state, ended.message
                if state_of and isinstance(ended.outcome, Record):
                    state, message = state_of(ended.outcome)
                stage_is(stage.name, state, message)
                purpose = (compute.__doc__ or "").partition("\n\n")[0]
                # A worker of a cluster may be taken away once it has nothing to do.
                at_once = context.home is not None
                publish_stage(store, stage, ended.outcome, state, message, purpose, at_once=at_once)
            return Completed(name=state, message=message, data=ended.outcome)

        # Found by this name wherever it is sent, see StageTask.
        run.__module__, run.__qualname__ = compute.__module__, compute.__name__
        return StageTask(
            fn=run,
            name=compute.__name__,
            description=compute.__doc__,
            task_run_name="{stage.name}",
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=RETRY_DELAYS_S,
            retry_condition_fn=_may_pass,
            persist_result=False,
            cache_result_in_memory=True,
        )

    return decorate


def _place(store: Store, context: RunContext) -> AbstractContextManager[None]:
    """What comes before and after a stage where it runs on a worker of a cluster."""
    if context.home is None:
        return nullcontext()

    def sees_run() -> bool:
        try:
            return bool(RunLog(store, context.run_id).read())
        except StageError:
            return False

    return away_from_home(context.run_id, context.home, sees_run)


def _may_pass(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Whether a failure may pass by itself: not a user's mistake, a seal, or a number gone bad."""
    try:
        state.result()
    except StorageError as error:
        passing = error.may_pass
    except OSError as error:
        passing = error.errno in PASSING or isinstance(error, TimeoutError | ConnectionError)
    except Exception:
        passing = False
    else:
        return False
    if passing:
        log.warning("%s It is tried again in a moment.", state.message)
    return passing


def _end(
    compute: Compute[Any],
    stage: Stage,
    inputs: dict[str, Outcome],
    context: RunContext,
    before_compute: BeforeCompute | None,
) -> Ended:
    """Have the stage from the store, or compute it, or skip it."""
    skipped = next((given for given in inputs.values() if isinstance(given, Skipped)), None)
    if skipped and not stage.spec.tolerant:
        reason = f"{skipped.stage} was skipped"
        return Ended(Skipped(stage.name, reason), SKIPPED, reason)
    records = {role: given for role, given in inputs.items() if isinstance(given, Record)}
    read = {role: record.marked for role, record in records.items()}
    marks = check_seal(stage.name, stage.spec.seal, stage.reads, read)
    store = Store(context.store_url)
    key, basis = store.key_of(stage, inputs, context.profile)

    def waiting() -> None:
        stage_is(stage.name, WAITING, "another run computes it")

    with store.lock(stage, key, waiting) as held:
        run_log = RunLog(store, context.run_id)
        # What is tried again goes on at its checkpoint, and is done where it had come to its end.
        retried = bool(context.anew) and (stage.name, key) in run_log.results()
        anew = "" if key in made_anew(context.store_url, context.run_id) else context.anew
        # Noted while the lock is held, so that nobody clears away what this run is about to use.
        run_log.taken(stage.name, key)
        found = store.lookup(stage, key)
        if isinstance(found, Record) and not anew:
            # Whoever computed it may have been killed just before it could do this itself.
            store.settle(found)
            return Ended(found, CACHED, f"{_score(found)}record {key[:16]}")
        with _one if context.home else slots(context.run_id, context.workers):
            reason = found.reason if isinstance(found, Miss) else anew
            stage_is(stage.name, RUNNING, reason)
            clock = time.monotonic()
            try:
                if before_compute:
                    before_compute(context, stage, inputs)
                forget = bool(anew) and not retried
                outputs = store.writer(stage, key, basis, inputs, held=held, anew=forget)
                outputs.watch = Progress()
                if stage.spec.numerical:
                    configure(context.profile)
                facts = compute(stage.spec, store.inputs(stage, inputs), outputs)
                record = store.commit(outputs, facts, marks)
                if anew:
                    made_anew(context.store_url, context.run_id).add(key)
            except UnavailableError as error:
                if not stage.optional:
                    raise
                return Ended(Skipped(stage.name, str(error)), SKIPPED, str(error))
            seconds = time.monotonic() - clock
    message = f"{seconds:.1f} s, {_score(record)}record {key[:16]}"
    if record == found:
        message += ", the same bytes as before"
    elif isinstance(found, Record):
        message += ", NOT the bytes of before"
        log.warning("%s: computed anew, it has other bytes than before", stage.name)
    return Ended(record, COMPUTED, message, seconds, outputs.resumed_after)


def _score(record: Record) -> str:
    """The accuracy that the stage has measured, if it has."""
    if record.kind not in SCORED:
        return ""
    for split, name in (("test", "test_accuracy"), ("validation", "val_accuracy")):
        if (value := record.facts.get(name)) is not None:
            return f"{split} accuracy {100 * value:.2f} %, "
    return ""
