"""Several runs share a store at the same time: one computes each stage, and all get its result."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tasks.storage.files import read_lines
from tasks.storage.local_path import LocalPath
from tasks.storage.run_log import DONE, all_runs
from tasks.storage.store import Store
from tests.processes import Server, Start
from tests.reliability.support import Record, Size, contents, differing

RUNS = 4
END_S = 900


@pytest.mark.timeout(END_S + 60)
def test_four_runs_together_compute_each_stage_once(
    size: Size,
    undisturbed: Path,
    start: Start,
    reliability_server: Server,
    tmp_path: Path,
    record_property: Record,
) -> None:
    store = tmp_path / "store"
    server = {"PREFECT_API_URL": reliability_server.url}
    processes = [start("run", *size.settings, "--store", store, **server) for _ in range(RUNS)]
    for process in processes:
        output, _ = process.communicate(timeout=END_S)
        assert process.returncode == 0, output
    runs = all_runs(Store(str(store)))
    assert [run.status() for run in runs] == [DONE] * RUNS
    by_run = [{line["stage"]: line["state"] for line in run.stages()} for run in runs]
    assert all(set(states) == set(by_run[0]) for states in by_run), "each run has every stage"
    times = Counter(
        stage for states in by_run for stage, state in states.items() if state == "completed"
    )
    assert times == dict.fromkeys(by_run[0], 1)
    assert differing(contents(store), contents(undisturbed)) == []
    scored = [line["model"] for line in read_lines(LocalPath(store / "test_scorings.jsonl"))]
    assert len(scored) == len({*scored}) == sum(s.startswith("test_") for s in by_run[0])
    shares = [sum(state == "completed" for state in states.values()) for states in by_run]
    record_property(
        "runs together",
        f"{RUNS} on one empty store, {len(times)} stages, each computed once "
        f"({' + '.join(map(str, shares))})",
    )


def test_the_same_settings_give_the_same_bytes_in_another_store(
    size: Size,
    undisturbed: Path,
    start: Start,
    reliability_server: Server,
    tmp_path: Path,
    record_property: Record,
) -> None:
    store = tmp_path / "another place" / "with a longer path" / "store"
    elsewhere = {
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "7",
    }
    process = start(
        "run", *size.settings, "--set", "execution.workers=1", "--store", store,
        PREFECT_API_URL=reliability_server.url, **elsewhere,
    )  # fmt: skip
    output, _ = process.communicate(timeout=END_S)
    assert process.returncode == 0, output
    found, expected = contents(store), contents(undisturbed)
    assert differing(found, expected) == []
    kinds = Counter(Path(path).suffix.removeprefix(".") for path in found)
    record_property("two fresh stores", f"{len(found)} files with the same digests ({dict(kinds)})")
    assert not any(str(store) in json.dumps(path) for path in found)
