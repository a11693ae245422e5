"""Divide examples of two splits into those to train on and those of a fold that is held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.core.training.examples import Examples, joined


def divided(
    training: Examples, validation: Examples, held_out: NDArray[np.bool_]
) -> tuple[Examples, Examples]:
    """The examples that are not held out, and those that are.

    `held_out` says so of each image: the training images in order, then the validation images. No
    input is copied.
    """
    both = joined([training, validation])
    kept, tested = (both.take(np.flatnonzero(chosen)) for chosen in (~held_out, held_out))
    return kept, tested
