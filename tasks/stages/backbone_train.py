"""Train a head on a backbone's stored outputs, then with the backbone's last layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tasks.core.names import BACKBONE, FEATURES, MODEL, START, TRAINING_SPLITS
from tasks.core.transfer_specs import BackboneTrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage

if TYPE_CHECKING:
    import keras


@stage_task(BackboneTrainSpec)
def backbone_train(spec: BackboneTrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train on features; store the complete model, its history and predictions.

    The complete model takes images of the data set and converts them itself.
    """
    from tasks.core.networks.backbones import rates_by_layer, trainable_part
    from tasks.core.training.class_weights import weighted
    from tasks.core.training.schedule import Schedule
    from tasks.models.fit import fit, scores, sizes, stored_examples, turning_points, write_history
    from tasks.models.model_files import load_keras, save_keras

    about = inputs.facts(FEATURES)
    classes = len(about["class_names"])
    examples, validation = (
        stored_examples(inputs, FEATURES, name, classes) for name in TRAINING_SPLITS
    )
    examples = weighted(examples, about["class_names"], spec.class_weight)
    schedule = Schedule(**dict(spec.training))
    if spec.head is None:
        complete = load_keras(inputs.path(START, MODEL))
        after = inputs.facts(BACKBONE)["tuned_after"]
        part = trainable_part(complete, after)
        rates = rates_by_layer(complete.get_layer(BACKBONE), after, spec.rate_decay)
        schedule = replace(schedule, layer_rates=rates)
    else:
        complete = _with_head(spec, inputs)
        part = trainable_part(complete, None)
    # No other training starts from this one, so its lineage may include the number of epochs.
    history = fit(part, examples, validation, schedule, spec.seed, outputs, spec.as_json())
    outputs.file(MODEL, "keras", lambda path: save_keras(complete, path))
    write_history(history, outputs)
    write_usage(outputs, about, complete.input_shape[1:], SCALED, {"keras": "model.keras"})
    return {
        **scores(part, examples, validation, schedule.loss, outputs),
        **sizes(complete, schedule, examples),
        **turning_points(history),
    }


def _with_head(spec: BackboneTrainSpec, inputs: Inputs) -> keras.Model:
    from tasks.core.networks.backbones import complete_network
    from tasks.models.model_files import load_keras

    assert spec.head is not None
    about = inputs.facts(FEATURES)
    height, width, channels = about["image_shape"]
    return complete_network(
        load_keras(inputs.path(BACKBONE, MODEL)),
        (height, width, channels),
        inputs.facts(BACKBONE)["pixels"],
        spec.head.pooling,
        spec.head.dense,
        spec.head.dropout,
        len(about["class_names"]),
        spec.seed,
    )
