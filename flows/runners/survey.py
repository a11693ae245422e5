"""Survey a Dask cluster: its workers' profiles, code and libraries, and whether they agree."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from flows.runners.base import ComputeSite
from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import FashionFlowError, StageError, UserError
from tasks.core.messages import first_line, listed, shortened
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.libraries import installation
from tasks.engine.profile import profile_changes, profile_of
from tasks.engine.worker import describe, differences, refuse_other_code

log = logging.getLogger("fashion_flow")

CONNECT_S = 10.0
WORKERS_S = 20.0
TLS = ("ca_file", "cert", "key")


def survey(address: str, execution: ExecutionSettings) -> ComputeSite:
    """Ask every worker of a cluster for its profile, code and libraries, and compare them.

    Raises:
        StageError: the cluster is unreachable, has no workers, or has workers that can't run this
            program or differ in code, libraries or profile.
        UserError: the settings require a GPU and there is none; TLS is not set up.
    """
    with _connected(address) as client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise StageError(
                f"the Dask cluster at {address} has no workers, and none joined within "
                f"{WORKERS_S:.0f} s; start some (docs/clusters.md)."
            ) from None
        workers = client.scheduler_info()["workers"]
        answers = client.run(describe, execution.model_dump(), on_error="return")
        scheduler = _installation_of_scheduler(client)
    # A worker may have joined or left in the meantime.
    gpus = [name for name in answers if workers.get(name, {}).get("resources", {}).get("GPU")]
    profile = agreed(answers, gpus or list(answers))
    _check_scheduler(scheduler)
    if profile["device"] == "gpu" and not gpus:
        log.warning(
            "the workers of %s see GPUs but declare none, so two may share a GPU; start each "
            'with CUDA_VISIBLE_DEVICES and --resources "GPU=1" (docs/clusters.md)',
            address,
        )
    return ComputeSite(profile, len(gpus or answers), bool(gpus))


def agreed(answers: Mapping[str, Any], computing: Sequence[str]) -> dict[str, Any]:
    """The one profile of the workers that train, found by comparing the answers of all workers.

    Args:
        answers: by worker, what `describe` returned or raised there.
        computing: the workers that compute numerical stages, whose profiles must agree.

    Raises:
        StageError: a worker can't run this program, has different code or libraries, or their
            profiles differ.
        UserError: the settings require a GPU, and one of them sees none.
    """
    for worker, answer in answers.items():
        _check_answer(worker, answer, computing=worker in computing)
    first = computing[0]
    profile: dict[str, Any] = answers[first]["profile"]
    for worker, answer in answers.items():
        if isinstance(answer, UserError):
            continue
        # Workers that compute no network still compute statistics and figures.
        kind = Arithmetic.NETWORK if worker in computing else Arithmetic.FLOATING
        unlike = profile_changes(profile_of(kind, profile), profile_of(kind, answer["profile"]))
        if unlike:
            raise StageError(
                f"the workers {first} and {worker} would not compute the same results: "
                f"{worker} has {listed(unlike, 80, separator='; ')}; stop those of one kind, or "
                "name the device with --set execution.device=..."
            )
    return profile


def _check_answer(worker: str, answer: Any, *, computing: bool) -> None:
    """Refuse a worker that can't compute stages of this run."""
    if isinstance(answer, UserError):
        if computing:
            raise UserError(f"the worker {worker}: {answer}")
    elif isinstance(answer, FashionFlowError):
        raise StageError(f"the worker {worker}: {answer}")
    elif isinstance(answer, BaseException):
        # Dask wraps some errors in an Exception whose text names the original one.
        cause = shortened(str(answer) if type(answer) is Exception else repr(answer), 160)
        raise StageError(
            f"the worker {worker} can't run this program ({cause}); install it there (make "
            "setup) and start the worker from there."
        )
    else:
        refuse_other_code(worker, differences(answer["installation"], installation()))


def _installation_of_scheduler(client: Client) -> Mapping[str, str] | Exception:
    """The scheduler's code and libraries, which matter because it also unpickles tasks."""
    try:
        found: Mapping[str, str] = client.run_on_scheduler(installation)
    except Exception as error:
        return error
    return found


def _check_scheduler(found: Mapping[str, str] | Exception) -> None:
    if isinstance(found, Exception):
        differing = f"{type(found).__name__}: {first_line(found)}"
    else:
        differing = differences(found, installation())
    if differing:
        raise StageError(
            f"the scheduler's code or libraries differ from the run's: {differing}; install the "
            "same there and restart it."
        )


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    security = Security()
    found = security.get_tls_config_for_role("client")
    if urlsplit(address).scheme == "tls" and not all(found[name] for name in TLS):
        raise UserError(
            f"{address}: for TLS, set Dask's own settings, e.g. the environment variables "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..__TLS__CLIENT__CERT and "
            "..__TLS__CLIENT__KEY (docs/clusters.md)."
        )
    try:
        client = Client(address, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise StageError(
            f"the Dask cluster at {address} can't be reached "
            f"({first_line(error)}); check that its scheduler is running (docs/clusters.md)."
        ) from None
    with client:
        yield client
