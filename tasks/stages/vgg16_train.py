"""Train the layers after VGG16's frozen ones, on the stored outputs of the frozen layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.names import FEATURES, FOLDS, MODEL, START, TRAINING_SPLITS, WEIGHTS
from tasks.core.stage_specs import Vgg16TrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import write_usage

if TYPE_CHECKING:
    import keras


@stage_task(Vgg16TrainSpec)
def vgg16_train(spec: Vgg16TrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train all layers after `after`; store the complete model, its history and predictions.

    The frozen stage starts from VGG16's weights and a new head. Fine-tuning starts from the frozen
    stage's model with a new optimizer, as in the notebook.
    """
    from tasks.core.networks import vgg16
    from tasks.core.training.class_weights import weighted
    from tasks.core.training.schedule import Schedule
    from tasks.models.divided import divided
    from tasks.models.fit import fit, scores, sizes, stored_examples, turning_points, write_history
    from tasks.models.model_files import save_keras

    about = inputs.facts(FEATURES)
    classes = len(about["class_names"])
    examples, validation = (
        stored_examples(inputs, FEATURES, name, classes) for name in TRAINING_SPLITS
    )
    if spec.fold is not None:
        held_out = inputs.table(FOLDS, FOLDS)["fold"].to_numpy() == spec.fold
        examples, validation = divided(examples, validation, held_out)
    examples = weighted(examples, about["class_names"], spec.class_weight)
    schedule = Schedule(**dict(spec.training))
    complete = _start(spec, inputs, classes)
    part = vgg16.trainable_part(complete, spec.after)
    # No other training starts from this one, so its lineage may include the number of epochs.
    history = fit(part, examples, validation, schedule, spec.seed, outputs, spec.as_json())
    outputs.file(MODEL, "keras", lambda path: save_keras(complete, path))
    write_history(history, outputs)
    write_usage(
        outputs,
        about,
        complete.input_shape[1:],
        spec.preprocessing,
        {"keras": "model.keras"},
    )
    return {
        **scores(part, examples, validation, schedule.loss, outputs),
        **sizes(complete, schedule, examples),
        **turning_points(history),
    }


def _start(spec: Vgg16TrainSpec, inputs: Inputs, classes: int) -> keras.Model:
    from tasks.core.networks import vgg16
    from tasks.models.model_files import load_keras

    if spec.head is None:
        return load_keras(inputs.path(START, MODEL))
    base = vgg16.build_base(spec.head.side, spec.after)
    vgg16.set_weights(base, inputs.arrays(WEIGHTS, WEIGHTS))
    return vgg16.build_complete(base, spec.head.dense, spec.head.dropout, classes, spec.seed)
