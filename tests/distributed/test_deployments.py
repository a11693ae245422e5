"""Workers of a process pool: they run what is deployed, and take up what another left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.deploy import AGAIN, SILENT
from tests.conftest import running_server
from tests.processes import Command, Finished, Server, wait_for
from tests.reliability.support import SHORT, contents, differing

# What a run takes here, with the time until it is known to be lost.
RUN_S = 400
# Long enough in training for a worker to be killed there.
SETTINGS = (*SHORT, "--set", "overfitting.epochs=40")


@dataclass
class Deployed:
    """A server, a deployment on it, and the store that its runs share."""

    server: Server
    store: Path
    deployment: str

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.server.url}/{path}").raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        return httpx.post(f"{self.server.url}/{path}", json=body).raise_for_status().json()

    def start(self) -> str:
        """Ask for a run; its id."""
        found: str = self.post(f"deployments/{self.deployment}/create_flow_run")["id"]
        return found

    def wait_for_end(self, run: str) -> None:
        """Wait until the run is completed; its log is shown where it is not."""

        def state() -> str:
            found: str = self.get(f"flow_runs/{run}")["state"]["name"]
            return found

        wait_for(lambda: state() in ("Completed", "Failed"), RUN_S, "the run's end")
        assert state() == "Completed", self.post("logs/filter")


def deploy(
    fashion_flow: Command, server: Server, store: Path, *arguments: str, name: str = "local"
) -> Finished:
    return fashion_flow(
        "deploy", name, *SETTINGS, *arguments, "--store", store, PREFECT_API_URL=server.url
    )


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Server]:
    with running_server(environment) as server:
        yield server


def deployed_as(name: str, fashion_flow: Command, server: Server, store: Path) -> Deployed:
    done = deploy(fashion_flow, server, store, name=name)
    assert done.status == 0, done.err
    assert f"export PREFECT_API_URL={server.url}" in done.out
    found = httpx.get(f"{server.url}/deployments/name/build-model/{name}").json()
    return Deployed(server, store, found["id"])


@pytest.fixture(scope="module")
def deployed(
    fashion_flow: Command, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    store = tmp_path_factory.mktemp("deployed") / "store"
    return deployed_as("local", fashion_flow, server, store)


Workers = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def worker(environment: dict[str, str], server: Server, tmp_path: Path) -> Iterator[Workers]:
    """Start `prefect worker start`; what still runs afterwards is killed with all below it."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        arguments = ("worker", "start", "--pool", "local", "--limit", "1")
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=tmp_path,
                env=environment
                | {"PREFECT_API_URL": server.url, "PREFECT_WORKER_QUERY_SECONDS": "2"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        kill_tree(process.pid)
        process.wait()


def below(process: int) -> list[int]:
    """A process and all that it and those below it have started, last ones first."""
    children = Path(f"/proc/{process}/task/{process}/children")
    found = children.read_text().split() if children.exists() else []
    return [pid for child in found for pid in below(int(child))] + [process]


def kill_tree(process: int, *, itself: bool = True) -> None:
    """SIGKILL for all below a process, and for itself, as when its machine is lost."""
    for pid in below(process)[: None if itself else -1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def in_training(store: Path) -> bool:
    return bool(list(store.glob("stages/overfitting/*/checkpoint-*")))


@pytest.fixture(scope="module")
def alone(fashion_flow: Command, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after a run in one process on this machine."""
    store = tmp_path_factory.mktemp("alone") / "store"
    done = fashion_flow("run", *SETTINGS, "--store", store, PREFECT_API_URL=server.url)
    assert done.status == 0, done.err
    return store


def test_a_deployment_can_be_renewed_and_has_what_takes_up_dead_runs(
    deployed: Deployed, fashion_flow: Command
) -> None:
    schedule = ("--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    done = deploy(fashion_flow, deployed.server, deployed.store, *schedule, name="nightly")
    assert done.status == 0, done.err
    found = deployed.get("deployments/name/build-model/nightly")
    (planned,) = found["schedules"]
    assert planned["schedule"]["cron"] == "0 3 * * *"
    assert planned["schedule"]["timezone"] == "Europe/Berlin"
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert found["entrypoint"] == "flows.build_model.build_model"
    assert found["parameters"]["settings"]["overfitting"]["epochs"] == 40
    assert found["parameters"]["store"] == str(deployed.store)
    automations = deployed.post("automations/filter")
    assert sorted(item["name"] for item in automations) == sorted([SILENT, AGAIN])
    assert all(item["enabled"] for item in automations)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cron", "at dawn"), "schedule 'at dawn': expected minute, hour"),
        (("--cron", "0 3 * * *", "--timezone", "Mars"), "time zone 'Mars': expected a name"),
        (("--set", "overfitting.epochs=0"), "overfitting.epochs"),
    ],
)
def test_what_can_not_be_deployed_is_explained(
    arguments: tuple[str, ...], said: str, fashion_flow: Command, server: Server, tmp_path: Path
) -> None:
    done = deploy(fashion_flow, server, tmp_path / "store", *arguments, name="wrong")
    assert done.status == 2
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_without_a_server_it_says_how_to_have_one(fashion_flow: Command, tmp_path: Path) -> None:
    done = fashion_flow("deploy", "--store", tmp_path, PREFECT_HOME=str(tmp_path))
    assert done.status == 2
    assert "fashion-flow ui" in done.err


def test_a_worker_runs_what_is_deployed_with_the_bytes_of_a_run_alone(
    deployed: Deployed, worker: Workers, alone: Path
) -> None:
    worker()
    run = deployed.start()
    deployed.wait_for_end(run)
    assert differing(contents(deployed.store), contents(alone)) == []


@pytest.mark.timeout(2 * RUN_S + 300)
@pytest.mark.parametrize(("lost", "tries"), [("process", 2), ("machine", 2), ("worker", 1)])
def test_what_is_lost_in_the_middle_of_training_is_taken_up_again(
    lost: str,
    tries: int,
    fashion_flow: Command,
    server: Server,
    worker: Workers,
    alone: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    if not pytestconfig.getoption("--full"):
        pytest.skip("takes minutes: make test-distributed")
    deployed = deployed_as(lost, fashion_flow, server, tmp_path / "store")
    first = worker()
    run = deployed.start()
    wait_for(lambda: in_training(deployed.store), RUN_S, "a training in its midst")
    if lost == "worker":
        os.kill(first.pid, signal.SIGKILL)
    else:
        kill_tree(first.pid, itself=lost == "machine")
    if lost != "process":
        worker()
    deployed.wait_for_end(run)
    assert deployed.get(f"flow_runs/{run}")["run_count"] == tries
    assert differing(contents(deployed.store), contents(alone)) == []
