"""Each kind of runner resolves the execution settings where its stages will be computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.runners import dask
from flows.runners.base import LOCAL, ComputeSite, Runner
from flows.runners.choose import find_site, task_runner
from tasks.core.settings.execution import ExecutionSettings
from tests.conftest import ROOT

CPU = ExecutionSettings(device="cpu", threads=1, workers=3)


def test_the_local_site_computes_as_many_stages_at_once_as_there_are_workers() -> None:
    site = find_site(LOCAL, CPU)
    assert site.concurrency == 3
    assert not site.gpus
    assert (site.profile["device"], site.profile["threads"]) == ("cpu", 1)


def test_workers_of_the_run_have_the_profile_of_this_machine() -> None:
    assert find_site(Runner(kind="dask"), CPU) == find_site(LOCAL, CPU)


def test_workers_of_the_run_declare_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = {"device": "gpu"}
    monkeypatch.setattr(dask, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(dask, "resolve_profile", lambda _execution: profile)
    assert find_site(Runner(kind="dask"), CPU) == ComputeSite(profile, 2, gpus=True)


def test_the_local_runner_leaves_when_its_tasks_are_done() -> None:
    from prefect.task_runners import ThreadPoolTaskRunner

    site = find_site(LOCAL, CPU)
    with task_runner(LOCAL, site, "run-1") as threads:
        assert isinstance(threads, ThreadPoolTaskRunner)
        assert threads._started
    assert not threads._started


def ended(given: dict[str, str], code: str, folder: Path) -> str:
    """What the code says in a new process, with Dask's settings in a folder's `broken.yaml`."""
    script = folder / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | given,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


BEGIN = """
from flows.runners.base import Runner
from flows.runners.choose import find_site
from tasks.core.errors import FashionFlowError
from tasks.core.settings.execution import ExecutionSettings

if __name__ == "__main__":
    try:
        find_site(Runner(kind="dask"), ExecutionSettings(device="cpu", threads=1, workers=1))
        from flows.runners.dask import own_cluster
        with own_cluster([{}]) as cluster:
            print("started")
    except FashionFlowError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("text", ["a: [b\n", "- a\n"])
def test_settings_that_dask_can_not_read_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    said = ended({"DASK_CONFIG": str(tmp_path)}, BEGIN, tmp_path)
    assert said.startswith("UserError Dask can't be used with its settings (A dask config file at")
    assert "correct or remove that file" in said
    assert "broken.yaml" in said.replace("\n", "")


def test_settings_with_which_no_worker_starts_are_refused(tmp_path: Path) -> None:
    given = {"DASK_TEMPORARY_DIRECTORY": "/proc/x", "DASK_CONFIG": str(tmp_path)}
    said = ended(given, BEGIN, tmp_path)
    assert said.startswith("StageError the run's own Dask workers do not start (")
    assert "correct Dask's settings: DASK_CONFIG, DASK_TEMPORARY_DIRECTORY" in said


def test_other_settings_of_dask_stop_no_worker(tmp_path: Path) -> None:
    given = {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
        "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME": "ucx",
        "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.01",
        "DASK_TEMPORARY_DIRECTORY": str(tmp_path / "new"),
    }
    assert ended(given, BEGIN, tmp_path) == "started\n"
