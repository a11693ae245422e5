"""Preset `modern`: an overfitting network of today and the changes that are tried on it."""

from __future__ import annotations

from typing import Any

from tasks.core.settings.base import changed
from tasks.core.settings.network import NetworkSettings
from tasks.core.settings.training import Iteration, TrainSettings

# It fits nearly all training images and leaves room for each change: small, at a constant rate.
MODERN_OVERFITTING = TrainSettings(
    network=NetworkSettings(
        family="compact", widths=(16, 32, 64), activation="relu", whitening=False
    ),
    epochs=6,
)

MODERN_PLAN = (
    Iteration(
        name="AdamW",
        hypothesis=(
            "Momentum, and a decay of the weights that the steps' sizes leave alone, find better "
            "weights than RMSprop (Loshchilov and Hutter, 2019)."
        ),
        change={"optimizer.name": "adamw", "optimizer.weight_decay": 0.05},
        replay="forward",
    ),
    Iteration(
        name="a rate that falls to zero",
        hypothesis=(
            "After a warm-up at a higher rate, a linear decay to zero settles what a constant rate "
            "keeps moving (Defazio et al., arXiv 2310.07831)."
        ),
        change={"decay": "linear", "warmup": 0.25, "learning_rate": {"times": 5}},
        replay="forward",
    ),
    Iteration(
        name="Muon",
        hypothesis=(
            "Steps of equal size in all directions of a kernel learn more from each epoch "
            "(Jordan et al., 2024)."
        ),
        change={"optimizer.name": "muon", "learning_rate": 0.02},
        replay="forward",
    ),
    Iteration(
        name="whitened first layer",
        hypothesis=(
            "A first layer that is computed from patches need not be learned (Jordan, arXiv "
            "2404.00498)."
        ),
        change={"network.whitening": True},
        replay="back",
    ),
    Iteration(
        name="half as many channels again",
        hypothesis=(
            "More capacity first, even if it overfits more: what regularises comes after it "
            "(Chollet, 2021)."
        ),
        change={"network.widths": {"times": 1.5}},
        replay="forward",
    ),
    Iteration(
        name="twice the epochs",
        hypothesis="With a rate that falls to zero, a longer training ends at a better place.",
        change={"epochs": {"times": 2}},
        replay="forward",
    ),
    Iteration(
        name="alternating flips",
        hypothesis=(
            "Each image once each way in two epochs stands in for more images (Jordan, arXiv "
            "2404.00498)."
        ),
        change={"variation.flip": "alternating"},
        replay="forward",
    ),
    Iteration(
        name="both flips averaged",
        hypothesis=(
            "An image and its mirror image err apart, so the mean of their logits errs less "
            "(Krizhevsky et al., 2012)."
        ),
        change={"network.views": "flips"},
        replay="forward",
    ),
    Iteration(
        name="label smoothing",
        hypothesis=(
            "Labels that spare a tenth for other classes keep the network from being too sure "
            "(Szegedy et al., 2016)."
        ),
        change={"label_smoothing": 0.1},
        replay="forward",
    ),
    Iteration(
        name="shifts by one pixel",
        hypothesis="Small translations stand in for more images (He et al., 2016).",
        change={"variation.shift": 1},
        replay="back",
    ),
    Iteration(
        name="random erasing",
        hypothesis=(
            "Hiding a part makes the network look at all parts (Zhong et al., arXiv 1708.04896; "
            "DeVries and Taylor, arXiv 1708.04552)."
        ),
        change={"variation.erase": 8},
        replay="back",
    ),
    Iteration(
        name="averaged weights",
        hypothesis=(
            "The mean of the weights after the last three epochs is more central than the last "
            "(Izmailov et al., 2018)."
        ),
        change={"average.kind": "last", "average.epochs": 3},
        replay="back",
    ),
)

# Mirror images mean the same in photographs of things, but not in letters or signs.
_MIRRORED = ("variation.flip", "network.views")


def settled_plan() -> tuple[Iteration, ...]:
    """The changes that a run on own images begins with: what `MODERN_PLAN` keeps, as a whole.

    What depends on the images is tried apart: mirror images, and how long to train.
    """
    kept, mirrored = MODERN_OVERFITTING, dict[str, Any]()
    for entry in MODERN_PLAN:
        if entry.replay == "forward":
            mirrored |= {name: entry.change[name] for name in _MIRRORED if name in entry.change}
            rest = {name: value for name, value in entry.change.items() if name not in _MIRRORED}
            kept = changed(kept, rest)
    before = MODERN_OVERFITTING.model_dump(mode="json")
    settled = kept.model_dump(mode="json")
    change = {name: value for name, value in settled.items() if value != before[name]}
    recipe = Iteration(
        name="the settled recipe",
        hypothesis="What preset modern kept on Fashion-MNIST helps on these images, too.",
        change=change,
    )
    mirror = [
        Iteration(
            name="mirror images",
            hypothesis="A mirror image of a thing shows the same class.",
            change=mirrored,
        )
    ]
    longer = Iteration(
        name="three times the epochs",
        hypothesis="A small data set has few steps an epoch, so it needs more of them.",
        change={"epochs": {"times": 3}},
    )
    return (recipe, *(mirror if mirrored else ()), longer)
