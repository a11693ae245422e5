"""Train the final model if it is a VGG16 model: both phases, on training and validation images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.names import (
    FEATURES,
    FINAL,
    FINAL_H5,
    HEAD_FEATURES,
    MODEL,
    TRAINING_SPLITS,
    WEIGHTS,
)
from tasks.core.networks.vgg16_layout import block_below
from tasks.core.transfer_specs import Vgg16RetrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import write_usage

if TYPE_CHECKING:
    import keras

    from tasks.core.training.examples import Examples
    from tasks.core.training.progress import Progress, Row
    from tasks.core.training.schedule import Schedule


@stage_task(Vgg16RetrainSpec)
def vgg16_retrain(spec: Vgg16RetrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a head on the frozen layers' outputs, then fine-tune; store the complete model.

    The history has the epochs of both phases. Only fine-tuning, which takes most of the time, has
    checkpoints: a training that was stopped in it trains the head again, which gives the same head.
    """
    from tasks.core.networks import vgg16
    from tasks.models.fit import fit, scores, sizes, write_history
    from tasks.models.model_files import fits_hdf5, save_h5, save_keras

    about, variant = inputs.facts(FEATURES), spec.training
    headed = _with_new_head(spec, inputs, len(about["class_names"]))
    frozen = _schedule(spec, variant.epochs, variant.learning_rate)
    history = _train_head(headed, spec, frozen, _examples(HEAD_FEATURES, spec, inputs), outputs)
    # Built anew, as dropout's draws go on from those of the head's training otherwise. Those of a
    # model that competed, which was stored between both phases, begin again.
    model = _with_new_head(spec, inputs, len(about["class_names"]))
    model.set_weights(headed.get_weights())
    tuning = _schedule(spec, variant.fine_tune_epochs, variant.fine_tune_learning_rate)
    examples = _examples(FEATURES, spec, inputs)
    part = vgg16.trainable_part(model, block_below(variant.features))
    tuned = fit(part, examples, None, tuning, spec.seed, outputs, spec.as_json())
    history += tuple(row | {"epoch": row["epoch"] + frozen.epochs} for row in tuned)
    outputs.file(MODEL, "keras", lambda path: save_keras(model, path))
    files = {"keras": "model.keras"}
    if fits_hdf5(model):
        h5 = FINAL if about["dataset"] == "own" else FINAL_H5
        outputs.file(h5, "h5", lambda path: save_h5(model, path))
        files["hdf5"] = f"{h5}.h5"
    write_history(history, outputs)
    write_usage(outputs, about, model.input_shape[1:], variant.preprocessing, files)
    return {
        **scores(part, examples, None, tuning.loss, outputs),
        **sizes(model, tuning, examples),
        "epochs": len(history),
    }


def _with_new_head(spec: Vgg16RetrainSpec, inputs: Inputs, classes: int) -> keras.Model:
    from tasks.core.networks import vgg16

    variant = spec.training
    base = vgg16.build_base(variant.side, variant.features)
    vgg16.set_weights(base, inputs.arrays(WEIGHTS, WEIGHTS))
    return vgg16.build_complete(base, variant.dense, variant.dropout, classes, spec.seed)


def _schedule(spec: Vgg16RetrainSpec, epochs: int, learning_rate: float) -> Schedule:
    from tasks.core.training.schedule import Schedule

    variant = spec.training
    return Schedule(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=variant.batch_size,
        loss=variant.loss,
        decay=variant.decay,
    )


def _examples(role: str, spec: Vgg16RetrainSpec, inputs: Inputs) -> Examples:
    """The outputs of a layer for training and validation images together."""
    from tasks.core.training.class_weights import weighted
    from tasks.core.training.examples import joined
    from tasks.models.fit import stored_examples

    names = inputs.facts(role)["class_names"]
    parts = [stored_examples(inputs, role, name, len(names)) for name in TRAINING_SPLITS]
    return weighted(joined(parts), names, spec.class_weight)


def _train_head(
    model: keras.Model,
    spec: Vgg16RetrainSpec,
    schedule: Schedule,
    examples: Examples,
    outputs: Outputs,
) -> tuple[Row, ...]:
    """Train the layers after the base, which stays as it is; return a row for each epoch."""
    from tasks.core.networks import vgg16
    from tasks.core.training.loop import train

    def on_epoch(progress: Progress) -> None:
        outputs.epoch_done(progress.epoch, schedule.epochs, progress.history[-1])

    part = vgg16.trainable_part(model, spec.training.features)
    return train(part, examples, None, schedule, spec.seed, on_epoch=on_epoch).history
