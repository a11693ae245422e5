"""Workers of a process pool: they run deployments, and continue runs that died elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.deployment.recovery import AGAIN, REST, SILENT
from flows.running.ui_server import SERVER_SETTINGS
from tasks.storage.run_log import all_runs
from tasks.storage.store import Store
from tests.conftest import running_server
from tests.distributed.databases import postgresql
from tests.processes import DEAD_PROXY, SMALL, Command, Finished, Server, free_port, wait_for
from tests.reliability.support import contents, differing

# Seconds for a run, including the time until a dead one is noticed.
RUN_S = 900
SHORT = (*SMALL, "--set", "plan=[]")
# Trains long enough for a worker to be killed meanwhile.
LONG = (*SHORT, "--set", "overfitting.epochs=15")
SECRET = "open sesame"


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
        """Request a run; return its id."""
        found: str = self.post(f"deployments/{self.deployment}/create_flow_run")["id"]
        return found

    def wait_for_end(self, run: str) -> None:
        """Wait until the run is completed; if it fails, show its log."""

        def state() -> str:
            found: str = self.get(f"flow_runs/{run}")["state"]["name"]
            return found

        wait_for(lambda: state() in ("Completed", "Failed"), RUN_S, "the run to end")
        assert state() == "Completed", self.post("logs/filter")


def deploy(
    fashion_flow: Command,
    server: Server,
    store: Path,
    *arguments: str,
    name: str = "local",
    **extra: str,
) -> Finished:
    address = {"PREFECT_API_URL": server.url, **DEAD_PROXY}
    return fashion_flow("deploy", name, *arguments, "--store", store, **address | extra)


@pytest.fixture(scope="session")
def served(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a lasting server and of its clients."""
    return environment | SERVER_SETTINGS


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, served: dict[str, str]) -> Iterator[Server]:
    """A server with an SQLite database, or with the database that a test names."""
    if getattr(request, "param", "sqlite") != "postgresql":
        with running_server(served) as server:
            yield server
        return
    with postgresql() as address:
        database = {"PREFECT_API_DATABASE_CONNECTION_URL": address}
        with running_server(served | database) as server:
            yield server


def deployed_as(
    name: str, fashion_flow: Command, server: Server, store: Path, *arguments: str
) -> Deployed:
    done = deploy(fashion_flow, server, store, *arguments, name=name)
    assert done.status == 0, done.err
    assert f"export PREFECT_API_URL={server.url}" in done.out
    assert "export no_proxy=" in done.out, "for a worker on this machine"
    found = httpx.get(f"{server.url}/deployments/name/build-model/{name}").json()
    return Deployed(server, store, found["id"])


Workers = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def worker(served: dict[str, str], server: Server, tmp_path: Path) -> Iterator[Workers]:
    """Start `prefect worker start`; kill it and its descendants after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        arguments = ("worker", "start", "--pool", "local", "--limit", "1")
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=tmp_path,
                env=served
                | {"PREFECT_API_URL": server.url, "PREFECT_WORKER_QUERY_SECONDS": "2"}
                | {"CUDA_VISIBLE_DEVICES": "0"},
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
    """A process and all its descendants, the deepest first."""
    children = Path(f"/proc/{process}/task/{process}/children")
    found = children.read_text().split() if children.exists() else []
    return [pid for child in found for pid in below(int(child))] + [process]


def kill_tree(process: int, *, itself: bool = True) -> None:
    """Kill a process and all its descendants, as when a machine is lost."""
    for pid in below(process)[: None if itself else -1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def in_training(store: Path) -> bool:
    return bool(list(store.glob("stages/overfitting/*/checkpoint-*")))


def training(deployed: Deployed, worker: Workers) -> tuple[subprocess.Popen[bytes], str]:
    """Start a worker and a run; wait until it trains; return both."""
    process = worker()
    run = deployed.start()
    wait_for(lambda: in_training(deployed.store), RUN_S, "a training in progress")
    return process, run


def environment_of(process: int) -> set[str]:
    """The variables of a process's environment; none if it has ended."""
    try:
        return set(Path(f"/proc/{process}/environ").read_text().split("\0"))
    except (FileNotFoundError, ProcessLookupError):
        return set()


@pytest.fixture(scope="session")
def undisturbed(
    fashion_flow: Command, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """The contents of the store after an undisturbed run in one process."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = fashion_flow("run", *LONG, "--store", store)
    assert done.status == 0, done.err
    return contents(store)


def test_a_deployment_can_be_updated_and_brings_the_automations_for_dead_runs(
    fashion_flow: Command, server: Server, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    deployed = deployed_as("nightly", fashion_flow, server, store, *SHORT)
    schedule = ("--cron", "0 3 * * *", "--timezone", "Europe/Berlin")
    again = deployed_as("nightly", fashion_flow, server, store, *LONG, *schedule)
    assert again.deployment == deployed.deployment
    found = deployed.get("deployments/name/build-model/nightly")
    (planned,) = found["schedules"]
    assert planned["schedule"]["cron"] == "0 3 * * *"
    assert planned["schedule"]["timezone"] == "Europe/Berlin"
    # Runs do not overlap, because the queue starts one at a time.
    assert found["work_queue_name"] == "nightly"
    assert deployed.get("work_pools/local/queues/nightly")["concurrency_limit"] == 1
    assert found["entrypoint"] == "flows.build_model.build_model"
    assert found["parameters"]["settings"]["overfitting"]["epochs"] == 15
    assert found["parameters"]["store"] == str(store)
    automations = deployed.post("automations/filter")
    assert sorted(item["name"] for item in automations) == sorted([SILENT, AGAIN])
    assert all(item["enabled"] for item in automations)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "fashion-flow ui"),
        (("--cron", "at dawn"), "schedule 'at dawn': expected minute, hour"),
        (("--cron", "0 3 * * *", "--timezone", "Mars"), "time zone 'Mars': expected a name"),
        (("--env", "=open sesame"), "--env '': expected NAME=VALUE"),
    ],
)
def test_wrong_requests_are_explained(
    arguments: tuple[str, ...], said: str, fashion_flow: Command, tmp_path: Path
) -> None:
    home = str(tmp_path / "no-server")
    done = fashion_flow("deploy", *arguments, "--store", tmp_path / "store", PREFECT_HOME=home)
    assert done.status == 2
    assert said in " ".join(done.err.split())
    assert SECRET not in done.err
    assert "Traceback" not in done.err


def test_an_unreachable_server_is_named_without_its_password(
    fashion_flow: Command, tmp_path: Path
) -> None:
    address = f"http://someone:{SECRET.replace(' ', '')}@127.0.0.1:{free_port()}/api"
    done = fashion_flow("deploy", "--store", tmp_path / "store", PREFECT_API_URL=address)
    assert done.status == 1
    assert "the Prefect server http://127.0.0.1" in done.err
    assert "can't be reached" in done.err
    assert "opensesame" not in done.err


@pytest.mark.usefixtures("full")
def test_a_server_with_a_password_accepts_only_that(
    fashion_flow: Command, served: dict[str, str], tmp_path: Path
) -> None:
    with running_server(served | {"PREFECT_SERVER_API_AUTH_STRING": "admin:right"}) as server:
        said = [
            deploy(fashion_flow, server, tmp_path / "store", PREFECT_API_AUTH_STRING=password)
            for password in ("admin:wrong", "admin:right")
        ]
    assert [done.status for done in said] == [1, 0], said
    assert "answers 401 Unauthorized" in said[0].err
    assert "Traceback" not in said[0].err


def test_a_worker_runs_a_deployment_and_its_secret_is_shown_nowhere(
    fashion_flow: Command, served: dict[str, str], server: Server, worker: Workers, tmp_path: Path
) -> None:
    save = f"from prefect.blocks.system import Secret; Secret(value='{SECRET}').save('word')"
    address = {"PREFECT_API_URL": server.url}
    subprocess.run([sys.executable, "-c", save], env=served | address, check=True, timeout=RUN_S)
    env = ("--env", "WORD={{ prefect.blocks.secret.word }}", "--env", "PLAIN=a=b")
    deployed = deployed_as("local", fashion_flow, server, tmp_path / "store", *SHORT, *env)
    process = worker()
    run = deployed.start()
    given = {f"WORD={SECRET}", "PLAIN=a=b", "CUDA_VISIBLE_DEVICES=0"}

    def seen() -> bool:
        # Between fork and exec, a process still has its parent's environment.
        return any(given <= environment_of(pid) for pid in below(process.pid))

    wait_for(seen, RUN_S, "a process of the run with this environment")
    deployed.wait_for_end(run)
    shown = [deployed.get(f"deployments/{deployed.deployment}"), deployed.post("logs/filter")]
    assert SECRET not in str(shown)
    assert SECRET not in (tmp_path / "worker-0.log").read_text()
    # An automation that sees its last heartbeat after its end can't make it crash.
    crash = {"state": {"type": "CRASHED", "message": "no heartbeat"}, "force": False}
    assert deployed.post(f"flow_runs/{run}/set_state", **crash)["status"] == "ABORT"
    assert deployed.get(f"flow_runs/{run}")["state"]["name"] == "Completed"


@pytest.mark.timeout(2 * RUN_S + 300)
@pytest.mark.parametrize(
    ("server", "lost", "tries"),
    [
        ("sqlite", "process", 2),
        ("sqlite", "machine", 2),
        ("sqlite", "worker", 1),
        ("postgresql", "machine", 2),
    ],
    indirect=["server"],
)
@pytest.mark.usefixtures("full")
def test_a_run_that_dies_while_training_is_retried(
    lost: str,
    tries: int,
    fashion_flow: Command,
    server: Server,
    worker: Workers,
    undisturbed: Mapping[str, str],
    tmp_path: Path,
) -> None:
    deployed = deployed_as(lost, fashion_flow, server, tmp_path / "store", *LONG)
    first, run = training(deployed, worker)
    if lost == "worker":
        os.kill(first.pid, signal.SIGKILL)
    else:
        kill_tree(first.pid, itself=lost == "machine")
    if lost != "process":
        worker()
    deployed.wait_for_end(run)
    assert differing(contents(deployed.store), undisturbed) == []
    assert deployed.get(f"flow_runs/{run}")["run_count"] == tries
    # Each crash leads to one more attempt.
    names = [state["name"] for state in deployed.get(f"flow_run_states/?flow_run_id={run}")]
    assert names.count("Crashed") == names.count("AwaitingRetry") == tries - 1
    entries = [entry for log in all_runs(Store(str(deployed.store))) for entry in log.stages()]
    computed = Counter(entry["key"] for entry in entries if entry["state"] == "completed")
    assert set(computed.values()) == {1}
    resumed = {entry["stage"] for entry in entries if entry.get("resumed_after")}
    assert ("overfitting" in resumed) == (tries > 1)


@pytest.mark.timeout(2 * RUN_S + 300)
# A separate server, because the test kills it.
@pytest.mark.parametrize("server", ["sqlite, killed"], indirect=True)
@pytest.mark.usefixtures("full")
def test_a_server_that_is_away_for_half_a_minute_costs_no_run(
    served: dict[str, str],
    fashion_flow: Command,
    server: Server,
    worker: Workers,
    undisturbed: Mapping[str, str],
    tmp_path: Path,
) -> None:
    deployed = deployed_as("server", fashion_flow, server, tmp_path / "store", *LONG)
    _, run = training(deployed, worker)
    server.kill()
    time.sleep(30)
    with running_server(served, httpx.URL(server.url).port or 0):
        deployed.wait_for_end(run)
        assert deployed.get(f"flow_runs/{run}")["run_count"] == 1
    assert differing(contents(deployed.store), undisturbed) == []


@pytest.mark.usefixtures("full")
def test_a_cancelled_run_is_not_retried(
    fashion_flow: Command, server: Server, worker: Workers, tmp_path: Path
) -> None:
    deployed = deployed_as("cancelled", fashion_flow, server, tmp_path / "store", *LONG)
    _, run = training(deployed, worker)
    deployed.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})

    def state() -> str:
        found: str = deployed.get(f"flow_runs/{run}")["state"]["name"]
        return found

    wait_for(lambda: state() == "Cancelled", 120, "the run to end")
    time.sleep(2 * REST.seconds)
    assert state() == "Cancelled"
