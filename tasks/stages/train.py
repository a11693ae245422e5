"""Train one network on training images and score it on training and held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.names import ARRAYS, FOLDS, TRAINING_SPLITS
from tasks.core.stage_specs import TrainSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage

if TYPE_CHECKING:
    from tasks.core.training.loop import Examples


@stage_task(TrainSpec)
def train(spec: TrainSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a network from its seeded start; store the model, its history and its predictions."""
    # TensorFlow is imported only when something is computed, so a cached run never imports it.
    from tasks.core.training.loop import Examples
    from tasks.models.fit import fit_network

    examples, validation = (Examples(**inputs.arrays(ARRAYS, name)) for name in TRAINING_SPLITS)
    if spec.fold is not None:
        held_out = inputs.table(FOLDS, FOLDS)["fold"].to_numpy() == spec.fold
        examples, validation = _split_by_fold(examples, validation, held_out)
    _, facts = fit_network(spec, examples, validation, outputs)
    about, shape = inputs.facts(ARRAYS), examples.x.shape[1:]
    write_usage(outputs, about, shape, SCALED, {"keras": "model.keras"})
    return facts


def _split_by_fold(
    train: Examples, validation: Examples, held_out: Any
) -> tuple[Examples, Examples]:
    """Join both splits, and split them again: `held_out` marks the images of the new validation."""
    from tasks.core.training.loop import Examples

    def rows(chosen: Any) -> Examples:
        return Examples(
            _chosen([train.x, validation.x], chosen), _chosen([train.y, validation.y], chosen)
        )

    return rows(~held_out), rows(held_out)


def _chosen(parts: Sequence[Any], chosen: Any) -> Any:
    """Return the chosen rows of consecutive arrays without copying the arrays themselves."""
    import numpy as np

    found = np.empty((int(chosen.sum()), *parts[0].shape[1:]), parts[0].dtype)
    begin = filled = 0
    for part in parts:
        mask = chosen[begin : begin + len(part)]
        begin += len(part)
        count = int(mask.sum())
        np.compress(mask, part, axis=0, out=found[filled : filled + count])
        filled += count
    return found
