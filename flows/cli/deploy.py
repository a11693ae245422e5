"""`fashion-flow deploy`: create a Prefect deployment of the flow with its settings."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, StoreOption, whole_number
from flows.cli.options import RequireSuccessFlag, RunnerOptions, SettingsOptions
from flows.cli.screen import line
from flows.deployment.deploy import DeploymentRequest
from flows.deployment.deploy import deploy as deployed
from flows.deployment.pools import KUBERNETES, PROCESS, WORK, Pool, PoolType
from flows.recipe.own_code import ALLOW_FUNCTIONS, functions_of, read_codes
from flows.recipe.settle import settled
from flows.runners.base import is_loopback
from flows.running.dataset_resolution import resolve
from tasks.core.settings.network import function_parts
from tasks.core.settings.run_settings import Settings
from tasks.storage.store import Store

# Commands to copy, each with its purpose.
Steps = list[tuple[str, str]]


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """The options for the work pool and the environment of a deployment's runs."""

    pool: Annotated[
        str | None,
        Parameter(
            help=(
                "The work pool; created if it does not exist. By default local, docker or "
                "kubernetes, according to --type."
            )
        ),
    ] = None
    type: Annotated[
        PoolType, Parameter(help="What workers start for each run (docs/containers.md).")
    ] = "process"
    image: Annotated[
        str | None, Parameter(help="Container image, for --type docker and kubernetes.")
    ] = None
    gpus: Annotated[
        int,
        Parameter(
            converter=whole_number(0),
            help="GPUs for each run, for --type docker and kubernetes.",
        ),
    ] = 0
    env: Annotated[
        tuple[str, ...],
        Parameter(
            help=(
                "NAME=VALUE for the environment of each run; repeatable. For a secret, name a "
                "Prefect block: KEY={{ prefect.blocks.secret.key }}."
            )
        ),
    ] = ()

    def chosen(self) -> Pool:
        """The work pool that these options name.

        Raises:
            UserError: the options contradict each other.
        """
        by_type = "local" if self.type == PROCESS else self.type
        return Pool(self.pool or by_type, self.type, self.image, self.gpus)


def deploy(
    name: Annotated[
        str | None, Parameter(help="The deployment's name; by default the pool's.")
    ] = None,
    /,
    *,
    where: PoolOptions = PoolOptions(),
    cron: Annotated[
        str | None, Parameter(help="Schedule, e.g. '0 3 * * *' for every night at three.")
    ] = None,
    timezone: Annotated[str, Parameter(help="Time zone of --cron, e.g. Europe/Berlin.")] = "UTC",
    changes: SettingsOptions = SettingsOptions(),
    store: StoreOption = ARTIFACTS,
    require_success: RequireSuccessFlag = False,
    runner: RunnerOptions = RunnerOptions(),
) -> None:
    """Create or update the deployment, and print how to run it."""
    pool = where.chosen()
    opened = Store(pool.path(store))
    name = name or pool.name
    # Runs settle the rule, so that it follows what is changed in the run form. Mistakes show now.
    changes.settings()
    request = DeploymentRequest(
        name,
        pool,
        _located(changes.asked(None if pool.type == PROCESS else WORK), pool, opened),
        opened,
        require_success=require_success,
        runner=runner.chosen(),
        cron=cron,
        timezone=timezone,
        env=where.env,
    )
    _show(name, pool, deployed(request), _allowing(name, pool, where, request.settings))


def _located(settings: Settings, pool: Pool, store: Store) -> Settings:
    """The settings with the path of the data set as runs in the pool see it."""
    if pool.type == PROCESS:
        # The profile is not needed: it only serves to look up a replaceable data set.
        settings, _ = resolve(store, settings, {}, replaceable=False, fetch=False)
        read_codes(settled(settings))
    elif settings.dataset not in ("fashion-mnist", "synthetic"):
        # Whether the path exists in the container cannot be checked from here.
        settings = settings.model_copy(update={"dataset": pool.path(settings.dataset)})
    return settings


def _spared(address: str) -> Steps:
    """What workers on this machine need if it uses a proxy and the server is its own."""
    proxies = [name for name in os.environ if name.lower() in ("http_proxy", "all_proxy")]
    if not proxies or not is_loopback(urlsplit(address).hostname or ""):
        return []
    exceptions = shlex.quote(os.environ.get("no_proxy", ""))
    return [(f"export no_proxy={exceptions}", "so that no proxy is asked for it")]


def _allowing(name: str, pool: Pool, where: PoolOptions, settings: Settings) -> Steps:
    """What lets workers execute the functions of the user's own networks, if there are any."""
    given = any(item.partition("=")[0] == ALLOW_FUNCTIONS for item in where.env)
    places = [function_parts(function)[0] for function in functions_of(settings)]
    if given or not places:
        return []
    files = all(place.endswith(".py") for place in places)
    # Where a module is found depends on the worker's path.
    folders = dict.fromkeys(str(Path(place).parent) for place in places) if files else ["1"]
    variable = f"{ALLOW_FUNCTIONS}={shlex.quote(os.pathsep.join(folders))}"
    if pool.type == PROCESS:
        return [(f"export {variable}", "as above; allows the functions of your own networks")]
    # A container does not get its worker's environment.
    purpose = "again, with all other options; allows the functions of your own networks"
    return [(f"fashion-flow deploy {shlex.quote(name)} --env {variable}", purpose)]


def _show(name: str, pool: Pool, address: str, allowing: Steps) -> None:
    """Print the commands that run the deployment, for copying."""
    worker = f"prefect worker start --pool {pool.name}"
    purpose = "start a worker" + ("" if pool.type == PROCESS else f", with prefect-{pool.type}")
    # Kubernetes itself schedules runs, so its worker needs no limit.
    limit = "" if pool.type == KUBERNETES else " --limit 1"
    start = (f"{worker}{limit}", f"{purpose}, for one run at a time" if limit else purpose)
    steps = [
        (f"export PREFECT_API_URL={address}", "on each machine"),
        *_spared(address),
        *allowing,
        start,
        (f"prefect deployment run build-model/{name}", "start a run now"),
    ]
    line(f"deployed: build-model/{name}, for workers of pool {pool.name}")
    line("")
    line("next:")
    width = max(len(command) for command, _ in steps)
    for command, purpose in steps:
        line(f"  {command:<{width}}  {purpose}")
