"""The flow: raw images to a chosen model, a table of results and a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import prefect.runtime
from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.presets import NOTEBOOK
from flows.recipe import build
from tasks.core.records import Outcome, Stage
from tasks.core.settings import Settings
from tasks.decide import decide
from tasks.evaluate import evaluate
from tasks.explore import explore
from tasks.figures import figures
from tasks.fingerprint import code_of
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.report import report
from tasks.results import results
from tasks.retrain import retrain
from tasks.runlog import DONE, FAILED, INTERRUPTED, RunLog, checked_run_id, new_run_id
from tasks.runtime import resolve_profile
from tasks.stage import RunContext, slots
from tasks.store import Store
from tasks.subset import subset
from tasks.train import train
from tasks.vgg16_features import vgg16_features
from tasks.vgg16_train import vgg16_train
from tasks.vgg16_weights import vgg16_weights

WAITING_STAGES = 64

TASKS = {
    task.name: task
    for task in (
        load,
        explore,
        subset,
        preprocess,
        train,
        decide,
        retrain,
        vgg16_weights,
        vgg16_features,
        vgg16_train,
        evaluate,
        results,
        figures,
    )
}


class PrefectRun:
    """Carries the recipe out: each stage becomes a run of its Prefect task."""

    def __init__(self, runner: TaskRunner[Any], context: RunContext) -> None:
        self._runner = runner
        self._context = context
        self._futures: list[PrefectFuture[Outcome]] = []

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Any) -> Any:
        """Submit the stage's task; Prefect waits for its inputs and for what it comes after."""
        future = self._runner.submit(
            TASKS[stage.kind],
            {"stage": stage, "inputs": inputs, "context": self._context},
            wait_for=after,
        )
        self._futures.append(future)
        return future

    def value(self, handle: PrefectFuture[Outcome]) -> Outcome:
        """The outcome of a submitted stage; a failure is raised here as it was there."""
        try:
            return handle.result()
        except Exception:
            self.wait()
            raise

    def wait(self) -> None:
        """Wait for every submitted stage.

        Raises:
            Exception: that of the first stage that failed by itself.
        """
        for future in self._futures:
            future.wait()
        for future in self._futures:
            # A stage whose input failed stays pending: it did not fail, it never began.
            if future.state.is_failed() or future.state.is_crashed():
                future.result()


def _run_name() -> str:
    """The run's id, and loudly what the images are where they are not real."""
    given = prefect.runtime.flow_run.parameters
    drawn = Settings.model_validate(given.get("settings", NOTEBOOK)).dataset == "synthetic"
    return str(given.get("run_id") or "build-model") + (" (SYNTHETIC DATA)" if drawn else "")


@flow(name="build-model", flow_run_name=_run_name, validate_parameters=True, persist_result=False)
def build_model(
    settings: Settings = NOTEBOOK, store: str = "artifacts", run_id: str | None = None
) -> str:
    """Chollet's workflow on labelled images, from raw data to a chosen model and its report.

    Every stage is cached in the store: what is there intact with the same settings, inputs, code
    and execution profile is not computed again, so a run that was stopped goes on when it is
    started once more.

    Args:
        settings: everything that the results depend on; the defaults are the notebook's.
        store: the folder that holds the results of all stages.
        run_id: the run's name in the store's log; one is made where it is not given.

    Returns:
        The path of the report.
    """
    run_log = RunLog(Store(store), checked_run_id(run_id or new_run_id()))
    profile = resolve_profile(settings.execution)
    workers = settings.execution.workers
    context = RunContext(str(run_log.store.root), run_log.run_id, profile, workers)
    # The keys speak of the code as it is now, which is what this process has imported.
    for kind in TASKS:
        code_of(f"tasks.{kind}")
    slots(run_log.run_id, workers)
    # Threads that wait for inputs compute nothing; the slots bound what is computed at once.
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=WAITING_STAGES)
    with _logged(run_log, settings, profile), runner:
        run = PrefectRun(runner, context)
        made = build(run, settings)
        run.wait()
        return _report(runner, made, settings, context)


def _report(
    runner: TaskRunner[Any],
    made: dict[str, PrefectFuture[Outcome]],
    settings: Settings,
    context: RunContext,
) -> str:
    outcomes = {name: handle.result() for name, handle in made.items()}
    path: str = runner.submit(
        report, {"settings": settings, "outcomes": outcomes, "context": context}
    ).result()
    return path


@contextmanager
def _logged(run_log: RunLog, settings: Settings, profile: dict[str, Any]) -> Iterator[None]:
    run_log.begin(settings.model_dump(mode="json"), profile, prefect.runtime.flow_run.id)
    try:
        yield
    except Exception as error:
        run_log.end(FAILED, str(error))
        raise
    except BaseException as error:  # Prefect's cancellation, for one
        run_log.end(INTERRUPTED, type(error).__name__)
        raise
    run_log.end(DONE)
