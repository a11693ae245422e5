"""Each kind of runner resolves the execution settings where its stages will be computed."""

from __future__ import annotations

import pytest

from flows.runners import dask
from flows.runners.base import LOCAL, ComputeSite, Runner
from flows.runners.choose import find_site, task_runner
from tasks.core.settings.execution import ExecutionSettings

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
