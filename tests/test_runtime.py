"""The execution profile: found without a backend, carried out once, and true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.specs import ExecutionSettings
from tasks.runtime import resolve_profile

ROOT = Path(__file__).resolve().parents[1]

# Dropout, batch statistics, augmentation: whatever draws numbers or keeps a state.
ON_JAX = """
import json, os, sys
from tasks.core.specs import ExecutionSettings
from tasks.runtime import configure, resolve_profile
profile = resolve_profile(ExecutionSettings(device="cpu", threads=1))
configure(profile)
import keras
from tests.core.test_training import in_bytes, train_from
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
    assert not found["tensorflow"], "nothing but Keras's own API is used"
    assert found["losses"][-1] < found["losses"][0]
    assert found["resumed"]
    assert not found["other"]
    assert found["threads"] == 1


def test_the_backend_and_its_version_are_in_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    profiles: dict[str, dict[str, Any]] = {}
    for backend in ("tensorflow", "jax"):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        profiles[backend] = resolve_profile(ExecutionSettings(device="cpu"))
        assert profiles[backend]["backend"] == backend
        assert profiles[backend][backend]
    monkeypatch.delenv("KERAS_BACKEND")
    assert resolve_profile(ExecutionSettings(device="cpu")) == profiles["tensorflow"]
    assert "tensorflow" not in profiles["jax"]


def test_a_backend_that_is_none_or_not_here_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UserError, match="expected one of tensorflow, jax"):
        resolve_profile(ExecutionSettings())
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("tasks.runtime.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"pip install 'fashion-flow\[jax\]'"):
        resolve_profile(ExecutionSettings())


def test_a_gpu_that_is_not_there_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(UserError, match="no NVIDIA device is visible here"):
        resolve_profile(ExecutionSettings(device="gpu"))
    assert resolve_profile(ExecutionSettings(device="auto"))["device"] == "cpu"
