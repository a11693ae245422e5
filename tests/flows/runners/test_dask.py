"""What the flow and its workers exchange: environments, code digests, log records, tasks."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributed.protocol.pickle import dumps, loads

from flows.build_model import TASKS
from flows.runners.dask import worker_environments
from tasks.engine import profile as runtime
from tasks.engine.events import EpochEvent, StageEvent, log_epoch, stage_is
from tasks.engine.fingerprint import code_digest
from tasks.engine.profile import visible_gpus
from tasks.engine.worker import packed, unpacked


def test_each_gpu_gets_a_worker_that_sees_only_that_gpu() -> None:
    assert worker_environments("gpu", 2, ["0", "3", "5"]) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "5"},
    ]
    # On the CPU there is a worker for each stage that may run in parallel.
    assert worker_environments("cpu", 2, ["0"]) == [{}, {}]


@pytest.mark.parametrize(
    ("chosen", "visible"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("3,0", ["3", "0"]),
        ("1, 0", ["1", "0"]),
        ("0,-1,2", ["0"]),
        # CUDA counts the cards; the numbers of their files may be others, as in a container.
        ("10", []),
        ("0,4,1", ["0"]),
        ("NoDevFiles", []),
        ("none", []),
        ("all", []),
        ("GPU-8932f937", ["GPU-8932f937"]),
        ("MIG-a5b6,GPU-8932f937", ["MIG-a5b6", "GPU-8932f937"]),
    ],
)
def test_the_gpus_that_cuda_would_see(
    chosen: str | None, visible: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(runtime, "DEVICES", tmp_path)
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == visible
    monkeypatch.setattr(runtime, "DEVICES", tmp_path / "none")
    assert visible_gpus() == []


def test_an_edit_changes_the_code_digest_but_a_comment_does_not(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    for package in ("tasks", "flows"):
        subprocess.run(["cp", "-r", root / package, tmp_path / package], check=True)
    module = tmp_path / "tasks" / "core" / "data" / "splitting.py"
    program = "from tasks.engine.fingerprint import code_digest; print(code_digest())"

    def digest() -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert digest() == code_digest()
    text = module.read_text()
    module.write_text(text + "\n# a comment\n")
    assert digest() == code_digest()
    module.write_text(text + "\nEDITED = True\n")
    assert digest() != code_digest()


def test_log_records_arrive_as_they_were_sent(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("fashion_flow")
    caplog.set_level(logging.DEBUG, logger=log.name)
    stage_is("baseline", "Running", "100 % anew")
    log_epoch("baseline", 1, 2, {"loss": 0.5})
    log.warning("%s: odd", "baseline")
    sent = [packed(record) for record in caplog.records]
    events = [StageEvent("baseline", "Running", "100 % anew"), None]
    events.insert(1, EpochEvent("baseline", 1, 2, {"loss": 0.5}))  # type: ignore[arg-type]
    for record, message, event in zip(caplog.records, sent, events, strict=True):
        assert set(map(type, message.values())) <= {int, str, dict}
        found = unpacked(message)
        assert found.getMessage() == record.getMessage()
        assert found.levelno == record.levelno
        assert getattr(found, "event", None) == event


def test_tasks_are_pickled_by_name() -> None:
    for task in TASKS.values():
        sent = dumps(task)  # type: ignore[no-untyped-call]
        assert loads(sent) is task  # type: ignore[no-untyped-call]
        assert len(sent) < 200
