"""Train the final model: the surviving settings, on training and validation images together."""

from __future__ import annotations

from tasks.core.names import ARRAYS, FINAL_H5, TRAINING_SPLITS
from tasks.core.stage_specs import RetrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage


@stage_task(RetrainSpec)
def retrain(spec: RetrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train the final model; store it as .keras and .h5, with its `usage.json`."""
    import numpy as np

    from tasks.core.training.loop import Examples
    from tasks.models.fit import fit_network
    from tasks.models.model_files import save_h5

    parts = [inputs.arrays(ARRAYS, name) for name in TRAINING_SPLITS]
    examples = Examples(
        np.concatenate([part["x"] for part in parts]), np.concatenate([part["y"] for part in parts])
    )
    del parts  # training takes long, and one copy of the images is enough
    model, facts = fit_network(spec, examples, None, outputs)
    outputs.file(FINAL_H5, "h5", lambda path: save_h5(model, path))
    write_usage(
        outputs,
        inputs.facts(ARRAYS),
        examples.x.shape[1:],
        SCALED,
        {"keras": "model.keras", "hdf5": f"{FINAL_H5}.h5"},
    )
    return facts
