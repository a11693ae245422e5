"""Settings of how a network's weights are found: optimiser, averages, variations of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.settings.base import Fraction, Spec

Decay = Literal["none", "cosine", "linear", "one_cycle"]


class OptimizerSettings(Spec):
    """The rule that turns gradients into steps.

    The learning rate, its decay and the batch size are settings of the training.
    """

    name: Literal["rmsprop", "sgd", "adamw", "lion", "muon"] = Field(
        "rmsprop",
        description=(
            "rmsprop: as in the notebook. sgd: with Nesterov momentum. adamw (Loshchilov and "
            "Hutter, 2019). lion (Chen et al., 2023). muon (Jordan et al., 2024): orthogonalised "
            "momentum for the kernels of hidden layers, adamw for all else."
        ),
    )
    momentum: Fraction = Field(0.9, description="Momentum of sgd, and of muon's kernels.")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description=(
            "Each step shrinks kernels by this factor times the learning rate; biases and "
            "normalisations are spared."
        ),
    )
    clip_norm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = Field(
        None, description="Gradients with a larger joint norm are scaled down to it."
    )


class AverageSettings(Spec):
    """An average of the weights after several epochs, in place of those after the last one."""

    kind: Literal["none", "ema", "last"] = Field(
        "none",
        description=(
            "none: the weights after the last epoch. ema: their exponential moving average over "
            "epochs. last: their mean over the last `epochs` epochs."
        ),
    )
    decay: Fraction = Field(0.8, description="ema: weight of the average before each epoch.")
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        5, description="last: number of epochs."
    )


class VariationSettings(Spec):
    """Cheap variations of training images, by whole pixels; `augmentation` distorts them instead.

    Each depends on the seed, the image and the epoch alone.
    """

    flip: Literal["none", "random", "alternating"] = Field(
        "none",
        description=(
            "random: mirror a random half of the images. alternating: show each image once each "
            "way in two epochs (Jordan, 2024)."
        ),
    )
    shift: Annotated[int, Field(strict=True, ge=0, le=64)] = Field(
        0,
        description=(
            "Shift by up to this many pixels each way; the edge reflects what is within it."
        ),
    )
    erase: Annotated[int, Field(strict=True, ge=0, le=512)] = Field(
        0, description="Side of a square at a random place that is made black, in pixels."
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="Mix pairs of images and labels; parameter of the beta distribution, 0: off.",
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description=(
            "Replace a rectangle by that of another image; parameter of the beta distribution, 0: "
            "off. With mixup too, each batch takes either."
        ),
    )
