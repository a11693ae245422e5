"""The execution profile: what affects the last bits of a result besides settings and code."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import StageError, UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.core.settings.execution import ExecutionSettings
from tasks.engine.environment import check_rounding, fix_blas, fix_keras, fix_variables
from tasks.engine.graphics import graphics
from tasks.engine.libraries import library_version
from tasks.engine.onednn import check_instruction_set
from tasks.engine.processor import arithmetic, kernels
from tasks.sources.keras_home import hidden_keras_home

DEVICES = Path("/dev")
BACKENDS = ("tensorflow", "jax")
# The part of a profile that matters to stages that use NumPy and SciPy only.
ARITHMETIC = ("architecture", "c_library", "numpy_code", "blas")
# Options in glibc's malloc.h, in bytes: how much free memory the end of a heap may keep, how much
# is requested in advance, and from which size a block is mapped by itself, so that its memory goes
# back to the system once it is freed. A training step uses smaller blocks, a data set larger ones.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MALLOC = {M_TRIM_THRESHOLD: 2**28, M_TOP_PAD: 2**26, M_MMAP_THRESHOLD: 2**26}
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"

# HDF5 reads this once, when h5py is imported. Its own locks fail on file systems without locks,
# such as some home folders, and protect nothing here: a model's file appears whole.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

_configured: dict[str, Any] | None = None
_lock = threading.Lock()


def resolve_profile(settings: ExecutionSettings) -> dict[str, Any]:
    """The profile of these settings on this machine, found without importing TensorFlow.

    The environment variable `KERAS_BACKEND` selects the backend, as it does for Keras.

    Raises:
        UserError: a GPU is requested but none is visible, a precision is requested that needs one,
            or the backend is not available.
    """
    backend = _backend()
    visible = visible_gpus()
    if settings.device == "gpu" and not visible:
        raise UserError(
            "execution.device is 'gpu', but no NVIDIA device is visible here; "
            "set execution.device=cpu or check the driver and CUDA_VISIBLE_DEVICES."
        )
    # `nvidia` is the namespace of PyPI's CUDA libraries, which TensorFlow needs to use a GPU.
    usable = bool(visible) and find_spec("nvidia") is not None
    gpu = settings.device == "gpu" or (settings.device == "auto" and usable)
    if settings.precision != "float32" and not gpu:
        raise UserError(
            f"execution.precision is {quoted(settings.precision)}, which is for GPUs, but networks "
            "are computed on the CPU here; set execution.precision=float32, or see that a GPU and "
            "CUDA's libraries are there (requirements-gpu.lock)."
        )
    return {
        "device": "gpu" if gpu else "cpu",
        "threads": settings.threads,
        "backend": backend,
        "precision": settings.precision,
        "onednn": backend == "tensorflow",
        "deterministic": True,
        **(graphics(visible) if gpu else {}),
        **kernels(backend),
        **arithmetic(),
    }


def profile_of(kind: Arithmetic, profile: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an execution profile that decides the last bits of such results."""
    if kind is Arithmetic.NETWORK:
        return dict(profile)
    names = ARITHMETIC if kind is Arithmetic.FLOATING else ()
    return {name: profile[name] for name in names if name in profile}


def _backend() -> str:
    backend = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise UserError(
            f"KERAS_BACKEND is {quoted(backend)}: expected one of {', '.join(BACKENDS)}."
        )
    if find_spec(backend) is None:
        raise UserError(
            f"KERAS_BACKEND is {backend}, which is not installed here: run pip install "
            f"'fashion-flow[{backend}]', or unset the variable."
        )
    return backend


def visible_gpus() -> list[str]:
    """The NVIDIA devices that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    # CUDA numbers them from zero. In a container, the numbers of their files may be others.
    found = [str(number) for number in range(len([*DEVICES.glob("nvidia[0-9]*")]))]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found or chosen is None:
        return found
    # Like CUDA, which ignores everything from the first invalid entry on.
    names = [name.strip() for name in chosen.split(",")]
    return list(takewhile(lambda name: name in found or name.startswith(("GPU-", "MIG-")), names))


def profile_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two execution profiles: `instruction set AVX2 instead of AVX-512`."""
    return [
        f"{name.replace('_', ' ')} {now.get(name, 'none')} instead of {before.get(name, 'none')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def prepare(kind: Arithmetic, profile: Mapping[str, Any]) -> None:
    """Prepare this thread for the computation of a stage.

    Raises:
        StageError: the machine is not the one that the profile describes; see also `configure` and
            `check_rounding`.
    """
    check_rounding()
    if kind is Arithmetic.EXACT:
        return
    fix_blas()
    _check_machine(kind, profile)
    if kind is Arithmetic.NETWORK:
        configure(profile)


def _check_machine(kind: Arithmetic, profile: Mapping[str, Any]) -> None:
    """Refuse to compute under the key of another machine, e.g. on a Dask worker that came later."""
    here = arithmetic() | (kernels(profile["backend"]) if kind is Arithmetic.NETWORK else {})
    given = {name: profile[name] for name in here if name in profile}
    wrong = profile_changes(given, {name: here[name] for name in given})
    if wrong:
        raise StageError(
            f"the run's results are kept for another machine than this one: it has "
            f"{listed(wrong, separator='; ')}; stop this worker, or start the run again."
        )


def configure(profile: Mapping[str, Any]) -> None:
    """Configure the backend according to the profile; a process can have only one profile.

    Raises:
        StageError: the process already has another profile, or does not match this one.
    """
    global _configured
    with _lock:
        if _configured is None:
            _configure(profile)
            _configured = dict(profile)
        # Trainings in mixed precision choose it for their network alone.
        fix_keras("float32")
        if _configured != dict(profile):
            raise StageError(
                f"this process has another execution profile than the run "
                f"({listed(profile_changes(_configured, profile))}); start the run in a new "
                "process, or restart the Dask worker."
            )


def _configure(profile: Mapping[str, Any]) -> None:
    backend = profile["backend"]
    fix_variables(backend)
    os.environ["KERAS_BACKEND"] = backend
    # So that a number means the same GPU here and in the profile.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    with hidden_keras_home():
        versions = _configure_jax(profile) if backend == "jax" else _configure_tensorflow(profile)
        import keras
    import numpy

    logging.getLogger("absl").setLevel(logging.ERROR)
    expected = {name: _number(library_version(name)) for name in (backend, "keras", "numpy")}
    found = versions | {"keras": keras.version(), "numpy": numpy.__version__}
    found = {name: _number(value) for name, value in found.items()}
    expected |= {"backend": backend, "threads": profile["threads"]}
    found |= {"backend": keras.backend.backend()}
    wrong = {name: value for name, value in found.items() if expected[name] != value}
    if wrong:
        raise StageError(
            f"this process has {listed([f'{name} {value}' for name, value in wrong.items()])}, but "
            "the run needs others; start the run in a new process, or restart the Dask worker."
        )


def _number(found: Any) -> Any:
    """A version without the name of another package and without the part of one builder."""
    return found.split()[-1].split("+")[0] if isinstance(found, str) else found


def _configure_tensorflow(profile: Mapping[str, Any]) -> dict[str, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN affects the last bits, so a variable set by the user must not decide. It is the default
    # on x86.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    _keep_freed_memory()
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(profile["threads"])
    except RuntimeError:
        raise StageError(
            "TensorFlow has computed in this process before, with other settings than the run's; "
            "start the run in a new process, or restart the Dask worker."
        ) from None
    # TensorFlow's default, which the environment can't change any more; on GPUs only.
    tf.config.experimental.enable_tensor_float_32_execution(True)
    gpus = tf.config.list_physical_devices("GPU")
    if profile["device"] == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not gpus:
        raise StageError(
            "the profile needs a GPU, but TensorFlow finds none; install the CUDA libraries "
            "(requirements-gpu.lock) or set execution.device=cpu."
        )
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_op_determinism()
    check_processor(profile)
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {"tensorflow": tf.__version__, "threads": threads}


def check_processor(profile: Mapping[str, Any]) -> None:
    """Compare the processor in a profile with what oneDNN says, where it says something.

    Raises:
        StageError: they differ.
    """
    on_x86 = profile["backend"] == "tensorflow" and profile["architecture"] == "x86_64"
    if profile["device"] == "cpu" and on_x86:
        check_instruction_set(profile["instruction_set"], library_version("tensorflow"))


def _keep_freed_memory() -> None:
    """Make glibc keep the memory that TensorFlow frees in one step and needs again in the next.

    Otherwise much of it goes back to Linux, which has to clear the pages before the next step gets
    them. Other C libraries have no such call and are left alone.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in MALLOC.items():
            library.mallopt(option, value)


def _configure_jax(profile: Mapping[str, Any]) -> dict[str, Any]:
    # XLA reads these once, when it looks for devices. `fix_variables` has removed other flags.
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
            f"the profile needs a {profile['device']}, but JAX finds none ({first_line(error)}); "
            "check the driver and JAX's CUDA plugin, or set execution.device=cpu."
        ) from None
    return {"jax": jax.__version__, "threads": profile["threads"]}
