"""Settings of transfer learning from VGG16."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tasks.core.messages import quoted
from tasks.core.settings.backbone import BackboneSettings
from tasks.core.settings.base import BatchSize, Epochs, Fraction, LearningRate, Spec, Units

Loss = Literal["binary_crossentropy", "categorical_crossentropy"]
TransferDecay = Literal["none", "cosine"]
VGG16Preprocessing = Literal["raw", "vgg16"]
TransferWeights = Literal["imagenet", "required", "random", "off"]


class TransferVariant(Spec):
    """One variant of transfer learning: train a head on the frozen base, then fine-tune a block.

    The defaults are the notebook's.
    """

    preprocessing: VGG16Preprocessing = Field(
        "raw",
        description=(
            "raw: RGB from 0 to 255, as in the notebook. vgg16: BGR with ImageNet's mean "
            "subtracted, as in VGG16's own training."
        ),
    )
    side: Literal[32, 48, 64, 96] = Field(
        32, description="Side to which images are resized, in pixels."
    )
    features: Literal["block3_pool", "block4_pool", "block5_pool"] = Field(
        "block5_pool",
        description="Layer of VGG16 that feeds the head; fine-tuning trains the block it ends.",
    )
    dense: Units = Field(256, description="Units of the head's hidden layer.")
    dropout: Fraction = Field(0.25, description="Dropout rate in the head.")
    epochs: Epochs = Field(11, description="Epochs with the frozen base.")
    fine_tune_epochs: Epochs = Field(11, description="Epochs of fine-tuning the last block.")
    batch_size: BatchSize = Field(128, description="Images per gradient step.")
    loss: Loss = Field("binary_crossentropy", description="Loss function of the training.")
    learning_rate: LearningRate = Field(
        1e-5, description="RMSprop's learning rate with the frozen base."
    )
    fine_tune_learning_rate: LearningRate = Field(
        1e-5, description="RMSprop's learning rate in fine-tuning."
    )
    decay: TransferDecay = Field(
        "none",
        description=(
            "none: a constant learning rate. cosine: rise to the learning rate over the first "
            "tenth of all steps, then fall to zero along a cosine."
        ),
    )


# The name of what the last gate decides on, beside the names of the plan's changes.
TRANSFER_CHANGE = "transfer learning"

# The variants by the suffix of their stages' names.
VARIANTS = {"": "as_notebook", "_corrected": "corrected"}


def corrected_transfer() -> TransferVariant:
    """The notebook's transfer with its mistakes corrected; docs/decisions explains the values."""
    return TransferVariant(
        preprocessing="vgg16",
        side=64,
        loss="categorical_crossentropy",
        learning_rate=1e-3,
        fine_tune_learning_rate=5e-5,
        decay="cosine",
    )


class TransferSettings(Spec):
    """The VGG16 branch: the source of its weights, and the two variants."""

    weights: TransferWeights = Field(
        "imagenet",
        description=(
            "imagenet: ImageNet weights; skip the branch if they are not available. required: fail "
            "instead; transfer then competes with the winner of step 7 at a last gate. random: "
            "seeded random weights, as a control. off: no transfer."
        ),
    )
    weights_file: str | None = Field(
        None,
        description=(
            "Path of VGG16 weights without top (.h5 or .weights.h5) to use instead; transfer then "
            "competes as with required weights."
        ),
    )
    variant: Literal["both", "as_notebook", "corrected", "none"] = Field(
        "both",
        description=(
            "The variants of VGG16 to run: as in the notebook, corrected, both, or none (only the "
            "backbone)."
        ),
    )
    as_notebook: TransferVariant = TransferVariant()
    corrected: TransferVariant = corrected_transfer()
    backbone: BackboneSettings = BackboneSettings()

    @model_validator(mode="after")
    def _random_weights_are_of_applications(self) -> Self:
        if self.weights == "random" and (self.backbone.is_file or self.backbone.earlier):
            raise ValueError(
                f"weights is 'random', but backbone.name is {quoted(str(self.backbone.name))}, "
                "which has weights already; set weights to imagenet"
            )
        return self

    @property
    def competes(self) -> bool:
        """Whether a last gate decides between the winner of step 7 and transfer.

        Only if the run can't do without the weights: otherwise the same settings might give another
        final model where there are none. A control with random weights never competes.
        """
        named = self.weights == "imagenet" and bool(self.weights_file)
        return (self.weights == "required" or named) and self.variant != "none"

    @field_validator("corrected", mode="before")
    @classmethod
    def _fill_in_corrections(cls, value: Any) -> Any:
        """Complete a partly given variant with the corrections instead of the class's defaults."""
        if not isinstance(value, dict):
            return value
        return corrected_transfer().model_dump() | value
