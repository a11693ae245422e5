"""A full disk or a read-only store: a clear message, no partial files, and the run can continue."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.disks import read_only, resize, small_disk
from tests.processes import Command, Finished, Server
from tests.reliability.support import Record, Size, contents, differing


def assert_refused(done: Finished, said: str) -> None:
    assert done.status == 1, done.err
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert "clean" in done.err or "--store" in done.err, "the message says what to do"


@pytest.mark.timeout(3600)
def test_a_full_disk_costs_only_the_stage_that_did_not_fit(
    size: Size,
    undisturbed: Path,
    fashion_flow: Command,
    reliability_server: Server,
    record_property: Record,
) -> None:
    server = {"PREFECT_API_URL": reliability_server.url}
    needed = disk_usage(undisturbed)
    steps = 10 if size.full else 2
    failed_in: list[str] = []
    with small_disk(64) as disk:
        store = disk / "store"
        for step in range(steps):
            # From nearly nothing to nearly enough.
            resize(disk, max(64, needed * step // steps))
            done = fashion_flow("run", *size.settings, "--store", store, **server)
            assert_refused(done, "no space is left on its disk")
            checked = fashion_flow("verify", "--store", store)
            assert checked.status == 0, checked.out
            assert not list(store.rglob(".part-*")), "no partial file remains"
            failed_in.append(f"{len(list(store.glob('stages/*/*/record.json')))}")
        resize(disk, 4 * needed)
        done = fashion_flow("run", *size.settings, "--store", store, **server)
        assert done.status == 0, done.err
        assert differing(contents(store), contents(undisturbed)) == []
    record_property(
        "full disks",
        f"{steps} runs stopped after {', '.join(failed_in)} stages; then one continued and gave "
        "the same bytes",
    )


def disk_usage(folder: Path) -> int:
    """Size in KiB."""
    return int(subprocess.check_output(["du", "-sk", str(folder)]).split()[0])


def test_a_read_only_store_can_be_inspected_but_not_written(
    size: Size, undisturbed: Path, fashion_flow: Command, reliability_server: Server
) -> None:
    server = {"PREFECT_API_URL": reliability_server.url}
    with small_disk(2 * disk_usage(undisturbed)) as disk:
        store = disk / "store"
        shutil.copytree(undisturbed, store)
        with read_only(disk):
            for command in (
                ["plan", *size.settings],
                ["results"],
                ["runs"],
                ["report"],
                ["verify"],
            ):
                shown = fashion_flow(*command, "--store", store)
                assert shown.status == 0, shown.err
            shown = fashion_flow("clean", "--dry-run", "--store", store)
            assert shown.status == 0, shown.err
            for command in (["run", *size.settings], ["clean", "--keep", "0"]):
                refused = fashion_flow(*command, "--store", store, **server)
                assert_refused(refused, "it is on a read-only file system")
        done = fashion_flow("run", *size.settings, "--store", store, **server)
        assert done.status == 0, done.err


def test_a_store_that_cannot_be_created_is_refused(size: Size, fashion_flow: Command) -> None:
    with small_disk(64) as disk, read_only(disk):
        done = fashion_flow("run", *size.settings, "--store", disk / "store")
        assert_refused(done, "it is on a read-only file system")
