"""Settings of a network, its training, and the iterations that change them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.settings.base import BatchSize, Epochs, Fraction, LearningRate, Spec, Units
from tasks.core.settings.network import NetworkSettings
from tasks.core.settings.optimization import (
    AverageSettings,
    Decay,
    OptimizerSettings,
    VariationSettings,
)

LOWEST_VALIDATION_LOSS = "lowest_validation_loss"

Decision = Literal["forward", "back"]

_OF_STACKS = frozenset(
    ("filters", "kernel_sizes", "pooled", "padding", "batch_norm", "dense", "dropout", "l2")
)

# Weights by class name or label; None for none. The bounds are those of the weights of images.
ClassWeight = (
    Literal["balanced"]
    | Annotated[
        dict[str, Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]],
        Field(min_length=1),
    ]
    | None
)


class AugmentSettings(Spec):
    """Random distortions of training images, as in Keras's `ImageDataGenerator`."""

    rotation_range: float = Field(
        40, ge=0, le=180, description="Rotation by up to +- this many degrees."
    )
    width_shift_range: Fraction = Field(
        0.2, description="Horizontal shift by up to +- this fraction of the width."
    )
    height_shift_range: Fraction = Field(
        0.2, description="Vertical shift by up to +- this fraction of the height."
    )
    shear_range: float = Field(0.2, ge=0, le=80, description="Shear by up to +- this many degrees.")
    zoom_range: Fraction = Field(
        0.2, description="Zoom of each axis by a factor of 1 +- this fraction."
    )
    horizontal_flip: bool = Field(True, description="Mirror a random half of the images.")


class TrainSettings(Spec):
    """One network and how it is trained.

    By default the network is a stack of convolutions (each with optional batch normalisation and
    2 x 2 max pooling), then dense layers, then softmax. Without convolutions it is a dense network.
    `network.family` names others, for which `filters` to `l2` are not used.
    """

    network: NetworkSettings = NetworkSettings()

    filters: tuple[Units, ...] = Field(
        (64, 128, 128), description="Filters of each convolution; empty for a dense network."
    )
    kernel_sizes: tuple[Annotated[int, Field(strict=True, ge=1, le=31)], ...] = Field(
        (2, 3, 3), description="Side of the square kernel of each convolution, in pixels."
    )
    pooled: tuple[bool, ...] = Field(
        (True, True, False), description="Whether 2 x 2 max pooling follows each convolution."
    )
    padding: Literal["valid", "same"] = Field("valid", description="Padding of the convolutions.")
    batch_norm: bool = Field(False, description="Batch normalisation after each convolution.")
    dense: tuple[Units, ...] = Field((256, 64), description="Units of each hidden dense layer.")
    dropout: Fraction = Field(0.0, description="Dropout rate after each hidden dense layer.")
    l2: float = Field(0.0, ge=0, le=10, description="L2 penalty on hidden dense kernels.")
    epochs: Epochs | Literal["lowest_validation_loss"] = Field(
        40,
        description=(
            "Passes over the training images. An iteration may also use 'lowest_validation_loss': "
            "the epoch of the overfitting model's lowest validation loss (the median over its "
            "trainings)."
        ),
    )
    batch_size: BatchSize = Field(128, description="Images per gradient step.")
    final_batch_size: BatchSize | None = Field(
        None,
        description=(
            "Images per gradient step in the last epoch; from `batch_size` on it doubles at equal "
            "intervals. By default it stays the same."
        ),
    )
    optimizer: OptimizerSettings = OptimizerSettings()
    learning_rate: LearningRate = Field(
        0.001, description="Learning rate; with a decay, the highest one."
    )
    decay: Decay = Field(
        "none",
        description=(
            "none: a constant learning rate. cosine, linear: it rises linearly during the first "
            "`warmup` of all steps, then falls to zero. one_cycle: it rises from a 25th and falls "
            "to zero, both along a cosine (Smith and Topin, 2019)."
        ),
    )
    warmup: Fraction = Field(
        0.1, description="Part of all steps in which the learning rate rises, if it decays."
    )
    label_smoothing: Fraction = Field(
        0.0, description="Part of each training label that is spread over all classes."
    )
    average: AverageSettings = AverageSettings()
    variation: VariationSettings = VariationSettings()
    augmentation: AugmentSettings | None = Field(
        None, description="Random distortions of the training images; off by default."
    )

    @property
    def is_open_ended(self) -> bool:
        """Whether no epoch depends on the number of epochs."""
        grows = self.final_batch_size is not None
        return self.decay == "none" and self.average.kind != "last" and not grows

    def unused(self) -> frozenset[str]:
        """The fields that the network's family does not use."""
        return frozenset() if self.network.family == "stack" else _OF_STACKS

    @model_validator(mode="after")
    def _check_batches_grow(self) -> Self:
        if self.final_batch_size is not None and self.final_batch_size < self.batch_size:
            raise ValueError(
                f"final_batch_size is {self.final_batch_size}, but batches only grow; set it to "
                f"{self.batch_size} (batch_size) or more, or to none"
            )
        return self

    @model_validator(mode="after")
    def _check_one_entry_per_convolution(self) -> Self:
        if not len(self.filters) == len(self.kernel_sizes) == len(self.pooled):
            raise ValueError(
                "filters, kernel_sizes and pooled need one entry for each convolution, got "
                f"{len(self.filters)}, {len(self.kernel_sizes)} and {len(self.pooled)}"
            )
        return self


class Iteration(Spec):
    """One iteration of step 7: a change to the incumbent and its hypothesis."""

    name: str = Field(min_length=1, max_length=80, description="Short name of the change.")
    hypothesis: str = Field("", max_length=500, description="Expected effect of the change.")
    change: dict[str, Any] = Field(
        min_length=1,
        description="Training settings of the incumbent to replace, with their new values.",
    )
    replay: Decision | None = Field(
        None, description="The decision that rules 'replay' and 'notebook' replay."
    )
    evidence: str = Field("", max_length=200, description="What the replayed decision is based on.")
