"""Compute stages on a Dask cluster: an existing one, or workers that the run starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dask.config
from distributed import KilledWorker, Nanny, Scheduler, SpecCluster
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.security import Security
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from flows.runners.base import LOOPBACK, ComputeSite, Runner, is_loopback
from flows.runners.survey import CONNECT_S
from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import StageError, UserError
from tasks.core.messages import first_line, listed
from tasks.core.records import Stage
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import resolve_profile, visible_gpus
from tasks.engine.worker import topic_of, unpacked

log = logging.getLogger("fashion_flow")

# The topic of Dask's own events.
ALL_EVENTS = "all"


class StageRunner(DaskTaskRunner):
    """Submits stages under their names; numerical stages request a GPU.

    Dask assigns a stage to a worker only when its inputs are ready.
    """

    def __init__(self, connected: str | SpecCluster, *, gpus: bool) -> None:
        client = {"timeout": CONNECT_S}
        if isinstance(connected, str):
            super().__init__(address=connected, client_kwargs=client)
        else:
            super().__init__(cluster=connected, client_kwargs=client)
        self._gpus = gpus
        self._submitted: list[PrefectDaskFuture[Any]] = []

    def submit(  # type: ignore[override]
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Submit a stage to the cluster."""
        stage: Stage = parameters["stage"]
        network = stage.spec.arithmetic is Arithmetic.NETWORK
        future = self.client.submit(
            task,
            key=f"{stage.name}-{uuid4()}",
            resources={"GPU": 1} if self._gpus and network else None,
            parameters=self._optimize_futures(parameters),
            wait_for=self._optimize_futures(wait_for) if wait_for else None,
            dependencies=dependencies,
            return_type="state",
        )
        submitted: PrefectDaskFuture[Any] = PrefectDaskFuture(
            wrapped_future=future, task_run_id=future.task_run_id
        )
        self._submitted.append(submitted)
        return submitted

    def mark_killers(self) -> None:
        """Mark stages that killed every worker that tried them as crashed on the Prefect server.

        The dead workers could not do it, so these stages would stay `Running` there.
        """
        for stage in self._submitted:
            future = stage.wrapped_future
            error = future.exception() if future.status == "error" else None
            # The stages that need its result fail with the same error, but never started.
            if isinstance(error, KilledWorker) and error.task == future.key:
                crashed: State[Any] = Crashed(message=_killed(error))
                try:
                    with get_client(sync_client=True) as client:
                        client.set_task_run_state(stage.task_run_id, crashed, force=True)
                except Exception as refusal:
                    log.debug("%s is not shown as crashed: %s", _stage_of(error.task), refusal)


@contextmanager
def cluster_runner(runner: Runner, site: ComputeSite, run_id: str) -> Iterator[StageRunner]:
    """A task runner that submits stages to a Dask cluster and relays its workers' log lines.

    Raises:
        StageError: the connection to the cluster was lost, or a stage killed every worker that
            tried it.
        UserError: workers on other machines could not reach the Prefect server.
    """
    with (
        _server_for_workers(runner),
        _explained(f"at {runner.address}" if runner.address else "of this run"),
        _cluster(runner, site) as cluster,
        StageRunner(cluster, gpus=site.gpus) as stages,
    ):
        client = stages.client
        client.subscribe_topic(topic_of(run_id), _relog)
        client.subscribe_topic(ALL_EVENTS, _warn_of_lost_worker)
        try:
            yield stages
        except KilledWorker:
            stages.mark_killers()
            raise
        finally:
            # From here on, workers end because the run ends; they are not lost.
            client.unsubscribe_topic(ALL_EVENTS)


@contextmanager
def _cluster(runner: Runner, site: ComputeSite) -> Iterator[str | SpecCluster]:
    if runner.address:
        yield runner.address
        return
    environments = worker_environments(site.profile["device"], site.concurrency, visible_gpus())
    with own_cluster(environments) as cluster:
        yield cluster


def own_site(execution: ExecutionSettings) -> ComputeSite:
    """The compute site of the workers that this run would start on this machine."""
    profile = resolve_profile(execution)
    workers = worker_environments(profile["device"], execution.workers, visible_gpus())
    return ComputeSite(profile, len(workers), gpus=profile["device"] == "gpu")


def worker_environments(device: str, workers: int, gpus: Sequence[str]) -> list[Mapping[str, str]]:
    """The extra environment variables of each worker on this machine; one worker for each GPU."""
    if device == "gpu":
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    return [{} for _ in range(workers)]


def own_cluster(environments: Sequence[Mapping[str, str]]) -> SpecCluster:
    """A scheduler in this process, and worker processes that end with it even if it is killed.

    TLS with certificates that exist only in memory keeps out other users of the machine.

    Raises:
        StageError: they do not start, most likely because of Dask's own settings.
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
                # No limit: Dask would kill a worker that uses more than its share of the memory,
                # even if enough is free.
                "memory_limit": 0,
                "env": dict(environment),
                "resources": {"GPU": 1} if environment else {},
                "silence_logs": logging.WARNING,
            },
        }
        for number, environment in enumerate(environments)
    }
    # By default the scheduler restarts workers that it has not heard from for five minutes of the
    # wall clock: all of them, after the laptop has slept. On one machine, a worker that dies closes
    # its connection.
    with _started_or_refused(), dask.config.set({"distributed.scheduler.worker-ttl": None}):
        return SpecCluster(
            workers=workers,
            scheduler={"cls": Scheduler, "options": {**common, "port": 0}},
            security=common["security"],
            silence_logs=logging.WARNING,
        )


@contextmanager
def _started_or_refused() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        given = sorted(name for name in os.environ if name.startswith("DASK_"))
        settings = listed(given, 80) if given else "none of the variables DASK_... is set"
        raise StageError(
            f"the run's own Dask workers do not start ({first_line(error, 150)}); correct Dask's "
            f"settings: {settings}; or its files in ~/.config/dask or DASK_CONFIG."
        ) from error


def _stage_of(key: Any) -> str:
    """The stage that `StageRunner` submitted under a key."""
    return str(key)[: -len(str(uuid4())) - 1]


def _killed(error: KilledWorker) -> str:
    return (
        f"{error.allowed_failures + 1} workers died while computing it, most likely because they "
        "ran out of memory; see their logs."
    )


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except KilledWorker as error:
        raise StageError(f"{_stage_of(error.task)}: {_killed(error)}") from error
    except (CancelledError, CommClosedError, ClosedClientError) as error:
        raise StageError(
            f"lost the connection to the Dask cluster {where} ({first_line(error)}); see its "
            "scheduler's log."
        ) from error


@contextmanager
def _server_for_workers(runner: Runner) -> Iterator[None]:
    """Let the workers report to this flow's Prefect server, even if it is a temporary one."""
    address = str(get_client(sync_client=True).api_url).rstrip("/")
    if runner.elsewhere and is_loopback(urlsplit(address).hostname or ""):
        raise UserError(
            f"workers on other machines can't reach the Prefect server at {address}; set "
            "PREFECT_API_URL to the address of one that they can reach."
        )
    with temporary_settings({PREFECT_API_URL: address}):
        yield


def _relog(event: tuple[float, Mapping[str, Any]]) -> None:
    record = unpacked(event[1])
    if log.isEnabledFor(record.levelno):
        log.handle(record)


def _warn_of_lost_worker(event: tuple[float, Any]) -> None:
    message = event[1]
    if not isinstance(message, Mapping) or message.get("action") != "remove-worker":
        return
    tasks = [*message["processing-tasks"], *message["lost-computed-tasks"]]
    names = sorted(map(_stage_of, tasks))
    if names:
        log.warning(
            "lost the worker %s; other workers take over: %s", message["worker"], listed(names)
        )
