"""Train the final model: the surviving settings, on training and validation images together."""

from __future__ import annotations

from tasks.core.names import ARRAYS, FINAL, FINAL_H5, TRAINING_SPLITS
from tasks.core.stage_specs import RetrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage


@stage_task(RetrainSpec)
def retrain(spec: RetrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train the final model; store it as .keras and, if possible, .h5, with its `usage.json`."""
    from tasks.core.training.class_weights import weighted
    from tasks.core.training.examples import joined
    from tasks.models.fit import fit_network, stored_examples
    from tasks.models.model_files import fits_hdf5, save_h5

    about = inputs.facts(ARRAYS)
    classes = len(about["class_names"])
    examples = joined([stored_examples(inputs, ARRAYS, name, classes) for name in TRAINING_SPLITS])
    examples = weighted(examples, about["class_names"], spec.class_weight)
    model, facts = fit_network(spec, examples, None, outputs)
    h5 = FINAL if about["dataset"] == "own" else FINAL_H5
    files = {"keras": "model.keras"}
    if fits_hdf5(model):
        outputs.file(h5, "h5", lambda path: save_h5(model, path))
        files["hdf5"] = f"{h5}.h5"
    write_usage(outputs, about, examples.x.shape[1:], SCALED, files)
    return facts
