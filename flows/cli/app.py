"""The command line: a thin entry that turns arguments into settings and outcomes into words."""

from __future__ import annotations

import json
import logging
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import tables as console
from tasks.core.errors import FashionFlowError, UserError

if TYPE_CHECKING:
    from flows.planning.stage_selection import Choice
    from tasks.core.settings.run_settings import Settings

app = typer.Typer(
    name="fashion-flow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Build an image classifier step by step, as a flow that can be stopped, resumed and "
        "inspected. Every stage is cached: start the same command again to go on."
    ),
)


class Preset(StrEnum):
    """The presets by name."""

    notebook = "notebook"
    smoke = "smoke"
    full = "full"


class Rule(StrEnum):
    """The decision rules by name."""

    validation = "validation"
    significant = "significant"
    one_standard_error = "one_standard_error"
    notebook = "notebook"


class Protocol(StrEnum):
    """What models are judged on."""

    holdout = "holdout"
    kfold = "kfold"


class TransferWeights(StrEnum):
    """What VGG16 starts from."""

    imagenet = "imagenet"
    required = "required"
    random = "random"
    off = "off"


class PoolType(StrEnum):
    """What workers of a pool start for each run."""

    process = "process"
    docker = "docker"
    kubernetes = "kubernetes"


class RunnerKind(StrEnum):
    """Where stages are computed."""

    local = "local"
    dask = "dask"


class Invert(StrEnum):
    """Whether light and dark of a picture are exchanged before it is predicted."""

    auto = "auto"
    yes = "yes"
    no = "no"


StoreOption = Annotated[
    str,
    typer.Option("--store", help="Where all results are kept: a folder, or s3://bucket/prefix."),
]
RunOption = Annotated[str | None, typer.Option("--run", help="A run's id; the latest by default.")]
PresetOption = Annotated[
    Preset,
    typer.Option(
        help="notebook: the notebook as it stands. smoke: every stage, tiny. full: all images."
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "auto, fashion-mnist, synthetic, or the path of a folder of IDX files or an .npz. "
            "auto, the default where the preset wants Fashion-MNIST, falls back to synthetic."
        )
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A single setting, e.g. overfitting.epochs=3; repeatable."),
]
PlanOption = Annotated[
    Path | None, typer.Option("--plan", help="TOML file with the iterations of step 7.")
]
RuleOption = Annotated[
    Rule | None, typer.Option(help="How a gate decides; notebook replays the notebook.")
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(help="holdout: judge on the validation split. kfold: on stratified folds."),
]
ReplicatesOption = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Trainings of each model, each with a seed of its own."),
]
ForceOption = Annotated[
    list[str] | None,
    typer.Option(help="Override a gate, e.g. 4=forward or 4=back; repeatable."),
]
WeightsFileOption = Annotated[
    Path | None, typer.Option(help="VGG16 weights without top (.h5 or .weights.h5).")
]
WeightsOption = Annotated[
    TransferWeights | None,
    typer.Option(help="imagenet skips the VGG16 branch where there are none; required fails."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only this stage and what it lacks; repeatable."),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option("--from", help="This stage and all that depend on it anew; repeatable."),
]
RefreshOption = Annotated[
    list[str] | None, typer.Option("--refresh", help="This stage anew; repeatable.")
]

RequireSuccessOption = Annotated[
    bool, typer.Option("--require-success", help="Fail where a success criterion is not met.")
]
RunnerOption = Annotated[
    RunnerKind | None,
    typer.Option(help="local: in this process. dask: by worker processes, side by side."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="A running Dask scheduler, tls://HOST:PORT or tcp://127.0.0.1:PORT; see "
        "docs/clusters.md."
    ),
]


@app.command()
def run(
    preset: PresetOption = Preset.notebook,
    dataset: DatasetOption = None,
    rule: RuleOption = None,
    protocol: ProtocolOption = None,
    replicates: ReplicatesOption = None,
    force: ForceOption = None,
    plan_file: PlanOption = None,
    set_: SetOption = None,
    vgg16_weights: WeightsFileOption = None,
    transfer_weights: WeightsOption = None,
    only: OnlyOption = None,
    from_: FromOption = None,
    refresh: RefreshOption = None,
    store: StoreOption = "artifacts",
    require_success: RequireSuccessOption = False,
    runner: RunnerOption = None,
    dask_address: AddressOption = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only what went wrong, and where the report is.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for each epoch.")] = False,
) -> None:
    """Run the workflow; stages that are in the store already are not computed again."""
    from flows.runners.base import runner_of
    from flows.running.ending import NO_SUCCESS
    from flows.running.launch import RunRequest, launch
    from tasks.storage.run_log import new_run_id
    from tasks.storage.store import Store

    opened = Store(store)
    where = runner_of(runner, dask_address)
    judged = _judged(rule, protocol, replicates, force)
    settings = _settings(preset, dataset, judged, plan_file, set_, vgg16_weights, transfer_weights)
    run_id = new_run_id()
    request = RunRequest(
        settings,
        _choice(only, from_, refresh),
        opened,
        run_id,
        replaceable=_replaceable(dataset, set_),
        require_success=require_success,
        runner=where,
    )
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    status, notice = launch(request, level)
    if notice:
        console.warn(notice)
    if status in (0, NO_SUCCESS) and not only:
        console.show_end(opened, run_id, quiet=quiet)
    raise typer.Exit(status)


@app.command()
def plan(
    preset: PresetOption = Preset.notebook,
    dataset: DatasetOption = None,
    rule: RuleOption = None,
    protocol: ProtocolOption = None,
    replicates: ReplicatesOption = None,
    force: ForceOption = None,
    plan_file: PlanOption = None,
    set_: SetOption = None,
    vgg16_weights: WeightsFileOption = None,
    transfer_weights: WeightsOption = None,
    only: OnlyOption = None,
    from_: FromOption = None,
    refresh: RefreshOption = None,
    store: StoreOption = "artifacts",
    runner: RunnerOption = None,
    dask_address: AddressOption = None,
) -> None:
    """Show what a run with these settings would do: what is cached, what will run, and why."""
    from flows.planning.plan import plan as planned
    from flows.runners.base import runner_of
    from flows.runners.choose import find_site
    from flows.running.dataset_resolution import resolve
    from tasks.storage.store import Store

    opened = Store(store)
    judged = _judged(rule, protocol, replicates, force)
    wanted = _settings(preset, dataset, judged, plan_file, set_, vgg16_weights, transfer_weights)
    profile = find_site(runner_of(runner, dask_address), wanted.execution).profile
    settings, notice = resolve(
        opened, wanted, profile, replaceable=_replaceable(dataset, set_), fetch=False
    )
    console.show_plan(planned(opened, settings, profile, _choice(only, from_, refresh)))
    if notice:
        console.warn(notice)


@app.command()
def results(
    run_id: RunOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Show a run's table of results."""
    from tasks.storage.store import Store

    opened = Store(store)
    if as_json:
        print(json.dumps(console.result_rows(opened, run_id), indent=1))
    else:
        console.show_results(opened, run_id)


@app.command()
def verdicts(
    run_id: RunOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole table as JSON.")] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Show what a run's gates decided, and the evidence for and against it."""
    from tasks.storage.store import Store

    opened = Store(store)
    if as_json:
        print(json.dumps(console.result_rows(opened, run_id, "verdicts"), indent=1))
    else:
        console.show_verdicts(opened, run_id)


@app.command()
def runs(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, settings included.")] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Show what was run when, with which settings, and how it ended."""
    from tasks.storage.store import Store

    opened = Store(store)
    if as_json:
        print(json.dumps(console.run_rows(opened), indent=1))
    else:
        console.show_runs(opened)


@app.command()
def report(
    run_id: RunOption = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Print the path of a run's report, and open it where that is wanted."""
    from tasks.storage.files import local_file
    from tasks.storage.run_log import find_run
    from tasks.storage.store import Store

    found = find_run(Store(store), run_id)
    if run_id is None:
        console.note_newer_runs(found.store, found)
    if not found.report.is_file():
        raise UserError(
            f"run {found.run_id} ended before its report was written ({found.status()}); "
            "start it again to finish it."
        )
    path = local_file(found.report)
    print(path)
    if open_ and not webbrowser.open(path.as_uri()):
        raise UserError("there is no browser to open it with; the path above is where it is.")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another run's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Show which settings of two runs differ, and their results side by side."""
    from tasks.storage.store import Store

    opened = Store(store)
    if as_json:
        print(json.dumps(console.comparison(opened, first, second), indent=1))
    else:
        console.show_comparison(opened, first, second)


@app.command()
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            # What can't be read gets a line of its own; the others are done.
            readable=False,
            help="Pictures, folders of them, or .npz and .parquet files that hold many.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A .keras or .h5 file, its folder, or a model of a run; final by default."
        ),
    ] = None,
    run_id: RunOption = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show of each.")] = 1,
    invert: Annotated[
        Invert,
        typer.Option(help="auto: what stands on another ground than what the model knows."),
    ] = Invert.auto,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A Parquet table with the probability of every class.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="A page with the pictures and what the model saw of them.")
    ] = None,
    store: StoreOption = "artifacts",
) -> None:
    """Say what a trained model sees in pictures: photographs, or images of a data set."""
    from flows.cli.predict import Wanted
    from flows.cli.predict import predict as predicted
    from tasks.storage.store import Store

    wanted = Wanted(top=top, as_json=as_json, table=out, page=html)
    status = predicted(paths, Store(store), model, run_id, invert.value, wanted)
    raise typer.Exit(status)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 4200,
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Start a Prefect server with its UI on this machine; runs go to it until it is ended."""
    from flows.running.ui_server import serve_ui

    serve_ui(port, open_browser=open_)


@app.command()
def deploy(
    name: Annotated[
        str | None, typer.Argument(help="The deployment's name; that of the pool by default.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="The work pool whose workers run it; made where there is none. local, docker or "
            "kubernetes by default, as --type says."
        ),
    ] = None,
    pool_type: Annotated[
        PoolType,
        typer.Option(
            "--type", help="What the pool's workers start for each run: docs/containers.md."
        ),
    ] = PoolType.process,
    image: Annotated[
        str | None, typer.Option(help="The image of --type docker and kubernetes.")
    ] = None,
    gpus: Annotated[
        int, typer.Option(min=0, help="GPUs of each run with --type docker and kubernetes.")
    ] = 0,
    cron: Annotated[
        str | None, typer.Option(help="When it is run, e.g. '0 3 * * *' for each night at three.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Of --cron, e.g. Europe/Berlin.")] = "UTC",
    env: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "NAME=VALUE for the environment of its runs; repeatable. A secret is named by its "
                "block, e.g. KEY={{ prefect.blocks.secret.key }}."
            )
        ),
    ] = None,
    preset: PresetOption = Preset.notebook,
    dataset: DatasetOption = None,
    rule: RuleOption = None,
    protocol: ProtocolOption = None,
    replicates: ReplicatesOption = None,
    force: ForceOption = None,
    plan_file: PlanOption = None,
    set_: SetOption = None,
    vgg16_weights: WeightsFileOption = None,
    transfer_weights: WeightsOption = None,
    store: StoreOption = "artifacts",
    require_success: RequireSuccessOption = False,
    runner: RunnerOption = None,
    dask_address: AddressOption = None,
) -> None:
    """Have Prefect workers run the flow with these settings, on demand or on a schedule."""
    from flows.deployment.deploy import DeploymentRequest
    from flows.deployment.deploy import deploy as deployed
    from flows.deployment.pools import Pool
    from flows.runners.base import runner_of
    from flows.running.dataset_resolution import resolve
    from tasks.storage.store import Store

    pool = pool or ("local" if pool_type is PoolType.process else pool_type.value)
    where = Pool(pool, pool_type.value, image, gpus)
    opened = Store(where.path(store))
    judged = _judged(rule, protocol, replicates, force)
    settings = _settings(preset, dataset, judged, plan_file, set_, vgg16_weights, transfer_weights)
    if pool_type is PoolType.process:
        # Which device there is, is for the machine to say on which it runs.
        settings, _ = resolve(opened, settings, {}, replaceable=False, fetch=False)
    elif settings.dataset not in ("fashion-mnist", "synthetic"):
        # What is there in a container can't be seen from here.
        settings = settings.model_copy(update={"dataset": where.path(settings.dataset)})
    name = name or pool
    request = DeploymentRequest(
        name,
        where,
        settings,
        opened,
        require_success=require_success,
        runner=runner_of(runner, dask_address),
        cron=cron,
        timezone=timezone,
        env=env or (),
    )
    address = deployed(request)
    console.show_deployment(name, where, address)


@app.command()
def verify(store: StoreOption = "artifacts") -> None:
    """Compare every file in the store with its record; exit status 1 where one is damaged."""
    from tasks.storage import housekeeping
    from tasks.storage.store import Store

    opened = Store(store)
    opened.check_exists()
    found = housekeeping.verify(opened)
    console.show_verification(opened, found)
    raise typer.Exit(1 if found.damaged else 0)


@app.command()
def clean(
    keep: Annotated[int, typer.Option(min=0, help="How many of the last runs to keep.")] = 5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    store: StoreOption = "artifacts",
) -> None:
    """Remove what the last runs do not use, and say how much that frees.

    Kept are the last runs and the latest that is complete, what is being computed, and the log of
    test scorings.
    """
    from tasks.storage import housekeeping
    from tasks.storage.files import explaining
    from tasks.storage.store import Store

    opened = Store(store)
    opened.check_exists()
    with explaining(opened.root):
        cleaned = housekeeping.clean(opened, keep, dry_run=dry_run)
    console.show_cleaning(opened, cleaned, dry_run=dry_run)


def _choice(only: list[str] | None, from_: list[str] | None, refresh: list[str] | None) -> Choice:
    from flows.planning.stage_selection import Choice

    return Choice(
        only=frozenset(only or ()),
        refresh_from=frozenset(from_ or ()),
        refresh=frozenset(refresh or ()),
    )


def _replaceable(dataset: str | None, assignments: list[str] | None) -> bool:
    """Whether Fashion-MNIST may be replaced by drawn images: not where it was asked for by name."""
    named = any(item.partition("=")[0].strip() == "dataset" for item in assignments or [])
    return not named and dataset in (None, "auto")


def _judged(
    rule: Rule | None, protocol: Protocol | None, replicates: int | None, force: list[str] | None
) -> dict[str, Any]:
    """The settings of how models are judged and chosen."""
    values: dict[str, Any] = {}
    if rule:
        values["rule"] = rule.value
    if protocol:
        values["evaluation.protocol"] = protocol.value
    if replicates:
        values["evaluation.replicates"] = replicates
    for item in force or []:
        gate, sign, decision = item.partition("=")
        if not (sign and gate.isdecimal() and decision in ("forward", "back")):
            raise UserError(
                f"--force {item}: expected a gate's number, then '=forward' or '=back', e.g. "
                "--force 4=forward."
            )
        values[f"force.{int(gate)}"] = decision
    return values


def _settings(
    preset: Preset,
    dataset: str | None,
    judged: dict[str, Any],
    plan_file: Path | None,
    assignments: list[str] | None,
    weights_file: Path | None,
    weights: TransferWeights | None,
) -> Settings:
    """The settings that the arguments make."""
    from flows.recipe.compose import compose

    values = dict(judged)
    if dataset:
        values["dataset"] = "fashion-mnist" if dataset == "auto" else dataset
    if weights_file:
        # A file that is given is meant to be used, whatever the preset says.
        values["transfer.weights"] = "imagenet"
        values["transfer.weights_file"] = str(weights_file.expanduser().absolute())
    if weights:
        values["transfer.weights"] = weights.value
    return compose(preset.value, plan_file, values, assignments or [])


def main() -> None:
    """Entry point: one message and an exit status for whatever goes wrong on purpose."""
    try:
        app()
    except FashionFlowError as error:
        console.fail(str(error))
        sys.exit(2 if isinstance(error, UserError) else 1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        console.fail(
            ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        )
        sys.exit(1)
