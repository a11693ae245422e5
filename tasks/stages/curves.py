"""Draw the learning curves of a model."""

from __future__ import annotations

from tasks.core.drawing import training_curves
from tasks.core.drawing.titles import title_of
from tasks.core.names import HISTORY, curves_name
from tasks.core.stage_specs import CurvesSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

# Upper limits of the loss axis, as in the notebook: binary cross-entropy is a mean over classes.
LOSS_TOP, BINARY_LOSS_TOP = 1.2, 0.3


@stage_task(CurvesSpec)
def curves(spec: CurvesSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Draw loss and accuracy by epoch as one PNG.

    The facts are the last epoch of the first training.
    """
    first, *others = [inputs.table(stage, HISTORY).to_pydict() for stage in spec.trainings]
    title = title_of(spec.model)
    if spec.random:
        title += " (random weights)"
    if "val_loss" in first:
        top = BINARY_LOSS_TOP if spec.binary else LOSS_TOP
        picture = training_curves.learning_curves(
            first, title, spec.note, loss_top=top, others=others
        )
    else:
        picture = training_curves.final_curves(first, title, spec.note)
    outputs.blob(curves_name(spec.model), "png", picture)
    return {name: values[-1] for name, values in first.items()}
