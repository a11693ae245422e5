"""Runs that are stopped by their user, killed, or lose their Prefect server."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tasks.storage.run_log import INTERRUPTED, KILLED
from tests.processes import Command, Server, Start, finished_stages, latest_run, wait_for

# Enough stages to stop between, few enough to finish soon.
SHORT = ("--preset", "smoke", "--set", "plan=[]", "--transfer-weights", "off")
BEGIN_S = 180


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_at_once_and_goes_on_later(
    number: signal.Signals,
    start: Start,
    fashion_flow: Command,
    shared_server: Server,
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    store = tmp_path / "store"
    url = shared_server.url
    process = start("run", *SHORT, "--store", store, PREFECT_API_URL=url)
    wait_for(lambda: "preprocess" in finished_stages(store), BEGIN_S, "the first stages")
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 15
    assert "kept in" in output
    assert "start the same command again" in output
    assert latest_run(store).status() == INTERRUPTED
    kept = set(finished_stages(store))
    if number is signal.SIGTERM and not pytestconfig.getoption("--full"):
        # Both end it in one way; how it goes on is seen after the first.
        return

    done = fashion_flow("run", *SHORT, "--store", store, PREFECT_API_URL=url)
    assert done.status == 0, done.err
    states = {entry["stage"]: entry["state"] for entry in latest_run(store).stages()}
    assert {stage for stage, state in states.items() if state == "cached"} >= kept


def test_a_lost_server_loses_no_finished_work(
    start: Start, fashion_flow: Command, prefect_server: Server, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    # One retry a request: with Prefect's five, giving up takes minutes.
    patience = {"PREFECT_API_URL": prefect_server.url, "PREFECT_CLIENT_MAX_RETRIES": "1"}
    process = start("run", *SHORT, "--store", store, **patience)
    wait_for(lambda: "preprocess" in finished_stages(store), BEGIN_S, "the first stages")
    prefect_server.kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    assert "start the same command again" in output
    planned = fashion_flow("plan", *SHORT, "--store", store)
    cached = {line.split()[0] for line in planned.out.splitlines() if " cached " in line}
    assert {"load", "subset", "preprocess"} <= cached


@pytest.mark.usefixtures("full")
def test_a_killed_run_is_listed_as_killed_and_goes_on(
    start: Start, fashion_flow: Command, shared_server: Server, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    url = shared_server.url
    process = start("run", *SHORT, "--store", store, PREFECT_API_URL=url)
    wait_for(lambda: "baseline" in finished_stages(store), BEGIN_S, "the first training")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert latest_run(store).status() == KILLED
    kept = set(finished_stages(store))
    assert "killed" in fashion_flow("runs", "--store", store).out

    done = fashion_flow("run", *SHORT, "--store", store, PREFECT_API_URL=url)
    assert done.status == 0, done.err
    states = {entry["stage"]: entry["state"] for entry in latest_run(store).stages()}
    assert {stage for stage, state in states.items() if state == "cached"} >= kept


def group_members(group: int) -> list[int]:
    """The processes of a process group that still live."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            members.append(int(status.parent.name))
    return members


def test_a_run_stopped_while_its_temporary_server_starts_leaves_no_process(
    start: Start, tmp_path: Path
) -> None:
    process = start("run", *SHORT, "--store", tmp_path / "store")
    wait_for(lambda: len(group_members(process.pid)) > 1, BEGIN_S, "the temporary server")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    wait_for(lambda: not group_members(process.pid), 15, "the temporary server's end")


def test_a_killed_run_leaves_no_temporary_server_behind(start: Start, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start("run", *SHORT, "--store", store)
    wait_for(lambda: "load" in finished_stages(store), BEGIN_S, "the first stage")
    assert len(group_members(process.pid)) > 1, "there is a temporary server"
    process.kill()
    process.wait()
    wait_for(lambda: not group_members(process.pid), 15, "the temporary server's end")
