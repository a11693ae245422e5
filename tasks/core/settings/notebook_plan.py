"""The notebook's nine iterations of step 7 as one table."""

from __future__ import annotations

from tasks.core.settings.training import Iteration

NOTEBOOK_PLAN = (
    Iteration(
        name="fewer epochs",
        hypothesis="Stopping where validation loss was lowest avoids overfitting.",
        change={"epochs": 11},
        replay="forward",
    ),
    Iteration(
        name="no first dense layer",
        hypothesis="A smaller classifier overfits less.",
        change={"dense": [64]},
        replay="back",
    ),
    Iteration(
        name="half the dense units",
        hypothesis="Narrower dense layers overfit less.",
        change={"dense": [128, 32]},
        replay="back",
    ),
    Iteration(
        name="L2 on dense layers",
        hypothesis="A penalty on large weights overfits less.",
        change={"l2": 0.001},
        replay="back",
    ),
    Iteration(
        name="dropout",
        hypothesis="Dropout after each dense layer overfits less.",
        change={"dropout": 0.25},
        replay="forward",
    ),
    Iteration(
        name="batch normalisation",
        hypothesis="Normalised inputs of each convolution train better.",
        change={"batch_norm": True},
        replay="back",
    ),
    Iteration(
        name="first kernel 3 x 3",
        hypothesis="A larger first patch sees more of each image.",
        change={"kernel_sizes": [3, 3, 3]},
        replay="forward",
    ),
    Iteration(
        name="same padding",
        hypothesis="Padding keeps what lies at the edges of the images.",
        change={"padding": "same"},
        replay="forward",
    ),
    Iteration(
        name="augmentation",
        hypothesis="Distorted copies stand in for more training images.",
        change={"augmentation": {}, "batch_size": 32},
        replay="back",
    ),
)
