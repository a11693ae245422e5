"""Train one network on the training split and score it on training and validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.stage import Facts, Inputs, Outputs, stage_task


@stage_task()
def train(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Train a network from its seeded start; leave the model, its history and its scores."""
    # TensorFlow is imported where something is computed, so that a cached run never does.
    from tasks.core.training import Examples
    from tasks.fit import fit_network

    examples, validation = (
        Examples(**inputs.arrays("arrays", name)) for name in ("train", "validation")
    )
    _, facts = fit_network(settings, examples, validation, outputs)
    return facts
