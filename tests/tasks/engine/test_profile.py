"""The execution profile: resolved without a backend, applied once, and correct."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import StageError, UserError
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import (
    _keep_freed_memory,
    _number,
    check_processor,
    prepare,
    resolve_profile,
)

ROOT = Path(__file__).resolve().parents[3]

# Dropout, batch statistics, augmentation: everything that draws numbers or has a state.
ON_JAX = """
import json, os, sys
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import configure, resolve_profile
profile = resolve_profile(ExecutionSettings(device="cpu", threads=1))
configure(profile)
import keras
from tests.tasks.core.training.test_loop import in_bytes, train_from
states = train_from(None)
again = train_from(states[1])
names = [open(f"/proc/self/task/{n}/comm").read().strip() for n in os.listdir("/proc/self/task")]
print(json.dumps({
    "profile": profile,
    "backend": keras.backend.backend(),
    "tensorflow": "tensorflow" in sys.modules,
    "losses": [row["loss"] for row in states[-1].history],
    "resumed": in_bytes(again[-1]) == in_bytes(states[-1]),
    "other": in_bytes(states[1]) == in_bytes(states[-1]),
    "threads": names.count("tf_XLAEigen"),
}))
"""


def test_a_network_trains_on_jax_and_resumes_to_the_same_bytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["backend"] == found["profile"]["backend"] == "jax"
    assert not found["tensorflow"], "only Keras's own API is used"
    assert found["losses"][-1] < found["losses"][0]
    assert found["resumed"]
    assert not found["other"]
    assert found["threads"] == 1


def test_the_backend_is_in_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles: dict[str, dict[str, Any]] = {}
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        profiles[backend] = resolve_profile(ExecutionSettings(device="cpu"))
        assert profiles[backend]["backend"] == backend
    monkeypatch.delenv("KERAS_BACKEND")
    assert resolve_profile(ExecutionSettings(device="cpu")) == profiles["tensorflow"]
    assert profiles["jax"] != profiles["tensorflow"]


def test_a_backend_that_is_unknown_or_not_installed_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UserError, match="expected one of tensorflow, jax"):
        resolve_profile(ExecutionSettings())
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("tasks.engine.profile.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"pip install 'fashion-flow\[jax\]'"):
        resolve_profile(ExecutionSettings())


# Blocks as large as TensorFlow's are allocated and freed again and again, as in training steps.
MEMORY = """
import ctypes, resource, sys, threading
from tasks.engine import profile as runtime
if "kept" in sys.argv:
    runtime._keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
sizes = [mib << 20 for mib in (25, 12, 50, 6)]
def steps():
    for _ in range(10):
        blocks = [libc.malloc(size) for size in sizes]
        for block, size in zip(blocks, sizes):
            ctypes.memset(block, 1, size)
        for block in blocks:
            libc.free(block)
steps()
thread = threading.Thread(target=steps)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's malloc only")
def test_freed_memory_stays_with_the_process() -> None:
    faults = {
        name: int(subprocess.check_output([sys.executable, "-c", MEMORY, name], cwd=ROOT))
        for name in ("kept", "given back")
    }
    assert faults["kept"] < faults["given back"] / 4


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    _keep_freed_memory()


def test_a_requested_gpu_must_be_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(UserError, match="no NVIDIA device is visible here"):
        resolve_profile(ExecutionSettings(device="gpu"))
    assert resolve_profile(ExecutionSettings(device="auto"))["device"] == "cpu"


HDF5 = """
import sys
import tasks.engine.profile
import h5py
with h5py.File(sys.argv[1], "w") as file:
    file["a"] = 1
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_hdf5_files_need_no_locks(tmp_path: Path) -> None:
    code = [sys.executable, "-c", HDF5, str(tmp_path / "model.h5")]
    inject = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace")]
    done = subprocess.run(
        [*inject, "-e", "inject=flock:error=ENOLCK", *code],
        env=os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace can't trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "flock" not in (tmp_path / "trace").read_text()


def test_a_machine_that_is_not_the_profiles_is_refused() -> None:
    profile = resolve_profile(ExecutionSettings(device="cpu"))
    for kind in (Arithmetic.FLOATING, Arithmetic.NETWORK):
        with pytest.raises(StageError, match="another machine than this one: it has blas"):
            prepare(kind, profile | {"blas": "openblas of another"})
    with pytest.raises(StageError, match="it has caches"):
        prepare(Arithmetic.NETWORK, profile | {"caches": "1K/1"})
    prepare(Arithmetic.FLOATING, profile | {"caches": "1K/1"})
    prepare(Arithmetic.EXACT, profile | {"blas": "openblas of another"})


@pytest.mark.parametrize("found", ["tensorflow-cpu 2.21.0", "2.21.0+nv25.1", "2.21.0"])
def test_builds_of_one_version_have_its_number(found: str) -> None:
    assert _number(found) == "2.21.0"


def test_on_jax_onednn_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("tasks.engine.profile.check_instruction_set", pytest.fail)
    check_processor(resolve_profile(ExecutionSettings(device="cpu")))
