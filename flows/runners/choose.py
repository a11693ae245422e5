"""Choose the implementation of a runner; Dask is imported only if a run uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flows.runners.base import ComputeSite, Runner
from tasks.core.errors import UserError
from tasks.core.messages import shortened
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import resolve_profile

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

# Most of these threads only wait for inputs. Slots limit how many stages are computed at a time
# (tasks/engine/stage.py).
WAITING_STAGES = 64


def find_site(runner: Runner, execution: ExecutionSettings) -> ComputeSite:
    """Resolve the execution settings on the machines that will compute, e.g. by asking a cluster.

    Raises:
        StageError: the cluster is unreachable, has no workers, or has workers with different code
            or libraries.
        UserError: the settings require a GPU and there is none; Dask can't read its own settings.
    """
    if runner.kind == "local":
        return ComputeSite(resolve_profile(execution), execution.workers)
    check_dask()
    if runner.address:
        from flows.runners.survey import survey

        return survey(runner.address, execution)
    from flows.runners.dask import own_site

    return own_site(execution)


def check_dask() -> None:
    """Refuse settings of Dask that it can't read, so that it can't be imported.

    Raises:
        UserError: a file of settings is malformed; the message names it.
    """
    try:
        import distributed  # noqa: F401 - it reads them when it is imported
    except Exception as error:
        why = shortened(" ".join(str(error).split()), 170)
        raise UserError(
            f"Dask can't be used with its settings ({why}); correct or remove that file (in "
            "DASK_CONFIG, ~/.config/dask, /etc/dask) or the variable DASK_..."
        ) from error


@contextmanager
def task_runner(runner: Runner, site: ComputeSite, run_id: str) -> Iterator[TaskRunner[Any]]:
    """The Prefect task runner to submit stages to; leaving the context waits for all of them.

    Raises:
        StageError: the connection to the cluster was lost.
        UserError: its workers could not reach the Prefect server.
    """
    if runner.kind == "dask":
        from flows.runners.dask import cluster_runner

        with cluster_runner(runner, site, run_id) as on_cluster:
            yield on_cluster
        return
    from prefect.task_runners import ThreadPoolTaskRunner

    threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=WAITING_STAGES)
    with threads:
        yield threads
