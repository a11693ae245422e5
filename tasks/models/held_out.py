"""Put together what the trainings of a model say of the images held out from each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float64
from tasks.core.names import FOLDS, folds_name
from tasks.core.stage_spec import Model
from tasks.storage.exchange import Inputs


def by_image(model: Model, inputs: Inputs, values: Callable[[str], NDArray[Any]]) -> Float64:
    """Return the mean over a model's replicates, for each image that was held out.

    With folds, the images are the training images in order, then the validation images.

    Args:
        model: the model; each of its stages is an input, and so are the folds.
        inputs: those of the stage.
        values: a training's values of the images held out from it, `(m, ...)`, by its stage.
    """
    found: dict[int, Float64] = {}
    for training in model.trainings:
        value = values(training.stage).astype(np.float64)
        number = training.replicate
        if training.fold:
            fold = inputs.table(folds_name(number), FOLDS)["fold"].to_numpy()
            empty = np.empty((len(fold), *value.shape[1:]))
            found.setdefault(number, empty)[fold == training.fold] = value
        else:
            found[number] = value
    mean: Float64 = np.mean(list(found.values()), axis=0)
    return mean
