"""Train the surviving settings once more, on training and validation images together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks.stage import Facts, Inputs, Outputs, stage_task

FINAL_NAME = "fashion_mnist_final"


@stage_task()
def retrain(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train the final model; leave it as .keras and .h5 with what is needed to use it."""
    import numpy as np

    from tasks.core.training import Examples
    from tasks.fit import fit_network
    from tasks.model_files import save_h5

    parts = [inputs.arrays("arrays", name) for name in ("train", "validation")]
    examples = Examples(
        np.concatenate([part["x"] for part in parts]), np.concatenate([part["y"] for part in parts])
    )
    model, facts = fit_network(settings, examples, None, outputs)
    outputs.file(FINAL_NAME, "h5", lambda path: save_h5(model, path))
    usage = _usage(inputs.facts("arrays"), examples.x.shape[1:])
    outputs.blob("usage", "json", json.dumps(usage, indent=1).encode())
    return facts


def _usage(facts: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """What somebody with plain Keras must know to use the model."""
    return {
        "dataset": facts["dataset"],
        "class_names": facts["class_names"],
        "input": {
            "shape": ["n", *shape],
            "dtype": "float32",
            "preprocessing": "uint8 pixels (0 to 255) divided by 255",
        },
        "output": "probabilities of the classes, in the order of class_names",
        "files": {"keras": "model.keras", "hdf5": f"{FINAL_NAME}.h5"},
    }
