"""Helpers that several test files share."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from tasks.core.arithmetic import Arithmetic
from tasks.core.array_types import Float32
from tasks.core.data.idx import TYPES
from tasks.core.records import canonical_json
from tasks.core.seal import Purpose, SealRule
from tasks.core.stage_spec import StageSpec
from tasks.storage.local_path import LocalPath
from tasks.storage.store_path import StorePath


class AnySpec(StageSpec):
    """Takes any values; `spec_of` makes its kinds."""

    model_config = ConfigDict(extra="allow")
    kind = "any"
    seal = SealRule(Purpose.REPORT)


def spec_of(
    kind: str,
    *,
    arithmetic: Arithmetic = Arithmetic.EXACT,
    tolerant: bool = False,
    **values: Any,
) -> AnySpec:
    """A spec of a kind with any values, for tests that look at neither."""
    return _any_spec(kind, arithmetic, tolerant)(**values)


@cache
def _any_spec(of: str, of_arithmetic: Arithmetic, is_tolerant: bool) -> type[AnySpec]:
    class Made(AnySpec):
        kind = of
        arithmetic = of_arithmetic
        tolerant = is_tolerant

    return Made


def encode_idx(array: NDArray[Any]) -> bytes:
    """An IDX file with an array of any shape and of a type that IDX has."""
    codes = {np.dtype(name): code for code, name in TYPES.items()}
    stored = array.astype(array.dtype.newbyteorder(">"), copy=False)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, codes[stored.dtype], array.ndim, *array.shape)
    return header + stored.tobytes()


def predict(model: Any, x: Float32) -> Float32:
    """Class probabilities of any Keras model, in inference mode."""
    probabilities: Float32 = model(x, training=False).numpy()
    return probabilities


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Make Keras build models and compute in `precision`, e.g. float64; in float32 afterwards."""
    import keras

    try:
        keras.config.set_floatx(precision)
        keras.config.set_dtype_policy(precision)
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def basis(**values: Any) -> dict[str, Any]:
    """The basis of a made-up key: empty except for `values`."""
    nothing = {"format": 1, "settings": {}, "inputs": {}, "external": [], "code": {}}
    nothing |= {"libraries": {}, "profile": {}}
    return {**nothing, **values}


def meaning(text: str) -> str | None:
    """The canonical text of the JSON value in `text`; None if it is not JSON."""
    try:
        return canonical_json(json.loads(text))
    except (ValueError, RecursionError):
        return None


def on_disk(path: StorePath) -> LocalPath:
    """A path in a store on this machine as the local path that it is."""
    assert isinstance(path, LocalPath)
    return path


_PLAIN_KERAS = """
import sys
import keras
import numpy as np

*paths, x, found = sys.argv[1:]
models = [keras.models.load_model(path, safe_mode=True) for path in paths]
assert not any(model.compiled for model in models)
np.save(found, [model.predict(np.load(x), verbose=0) for model in models])
assert "tasks" not in sys.modules
"""


def predicted_by_plain_keras(x: Float32, *models: Path) -> Float32:
    """What saved models predict in a process without this project, `(models, n, classes)`."""
    folder = models[0].parent
    given, found = folder / "x.npy", folder / "found.npy"
    np.save(given, x)
    command = [sys.executable, "-c", _PLAIN_KERAS, *map(str, (*models, given, found))]
    subprocess.run(command, check=True, cwd=folder)
    made: Float32 = np.load(found)
    return made
