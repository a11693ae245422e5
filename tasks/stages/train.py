"""Train one network on training images and score it on training and validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.usage import SCALED, write_usage

if TYPE_CHECKING:
    from tasks.core.training.loop import Examples


@stage_task()
def train(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a network from its seeded start; leave the model, its history and its scores."""
    # TensorFlow is imported where something is computed, so that a cached run never does.
    from tasks.core.training.loop import Examples
    from tasks.models.fit import fit_network

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
    from tasks.core.training.loop import Examples

    def rows(chosen: Any) -> Examples:
        return Examples(
            _chosen([train.x, validation.x], chosen), _chosen([train.y, validation.y], chosen)
        )

    return rows(~held_out), rows(held_out)


def _chosen(parts: Sequence[Any], chosen: Any) -> Any:
    """The chosen rows of arrays that follow each other, without another copy of any of them."""
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
