"""A real Dask cluster: a scheduler, and two worker processes that declare one GPU each."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.processes import (
    DEAD_PROXY,
    ONE_CHANGE,
    SMALL,
    Command,
    Finished,
    Server,
    Start,
    alive,
    free_port,
    latest_run,
    wait_for,
)
from tests.reliability.support import SMOKE, contents, differing

START_S = 120
RUN_S = 400
# Limits for the pickled task, most of which is Prefect's context, and for its result, a record.
MOST_BYTES = {"begins": 100_000, "ends": 20_000}
# Two in parallel and one after them suffice to see whether two ever share a worker.
THREE = ("--only", "baseline", "--only", "low_capacity", "--only", "overfitting")


# As in docs/clusters.md: a certificate authority, and one certificate for the whole cluster.
CERTIFICATES = (
    "req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=fashion-flow-ca "
    "-keyout ca-key.pem -out ca.pem",
    "req -newkey rsa:3072 -nodes -subj /CN=fashion-flow -keyout dask-key.pem -out dask.csr",
    "x509 -req -days 365 -in dask.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial "
    "-out dask-cert.pem",
)


@dataclass
class Cluster:
    """A scheduler and its workers, each in its own process group, and the notes of the workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    notes: Path

    def noted(self) -> dict[int, list[dict[str, Any]]]:
        """The notes of each worker process; see `watched.py`."""
        return {
            int(path.stem): [json.loads(line) for line in path.read_text().splitlines()]
            for path in self.notes.glob("*.jsonl")
        }

    def computing(self, stage: str) -> int | None:
        """The worker process that is computing a stage, if any."""
        for process, entries in self.noted().items():
            last = [entry["what"] for entry in entries if name_of(entry["key"]) == stage][-1:]
            if last == ["begins"]:
                return process
        return None


def name_of(key: str) -> str:
    """The stage in a task's key, which ends with a UUID."""
    return key[:-37]


@contextmanager
def running(
    environment: Mapping[str, str],
    folder: Path,
    *,
    workers: tuple[str, ...] = ("2", "2"),
    protocol: str = "tcp",
    **extra: str,
) -> Iterator[Cluster]:
    """A cluster on the loopback interface.

    Workers have more threads than needed, so that only the resource limits them.
    """
    folder.mkdir(exist_ok=True)
    port = free_port()
    address = f"{protocol}://127.0.0.1:{port}"
    loopback = ("--host", f"{protocol}://127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    begun: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, *loopback],
                cwd=folder,
                env={**environment, "WATCH_FOLDER": str(folder), **extra},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        begun.append(process)
        return process

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        scheduler = begin("scheduler", "scheduler", "--port", str(port))
        wait_for(listening, START_S, "the scheduler")
        found = [
            begin(
                f"worker-{number}",
                *("worker", address, "--nthreads", threads, "--memory-limit", "0"),
                *("--resources", "GPU=1", "--preload", str(ROOT / "tests/distributed/watched.py")),
            )
            for number, threads in enumerate(workers)
        ]
        yield Cluster(address, scheduler, found, folder)
    finally:
        for process in begun:
            # A worker is a child of its nanny, in the same group.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    # Behind a proxy, its workers must reach this machine's Prefect server all the same.
    with running(environment | DEAD_PROXY, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(ONE_CHANGE)
    return path


def assert_small(cluster: Cluster) -> None:
    for what, most in MOST_BYTES.items():
        entries = [entry for notes in cluster.noted().values() for entry in notes]
        sizes = {entry["key"]: entry["size"] for entry in entries if entry["what"] == what}
        assert sizes
        assert max(sizes.values()) < most, sizes


def numerical(store: Path) -> set[str]:
    """The stages that train or use a network: their keys include a device."""
    run = latest_run(store)
    records = [run.record(line["stage"]) for line in run.stages()]
    return {record.stage for record in records if record and "device" in record.basis["profile"]}


def assert_alone(cluster: Cluster, store: Path) -> None:
    """Assert that no worker ever executed two stages with a network at the same time."""
    guarded = numerical(store)
    assert {"baseline", "low_capacity", "overfitting"} <= guarded
    assert not {"load", "subset", "preprocess"} & guarded
    for notes in cluster.noted().values():
        for entry in notes:
            together = [key for key in entry["executing"] if name_of(key) in guarded]
            assert len(together) <= 1, together


def test_two_workers_produce_the_same_bytes_as_one_process(
    cluster: Cluster,
    plan: Path,
    fashion_flow: Command,
    shared_server: Server,
    tmp_path: Path,
) -> None:
    settings = (*SMALL, "--plan", plan, *THREE)
    server = {"PREFECT_API_URL": shared_server.url}
    where = ("--dask-address", cluster.address)
    behind = server | DEAD_PROXY
    done = fashion_flow("run", *settings, *where, "--store", tmp_path / "cluster", **behind)
    assert done.status == 0, done.err
    alone = fashion_flow("run", *settings, "--store", tmp_path / "alone", **server)
    assert alone.status == 0, alone.err
    assert differing(contents(tmp_path / "cluster"), contents(tmp_path / "alone")) == []

    # Each worker computes one such stage at a time, although it has a second thread.
    assert_alone(cluster, tmp_path / "cluster")
    workers = [
        {name_of(entry["key"]) for entry in notes} & {"baseline", "low_capacity", "overfitting"}
        for notes in cluster.noted().values()
    ]
    assert all(workers), f"one worker did everything: {workers}"

    # Only records pass through the scheduler.
    assert_small(cluster)

    # The terminal and the run's log show what happens on the workers.
    assert "overfitting                     Running" in done.err
    log = (latest_run(tmp_path / "cluster").folder / "run.log").read_text()
    assert "epoch 2/2" in log


def test_an_unreachable_cluster_is_explained(fashion_flow: Command, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = fashion_flow("run", *SMOKE, "--dask-address", address, "--store", tmp_path / "store")
    assert done.status == 1
    assert f"the Dask cluster at {address} can't be reached" in done.err
    assert "Traceback" not in done.err


def test_tls_without_certificates_is_explained(fashion_flow: Command, tmp_path: Path) -> None:
    address = "tls://gpu-1:8786"
    done = fashion_flow("run", *SMOKE, "--dask-address", address, "--store", tmp_path / "store")
    assert done.status == 2
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in done.err
    assert "Traceback" not in done.err


def test_a_stage_that_kills_every_worker_crashes_and_nothing_finished_is_computed_again(
    environment: dict[str, str], fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    # Dask gives up after two deaths instead of four.
    dies = {"DIES_OF": "baseline", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    settings = [*SMALL, "--set", "plan=[]", "--only", "baseline", "--set", "baseline.epochs=500"]
    server = {"PREFECT_API_URL": shared_server.url}
    store = tmp_path / "store"
    with running(environment | dies, tmp_path / "cluster") as cluster:
        done = run_on(fashion_flow, cluster, settings, store, server)
    assert done.status == 1, done.err
    assert "baseline: 2 workers died while computing it, most likely because they ran" in done.err
    assert "other workers take over: baseline" in done.err
    assert "Traceback" not in done.err
    # In the UI, nothing looks as if it were still running.
    flow_run = latest_run(store).read()["flow_run"]
    found = httpx.post(
        f"{shared_server.url}/task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run]}}}
    ).json()
    states = {run["name"]: run["state"] for run in found}
    assert states.pop("baseline")["message"].startswith("2 workers died while computing it")
    assert {run["name"]: run["state"]["type"] for run in found} == dict.fromkeys(
        states, "COMPLETED"
    ) | {"baseline": "CRASHED"}
    # The dead workers held the results of its inputs, which other workers took from the store.
    computed = [line["stage"] for line in latest_run(store).stages() if line["seconds"]]
    assert sorted(computed) == sorted(states), "each once"


OWN = """
import os, time
from distributed import Client
from flows.runners.dask import own_cluster

if __name__ == "__main__":
    with own_cluster([{}, {"CUDA_VISIBLE_DEVICES": "1"}]) as cluster, Client(cluster) as client:
        def tell():
            return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")
        resources = [w["resources"] for w in client.scheduler_info()["workers"].values()]
        print([cluster.scheduler_address, list(client.run(tell).values()), resources], flush=True)
        time.sleep(600)
"""


@pytest.mark.usefixtures("full")
def test_workers_that_a_run_starts_survive_its_sleep_and_end_when_it_is_killed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "own.py"
    script.write_text(OWN)
    process = subprocess.Popen(
        [sys.executable, script],
        env={
            **environment,
            "CUDA_VISIBLE_DEVICES": "",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 s",
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        with process.stdout as said:
            address, workers, resources = ast.literal_eval(said.readline())
        assert address.startswith("tls://127.0.0.1:")
        assert sorted(card for _, card in workers) == ["", "1"]
        assert sorted(map(str, resources)) == ["{'GPU': 1}", "{}"]
        # A laptop sleeps. Dask would wait for ten heartbeats of half a second before it restarts
        # workers, which takes four seconds.
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(6)
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(7)
        assert all(alive(pid) for pid, _ in workers), "Dask has restarted workers"
        # Only the process, not its group.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(alive(pid) for pid, _ in workers), 30, "the workers to end")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


# The tests below take minutes.


REPLICATES = ("--preset", "smoke", "--transfer-weights", "off", "--replicates", "3")


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("full")
def test_three_replicates_continue_when_a_worker_is_killed(
    environment: dict[str, str], start: Start, shared_server: Server, tmp_path: Path
) -> None:
    settings = (*REPLICATES, "--set", "overfitting.epochs=12")
    server = {"PREFECT_API_URL": shared_server.url}
    store, alone = tmp_path / "store", tmp_path / "alone"
    with running(environment, tmp_path / "cluster") as cluster:
        address = ("--dask-address", cluster.address)
        run = start("run", *settings, *address, "--store", store, **server)
        wait_for(lambda: bool(in_training(store)), RUN_S, "a training in progress")
        (stage, *_) = in_training(store)
        process = cluster.computing(stage)
        assert process
        os.kill(process, signal.SIGKILL)
        said, _ = run.communicate(timeout=1800)
        assert run.returncode == 0, said
        assert "other workers take over:" in said
        assert stage in said.partition("other workers take over:")[2].splitlines()[0]
        assert_alone(cluster, store)
        assert_small(cluster)
    done = start("run", *settings, "--store", alone, **server)
    said, _ = done.communicate(timeout=1800)
    assert done.returncode == 0, said
    assert differing(contents(store), contents(alone)) == []
    resumed = [line["resumed_after"] for line in latest_run(store).stages()]
    assert max(resumed) > 0, "no stage resumed from a checkpoint"


def in_training(store: Path) -> list[str]:
    found = store.glob("stages/overfitting*/*/checkpoint-*")
    return [path.relative_to(store).parts[1] for path in found]


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("full")
def test_a_lost_scheduler_is_explained_and_the_next_run_continues(
    environment: dict[str, str],
    fashion_flow: Command,
    start: Start,
    shared_server: Server,
    plan: Path,
    tmp_path: Path,
) -> None:
    settings = [*SMALL, "--plan", str(plan), "--set", "overfitting.epochs=60"]
    server = {"PREFECT_API_URL": shared_server.url}
    store = tmp_path / "store"
    with running(environment, tmp_path / "first") as cluster:
        address = ("--dask-address", cluster.address)
        run = start("run", *settings, *address, "--store", store, **server)
        wait_for(lambda: bool(in_training(store)), RUN_S, "a training in progress")
        os.killpg(cluster.scheduler.pid, signal.SIGKILL)
        said, _ = run.communicate(timeout=300)
    assert run.returncode == 1, said
    assert f"lost the connection to the Dask cluster at {cluster.address}" in said
    assert "start the same command again to continue" in said
    assert "Traceback" not in said
    with running(environment, tmp_path / "second") as cluster:
        done = run_on(fashion_flow, cluster, settings, store, server)
    assert done.status == 0, done.err
    assert "Cached" in done.err
    resumed = {line["stage"]: line["resumed_after"] for line in latest_run(store).stages()}
    assert resumed["overfitting"] > 0


def run_on(
    fashion_flow: Command,
    cluster: Cluster,
    settings: Sequence[str | Path],
    store: Path,
    extra: Mapping[str, str],
) -> Finished:
    where = ("--dask-address", cluster.address, "--store", store)
    return fashion_flow("run", *settings, *where, **extra)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("full")
def test_workers_with_different_code_or_none_are_refused(
    environment: dict[str, str], fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for package in ("tasks", "flows"):
        shutil.copytree(ROOT / package, copy / package)
    with (copy / "tasks" / "core" / "data" / "splitting.py").open("a") as module:
        module.write("\nEDITED = True\n")
    server = {"PREFECT_API_URL": shared_server.url}
    settings = (*SMOKE, "--only", "load")
    with running(environment, tmp_path / "edited", workers=("1",), PYTHONPATH=str(copy)) as cluster:
        done = run_on(fashion_flow, cluster, settings, tmp_path / "store", server)
    assert done.status == 1
    assert "has other code or libraries than the run: code" in done.err
    assert "Traceback" not in done.err
    broken = tmp_path / "broken" / "tasks"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not installed here')")
    with running(
        environment, tmp_path / "lacking", workers=("1",), PYTHONPATH=str(broken.parent)
    ) as cluster:
        done = run_on(fashion_flow, cluster, settings, tmp_path / "store", server)
    assert done.status == 1
    assert "can't run this program (ImportError('not installed here'))" in done.err


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("full")
def test_a_cluster_behind_tls(
    environment: dict[str, str], fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    ours, others = certified(tmp_path / "ours"), certified(tmp_path / "others")
    server = {"PREFECT_API_URL": shared_server.url}
    settings = (*SMOKE, "--only", "preprocess")
    with running({**environment, **ours}, tmp_path / "tls", protocol="tls") as cluster:
        done = run_on(fashion_flow, cluster, settings, tmp_path / "store", {**server, **ours})
        assert done.status == 0, done.err
        # A client without a certificate of this authority is refused.
        done = run_on(fashion_flow, cluster, settings, tmp_path / "store", {**server, **others})
        assert done.status == 1
        assert "can't be reached" in done.err


def certified(folder: Path) -> dict[str, str]:
    """Create certificates in a folder; return the environment that makes Dask use them."""
    folder.mkdir()
    for arguments in CERTIFICATES:
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
    prefix = "DASK_DISTRIBUTED__COMM"
    return {
        f"{prefix}__REQUIRE_ENCRYPTION": "True",
        f"{prefix}__TLS__CA_FILE": str(folder / "ca.pem"),
        **{
            f"{prefix}__TLS__{role}__{name.upper()}": str(folder / f"dask-{name}.pem")
            for role in ("SCHEDULER", "WORKER", "CLIENT")
            for name in ("cert", "key")
        },
    }
