"""What several test files need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.core.data import Float32
from tasks.core.records import canonical_json
from tasks.files import Place


def predict(model: Any, x: Float32) -> Float32:
    """Class probabilities of any Keras model, in inference mode."""
    probabilities: Float32 = model(x, training=False).numpy()
    return probabilities


def basis(**values: Any) -> dict[str, Any]:
    """What a made-up key stands for: nothing, but for `values`."""
    nothing = {"format": 1, "settings": {}, "inputs": {}, "external": [], "code": {}, "profile": {}}
    return {**nothing, **values}


def meaning(text: str) -> str | None:
    """The one text of the JSON value that `text` stands for; None where it stands for none."""
    try:
        return canonical_json(json.loads(text))
    except (ValueError, RecursionError):
        return None


def on_disk(place: Place) -> Path:
    """A place in a store of this machine as the path that it is."""
    assert isinstance(place, Path)
    return place
