"""The stage wrapper: results are found or computed, recomputed, skipped and retried."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tasks.core.errors import (
    NumericalError,
    SealedError,
    StageError,
    StorageError,
    UnavailableError,
    UserError,
)
from tasks.core.names import FACTS
from tasks.core.records import Outcome, Record, Skipped, Stage
from tasks.core.training.progress import Progress
from tasks.engine import fingerprint
from tasks.engine import stage as stage_module
from tasks.engine.events import EpochEvent
from tasks.engine.stage import (
    Inputs,
    Outputs,
    RunContext,
    stage_task,
)
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store
from tests.disks import fill, small_disk
from tests.support import AnySpec, on_disk, spec_of

# The key contains the code of a real kind of stage; a `FakeStage` replaces its function.
STAGE = Stage("subset", spec_of("subset", seed=1))
NEXT = Stage("next", spec_of("preprocess"), {"split": (FACTS,)})


class FakeStage:
    """A stage's function that counts its calls and does `work`."""

    def __init__(self, work: Callable[[Outputs], Any] | None = None) -> None:
        self.calls = 0
        self.work = work
        self.__name__ = "fake"

    def __call__(self, spec: AnySpec, _inputs: Inputs, outputs: Outputs) -> Any:
        self.calls += 1
        if self.work:
            self.work(outputs)
        else:
            outputs.blob("train", "bin", b"the same each time")
        return {"seed": spec.as_json().get("seed")}


def never(_outputs: Outputs) -> None:
    pytest.fail("this stage must not be computed")


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(str(tmp_path / "store"), "run-1", {"device": "cpu"}, workers=2)


def log_of(context: RunContext) -> RunLog:
    return RunLog(Store(context.store_url), context.run_id)


def run(
    fake: FakeStage, context: RunContext, stage: Stage = STAGE, **options: Any
) -> State[Outcome]:
    """Run the task's function without Prefect's engine."""
    inputs: dict[str, Outcome] = options.pop("inputs", {})
    task: Task[..., Any] = stage_task(AnySpec, **options)(fake)
    state: State[Outcome] = task.fn(stage, inputs, context)
    return state


def record_of(state: State[Outcome]) -> Record:
    found = state.data
    assert isinstance(found, Record)
    return found


# Found or computed


def test_a_stage_is_computed_once_and_then_cached(context: RunContext) -> None:
    fake = FakeStage()
    first, second = run(fake, context), run(fake, context)
    assert fake.calls == 1
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


def test_other_settings_give_another_result(context: RunContext) -> None:
    fake = FakeStage()
    states = [
        run(fake, context, replace(STAGE, spec=spec_of("subset", seed=seed))) for seed in (1, 2, 1)
    ]
    assert [state.name for state in states] == ["Completed", "Completed", "Cached"]
    assert fake.calls == 2


def test_a_damaged_result_is_computed_again(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeStage()
    record = record_of(run(fake, context))
    (Path(context.store_url) / record.files["train"].path).write_bytes(b"damaged")
    with caplog.at_level("INFO", "fashion_flow"):
        assert run(fake, context).data == record
    assert fake.calls == 2
    assert "train has 7 bytes instead of 18" in caplog.text


def test_a_cache_hit_removes_checkpoints_that_a_killed_process_left_behind(
    context: RunContext,
) -> None:
    record = record_of(run(FakeStage(), context))
    folder = Store(context.store_url).folder(record.stage, record.key)
    names = [f"{word}-000002-{'a' * 64}.npz" for word in ("checkpoint", "snapshot")]
    for name in names:
        (on_disk(folder) / name).write_bytes(b"a state")
    assert run(FakeStage(never), context).name == "Cached"
    assert [name for name in names if (folder / name).exists()] == names[1:]


def test_the_outcome_can_name_the_state(context: RunContext) -> None:
    def named(record: Record) -> tuple[str, str]:
        return "RolledForward", f"seed {record.facts['seed']}"

    for _ in range(2):
        state = run(FakeStage(), context, state_of=named)
        assert (state.name, state.message) == ("RolledForward", "seed 1")
    assert [line["state"] for line in log_of(context).stages()] == ["completed", "cached"]


def test_before_compute_is_called_only_if_the_stage_is_computed(context: RunContext) -> None:
    seen: list[str] = []

    def before(given: RunContext, stage: Stage, inputs: Mapping[str, Outcome]) -> None:
        assert given is context
        assert inputs == {}
        seen.append(stage.name)

    for _ in range(2):
        run(FakeStage(), context, before_compute=before)
    assert seen == ["subset"]


# Recomputed


def recomputing(context: RunContext, run_id: str = "run-2", why: str = "asked for") -> RunContext:
    """Another run, which must recompute the stage."""
    return replace(context, run_id=run_id, recompute=why)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]


def test_a_recomputed_result_is_compared_with_the_stored_one(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeStage()
    record = record_of(run(fake, context))
    with caplog.at_level("INFO", "fashion_flow"):
        state = run(fake, recomputing(context))
    assert fake.calls == 2
    assert (state.name, state.data) == ("Completed", record)
    assert state.message is not None
    assert state.message.endswith(f"record {record.key[:16]}, the same bytes as before")
    assert "asked for" in caplog.text
    assert "the same bytes as before" in caplog.text


def test_a_recomputed_result_with_other_bytes_is_a_warning(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    first = record_of(run(FakeStage(), context))
    other = FakeStage(lambda outputs: outputs.blob("train", "bin", b"others"))
    run(FakeStage(), recomputing(context, "run-9"))
    assert warnings(caplog) == []
    state = run(other, recomputing(context))
    assert warnings(caplog) == ["subset: recomputed; its bytes differ from the stored ones"]
    assert state.message is not None
    assert state.message.endswith(", NOT the same bytes as before")
    assert record_of(state).files != first.files
    assert run(other, context).data == state.data, "the last result counts"


def test_a_result_that_was_not_stored_is_not_compared(context: RunContext) -> None:
    state = run(FakeStage(), recomputing(context))
    assert state.message is not None
    assert state.message.endswith(f"record {record_of(state).key[:16]}")


def test_a_failed_recomputation_keeps_the_stored_result(context: RunContext) -> None:
    record = record_of(run(FakeStage(), context))

    def broken(outputs: Outputs) -> None:
        outputs.blob("other", "bin", b"half of a stage")
        raise StageError("the computation")

    with pytest.raises(StageError, match="the computation"):
        run(FakeStage(broken), recomputing(context))
    assert run(FakeStage(never), context).data == record


def test_the_log_says_why_a_stage_is_recomputed(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    run(FakeStage(), context)
    caplog.clear()
    with caplog.at_level("INFO", "fashion_flow"):
        run(FakeStage(), recomputing(context, why="load is recomputed"))
    (line,) = (text for text in caplog.messages if " Running " in text)
    assert line.endswith("load is recomputed")


def test_a_run_recomputes_a_stage_once(context: RunContext) -> None:
    fake = FakeStage()
    names = [run(fake, recomputing(context)).name for _ in range(3)]
    assert names == ["Completed", "Cached", "Cached"]
    assert run(fake, recomputing(context, "run-3")).name == "Completed"
    assert fake.calls == 2


def test_each_key_of_a_stage_is_recomputed_once(context: RunContext) -> None:
    other = replace(STAGE, spec=spec_of("subset", seed=2))
    fake = FakeStage()
    for stage in (STAGE, other):
        run(fake, context, stage)
    assert run(fake, recomputing(context), STAGE).name == "Completed"
    assert run(fake, recomputing(context), other).name == "Completed"


class Trained(FakeStage):
    """Saves a checkpoint after each of two epochs; raises the given errors, one per save."""

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


def test_a_retried_recomputation_resumes_from_its_own_checkpoint(
    context: RunContext,
) -> None:
    interrupted = Trained(StageError("stopped"))
    with pytest.raises(StageError, match="stopped"):
        run(interrupted, context)
    # The checkpoint of the other run is discarded, the run's own is not.
    fake = Trained(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="Input/output error; check the disk"):
        run(fake, recomputing(context))
    assert run(fake, recomputing(context)).name == "Completed"
    assert fake.began == [0, 1]


def test_a_retried_recomputation_ignores_the_stored_result(
    context: RunContext,
) -> None:
    """The first attempt failed before its commit, so the store still holds the earlier result."""
    run(Trained(), context)
    fake = Trained(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match="Input/output error; check the disk"):
        run(fake, recomputing(context))
    assert run(fake, recomputing(context)).name == "Completed"
    assert fake.began == [0, 1]


def test_a_recomputation_that_fails_after_its_commit_is_cached_when_retried(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(FakeStage(), context)
    fake = FakeStage()
    with monkeypatch.context() as patch:

        def fail(*_arguments: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(RunLog, "stage", fail)
        with pytest.raises(StorageError, match="Input/output error; check the disk"):
            run(fake, recomputing(context))
    assert run(fake, recomputing(context)).name == "Cached"
    assert fake.calls == 1


# The run's log


def test_the_key_is_noted_as_taken_under_the_lock_before_the_lookup(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(run(FakeStage(), context))
    other = replace(context, run_id="run-2")
    seen: list[tuple[set[tuple[str, str]], bool]] = []
    look_up = Store.lookup

    def watched(store: Store, stage: Stage, key: str) -> Any:
        lock = store.lock_path(store.folder(stage.name, key))
        seen.append((log_of(other).results(), free(on_disk(lock))))
        return look_up(store, stage, key)

    monkeypatch.setattr(Store, "lookup", watched)
    assert run(FakeStage(never), other).name == "Cached"
    assert seen == [({("subset", record.key)}, False)]


def free(lock: Path) -> bool:
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_failed_stage_is_noted_as_taken_but_not_as_ended(context: RunContext) -> None:
    def broken(_outputs: Outputs) -> None:
        raise StageError("the computation")

    with pytest.raises(StageError, match="the computation"):
        run(FakeStage(broken), context)
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
        run(FakeStage(change), context, stage)
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
        run(FakeStage(edit), context)
    assert list(Store(context.store_url).records("subset")) == []


def test_each_epoch_of_a_training_is_logged(
    context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    def train(outputs: Outputs) -> None:
        outputs.epoch_done(1, 2, {"epoch": 1.0, "accuracy": 0.5})

    with caplog.at_level("DEBUG", "fashion_flow"):
        run(FakeStage(train), context)
    events = [getattr(entry, "event", None) for entry in caplog.records]
    assert EpochEvent("subset", 1, 2, {"epoch": 1.0, "accuracy": 0.5}) in events


def test_from_which_epoch_a_training_went_on_is_noted(context: RunContext) -> None:
    def resumed(outputs: Outputs) -> None:
        outputs.blob("model", "bin", b"x")
        outputs.resumed_after = 7

    run(FakeStage(resumed), context)
    run(FakeStage(resumed), context)
    assert [line["resumed_after"] for line in log_of(context).stages()] == [7, 0]


# Skipped


def test_a_stage_whose_input_was_skipped_is_skipped_and_takes_no_key(context: RunContext) -> None:
    skipped = Skipped("load", "offline")
    state = run(FakeStage(never), context, NEXT, inputs={"split": skipped})
    assert (state.name, state.message) == ("Skipped", "load was skipped")
    assert state.data == Skipped("next", "load was skipped")
    assert log_of(context).results() == set()
    (line,) = log_of(context).stages()
    assert (line["state"], line["key"], line["reason"]) == ("skipped", None, "load was skipped")


def test_a_tolerant_stage_is_computed_although_an_input_was_skipped(context: RunContext) -> None:
    tolerant = replace(NEXT, spec=spec_of("preprocess", tolerant=True))
    fake = FakeStage()
    state = run(fake, context, tolerant, inputs={"split": Skipped("load", "offline")})
    assert (state.name, fake.calls) == ("Completed", 1)


def unavailable(_outputs: Outputs) -> None:
    raise UnavailableError("no network; fetch it by hand")


def test_an_optional_stage_that_is_unavailable_is_skipped(context: RunContext) -> None:
    state = run(FakeStage(unavailable), context, replace(STAGE, optional=True))
    assert (state.name, state.message) == ("Skipped", "no network; fetch it by hand")
    assert state.data == Skipped("subset", "no network; fetch it by hand")
    with pytest.raises(UnavailableError, match="no network"):
        run(FakeStage(unavailable), context)


# Disk errors


def test_a_full_disk_is_explained() -> None:
    with small_disk(256) as disk:
        context = RunContext(str(disk / "store"), "run-1", {}, workers=1)
        big = FakeStage(lambda outputs: outputs.blob("train", "bin", b"x" * 400_000))
        with pytest.raises(StorageError, match="no space is left on its disk; free some") as full:
            run(big, context)
        assert not full.value.transient
        fill(disk)
        with pytest.raises(StorageError, match="no space is left"):
            run(FakeStage(), replace(context, run_id="run-2"))
        (disk / "ballast").unlink()
        assert run(FakeStage(), context).name == "Completed"


# With Prefect's engine


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}),
    ):
        yield


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "RETRY_DELAYS_S", [0.0, 0.01, 0.02])


def failing(*errors: Exception) -> Callable[[Outputs], None]:
    """Raise these errors, one per call, and then do the work."""
    pending = list(errors)

    def work(outputs: Outputs) -> None:
        if pending:
            raise pending.pop(0)
        outputs.blob("train", "bin", b"at last")

    return work


def in_flow(fake: FakeStage, context: RunContext) -> State[Outcome]:
    """The final state of the stage's task in a flow."""
    task: Task[..., Any] = stage_task(AnySpec)(fake)

    @flow(name="test")
    def around() -> list[Any]:
        return [task(STAGE, {}, context, return_state=True)]

    state: State[Outcome] = around()[0]
    return state


@pytest.mark.usefixtures("prefect", "short_delays")
@pytest.mark.parametrize(
    ("errors", "calls"),
    [
        ([OSError(errno.EIO, "Input/output error")], 2),
        ([StorageError("can't be read back", transient=True), TimeoutError("timed out")], 3),
        ([OSError(errno.EIO, "Input/output error")] * 3, 4),
    ],
    ids=["once", "twice", "as often as allowed"],
)
def test_prefect_retries_transient_failures(
    context: RunContext, errors: list[Exception], calls: int
) -> None:
    fake = FakeStage(failing(*errors))
    state = in_flow(fake, context)
    assert (state.name, fake.calls) == ("Completed", calls)
    assert [line["state"] for line in log_of(context).stages()] == ["completed"]
    record = state.result()
    assert isinstance(record, Record)
    assert Store(context.store_url).lookup(STAGE, record.key) == record


@pytest.mark.usefixtures("prefect", "short_delays")
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
def test_prefect_gives_up_in_the_end_or_does_not_retry(
    context: RunContext, error: Exception, calls: int
) -> None:
    fake = FakeStage(failing(*[error] * 9))
    state = in_flow(fake, context)
    assert state.is_failed()
    assert fake.calls == calls
    with pytest.raises(Exception, match=r".") as raised:
        state.result()
    explained = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO)
    assert isinstance(raised.value, StorageError if explained else type(error))
    assert log_of(context).stages() == []


@pytest.mark.usefixtures("prefect", "short_delays")
def test_prefect_shows_the_state_of_the_stage(context: RunContext) -> None:
    assert in_flow(FakeStage(), context).name == "Completed"
    assert in_flow(FakeStage(), context).name == "Cached"
    again = in_flow(FakeStage(), recomputing(context))
    assert again.name == "Completed"
    assert again.message is not None
    assert "the same bytes as before" in again.message
