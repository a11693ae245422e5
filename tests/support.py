"""Helpers that several test files share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.core.data.labelled import Float32
from tasks.core.records import canonical_json
from tasks.storage.files import Place


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
    nothing = {"format": 1, "settings": {}, "inputs": {}, "external": [], "code": {}, "profile": {}}
    return {**nothing, **values}


def meaning(text: str) -> str | None:
    """The canonical text of the JSON value in `text`; None if it is not JSON."""
    try:
        return canonical_json(json.loads(text))
    except (ValueError, RecursionError):
        return None


def on_disk(place: Place) -> Path:
    """A place in a local store as a path."""
    assert isinstance(place, Path)
    return place
