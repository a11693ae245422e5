"""If any file of a finished store is damaged, the next run restores it with the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import Command, Server
from tests.reliability.heal import WAYS, delete
from tests.reliability.support import Record, Size, contents, differing


@pytest.mark.timeout(3 * 3600)
def test_any_damaged_file_is_restored(
    size: Size,
    undisturbed: Path,
    environment: dict[str, str],
    reliability_server: Server,
    tmp_path: Path,
    record_property: Record,
) -> None:
    store = tmp_path / "store"
    shutil.copytree(undisturbed, store)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.reliability.heal",
            str(store),
            "smoke" if size.full else "short",
            str(size.damages or 0),
        ],
        cwd=ROOT,
        env=environment | {"PREFECT_API_URL": reliability_server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["not_healed"] == []
    assert found["healed"] >= (500 if size.full else size.damages or 0)
    record_property(
        "files damaged",
        f"{found['files']} files, {found['healed']} damages "
        f"({', '.join(f'{count} {way}' for way, count in found['ways'].items())}), all repaired by "
        f"the next run; {found['computed']} stages were computed again",
    )


LOGS = (
    "runs/*/run.json",
    "runs/*/stages.jsonl",
    "runs/*/run.log",
    "runs/*/alive.lock",
    "runs/*/report.html",
    "test_scorings.jsonl",
    "locks/baseline-*.lock",
)


@pytest.mark.timeout(3600)
def test_damaged_logs_break_nothing(
    size: Size,
    undisturbed: Path,
    fashion_flow: Command,
    reliability_server: Server,
    tmp_path: Path,
    record_property: Record,
) -> None:
    pairs = [(log, way) for log in LOGS for way in WAYS]
    # At the small size, all logs are damaged together, each in another way.
    together = [(log, WAYS[number % len(WAYS)]) for number, log in enumerate(LOGS)]
    rounds = [[pair] for pair in pairs] if size.full else [together]
    server = {"PREFECT_API_URL": reliability_server.url}
    for number, damages in enumerate(rounds):
        store = tmp_path / f"store_{number}"
        shutil.copytree(undisturbed, store)
        for log, way in damages:
            (path,) = store.glob(log)
            # A lock is an empty file.
            (way if path.stat().st_size else delete)(path, b"{}\n")
        for command in (["runs"], ["results"], ["verify"], ["plan", *size.settings]):
            shown = fashion_flow(*command, "--store", store)
            assert "Traceback" not in shown.err + shown.out, damages
            assert shown.status in (0, 1, 2), damages
        done = fashion_flow("run", *size.settings, "--store", store, **server)
        assert done.status == 0, done.err
        assert differing(contents(store), contents(undisturbed)) == []
        for command in (["runs"], ["results"], ["report"], ["clean", "--keep", "1"]):
            shown = fashion_flow(*command, "--store", store)
            assert shown.status == 0, (damages, shown.err)
        assert differing(contents(store), contents(undisturbed)) == [], (
            "clean keeps files that are in use"
        )
    record_property(
        "logs damaged",
        f"{sum(map(len, rounds))} times; no command and no run failed",
    )
