"""Train the surviving settings once more, on training and validation images together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage

FINAL_NAME = "fashion_mnist_final"


@stage_task()
def retrain(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train the final model; leave it as .keras and .h5 with what is needed to use it."""
    import numpy as np

    from tasks.core.training.loop import Examples
    from tasks.models.fit import fit_network
    from tasks.models.model_files import save_h5

    parts = [inputs.arrays("arrays", name) for name in ("train", "validation")]
    examples = Examples(
        np.concatenate([part["x"] for part in parts]), np.concatenate([part["y"] for part in parts])
    )
    del parts  # training goes on for long, and memory is wanted for one copy
    model, facts = fit_network(settings, examples, None, outputs)
    outputs.file(FINAL_NAME, "h5", lambda path: save_h5(model, path))
    write_usage(
        outputs,
        inputs.facts("arrays"),
        examples.x.shape[1:],
        SCALED,
        {"keras": "model.keras", "hdf5": f"{FINAL_NAME}.h5"},
    )
    return facts
