"""Which failures of a stage are worth a retry: temporary ones of the network or a disk."""

from __future__ import annotations

import errno
import logging
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State

from tasks.core.errors import StorageError

log = logging.getLogger("fashion_flow")

# Waiting may help with these; it cannot restore a missing file or correct a wrong path.
TRANSIENT = frozenset(
    {
        errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOLCK,
        errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
        errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNABORTED,
        errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE,
    }
)  # fmt: skip
RETRY_DELAYS_S = [2.0, 4.0, 8.0]


def worth_a_retry(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Whether a failure may be temporary; users' mistakes, seal violations and NaNs never are.

    The signature is that of a task's `retry_condition_fn`.
    """
    try:
        state.result()
    except StorageError as error:
        retry = error.transient
    except OSError as error:
        retry = error.errno in TRANSIENT or isinstance(error, TimeoutError | ConnectionError)
    except Exception:
        retry = False
    else:
        return False
    if retry:
        log.warning("%s The stage will be retried shortly.", state.message)
    return retry
