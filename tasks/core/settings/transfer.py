"""Settings of transfer from VGG16."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tasks.core.settings.base import BatchSize, Epochs, Fraction, LearningRate, Spec, Units

TransferWeights = Literal["imagenet", "required", "random", "off"]


class TransferVariant(Spec):
    """One way of transfer from VGG16: a head on the frozen base, then its last block trained too.

    The defaults are the notebook's.
    """

    preprocessing: Literal["raw", "vgg16"] = Field(
        "raw",
        description=(
            "raw: RGB from 0 to 255, as in the notebook. vgg16: BGR with ImageNet's mean "
            "subtracted, which is what VGG16 was trained on."
        ),
    )
    side: Literal[32, 48, 64, 96] = Field(
        32, description="Side to which images are resized, pixels."
    )
    features: Literal["block3_pool", "block4_pool", "block5_pool"] = Field(
        "block5_pool",
        description="Layer of VGG16 that the head reads; the block that it ends is fine-tuned.",
    )
    dense: Units = Field(256, description="Units of the head's hidden layer.")
    dropout: Fraction = Field(0.25, description="Dropout rate in the head.")
    epochs: Epochs = Field(11, description="Epochs with the frozen base.")
    fine_tune_epochs: Epochs = Field(11, description="Epochs with the last block trained too.")
    batch_size: BatchSize = Field(128, description="Images a gradient step.")
    loss: Literal["binary_crossentropy", "categorical_crossentropy"] = Field(
        "binary_crossentropy", description="What training minimises."
    )
    learning_rate: LearningRate = Field(1e-5, description="RMSprop's rate with the frozen base.")
    fine_tune_learning_rate: LearningRate = Field(
        1e-5, description="RMSprop's rate with the last block trained too."
    )
    decay: Literal["none", "cosine"] = Field(
        "none",
        description=(
            "none: a constant rate. cosine: it rises to the learning rate over the first tenth of "
            "all steps and falls to zero along a cosine."
        ),
    )


# The ways of transfer by what the names of their stages end in.
VARIANTS = {"": "as_notebook", "_corrected": "corrected"}


def corrected_transfer() -> TransferVariant:
    """What the notebook's transfer might have been; docs/decisions says why these values."""
    return TransferVariant(
        preprocessing="vgg16",
        side=64,
        loss="categorical_crossentropy",
        learning_rate=1e-3,
        fine_tune_learning_rate=5e-5,
        decay="cosine",
    )


class TransferSettings(Spec):
    """The VGG16 branch: where its weights come from, and the two ways of using them."""

    weights: TransferWeights = Field(
        "imagenet",
        description=(
            "imagenet: ImageNet weights; the branch is skipped where they can't be had. required: "
            "fail instead. random: seeded random weights, as a control. off: no transfer."
        ),
    )
    weights_file: str | None = Field(
        None, description="Path of VGG16 weights without top (.h5 or .weights.h5) to use instead."
    )
    variant: Literal["both", "as_notebook", "corrected"] = Field(
        "both", description="Which of the two ways to go."
    )
    as_notebook: TransferVariant = TransferVariant()
    corrected: TransferVariant = corrected_transfer()

    @field_validator("corrected", mode="before")
    @classmethod
    def _corrections_where_left_out(cls, value: Any) -> Any:
        """Fill what is partly given with the corrections, not with the class's defaults."""
        if not isinstance(value, dict):
            return value
        return corrected_transfer().model_dump() | value
