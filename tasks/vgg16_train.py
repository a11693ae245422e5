"""Train the layers behind VGG16's frozen ones on their stored outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.core.specs import TransferSettings
from tasks.stage import Facts, Inputs, Outputs, stage_task

if TYPE_CHECKING:
    import keras


@stage_task()
def vgg16_train(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train what follows layer `after`; leave the complete model, its history and its scores.

    The frozen stage starts from VGG16's weights and a fresh head, fine-tuning from the frozen
    stage's model, with a fresh optimizer, as in the notebook.
    """
    from tasks.core import vgg16
    from tasks.core.training import Examples, Schedule
    from tasks.fit import fit, scores, turning_points, without_epochs, write_history
    from tasks.model_files import save_keras

    spec = TransferSettings.model_validate(settings["transfer"])
    examples, validation = (
        Examples(**inputs.arrays("features", name)) for name in ("train", "validation")
    )
    complete = _start(settings, spec, inputs, examples.y.shape[1])
    part = vgg16.trainable_part(complete, settings["after"])
    epochs = settings["epochs"]
    schedule = Schedule(epochs, spec.batch_size, spec.learning_rate, loss="binary_crossentropy")
    lineage = without_epochs(settings)
    history = fit(part, examples, validation, schedule, settings["seed"], outputs, lineage)
    outputs.file("model", "keras", lambda path: save_keras(complete, path))
    write_history(history, outputs)
    return (
        scores(part, examples, validation, schedule.loss, outputs)
        | {
            "params": complete.count_params(),
            "epochs": epochs,
            "batch_size": spec.batch_size,
            "train_samples": len(examples),
            "steps_per_epoch": -(-len(examples) // spec.batch_size),
        }
        | turning_points(history)
    )


def _start(
    settings: Mapping[str, Any], spec: TransferSettings, inputs: Inputs, classes: int
) -> keras.Model:
    from tasks.core import vgg16
    from tasks.model_files import load_keras

    if "start" in inputs.roles:
        return load_keras(inputs.path("start", "model"))
    base = vgg16.build_base(spec.side)
    vgg16.set_weights(base, inputs.arrays("weights", "weights"))
    return vgg16.build_complete(base, spec.dense, spec.dropout, classes, settings["seed"])
