"""The flow: raw images to a chosen model, a table of results and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import prefect.runtime
from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.planning.stage_selection import EVERYTHING, Choice, Enough
from flows.recipe.contents import build, stage_names
from flows.recipe.presets import NOTEBOOK
from flows.recipe.run import Run
from flows.runners.base import LOCAL, Runner
from flows.runners.choose import find_site, task_runner
from flows.running.server import announce_run
from tasks.core.errors import CriteriaError, StageError, UserError
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.run_settings import Settings
from tasks.engine.profile import installation
from tasks.engine.publish import await_published, is_lost_server, tag_run
from tasks.engine.stage import RunContext, slots
from tasks.stages.curves import curves
from tasks.stages.decide import decide
from tasks.stages.evaluate import evaluate
from tasks.stages.explore import explore
from tasks.stages.figures import figures
from tasks.stages.folds import folds
from tasks.stages.guard import guard
from tasks.stages.load import load
from tasks.stages.preprocess import preprocess
from tasks.stages.quality import quality
from tasks.stages.report import report
from tasks.stages.results import results
from tasks.stages.retrain import retrain
from tasks.stages.selection import selection
from tasks.stages.subset import subset
from tasks.stages.success import success
from tasks.stages.train import train
from tasks.stages.vgg16_features import vgg16_features
from tasks.stages.vgg16_train import vgg16_train
from tasks.stages.vgg16_weights import vgg16_weights
from tasks.storage.run_log import DONE, FAILED, INTERRUPTED, RunLog, checked_run_id, new_run_id
from tasks.storage.store import Store

# A run on a worker that died is run again (flows/deployment/deploy.py), but not for ever.
MOST_ATTEMPTS = 5

TASKS = {
    task.name: task
    for task in (
        load,
        explore,
        subset,
        guard,
        preprocess,
        folds,
        train,
        curves,
        decide,
        retrain,
        vgg16_weights,
        vgg16_features,
        vgg16_train,
        evaluate,
        results,
        selection,
        success,
        quality,
        figures,
    )
}


@dataclass
class Handle:
    """A stage of the recipe, and its task run once it is submitted."""

    definition: Stage
    inputs: dict[str, Handle]
    after: tuple[Handle, ...]
    follows: bool
    anew: str
    future: PrefectFuture[Outcome] | None = None

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.definition.name


class PrefectRun(Run[Handle]):
    """Carries the recipe out: each stage becomes a run of its Prefect task.

    Where only some stages are asked for, a stage is submitted when one of those needs it.
    """

    def __init__(self, runner: TaskRunner[Any], context: RunContext, choice: Choice) -> None:
        super().__init__()
        self._runner = runner
        self._context = context
        self._choice = choice
        self._made: dict[str, Handle] = {}

    def take(self, stage: Stage, after: Sequence[Handle], inputs: Mapping[str, Handle]) -> Handle:
        """Submit the stage's task; Prefect waits for its inputs and for what it comes after."""
        followed = [given.stage for given in inputs.values() if given.follows]
        follows = self._choice.follows(stage.name, followed)
        anew = self._choice.anew(stage.name, followed)
        handle = self._made[stage.name] = Handle(stage, dict(inputs), tuple(after), follows, anew)
        if not self._choice.only or stage.name in self._choice.only:
            self._submit(handle)
        self._choice.check_enough(self._made)
        return handle

    def value(self, handle: Handle) -> Outcome:
        """The outcome of a stage; a failure is raised here as it was there."""
        try:
            return self._submit(handle).result()
        except Exception:
            self.wait()
            raise

    def outcomes(self) -> dict[str, Outcome]:
        """What every submitted stage left, by name."""
        return {h.stage: h.future.result() for h in self._made.values() if h.future}

    def wait(self) -> None:
        """Wait for every submitted stage.

        Raises:
            Exception: that of the first stage that failed by itself.
        """
        futures = [handle.future for handle in self._made.values() if handle.future]
        for future in futures:
            future.wait()
        for future in futures:
            # A stage whose input failed stays pending: it did not fail, it never began.
            if future.state.is_failed() or future.state.is_crashed():
                future.result()

    def _submit(self, handle: Handle) -> PrefectFuture[Outcome]:
        if handle.future is None:
            inputs = {role: self._submit(given) for role, given in handle.inputs.items()}
            after = [self._submit(other) for other in handle.after]
            context = replace(self._context, anew=handle.anew)
            parameters = {"stage": handle.definition, "inputs": inputs, "context": context}
            task = TASKS[handle.definition.kind]
            handle.future = self._runner.submit(task, parameters, wait_for=after)
        return handle.future


def _run_name() -> str:
    """The run's id, what it works on and how it decides."""
    given = prefect.runtime.flow_run.parameters
    settings = Settings.model_validate(given.get("settings", NOTEBOOK))
    return ", ".join([str(given.get("run_id") or "build-model"), *_characteristics(settings)])


def _characteristics(settings: Settings) -> list[str]:
    """In a few words each: the data set (loudly where it is not real), the rule, the protocol."""
    drawn = settings.dataset == "synthetic"
    data = "SYNTHETIC DATA" if drawn else Path(settings.dataset).name
    return [data, f"rule {settings.rule}", *settings.evaluation.words()]


@flow(name="build-model", flow_run_name=_run_name, validate_parameters=True, persist_result=False)
def build_model(
    settings: Settings = NOTEBOOK,
    store: str = "artifacts",
    run_id: str | None = None,
    choice: Choice = EVERYTHING,
    require_success: bool = False,
    runner: Runner = LOCAL,
) -> str:
    """Chollet's workflow on labelled images, from raw data to a chosen model and its report.

    Every stage is cached in the store: what is there intact with the same settings, inputs, code
    and execution profile is not computed again, so a run that was stopped goes on when it is
    started once more.

    Args:
        settings: everything that the results depend on; the defaults are the notebook's.
        store: the folder that holds the results of all stages.
        run_id: the run's name in the store's log; one is made where it is not given.
        choice: which stages are done, and which of them anew though they are in the store.
        require_success: whether the run fails where a success criterion is not met.
        runner: where stages are computed; changes no result.

    Returns:
        The path of the report; empty where only some stages were asked for.

    Raises:
        CriteriaError: everything is done, but a criterion is not met.
        StageError: the run was taken up again too often.
        UserError: success is required, but not among the stages asked for.
    """
    if prefect.runtime.flow_run.run_count > MOST_ATTEMPTS:
        raise StageError(
            f"given up: its process has died {MOST_ATTEMPTS} times, most likely for want of "
            "memory; see the log of its worker, and start another run to go on."
        )
    choice.check(stage_names(settings))
    tag_run(_characteristics(settings))
    if require_success and choice.only and "success" not in choice.only:
        raise UserError("success is required, but --only leaves it out; add --only success.")
    run_log = RunLog(Store(store), checked_run_id(run_id or new_run_id()))
    site = find_site(runner, settings.execution)
    home = installation() if runner.kind == "dask" else None
    workers = settings.execution.workers
    context = RunContext(str(run_log.store.root), run_log.run_id, site.profile, workers, home=home)
    slots(run_log.run_id, workers)
    with _crashed_without_server(), _logged(run_log, settings, site.profile, choice):
        with task_runner(runner, site, run_log.run_id) as tasks:
            run = PrefectRun(tasks, context, choice)
            with suppress(Enough):
                build(run, settings)
            run.wait()
            outcomes = run.outcomes()
        if choice.only:
            if require_success:
                _check_success(outcomes["success"])
            return ""
        path = report(settings, outcomes, context)
        if require_success:
            _check_success(outcomes["success"], f"; the report says by how much: {path}")
        return path


def _check_success(outcome: Outcome, where: str = "") -> None:
    assert isinstance(outcome, Record), "success is never skipped"
    if not outcome.facts["met"]:
        raise CriteriaError(f"{outcome.facts['message']}{where}")


@contextmanager
def _crashed_without_server() -> Iterator[None]:
    """End a worker's run as crashed if it lost its server, so that it is taken up again.

    As an exception it would make the run fail, and what failed is left alone.
    """
    try:
        yield
    except Exception as error:
        if prefect.runtime.deployment.id and is_lost_server(error):
            raise SystemExit(f"the Prefect server can't be reached: {error}") from error
        raise


@contextmanager
def _logged(
    run_log: RunLog, settings: Settings, profile: Mapping[str, Any], choice: Choice
) -> Iterator[None]:
    values = settings.model_dump(mode="json")
    run_log.begin(values, profile, prefect.runtime.flow_run.id, sorted(choice.only))
    announce_run(run_log)
    try:
        yield
    except BaseException as error:
        # What is not an Exception is Prefect's cancellation, for one.
        failed = isinstance(error, Exception)
        # Where the disk is full this can't be noted either, and the error itself matters more.
        with suppress(OSError, StageError):
            run_log.end(FAILED if failed else INTERRUPTED, str(error) or type(error).__name__)
        raise
    else:
        run_log.end(DONE)
    finally:
        # Prefect's clients are closed when the flow ends.
        await_published()
