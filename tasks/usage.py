"""What somebody with plain Keras must know to use a model that a run made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.store import Outputs


def write_usage(
    outputs: Outputs,
    facts: Mapping[str, Any],
    shape: Sequence[int | None],
    preprocessing: str,
    files: Mapping[str, str],
) -> None:
    """Leave `usage.json` beside the model; `facts` name the data set and its classes."""
    usage = {
        "dataset": facts["dataset"],
        "class_names": facts["class_names"],
        "input": {"shape": ["n", *shape], "dtype": "float32", "preprocessing": preprocessing},
        "output": "probabilities of the classes, in the order of class_names",
        "files": dict(files),
    }
    outputs.blob("usage", "json", json.dumps(usage, indent=1).encode())
