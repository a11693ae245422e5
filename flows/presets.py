"""The presets, and the notebook's plan of iterations as one table."""

from __future__ import annotations

from typing import Any

from tasks.core.specs import (
    Iteration,
    Settings,
    SubsetSettings,
    SyntheticSettings,
    TransferSettings,
    changed,
)

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
        hypothesis="A larger first patch sees more of each garment.",
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

# The notebook as it stands: 8,000 / 2,000 / 2,000 images.
NOTEBOOK = Settings(plan=NOTEBOOK_PLAN)

# Changes that would be no smaller than the notebook's.
SMOKE_CHANGES: dict[str, dict[str, Any]] = {
    "fewer epochs": {"epochs": 2},
    "no first dense layer": {"dense": [16]},
    "half the dense units": {"dense": [16, 8]},
}

# Every stage at a size for trying things out: drawn images, one or two epochs, small networks.
SMOKE = Settings(
    dataset="synthetic",
    synthetic=SyntheticSettings(train=700, test=200),
    subset=SubsetSettings(train=400, validation=200, test=200),
    baseline=changed(NOTEBOOK.baseline, {"epochs": 2}),
    low_capacity=changed(NOTEBOOK.low_capacity, {"epochs": 3, "batch_size": 64}),
    overfitting=changed(
        NOTEBOOK.overfitting,
        {"filters": [8, 16, 16], "dense": [32, 16], "epochs": 4, "batch_size": 16},
    ),
    plan=tuple(
        entry.model_copy(update={"change": entry.change | SMOKE_CHANGES.get(entry.name, {})})
        for entry in NOTEBOOK_PLAN
    ),
    transfer=TransferSettings(
        weights="random", dense=32, epochs=2, fine_tune_epochs=1, batch_size=64
    ),
)

# All of the data set.
FULL = NOTEBOOK.model_copy(update={"subset": SubsetSettings(method="everything")})

PRESETS = {"notebook": NOTEBOOK, "smoke": SMOKE, "full": FULL}
