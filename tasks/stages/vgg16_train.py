"""Train the layers behind VGG16's frozen ones on their stored outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import write_usage

if TYPE_CHECKING:
    import keras


@stage_task()
def vgg16_train(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train what follows layer `after`; leave the complete model, its history and its scores.

    The frozen stage starts from VGG16's weights and a fresh head, fine-tuning from the frozen
    stage's model, with a fresh optimizer, as in the notebook.
    """
    from tasks.core.networks import vgg16
    from tasks.core.training.loop import Examples, Schedule
    from tasks.models.fit import fit, scores, turning_points, write_history
    from tasks.models.model_files import save_keras

    examples, validation = (
        Examples(**inputs.arrays("features", name)) for name in ("train", "validation")
    )
    schedule = Schedule(**settings["training"])
    complete = _start(settings, inputs, examples.y.shape[1])
    part = vgg16.trainable_part(complete, settings["after"])
    # Nothing begins in another transfer, so the lineage may hold the number of epochs, too.
    history = fit(part, examples, validation, schedule, settings["seed"], outputs, settings)
    outputs.file("model", "keras", lambda path: save_keras(complete, path))
    write_history(history, outputs)
    write_usage(
        outputs,
        inputs.facts("features"),
        complete.input_shape[1:],
        settings["preprocessing"],
        {"keras": "model.keras"},
    )
    return (
        scores(part, examples, validation, schedule.loss, outputs)
        | {
            "params": complete.count_params(),
            "epochs": schedule.epochs,
            "batch_size": schedule.batch_size,
            "train_samples": len(examples),
            "steps_per_epoch": -(-len(examples) // schedule.batch_size),
        }
        | turning_points(history)
    )


def _start(settings: Mapping[str, Any], inputs: Inputs, classes: int) -> keras.Model:
    from tasks.core.networks import vgg16
    from tasks.models.model_files import load_keras

    if "start" in inputs.roles:
        return load_keras(inputs.path("start", "model"))
    base = vgg16.build_base(settings["side"], settings["after"])
    vgg16.set_weights(base, inputs.arrays("weights", "weights"))
    head = settings["head"]
    return vgg16.build_complete(base, head["dense"], head["dropout"], classes, settings["seed"])
