"""Which failures of a stage are retried, and after which delays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from prefect.states import Completed, Failed

from tasks.core.errors import (
    NumericalError,
    SealedError,
    StageError,
    StorageError,
    UnavailableError,
    UserError,
)
from tasks.engine.retries import RETRY_DELAYS_S, TRANSIENT, worth_a_retry
from tasks.stages.subset import subset
from tasks.storage.files import explaining
from tasks.storage.local_path import LocalPath


def retried(error: BaseException) -> bool:
    """Whether a task that failed with this error is retried."""
    return worth_a_retry(subset, None, Failed(message=str(error), data=error))


RETRIED = [
    *(OSError(number, os.strerror(number)) for number in sorted(TRANSIENT)),
    StorageError("can't be read back", transient=True),
    TimeoutError("timed out"),
    ConnectionError("the server is gone"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
]
NOT_RETRIED = [
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


@pytest.mark.parametrize("error", RETRIED, ids=repr)
def test_transient_failures_are_retried(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert retried(error)
    assert "The stage will be retried shortly." in caplog.text


@pytest.mark.parametrize("error", NOT_RETRIED, ids=repr)
def test_other_failures_are_not_retried(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert not retried(error)
    assert caplog.text == ""


def test_a_completed_stage_is_not_retried() -> None:
    assert not worth_a_retry(subset, None, Completed(data=1))


def test_a_full_disk_is_not_retried(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as full, explaining(LocalPath(tmp_path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not retried(full.value)


def test_a_stage_s_task_retries_with_growing_delays() -> None:
    assert subset.retries == len(RETRY_DELAYS_S) == 3
    assert subset.retry_delay_seconds == RETRY_DELAYS_S
    assert sorted(set(RETRY_DELAYS_S)) == RETRY_DELAYS_S
    assert subset.retry_condition_fn is worth_a_retry
