"""Train one network on training images and score it on training and held-out images."""

from __future__ import annotations

from tasks.core.names import ARRAYS, FOLDS, TRAINING_SPLITS
from tasks.core.stage_specs import TrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage


@stage_task(TrainSpec)
def train(spec: TrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a network from its seeded start; store the model, its history and its predictions."""
    # TensorFlow is imported only when something is computed, so a cached run never imports it.
    import numpy as np

    from tasks.core.training.class_weights import weighted
    from tasks.core.training.examples import joined
    from tasks.models.fit import fit_network, stored_examples

    about = inputs.facts(ARRAYS)
    classes = len(about["class_names"])
    examples, validation = (
        stored_examples(inputs, ARRAYS, name, classes) for name in TRAINING_SPLITS
    )
    if spec.fold is not None:
        held_out = inputs.table(FOLDS, FOLDS)["fold"].to_numpy() == spec.fold
        both = joined([examples, validation])
        examples, validation = (
            both.take(np.flatnonzero(chosen)) for chosen in (~held_out, held_out)
        )
    examples = weighted(examples, about["class_names"], spec.class_weight)
    _, facts = fit_network(spec, examples, validation, outputs)
    write_usage(outputs, about, examples.x.shape[1:], SCALED, {"keras": "model.keras"})
    return facts
