"""What libraries read from the environment and the home folder is fixed, or refused."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import StageError
from tasks.engine.environment import (
    BLAS_THREADS,
    check_rounding,
    fix_keras,
    fix_variables,
    ignore_variables,
    remove_variables,
)

ROOT = Path(__file__).resolve().parents[3]
CHANGING = {
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTEROP_THREADS": "1",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_CPU_ISA_HINTS": "PREFER_YMM",
    "NVIDIA_TF32_OVERRIDE": "0",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_NNX_ENABLED": "true",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_ENABLE_X64": "1",
}
HARMLESS = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": "/home/of/keras",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_VAR_region": "eu",
    "HOME": "/home",
}


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without the variables of this machine."""
    mapping: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", mapping)
    return mapping


def test_variables_that_could_change_results_are_removed_and_no_others(
    only: dict[str, str],
) -> None:
    only.clear()
    only.update(CHANGING | HARMLESS)
    assert remove_variables() == sorted(CHANGING)
    assert only == HARMLESS
    assert remove_variables() == []


def test_of_xlas_flags_only_those_about_files_are_kept(only: dict[str, str]) -> None:
    cuda = "--xla_gpu_cuda_data_dir=/usr/local/cuda"
    only.clear()
    only["XLA_FLAGS"] = f"--xla_cpu_enable_fast_math=true {cuda}"
    assert remove_variables() == ["XLA_FLAGS"]
    assert only == {"XLA_FLAGS": cuda}
    assert remove_variables() == []


def test_what_is_ignored_is_said(only: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    only.update(TF_XLA_FLAGS="--x", JAX_PLATFORMS="cpu")
    fix_variables("none_such")
    assert "ignored, as it could change results: TF_XLA_FLAGS; unset it" in caplog.text
    assert "JAX_PLATFORMS" not in caplog.text


def test_a_backend_that_has_read_them_already_is_refused_each_time(only: dict[str, str]) -> None:
    only["TF_XLA_FLAGS"] = "--tf_xla_auto_jit=2"
    for _attempt in range(2):
        with pytest.raises(StageError, match="json was imported while TF_XLA_FLAGS was set"):
            fix_variables("json")
    only.pop("TF_XLA_FLAGS")
    only["TF_ENABLE_ONEDNN_OPTS"] = "0"
    with pytest.raises(StageError, match="while TF_ENABLE_ONEDNN_OPTS was set"):
        fix_variables("json")
    only["TF_ENABLE_ONEDNN_OPTS"] = "1"
    fix_variables("json")


def test_what_was_removed_when_the_process_started_is_said_once(
    only: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    only["TF_XLA_FLAGS"] = "--x"
    ignore_variables()
    assert "TF_XLA_FLAGS" not in only
    assert not caplog.messages
    fix_variables("none_such")
    fix_variables("none_such")
    assert len(caplog.messages) == 1
    assert "TF_XLA_FLAGS" in caplog.text


# Keras

KERAS = """
import json, os, threading
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.profile import configure, resolve_profile
profile = resolve_profile(ExecutionSettings(device="cpu"))
configure(profile)
import keras
keras.config.set_epsilon(0.5)
configure(profile)
config = keras.config
print(json.dumps({
    "epsilon": config.epsilon(), "floatx": config.floatx(), "policy": config.dtype_policy().name,
    "format": config.image_data_format(), "epochs": config.max_epochs(),
    "steps": config.max_steps_per_epoch(), "nnx": config.is_nnx_enabled(),
    "backend": config.backend(), "home": os.environ.get("KERAS_HOME"),
}))
"""
FIXED = {
    "epsilon": 1e-7,
    "floatx": "float32",
    "policy": "float32",
    "format": "channels_last",
    "epochs": None,
    "steps": None,
    "nnx": False,
    "backend": "tensorflow",
}


@pytest.mark.parametrize(
    "text",
    [
        '{"floatx": "float16", "epsilon": 0.001, "backend": "jax", "nnx_enabled": true,'
        ' "image_data_format": "channels_first"}',
        '{"epsilon": 1}',
        "[",
    ],
    ids=["other values", "a value that Keras refuses", "broken"],
)
def test_keras_json_has_no_effect(tmp_path: Path, text: str) -> None:
    (tmp_path / "keras.json").write_text(text)
    found = keras_with(tmp_path)
    assert found == FIXED | {"home": str(tmp_path)}
    assert (tmp_path / "keras.json").read_text() == text


def test_no_keras_json_is_written(tmp_path: Path) -> None:
    keras_with(tmp_path / "none", KERAS_MAX_EPOCHS="1", KERAS_MAX_STEPS_PER_EPOCH="1")
    assert not (tmp_path / "none").exists()


def keras_with(home: Path, **variables: str) -> Mapping[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", KERAS],
        cwd=ROOT,
        env=os.environ | {"KERAS_HOME": str(home)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.usefixtures("tensorflow_ready")
def test_every_setting_of_keras_is_known() -> None:
    """A release of Keras that adds one fails here, so that somebody decides about it."""
    import keras

    without_effect = {
        "disable_interactive_logging",
        "enable_interactive_logging",
        "disable_traceback_filtering",
        "enable_traceback_filtering",
        # Loading of code in models is refused in any case (`safe_mode`).
        "enable_unsafe_deserialization",
        "set_backend",  # `configure` compares the backend
    }
    fixed = {
        "set_dtype_policy",
        "set_epsilon",
        "set_floatx",
        "set_image_data_format",
        "set_max_epochs",
        "set_max_steps_per_epoch",
        "enable_flash_attention",
        "disable_flash_attention",
    }
    found = {name for name in dir(keras.config) if name.startswith(("set_", "enable_", "disable_"))}
    assert found == without_effect | fixed


@pytest.mark.usefixtures("tensorflow_ready")
def test_what_belongs_to_a_thread_is_fixed_in_each() -> None:
    import keras

    found: list[str] = []

    def other() -> None:
        keras.config.set_dtype_policy("mixed_bfloat16")
        fix_keras("float32")
        found.append(keras.config.dtype_policy().name)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == ["float32"]


# Arithmetic


def test_blas_has_the_same_number_of_threads_everywhere() -> None:
    code = (
        "from tasks.engine.environment import fix_blas; fix_blas();"
        "import scipy.linalg; from threadpoolctl import threadpool_info;"
        "print({found['num_threads'] for found in threadpool_info()"
        " if found['user_api'] == 'blas'})"
    )
    for number in ("1", "7"):
        variables = {"OPENBLAS_NUM_THREADS": number, "OMP_NUM_THREADS": number}
        found = subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, text=True
        )
        assert found.strip() == f"{{{BLAS_THREADS}}}"


def test_a_thread_that_rounds_differently_is_refused() -> None:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    nearest = library.fegetround()
    upward = 0x800 if nearest == 0 and sys.platform == "linux" else None
    if upward is None or library.fesetround(upward):
        pytest.skip("this processor names its rounding modes differently")
    try:
        with pytest.raises(StageError, match="does not calculate by IEEE 754"):
            check_rounding()
    finally:
        library.fesetround(nearest)
    check_rounding()
