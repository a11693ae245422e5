"""A flow that is killed at any moment and started again ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tasks.storage.run_log import DONE, KILLED, all_runs
from tasks.storage.store import Store
from tests.processes import Command, Server, Start
from tests.reliability.support import Record, Size, contents, differing

Process = subprocess.Popen[str]

BEGIN_S = 120
# Longer than the longest stage at this size, so that each run gets further than the last.
LONGEST_S = 8.0


@pytest.mark.timeout(3600)
def test_a_flow_killed_again_and_again_ends_with_the_same_bytes(
    size: Size,
    undisturbed: Path,
    start: Start,
    fashion_flow: Command,
    reliability_server: Server,
    tmp_path: Path,
    record_property: Record,
) -> None:
    chance = random.Random(1)
    server = {"PREFECT_API_URL": reliability_server.url}
    kills = rounds = unfinished = 0
    while kills < size.flow_kills:
        rounds += 1
        store = tmp_path / f"store_{rounds}"
        ended = False
        while not ended and kills < size.flow_kills:
            process = start("run", *size.settings, "--store", store, **server)
            wait_for_a_moment(process, store, chance)
            ended = process.poll() is not None
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        done = fashion_flow("run", *size.settings, "--store", store, **server)
        assert done.status == 0, done.err
        assert differing(contents(store), contents(undisturbed)) == []
        runs = all_runs(Store(str(store)))
        assert {run.status() for run in runs} <= {DONE, KILLED}
        unfinished += sum(len(run.results()) - len(run.stages()) for run in runs)
        checked = fashion_flow("verify", "--store", store)
        assert checked.status == 0, checked.out
    record_property(
        "flows killed",
        f"{kills} times, {rounds} times through, the same bytes each time; {unfinished} times a "
        "stage was being computed",
    )


def wait_for_a_moment(process: Process, store: Path, chance: random.Random) -> None:
    """Wait, usually until stages are being computed, sometimes only until the process starts."""
    logs_before = len(logs(store))
    end = time.monotonic() + (BEGIN_S if chance.random() < 0.9 else 0)
    while time.monotonic() < end and process.poll() is None and len(logs(store)) == logs_before:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, LONGEST_S))


def logs(store: Path) -> list[Path]:
    """The logs of all runs that have started a stage."""
    return list((store / "runs").glob("*/stages.jsonl"))
