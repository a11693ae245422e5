"""The usage of a tiny model, as its `usage.json` holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

USAGE: dict[str, Any] = {
    "dataset": "shoes",
    "class_names": ["left", "right"],
    "image": {"shape": [4, 4, 1], "dtype": "uint8", "ground": 0.0},
    "input": {"shape": ["n", 4, 4, 1], "dtype": "float32", "method": "scaled"},
}
OLD_USAGE = {key: USAGE[key] for key in ("dataset", "class_names")} | {
    "input": {"shape": ["n", 4, 4, 1], "preprocessing": "uint8 pixels divided by 255"}
}


def written(usage: Mapping[str, Any]) -> bytes:
    """The content of the file."""
    return json.dumps(usage).encode()
