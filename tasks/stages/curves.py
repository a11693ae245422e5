"""Draw how the trainings of one model went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.drawing import training_curves
from tasks.core.names import title_of
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

# The notebook's limits: binary cross-entropy is smaller by about the number of classes.
LOSS_TOP, BINARY_LOSS_TOP = 1.2, 0.3


@stage_task()
def curves(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Draw loss and accuracy by epoch, and where validation loss was lowest; leave one PNG.

    The facts are the last epoch of the first training.
    """
    first, *others = [inputs.table(stage, "history").to_pydict() for stage in settings["trainings"]]
    title, note = title_of(settings["model"]), settings["note"]
    if settings["random"]:
        title += " (random weights)"
    if "val_loss" in first:
        top = BINARY_LOSS_TOP if settings["binary"] else LOSS_TOP
        picture = training_curves.learning_curves(first, title, note, loss_top=top, others=others)
    else:
        picture = training_curves.final_curves(first, title, note)
    outputs.blob(f"curves_{settings['model']}", "png", picture)
    return {name: values[-1] for name, values in first.items()}
