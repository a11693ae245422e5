"""Train one network on training images and score it on training and validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.stage import Facts, Inputs, Outputs, stage_task
from tasks.usage import SCALED, write_usage

if TYPE_CHECKING:
    from tasks.core.training import Examples


@stage_task()
def train(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a network from its seeded start; leave the model, its history and its scores."""
    # TensorFlow is imported where something is computed, so that a cached run never does.
    from tasks.core.training import Examples
    from tasks.fit import fit_network

    examples, validation = (
        Examples(**inputs.arrays("arrays", name)) for name in ("train", "validation")
    )
    if "fold" in settings:
        held_out = inputs.table("folds", "folds")["fold"].to_numpy() == settings["fold"]
        examples, validation = _parted(examples, validation, held_out)
    _, facts = fit_network(settings, examples, validation, outputs)
    about, shape = inputs.facts("arrays"), examples.x.shape[1:]
    write_usage(outputs, about, shape, SCALED, {"keras": "model.keras"})
    return facts


def _parted(train: Examples, validation: Examples, held_out: Any) -> tuple[Examples, Examples]:
    """Both splits as one, parted into what is learned from and what is held out."""
    import numpy as np

    from tasks.core.training import Examples

    x, y = np.concatenate([train.x, validation.x]), np.concatenate([train.y, validation.y])
    return Examples(x[~held_out], y[~held_out]), Examples(x[held_out], y[held_out])
