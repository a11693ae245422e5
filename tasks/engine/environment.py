"""Fixes what libraries read from the environment and the home folder and could change results.

Whatever is fixed here is in no key. `resolve_profile` notes what can't be fixed and may differ.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from functools import cache

from tasks.core.errors import StageError
from tasks.core.messages import listed

log = logging.getLogger("fashion_flow")

# TensorFlow, oneDNN, XLA, cuDNN, cuBLAS, Keras and JAX read hundreds of variables with these
# beginnings. Many change results, and each release brings more, so all of them are removed except
# those below.
PREFIXES = (
    "TF_",
    "TF2_",
    "XLA_",
    "ONEDNN_",
    "DNNL_",
    "BN_",
    "CUDNN_",
    "CUBLAS_",
    "NVIDIA_TF32",
    "KERAS_",
    "JAX_",
)
# These choose between values that are in the key, say where files are, or only how much is logged.
KEPT = (
    "KERAS_BACKEND",
    "KERAS_HOME",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_VERBOSE",
    "DNNL_VERBOSE",
    "TF_CPP_",
    "TF_GPU_ALLOCATOR",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "XLA_PYTHON_CLIENT_",
    "CUDNN_LOG",
    "CUDNN_PATH",
    "JAX_LOGGING_LEVEL",
    # Terraform's variables begin as TensorFlow's do.
    "TF_CLI_",
    "TF_DATA_DIR",
    "TF_IN_AUTOMATION",
    "TF_INPUT",
    "TF_LOG",
    "TF_PLUGIN_CACHE_DIR",
    "TF_TOKEN_",
    "TF_VAR_",
    "TF_WORKSPACE",
)
# The profile sets these in any case.
OURS = {"TF_ENABLE_ONEDNN_OPTS": "1", "JAX_PLATFORMS": "cpu"}
# What `ignore_variables` removed, until a warning has told of it.
ignored: list[str] = []
XLA_FLAGS = "XLA_FLAGS"
# Of XLA_FLAGS only these are kept: where CUDA is, and what is written for debugging.
KEPT_XLA_FLAGS = ("--xla_gpu_cuda_data_dir=", "--xla_dump_")
# OpenBLAS divides a product among its threads, and the pieces differ in their last bits. So their
# number is fixed, whatever OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and the machine say.
BLAS_THREADS = 2
# Keras's own default, which keras.json and `set_epsilon` change.
EPSILON = 1e-7


def changing_variables() -> list[str]:
    """The names of the variables that are set and could change results; not what we have set."""
    found = [
        name
        for name, value in list(os.environ.items())
        if name.startswith(PREFIXES)
        and not name.startswith((*KEPT, XLA_FLAGS))
        and value != OURS.get(name)
    ]
    flags = os.environ.get(XLA_FLAGS, "").split()
    return sorted([*found, XLA_FLAGS] if flags != _kept(flags) else found)


def remove_variables() -> list[str]:
    """Remove the variables that could change results from the environment; return their names."""
    found = changing_variables()
    for name in found:
        value = os.environ.pop(name)
        if name == XLA_FLAGS:
            os.environ[name] = " ".join(_kept(value.split()))
    return found


def _kept(flags: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith(KEPT_XLA_FLAGS)]


def fix_variables(library: str) -> None:
    """Remove the variables that could change a backend's results, before it is imported.

    Raises:
        StageError: `library` is imported already, so it may have read them.
    """
    found = changing_variables()
    if found and library in sys.modules:
        raise StageError(
            f"{library} was imported while {listed(found)} was set, which could change results; "
            "unset it and start the process again."
        )
    remove_variables()
    told = [name for name in [*ignored, *found] if name not in OURS]
    if told:
        log.warning("ignored, as it could change results: %s; unset it", listed(sorted({*told})))
    ignored.clear()


def ignore_variables() -> None:
    """Remove the same variables when the process starts, before any thread reads them."""
    ignored.extend(remove_variables())


def fix_keras(precision: str) -> None:
    """Set Keras's whole global configuration, part of which belongs to this thread."""
    import keras

    config = keras.config
    config.set_floatx(precision)
    config.set_dtype_policy(precision)
    config.set_epsilon(EPSILON)
    config.set_image_data_format("channels_last")
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)
    config.enable_flash_attention()


def check_rounding() -> None:
    """Check how this thread rounds.

    Raises:
        StageError: it does not round to nearest, or takes the smallest numbers for zero.
    """
    one, three, smallest = (float(text) for text in ("1", "3", "5e-324"))
    if one / three != 0.3333333333333333 or -one / three != -0.3333333333333333 or not smallest * 1:
        raise StageError(
            "this process does not calculate by IEEE 754: a library has changed how numbers are "
            "rounded, or takes small ones for zero (built with -ffast-math, or by LD_PRELOAD); "
            "start the run without it."
        )


@cache
def fix_blas() -> None:
    """Fix the number of threads of NumPy's OpenBLAS; no stage uses SciPy's."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(BLAS_THREADS)
    import numpy  # noqa: F401 - loads the library that is set
    from threadpoolctl import threadpool_limits

    threadpool_limits(BLAS_THREADS, user_api="blas")
