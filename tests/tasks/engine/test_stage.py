"""What makes a Prefect task of a stage: found or computed, tried again where that may help."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Failed
from prefect.testing.utilities import prefect_test_harness

from tasks.core.errors import (
    NumericalError,
    SealedError,
    StageError,
    StorageError,
    UnavailableError,
    UserError,
)
from tasks.core.records import FACTS, Outcome, Record, Skipped, Stage
from tasks.core.training.progress import Progress
from tasks.engine import fingerprint
from tasks.engine import stage as stage_module
from tasks.engine.events import EpochEvent
from tasks.engine.stage import (
    PASSING,
    RETRY_DELAYS_S,
    Inputs,
    Outputs,
    RunContext,
    _may_pass,
    stage_task,
)
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store
from tests.disks import fill, small_disk
from tests.support import on_disk

# The code of a real kind enters the key; what it computes is made up here.
STAGE = Stage("subset", "subset", {"seed": 1})
NEXT = Stage("next", "preprocess", {}, {"split": (FACTS,)})


class Made:
    """A stage's function that counts its calls and does what `work` says."""

    def __init__(self, work: Callable[[Outputs], Any] | None = None) -> None:
        self.calls = 0
        self.work = work
        self.__name__ = "made"

    def __call__(self, settings: Mapping[str, Any], _inputs: Inputs, outputs: Outputs) -> Any:
        self.calls += 1
        if self.work:
            self.work(outputs)
        else:
            outputs.blob("train", "bin", b"the same each time")
        return {"seed": settings.get("seed")}


def never(_outputs: Outputs) -> None:
    pytest.fail("this is not computed")


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(str(tmp_path / "store"), "run-1", {"device": "cpu"}, workers=2)


def log_of(context: RunContext) -> RunLog:
    return RunLog(Store(context.store_url), context.run_id)


def run(made: Made, context: RunContext, stage: Stage = STAGE, **options: Any) -> State[Outcome]:
    """What the task does, without Prefect's engine."""
    inputs: dict[str, Outcome] = options.pop("inputs", {})
    task: Task[..., Any] = stage_task(**options)(made)
    state: State[Outcome] = task.fn(stage, inputs, context)
    return state


def record_of(state: State[Outcome]) -> Record:
    found = state.data
    assert isinstance(found, Record)
    return found


# Found or computed


def test_a_stage_is_computed_once_and_found_from_then_on(context: RunContext) -> None:
    made = Made()
    first, second = run(made, context), run(made, context)
    assert made.calls == 1
    assert (first.name, second.name) == ("Completed", "Cached")
    assert first.is_completed()
    assert second.is_completed()
    record = record_of(first)
    assert record_of(second) == record
    assert first.message is not None
    assert first.message.endswith(f" s, record {record.key[:16]}")
    assert second.message == f"record {record.key[:16]}"
    lines = log_of(context).stages()
    assert [(line["state"], line["key"]) for line in lines] == [
        ("completed", record.key),
        ("cached", record.key),
    ]
    assert lines[1]["seconds"] == 0


def test_other_settings_are_another_result(context: RunContext) -> None:
    made = Made()
    states = [run(made, context, replace(STAGE, settings={"seed": seed})) for seed in (1, 2, 1)]
    assert [state.name for state in states] == ["Completed", "Completed", "Cached"]
    assert made.calls == 2


def test_a_damaged_result_is_computed_again(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made()
    record = record_of(run(made, context))
    (Path(context.store_url) / record.files["train"].path).write_bytes(b"damaged")
    with caplog.at_level("INFO", "fashion_flow"):
        assert run(made, context).data == record
    assert made.calls == 2
    assert "train has 7 bytes instead of 18" in caplog.text


def test_what_is_found_loses_the_checkpoints_that_a_killed_process_left(
    context: RunContext,
) -> None:
    record = record_of(run(Made(), context))
    folder = Store(context.store_url).folder(record.stage, record.key)
    names = [f"{word}-000002-{'a' * 64}.npz" for word in ("checkpoint", "snapshot")]
    for name in names:
        (on_disk(folder) / name).write_bytes(b"a state")
    assert run(Made(never), context).name == "Cached"
    assert [name for name in names if (folder / name).exists()] == names[1:]


def test_the_state_may_be_named_by_the_outcome(context: RunContext) -> None:
    def named(record: Record) -> tuple[str, str]:
        return "RolledForward", f"seed {record.facts['seed']}"

    for _ in range(2):
        state = run(Made(), context, state_of=named)
        assert (state.name, state.message) == ("RolledForward", "seed 1")
    assert [line["state"] for line in log_of(context).stages()] == ["completed", "cached"]


def test_what_comes_before_is_done_only_where_the_stage_is_computed(context: RunContext) -> None:
    seen: list[str] = []

    def before(given: RunContext, stage: Stage, inputs: Mapping[str, Outcome]) -> None:
        assert given is context
        assert inputs == {}
        seen.append(stage.name)

    for _ in range(2):
        run(Made(), context, before_compute=before)
    assert seen == ["subset"]


# Anew


def anew(context: RunContext, run_id: str = "run-2", why: str = "asked for anew") -> RunContext:
    """Another run, which is to compute the stage anew."""
    return replace(context, run_id=run_id, anew=why)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]


def test_what_is_asked_for_anew_is_computed_and_compared(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made()
    record = record_of(run(made, context))
    with caplog.at_level("INFO", "fashion_flow"):
        state = run(made, anew(context))
    assert made.calls == 2
    assert (state.name, state.data) == ("Completed", record)
    assert state.message is not None
    assert state.message.endswith(f"record {record.key[:16]}, the same bytes as before")
    assert "asked for anew" in caplog.text
    assert "the same bytes as before" in caplog.text


def test_other_bytes_of_what_is_asked_for_anew_are_said_loudly(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    first = record_of(run(Made(), context))
    other = Made(lambda outputs: outputs.blob("train", "bin", b"others"))
    run(Made(), anew(context, "run-9"))
    assert warnings(caplog) == []
    state = run(other, anew(context))
    assert warnings(caplog) == ["subset: computed anew, it has other bytes than before"]
    assert state.message is not None
    assert state.message.endswith(", NOT the bytes of before")
    assert record_of(state).files != first.files
    assert run(other, context).data == state.data, "what was computed last counts"


def test_what_was_never_there_is_not_compared(context: RunContext) -> None:
    state = run(Made(), anew(context))
    assert state.message is not None
    assert state.message.endswith(f"record {record_of(state).key[:16]}")


def test_an_anew_that_fails_leaves_what_was_there(context: RunContext) -> None:
    record = record_of(run(Made(), context))

    def broken(outputs: Outputs) -> None:
        outputs.blob("other", "bin", b"half of a stage")
        raise StageError("the computation")

    with pytest.raises(StageError, match="the computation"):
        run(Made(broken), anew(context))
    assert run(Made(never), context).data == record


def test_why_a_stage_is_computed_anew_is_said(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    run(Made(), context)
    with caplog.at_level("INFO", "fashion_flow"):
        run(Made(), anew(context, why="load is made anew"))
    (line,) = (text for text in caplog.messages if " Running " in text)
    assert line.endswith("load is made anew")


def test_a_run_makes_a_stage_anew_once(context: RunContext) -> None:
    made = Made()
    names = [run(made, anew(context)).name for _ in range(3)]
    assert names == ["Completed", "Cached", "Cached"]
    assert run(made, anew(context, "run-3")).name == "Completed"
    assert made.calls == 2


def test_what_is_taken_under_another_key_is_still_made_anew(context: RunContext) -> None:
    other = replace(STAGE, settings={"seed": 2})
    made = Made()
    for stage in (STAGE, other):
        run(made, context, stage)
    assert run(made, anew(context), STAGE).name == "Completed"
    assert run(made, anew(context), other).name == "Completed"


class Trained(Made):
    """Saves a state after each of two epochs; breaks off after the first the first time."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(self.train)
        self.errors = list(errors)
        self.began: list[int] = []

    def train(self, outputs: Outputs) -> None:
        import numpy as np

        checkpoints = outputs.checkpoints({}, 2)
        latest = checkpoints.latest()
        self.began.append(latest.epoch if latest else 0)
        for epoch in range(self.began[-1] + 1, 3):
            rows = tuple({"epoch": float(n), "val_loss": 1.0} for n in range(1, epoch + 1))
            checkpoints.save(Progress(rows, (np.full(3, epoch, np.float32),)))
            if self.errors:
                raise self.errors.pop(0)
        outputs.blob("train", "bin", b"the same each time")


def test_what_is_made_anew_goes_on_at_its_checkpoint_when_it_is_tried_again(
    context: RunContext,
) -> None:
    broken_off = Trained(StageError("stopped"))
    with pytest.raises(StageError, match="stopped"):
        run(broken_off, context)
    # The other run's state is forgotten, its own is not.
    made = Trained(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        run(made, anew(context))
    assert run(made, anew(context)).name == "Completed"
    assert made.began == [0, 1]


def test_what_is_in_the_store_is_made_anew_though_it_has_to_be_tried_again(
    context: RunContext,
) -> None:
    """The first try failed before it committed anything: the result is still that of before."""
    run(Trained(), context)
    made = Trained(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        run(made, anew(context))
    assert run(made, anew(context)).name == "Completed"
    assert made.began == [0, 1]


def test_what_fails_after_it_was_made_anew_and_committed_is_found_when_it_is_tried_again(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Made(), context)
    made = Made()
    with monkeypatch.context() as patch:

        def fail(*_arguments: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(RunLog, "stage", fail)
        with pytest.raises(OSError, match="Input/output"):
            run(made, anew(context))
    assert run(made, anew(context)).name == "Cached"
    assert made.calls == 1


# What the log says


def test_the_key_is_noted_as_taken_under_the_lock_before_the_result_is_looked_at(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(run(Made(), context))
    other = replace(context, run_id="run-2")
    seen: list[tuple[set[tuple[str, str]], bool]] = []
    look_up = Store.lookup

    def watched(store: Store, stage: Stage, key: str) -> Any:
        lock = store.lock_path(store.folder(stage.name, key))
        seen.append((log_of(other).results(), free(on_disk(lock))))
        return look_up(store, stage, key)

    monkeypatch.setattr(Store, "lookup", watched)
    assert run(Made(never), other).name == "Cached"
    assert seen == [({("subset", record.key)}, False)]


def free(lock: Path) -> bool:
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_stage_that_fails_is_taken_and_not_finished(context: RunContext) -> None:
    def broken(_outputs: Outputs) -> None:
        raise StageError("the computation")

    with pytest.raises(StageError, match="the computation"):
        run(Made(broken), context)
    assert log_of(context).stages() == []
    ((stage, key),) = log_of(context).results()
    assert stage == "subset"
    store = Store(context.store_url)
    assert free(on_disk(store.lock_path(store.folder(stage, key))))


def test_a_result_is_not_stored_if_an_outside_file_changed_meanwhile(
    context: RunContext, tmp_path: Path
) -> None:
    path = tmp_path / "raw.npz"
    path.write_bytes(b"before")

    def change(outputs: Outputs) -> None:
        outputs.blob("train", "bin", b"of which content?")
        path.write_bytes(b"after")

    stage = replace(STAGE, external=(str(path),))
    with pytest.raises(StageError, match=r"raw\.npz changed while subset read it"):
        run(Made(change), context, stage)
    assert list(Store(context.store_url).records("subset")) == []


def test_neither_checkpoints_nor_results_of_edited_code_are_stored(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(outputs: Outputs) -> None:
        monkeypatch.setattr(fingerprint, "changed_since", lambda _code: ["tasks.core.seeds"])
        with pytest.raises(StageError, match=r"tasks\.core\.seeds changed while subset"):
            outputs.checkpoints({}, 3).save(Progress(({"epoch": 1.0},), ()))
        assert list(outputs.folder.iterdir()) == []

    with pytest.raises(StageError, match=r"tasks\.core\.seeds changed while subset"):
        run(Made(edit), context)
    assert list(Store(context.store_url).records("subset")) == []


def test_each_epoch_of_a_training_is_logged(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    def train(outputs: Outputs) -> None:
        outputs.epoch_done(1, 2, {"epoch": 1.0, "accuracy": 0.5})

    with caplog.at_level("DEBUG", "fashion_flow"):
        run(Made(train), context)
    events = [getattr(entry, "event", None) for entry in caplog.records]
    assert EpochEvent("subset", 1, 2, {"epoch": 1.0, "accuracy": 0.5}) in events


def test_from_which_epoch_a_training_went_on_is_noted(context: RunContext) -> None:
    def resumed(outputs: Outputs) -> None:
        outputs.blob("model", "bin", b"x")
        outputs.resumed_after = 7

    run(Made(resumed), context)
    run(Made(resumed), context)
    assert [line["resumed_after"] for line in log_of(context).stages()] == [7, 0]


# Skipped


def test_a_stage_whose_input_was_skipped_is_skipped_and_takes_nothing(context: RunContext) -> None:
    skipped = Skipped("load", "offline")
    state = run(Made(never), context, NEXT, inputs={"split": skipped})
    assert (state.name, state.message) == ("Skipped", "load was skipped")
    assert state.data == Skipped("next", "load was skipped")
    assert log_of(context).results() == set()
    (line,) = log_of(context).stages()
    assert (line["state"], line["key"], line["reason"]) == ("skipped", None, "load was skipped")


def test_a_tolerant_stage_is_given_what_was_skipped(context: RunContext) -> None:
    tolerant = replace(NEXT, tolerant=True)
    made = Made()
    state = run(made, context, tolerant, inputs={"split": Skipped("load", "offline")})
    assert (state.name, made.calls) == ("Completed", 1)


def unavailable(_outputs: Outputs) -> None:
    raise UnavailableError("no network; fetch it by hand")


def test_an_optional_stage_that_can_t_be_had_is_skipped(context: RunContext) -> None:
    state = run(Made(unavailable), context, replace(STAGE, optional=True))
    assert (state.name, state.message) == ("Skipped", "no network; fetch it by hand")
    assert state.data == Skipped("subset", "no network; fetch it by hand")
    with pytest.raises(UnavailableError, match="no network"):
        run(Made(unavailable), context)


# Errors of the disk


def test_a_full_disk_is_explained() -> None:
    with small_disk(256) as disk:
        context = RunContext(str(disk / "store"), "run-1", {}, workers=1)
        big = Made(lambda outputs: outputs.blob("train", "bin", b"x" * 400_000))
        with pytest.raises(StorageError, match="no space is left on its disk; free some") as full:
            run(big, context)
        assert not full.value.may_pass
        assert not tried_again(full.value)
        fill(disk)
        with pytest.raises(StorageError, match="no space is left"):
            run(Made(), replace(context, run_id="run-2"))
        (disk / "ballast").unlink()
        assert run(Made(), context).name == "Completed"


# Tried again


def tried_again(error: BaseException) -> bool:
    """Whether a task that failed with this error is tried again."""
    state: State[Any] = Failed(message=str(error), data=error)
    return _may_pass(stage_task()(Made()), None, state)


MAY_PASS = [
    *(OSError(number, os.strerror(number)) for number in sorted(PASSING)),
    StorageError("can't be read back", may_pass=True),
    TimeoutError("timed out"),
    ConnectionError("the server is gone"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
]
MAY_NOT_PASS = [
    UserError("no such file"),
    NumericalError("loss not finite"),
    SealedError("the test split"),
    StageError("the code changed"),
    UnavailableError("no network"),
    StorageError("the disk is full"),
    *(
        OSError(number, os.strerror(number))
        for number in (
            errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EISDIR,
            errno.ENOTDIR, errno.ENAMETOOLONG,
        )
    ),
    OSError("without a number"),
    FileNotFoundError("gone"),
    ValueError("a bug"),
    MemoryError(),
]  # fmt: skip


@pytest.mark.parametrize("error", MAY_PASS, ids=repr)
def test_what_may_pass_is_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert tried_again(error)
    assert "It is tried again in a moment." in caplog.text


@pytest.mark.parametrize("error", MAY_NOT_PASS, ids=repr)
def test_what_does_not_pass_is_not_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tried_again(error)
    assert caplog.text == ""


def test_what_is_done_is_not_tried_again() -> None:
    assert not _may_pass(stage_task()(Made()), None, Completed(data=1))


def test_pauses_grow() -> None:
    task = stage_task()(Made())
    assert task.retries == len(RETRY_DELAYS_S) == 3
    assert task.retry_delay_seconds == RETRY_DELAYS_S
    assert sorted(set(RETRY_DELAYS_S)) == RETRY_DELAYS_S
    assert task.retry_condition_fn is _may_pass


# With Prefect's engine


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}),
    ):
        yield


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "RETRY_DELAYS_S", [0.0, 0.01, 0.02])


def failing(*errors: Exception) -> Callable[[Outputs], None]:
    """Fails with these errors, one a call, and then does its work."""
    pending = list(errors)

    def work(outputs: Outputs) -> None:
        if pending:
            raise pending.pop(0)
        outputs.blob("train", "bin", b"at last")

    return work


def in_flow(made: Made, context: RunContext) -> State[Outcome]:
    """The end of the stage's task in a flow."""
    task: Task[..., Any] = stage_task()(made)

    @flow(name="test")
    def around() -> list[Any]:
        return [task(STAGE, {}, context, return_state=True)]

    state: State[Outcome] = around()[0]
    return state


@pytest.mark.usefixtures("prefect", "short_pauses")
@pytest.mark.parametrize(
    ("errors", "calls"),
    [
        ([OSError(errno.EIO, "Input/output error")], 2),
        ([StorageError("can't be read back", may_pass=True), TimeoutError("timed out")], 3),
        ([OSError(errno.EIO, "Input/output error")] * 3, 4),
    ],
    ids=["once", "twice", "as often as it may"],
)
def test_prefect_tries_again_what_may_pass(
    context: RunContext, errors: list[Exception], calls: int
) -> None:
    made = Made(failing(*errors))
    state = in_flow(made, context)
    assert (state.name, made.calls) == ("Completed", calls)
    assert [line["state"] for line in log_of(context).stages()] == ["completed"]
    record = state.result()
    assert isinstance(record, Record)
    assert Store(context.store_url).lookup(STAGE, record.key) == record


@pytest.mark.usefixtures("prefect", "short_pauses")
@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (OSError(errno.EIO, "Input/output error"), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file"), 1),
        (UserError("wrong settings"), 1),
        (NumericalError("loss not finite"), 1),
        (SealedError("the test split"), 1),
    ],
    ids=repr,
)
def test_prefect_gives_up(context: RunContext, error: Exception, calls: int) -> None:
    made = Made(failing(*[error] * 9))
    state = in_flow(made, context)
    assert state.is_failed()
    assert made.calls == calls
    with pytest.raises(Exception, match=r".") as raised:
        state.result()
    explained = isinstance(error, OSError) and error.errno == errno.ENOSPC
    assert isinstance(raised.value, StorageError if explained else type(error))
    assert log_of(context).stages() == []


@pytest.mark.usefixtures("prefect", "short_pauses")
def test_prefect_s_state_is_the_stage_s(context: RunContext) -> None:
    assert in_flow(Made(), context).name == "Completed"
    assert in_flow(Made(), context).name == "Cached"
    again = in_flow(Made(), anew(context))
    assert again.name == "Completed"
    assert again.message is not None
    assert "the same bytes as before" in again.message
