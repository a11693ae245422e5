"""A Dask cluster for the stages of a run: one that is there, or workers of the run's own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.security import Security
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from flows.runners.base import LOOPBACK, Place, Runner, is_loopback
from tasks.core.errors import FashionFlowError, StageError, UserError
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import installation, resolve_profile, visible_gpus
from tasks.engine.worker import describe, differences, refuse_other_code, topic_of, unpacked

log = logging.getLogger("fashion_flow")

CONNECT_S = 10.0
WORKERS_S = 20.0
EVERYTHING = "all"
TLS = ("ca_file", "cert", "key")


class StageRunner(DaskTaskRunner):
    """Submits stages under their names; those that train or use a network ask for a GPU.

    Dask keeps a stage back until its inputs are there, so that it occupies no worker before.
    """

    def __init__(self, connected: str | SpecCluster, *, gpus: bool) -> None:
        client = {"timeout": CONNECT_S}
        if isinstance(connected, str):
            super().__init__(address=connected, client_kwargs=client)
        else:
            super().__init__(cluster=connected, client_kwargs=client)
        self._gpus = gpus

    def submit(  # type: ignore[override]
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Have a stage computed by the next worker that may."""
        stage = parameters["stage"]
        future = self.client.submit(
            task,
            key=f"{stage.name}-{uuid4()}",
            resources={"GPU": 1} if self._gpus and stage.numerical else None,
            parameters=self._optimize_futures(parameters),
            wait_for=self._optimize_futures(wait_for) if wait_for else None,
            dependencies=dependencies,
            return_type="state",
        )
        return PrefectDaskFuture(wrapped_future=future, task_run_id=future.task_run_id)


@contextmanager
def cluster_runner(runner: Runner, place: Place, run_id: str) -> Iterator[StageRunner]:
    """A Dask cluster to submit stages to; what its workers log is logged here as it comes.

    Raises:
        StageError: the cluster was lost, or every worker that took up a stage died of it.
        UserError: workers on other machines could not reach the Prefect server.
    """
    with (
        _server_for_workers(runner),
        _explained(runner.address or "of this run"),
        _cluster(runner, place) as cluster,
        StageRunner(cluster, gpus=place.gpus) as stages,
    ):
        client = stages.client
        client.subscribe_topic(topic_of(run_id), _relog)
        client.subscribe_topic(EVERYTHING, _tell_lost)
        try:
            yield stages
        finally:
            # Workers that go with the cluster are not lost.
            client.unsubscribe_topic(EVERYTHING)


@contextmanager
def _cluster(runner: Runner, place: Place) -> Iterator[str | SpecCluster]:
    if runner.address:
        yield runner.address
        return
    environments = worker_environments(place.profile["device"], place.at_once, visible_gpus())
    with own_cluster(environments) as cluster:
        yield cluster


def own_place(execution: ExecutionSettings) -> Place:
    """What the settings mean for workers of this machine."""
    profile = resolve_profile(execution)
    workers = worker_environments(profile["device"], execution.workers, visible_gpus())
    return Place(profile, len(workers), gpus=profile["device"] == "gpu")


def worker_environments(device: str, workers: int, gpus: Sequence[str]) -> list[Mapping[str, str]]:
    """What is special in the environment of each worker of this machine: one for each GPU."""
    if device == "gpu":
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    return [{} for _ in range(workers)]


def own_cluster(environments: Sequence[Mapping[str, str]]) -> SpecCluster:
    """A scheduler in this process, and worker processes that end with it, however it ends.

    Certificates that exist only in memory keep other users of the machine out.
    """
    common = {
        "host": LOOPBACK,
        "protocol": "tls://",
        "security": Security.temporary(),
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",
    }
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                **common,
                "nthreads": 1,
                # Dask would kill a worker for its share of memory, whatever the others need.
                "memory_limit": 0,
                "env": dict(environment),
                "resources": {"GPU": 1} if environment else {},
                "silence_logs": logging.WARNING,
            },
        }
        for number, environment in enumerate(environments)
    }
    return SpecCluster(
        workers=workers,
        scheduler={"cls": Scheduler, "options": {**common, "port": 0}},
        security=common["security"],
        silence_logs=logging.WARNING,
    )


def survey(address: str, execution: ExecutionSettings) -> Place:
    """Ask all workers of a cluster what they are, and whether they would compute the same.

    Raises:
        StageError: the cluster can't be reached, has no workers, or some that must not be used.
        UserError: a GPU is asked for and there is none; TLS is not set up.
    """
    with _connected(address) as client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise StageError(
                f"the Dask cluster at {address} has no workers, and none came within "
                f"{WORKERS_S:.0f} s; start some (docs/clusters.md)."
            ) from None
        workers = client.scheduler_info()["workers"]
        answers = client.run(describe, execution.model_dump(), on_error="return")
        scheduler = _of_scheduler(client)
    # A worker may have come or gone meanwhile.
    gpus = [name for name in answers if workers.get(name, {}).get("resources", {}).get("GPU")]
    profile = agreed(answers, gpus or list(answers))
    _check_scheduler(scheduler)
    if profile["device"] == "gpu" and not gpus:
        log.warning(
            "the workers of %s see GPUs but declare none, so two may share a card; start each "
            'with CUDA_VISIBLE_DEVICES and --resources "GPU=1" (docs/clusters.md)',
            address,
        )
    return Place(profile, len(gpus or answers), bool(gpus))


def agreed(answers: Mapping[str, Any], computing: Sequence[str]) -> dict[str, Any]:
    """The profile of the workers that compute with networks, from what all workers said.

    Args:
        answers: by worker, what `describe` returned or raised there.
        computing: those whose profile counts.

    Raises:
        StageError: one can't run this program or has other code or libraries, or their profiles
            differ.
        UserError: a GPU is asked for, and one of them sees none.
    """
    for worker, answer in answers.items():
        if isinstance(answer, UserError):
            if worker in computing:
                raise UserError(f"the worker {worker}: {answer}")
        elif isinstance(answer, FashionFlowError):
            raise StageError(f"the worker {worker}: {answer}")
        elif isinstance(answer, BaseException):
            # Dask's own, whose text names what was raised there.
            what = str(answer) if type(answer) is Exception else repr(answer)
            raise StageError(
                f"the worker {worker} can't run this program ({what}); install it there (make "
                "setup) and start the worker from there."
            )
        else:
            refuse_other_code(worker, differences(answer["installation"], installation()))
    first, *others = computing
    profile: dict[str, Any] = answers[first]["profile"]
    for worker in others:
        other = answers[worker]["profile"]
        unlike = [
            f"{name} {profile[name]}, {other[name]}"
            for name in profile
            if profile[name] != other[name]
        ]
        if unlike:
            raise StageError(
                f"the workers {first} and {worker} would not compute the same: "
                f"{'; '.join(unlike)}; stop those of one kind, or name the device with "
                "--set execution.device=..."
            )
    return profile


def _of_scheduler(client: Client) -> Mapping[str, str] | Exception:
    """The scheduler's installation: Dask unpickles tasks there, too, before it passes them on."""
    try:
        found: Mapping[str, str] = client.run_on_scheduler(installation)
    except Exception as error:
        return error
    return found


def _check_scheduler(found: Mapping[str, str] | Exception) -> None:
    if isinstance(found, Exception):
        differing = f"{type(found).__name__}: {found}"
    else:
        differing = differences(found, installation())
    if differing:
        raise StageError(
            f"the scheduler has another installation than the run: {differing}; install the same "
            "there and start it anew."
        )


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    security = Security()
    found = security.get_tls_config_for_role("client")
    if urlsplit(address).scheme == "tls" and not all(found[name] for name in TLS):
        raise UserError(
            f"{address}: TLS needs Dask's own settings, e.g. the environment's "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..__TLS__CLIENT__CERT and "
            "..__TLS__CLIENT__KEY (docs/clusters.md)."
        )
    try:
        client = Client(address, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise StageError(
            f"the Dask cluster at {address} can't be reached "
            f"({_first_line(error)}); is its scheduler running (docs/clusters.md)?"
        ) from None
    with client:
        yield client


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except KilledWorker as error:
        stage = str(error.task)[: -len(str(uuid4())) - 1]
        raise StageError(
            f"{stage}: {error.allowed_failures + 1} workers died while they computed it, most "
            "likely for want of memory; see their logs."
        ) from error
    except (CancelledError, CommClosedError, ClosedClientError) as error:
        raise StageError(
            f"the Dask cluster {where} was lost ({_first_line(error)}); see its scheduler's log."
        ) from error


@contextmanager
def _server_for_workers(runner: Runner) -> Iterator[None]:
    """Have the workers report to the server of this flow, also where that is a temporary one."""
    address = str(get_client(sync_client=True).api_url).rstrip("/")
    if runner.elsewhere and is_loopback(urlsplit(address).hostname or ""):
        raise UserError(
            f"workers elsewhere can't reach the Prefect server at {address}; name one that they "
            "can reach with PREFECT_API_URL."
        )
    with temporary_settings({PREFECT_API_URL: address}):
        yield


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _relog(event: tuple[float, Mapping[str, Any]]) -> None:
    record = unpacked(event[1])
    if log.isEnabledFor(record.levelno):
        log.handle(record)


def _tell_lost(event: tuple[float, Any]) -> None:
    message = event[1]
    if not isinstance(message, Mapping) or message.get("action") != "remove-worker":
        return
    tasks = [*message["processing-tasks"], *message["lost-computed-tasks"]]
    names = sorted(str(key)[: -len(str(uuid4())) - 1] for key in tasks)
    if names:
        log.warning(
            "the worker %s is gone; taken up by another: %s", message["worker"], ", ".join(names)
        )
