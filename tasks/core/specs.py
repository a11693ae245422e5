"""Every setting, typed, bounded and explained; a variant is the default with fields replaced.

This module declares values and computes nothing, so it is left out of the fingerprints of the
stages' code: the values themselves are part of every cache key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.core.errors import UserError

LOWEST_VALIDATION_LOSS = "lowest_validation_loss"

Count = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
Epochs = Annotated[int, Field(strict=True, ge=1, le=10_000)]
BatchSize = Annotated[int, Field(strict=True, ge=1, le=65_536)]
LearningRate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Units = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


class Spec(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


S = TypeVar("S", bound=Spec)


class SyntheticSettings(Spec):
    """How many images the program draws where `dataset` is `synthetic`."""

    train: Count = Field(60_000, description="Number of training images to draw.")
    test: Count = Field(10_000, description="Number of test images to draw.")
    seed: Seed = Field(0, description="Seed of the drawings.")


class SubsetSettings(Spec):
    """Which of the raw images become the training, validation and test split."""

    method: Literal["auto", "slices", "stratified", "everything"] = Field(
        "auto",
        description=(
            "auto: slices on Fashion-MNIST, stratified elsewhere. "
            "slices: the first `train` and the last `validation` training images and the first "
            "`test` test images, as in the notebook. stratified: seeded draws of those sizes with "
            "every class in its share. everything: all images; the last sixth of the training "
            "images is the validation split and the sizes are not used."
        ),
    )
    train: Count = Field(8_000, description="Images in the training split.")
    validation: Count = Field(2_000, description="Images in the validation split.")
    test: Count = Field(2_000, description="Images in the test split.")
    seed: Seed = Field(0, description="Seed of the stratified draw.")


class AugmentSettings(Spec):
    """Random distortions of training images, with the meaning of Keras's `ImageDataGenerator`."""

    rotation_range: float = Field(40, ge=0, le=180, description="Rotation, +- degrees.")
    width_shift_range: Fraction = Field(0.2, description="Shift, +- fraction of the width.")
    height_shift_range: Fraction = Field(0.2, description="Shift, +- fraction of the height.")
    shear_range: float = Field(0.2, ge=0, le=80, description="Shear angle, +- degrees.")
    zoom_range: Fraction = Field(0.2, description="Zoom of each axis, 1 +- this fraction.")
    horizontal_flip: bool = Field(True, description="Mirror every other image, at random.")


class TrainSettings(Spec):
    """One network and how it is trained.

    The network is a stack of convolutions (each with optional batch normalisation and 2 x 2 max
    pooling), then dense layers, then softmax. Without convolutions it is a dense network.
    """

    filters: tuple[Units, ...] = Field(
        (64, 128, 128), description="Filters of each convolution; empty for a dense network."
    )
    kernel_sizes: tuple[Annotated[int, Field(strict=True, ge=1, le=31)], ...] = Field(
        (2, 3, 3), description="Side of each convolution's square kernel, in pixels."
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
            "Passes over the training images; in an iteration also 'lowest_validation_loss': the "
            "epoch at which the overfitting model's validation loss was lowest, the median of its "
            "trainings."
        ),
    )
    batch_size: BatchSize = Field(128, description="Images a gradient step.")
    learning_rate: LearningRate = Field(0.001, description="Constant learning rate of RMSprop.")
    augmentation: AugmentSettings | None = Field(
        None, description="Random distortions of the training images; none by default."
    )

    @model_validator(mode="after")
    def _one_entry_a_convolution(self) -> Self:
        if not len(self.filters) == len(self.kernel_sizes) == len(self.pooled):
            raise ValueError(
                "filters, kernel_sizes and pooled need one entry for each convolution, got "
                f"{len(self.filters)}, {len(self.kernel_sizes)} and {len(self.pooled)}"
            )
        return self


class Iteration(Spec):
    """One round of step 7: a change to the incumbent and what it is hoped to do."""

    name: str = Field(min_length=1, max_length=80, description="Short name of the change.")
    hypothesis: str = Field("", max_length=500, description="What the change is hoped to do.")
    change: dict[str, Any] = Field(
        description="Fields of the incumbent's training settings and their new values."
    )
    replay: Literal["forward", "back"] | None = Field(
        None, description="The decision that rule 'notebook' replays for this entry."
    )


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

    weights: Literal["imagenet", "required", "random", "off"] = Field(
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


class GuardSettings(Spec):
    """What is looked for before training: images that stand in more than one split."""

    exact: Literal["refuse", "allow"] = Field(
        "refuse", description="What to do where an image stands in two splits."
    )
    similarity: float = Field(
        0.95,
        ge=0.8,
        le=1,
        description=(
            "From which correlation of gradients on two images count as alike; 1 is the same but "
            "for a shift or a change of brightness."
        ),
    )
    shift: int = Field(2, strict=True, ge=0, le=8, description="Largest shift looked at, pixels.")


class EvaluationSettings(Spec):
    """What a model is judged by: the images held out, and how many seeds."""

    protocol: Literal["holdout", "kfold"] = Field(
        "holdout",
        description=(
            "holdout: the validation split. kfold: training and validation split together in "
            "stratified folds, each held out once."
        ),
    )
    folds: int = Field(5, strict=True, ge=2, le=20, description="Number of folds, for kfold.")
    replicates: int = Field(
        1,
        strict=True,
        ge=1,
        le=100,
        description="Trainings of each model, each with a seed (and folds) of its own.",
    )

    def words(self) -> list[str]:
        """Folds and replicates in words, where a model is trained more than once."""
        found = [f"{self.folds} folds"] if self.protocol == "kfold" else []
        return found + ([f"{self.replicates} replicates"] if self.replicates > 1 else [])


class ExecutionSettings(Spec):
    """Where and how the numbers are computed; part of the key of every numerical stage."""

    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="auto: a GPU where one is visible and CUDA's libraries are installed.",
    )
    threads: int = Field(
        2, ge=1, le=256, description="Threads of TensorFlow's operations; changes the last bits."
    )
    workers: int = Field(
        2, ge=1, le=64, description="Stages that run side by side; changes no result."
    )


def changed(settings: S, change: dict[str, Any]) -> S:
    """`settings` with the fields in `change` replaced and everything validated again.

    Raises:
        UserError: an unknown field or a value out of range; the message names the field.
    """
    try:
        return type(settings).model_validate(settings.model_dump() | change)
    except ValidationError as error:
        raise UserError(explain(error, f"change to {type(settings).__name__}")) from None


def explain(error: ValidationError, origin: str, known: Collection[str] = ()) -> str:
    """Pydantic's findings as one readable message: a line for each field that is wrong.

    A name that does not exist is answered with the nearest of the names `known`, if one is near.
    """
    lines = [_explain_one(finding, known) for finding in error.errors()]
    return f"{origin}: " + "; ".join(dict.fromkeys(lines))


def _explain_one(finding: Any, known: Collection[str]) -> str:
    where = _dotted(finding["loc"])
    message = finding["msg"].removeprefix("Value error, ")
    if finding["type"] == "extra_forbidden":
        near = get_close_matches(where, known, n=1, cutoff=0.75)
        message = "no such setting" + (f"; did you mean {near[0]}?" if near else "")
    elif finding["type"] not in ("value_error", "missing"):
        message += f" (got {finding['input']!r})"
    return f"{where}: {message}" if where else message


def _dotted(location: Sequence[int | str]) -> str:
    """The field's name, without the names that Pydantic gives to the members of a union."""
    parts = (str(part) for part in location)
    return ".".join(part for part in parts if "[" not in part and part != "constrained-int")
