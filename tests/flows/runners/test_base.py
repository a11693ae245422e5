"""Where stages are computed: which addresses are let in, what workers must have in common."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed.protocol.pickle import dumps, loads

from flows.build_model import TASKS, build_model
from flows.runners.base import LOCAL, Runner, runner_of
from flows.runners.dask import agreed, worker_environments
from tasks.core.errors import StageError, UserError
from tasks.engine import profile as runtime
from tasks.engine.events import EpochEvent, StageEvent, log_epoch, stage_is
from tasks.engine.fingerprint import code_digest
from tasks.engine.profile import installation, visible_gpus
from tasks.engine.worker import packed, unpacked

GPU = {"device": "gpu", "threads": 2}
CPU = {"device": "cpu", "threads": 2}


def answer(profile: dict[str, Any], **other: str) -> dict[str, Any]:
    return {"profile": profile, "installation": {**installation(), **other}}


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:8786",
        "tcp://localhost:8786",
        "tcp://[::1]:8786",
        "tls://127.0.0.1:8786",
        "tls://gpu-1.example.org:8786",
        "tls://192.0.2.7:8786",
    ],
)
def test_addresses_that_are_encrypted_or_of_this_machine_are_let_in(address: str) -> None:
    assert runner_of(None, address) == Runner(kind="dask", address=address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://192.0.2.7:8786", "neither encrypted nor on this machine"),
        ("tcp://gpu-1:8786", "neither encrypted nor on this machine"),
        ("tcp://127.0.0.1.example.org:8786", "neither encrypted nor on this machine"),
        ("tcp://localhost.example.org:8786", "neither encrypted nor on this machine"),
        ("tcp://0.0.0.0:8786", "neither encrypted nor on this machine"),
        ("127.0.0.1:8786", "expected tls://HOST:PORT"),
        ("tcp://127.0.0.1", "expected tls://HOST:PORT"),
        ("tcp://127.0.0.1:8786@gpu-1:8786", "expected tls://HOST:PORT"),
        ("ws://127.0.0.1:8786", "expected tls://HOST:PORT"),
        ("inproc://127.0.0.1/1/1", "expected tls://HOST:PORT"),
        ("", "expected tls://HOST:PORT"),
    ],
)
def test_other_addresses_are_refused(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        runner_of("dask", address)


def test_an_address_goes_with_dask_only() -> None:
    with pytest.raises(UserError, match="goes with runner dask"):
        runner_of("local", "tcp://127.0.0.1:8786")
    assert runner_of(None, None) == LOCAL
    assert runner_of("dask", None) == Runner(kind="dask")


def test_only_a_host_that_is_not_this_machine_is_elsewhere() -> None:
    assert Runner(kind="dask", address="tls://gpu-1:8786").elsewhere
    assert not Runner(kind="dask", address="tls://localhost:8786").elsewhere
    assert not Runner(kind="dask").elsewhere


def test_the_flow_takes_a_runner_and_refuses_a_wrong_one() -> None:
    given = build_model.validate_parameters({"runner": {"kind": "dask"}})
    assert given["runner"] == Runner(kind="dask")
    schema: dict[str, Any] = build_model.parameters.model_dump()
    fields = schema["definitions"]["Runner"]["properties"]
    assert all(field["description"] for field in fields.values())
    with pytest.raises(Exception, match="neither encrypted"):
        build_model.validate_parameters({"runner": {"kind": "dask", "address": "tcp://a:1"}})


def test_one_worker_a_gpu_each_sees_its_own() -> None:
    assert worker_environments("gpu", 2, ["0", "3", "5"]) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "5"},
    ]
    # The processor is asked for: as many workers as stages side by side.
    assert worker_environments("cpu", 2, ["0"]) == [{}, {}]


@pytest.mark.parametrize(
    ("chosen", "visible"),
    [
        (None, ["0", "1", "2", "10"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("10,0", ["10", "0"]),
        ("0,-1,2", ["0"]),
        ("GPU-8932f937", ["GPU-8932f937"]),
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


def test_the_profile_is_that_of_the_workers_with_gpus() -> None:
    answers: dict[str, Any] = {"tcp://a": answer(CPU), "tcp://b": answer(GPU)}
    assert agreed(answers, ["tcp://b"]) == GPU
    answers["tcp://a"] = UserError("no NVIDIA device is visible here")
    assert agreed(answers, ["tcp://b"]) == GPU
    with pytest.raises(UserError, match="worker tcp://a: no NVIDIA device"):
        agreed(answers, ["tcp://a"])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answer(GPU), "tcp://a and tcp://b would not compute the same: device cpu, gpu;"),
        (
            answer(CPU, matplotlib="3.9"),
            f"tcp://b has another installation than the run: matplotlib 3.9 instead of "
            f"{installation()['matplotlib']}",
        ),
        (answer(CPU, code="0" * 64), "code 000000000000 instead of"),
        (ModuleNotFoundError("No module named 'tasks'"), "tcp://b can't run this program"),
        (StageError("its code can't be read"), "tcp://b: its code can't be read"),
    ],
)
def test_workers_that_would_make_something_else_are_refused(other: Any, said: str) -> None:
    with pytest.raises(StageError, match=said):
        agreed({"tcp://a": answer(CPU), "tcp://b": other}, ["tcp://a", "tcp://b"])


def test_every_edit_of_code_makes_another_installation(tmp_path: Path) -> None:
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


def test_what_is_logged_elsewhere_is_the_same_here(caplog: pytest.LogCaptureFixture) -> None:
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


def test_tasks_are_sent_as_their_names() -> None:
    for task in TASKS.values():
        sent = dumps(task)  # type: ignore[no-untyped-call]
        assert loads(sent) is task  # type: ignore[no-untyped-call]
        assert len(sent) < 200
