"""The execution profile: what besides settings and code decides the last bits of a result."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError, UserError
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.fingerprint import code_digest

DEVICES = Path("/dev")
BACKENDS = ("tensorflow", "jax")
# Of glibc's malloc.h, in bytes: how much may be free at the end of a heap before it is given back,
# what is asked for beyond the need, and from when on a block is mapped by itself, and so given back
# when it is freed. What a step needs is smaller; a data set that is copied and let go is larger.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MALLOC = {M_TRIM_THRESHOLD: 2**28, M_TOP_PAD: 2**26, M_MMAP_THRESHOLD: 2**26}
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

_configured: dict[str, Any] | None = None
_lock = threading.Lock()


def resolve_profile(settings: ExecutionSettings) -> dict[str, Any]:
    """The profile of this machine and these settings, found without importing TensorFlow.

    Keras's own variable, `KERAS_BACKEND`, chooses the backend.

    Raises:
        UserError: a GPU is asked for and none is visible, or the backend is none that is here.
    """
    backend = _backend()
    visible = visible_gpus()
    if settings.device == "gpu" and not visible:
        raise UserError(
            "execution.device is 'gpu', but no NVIDIA device is visible here; "
            "set execution.device=cpu or check the driver and CUDA_VISIBLE_DEVICES."
        )
    # CUDA's libraries as PyPI packages them; a card without them is of no use to TensorFlow.
    usable = bool(visible) and find_spec("nvidia") is not None
    gpu = settings.device == "gpu" or (settings.device == "auto" and usable)
    return {
        "device": "gpu" if gpu else "cpu",
        "threads": settings.threads,
        "backend": backend,
        "precision": "float32",
        "onednn": backend == "tensorflow",
        "deterministic": True,
        **{name: version(name) for name in (backend, "keras", "numpy")},
    }


def _backend() -> str:
    backend = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise UserError(f"KERAS_BACKEND is {backend!r}: expected one of {', '.join(BACKENDS)}.")
    if find_spec(backend) is None:
        raise UserError(
            f"KERAS_BACKEND is {backend!r}, which is not installed here: pip install "
            f"'fashion-flow[{backend}]', or leave the variable out."
        )
    return backend


def visible_gpus() -> list[str]:
    """The NVIDIA devices that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    found = sorted(DEVICES.glob("nvidia[0-9]*"), key=lambda path: int(path.name[6:]))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found or chosen is None:
        return [path.name[6:] for path in found]
    # CUDA itself reads the list up to the first entry that is none.
    return list(takewhile(lambda name: name not in ("", "-1"), chosen.split(",")))


@cache
def library_versions() -> dict[str, str]:
    """Versions that decide the bytes of stages that are not numerical: drawings, splits, tables."""
    return {name: version(name) for name in ("numpy", "matplotlib", "pyarrow", "scipy")}


@cache
def installation() -> dict[str, str]:
    """What must be the same wherever the stages of a run are computed: code and libraries."""
    libraries = {name: version(name) for name in ("tensorflow", "keras", "prefect")}
    return {"code": code_digest(), **library_versions(), **libraries}


def configure(profile: Mapping[str, Any]) -> None:
    """Bring TensorFlow into the state that the profile describes, once a process.

    Raises:
        StageError: the process is already configured otherwise, or lacks what the profile names.
    """
    global _configured
    with _lock:
        if _configured is None:
            _configure(profile)
            _configured = dict(profile)
        if _configured != dict(profile):
            raise StageError(
                f"this process computes with {_configured}, but the run wants {dict(profile)}; "
                "start the run in a process of its own, or the worker of a cluster anew."
            )


def _configure(profile: Mapping[str, Any]) -> None:
    backend = profile["backend"]
    os.environ["KERAS_BACKEND"] = backend
    versions = _configure_jax(profile) if backend == "jax" else _configure_tensorflow(profile)
    import keras
    import numpy

    logging.getLogger("absl").setLevel(logging.ERROR)
    keras.config.set_floatx(profile["precision"])
    found = versions | {
        "keras": keras.version(),
        "numpy": numpy.__version__,
        "backend": keras.backend.backend(),
    }
    wrong = {name: value for name, value in found.items() if profile[name] != value}
    if wrong:
        raise StageError(f"the run's profile is {dict(profile)}, but here it is {wrong}.")


def _configure_tensorflow(profile: Mapping[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN changes the last bits; it is the default on x86, and a user's variable must not decide.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    _keep_freed_memory()
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(profile["threads"])
    gpus = tf.config.list_physical_devices("GPU")
    if profile["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not gpus:
        raise StageError(
            "the profile names a GPU, but TensorFlow finds none; install its CUDA libraries "
            "(requirements-gpu.lock) or set execution.device=cpu."
        )
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {"tensorflow": tf.__version__, "threads": threads}


def _keep_freed_memory() -> None:
    """Have glibc hold on to what TensorFlow frees in one step and asks for in the next.

    Else much of it goes back to Linux, and comes again as pages that are cleared first. Where the C
    library has no such call, that stays as it is.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in MALLOC.items():
            library.mallopt(option, value)


def _configure_jax(profile: Mapping[str, Any]) -> dict[str, Any]:
    # XLA reads these once, when its first device is asked for.
    os.environ["JAX_PLATFORMS"] = "cuda" if profile["device"] == "gpu" else "cpu"
    os.environ["NPROC"] = str(profile["threads"])
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    flags = os.environ.get("XLA_FLAGS", "")
    if profile["device"] == "gpu" and DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        raise StageError(
            f"the profile names a {profile['device']}, but JAX finds none ({error})."
        ) from None
    return {"jax": jax.__version__}
