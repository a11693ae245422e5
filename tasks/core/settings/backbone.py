"""Settings of transfer from any pre-trained network, the backbone."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from tasks.core.messages import listed, quoted
from tasks.core.settings.base import BatchSize, Epochs, Fraction, LearningRate, Spec
from tasks.core.settings.network import Application

# The networks of `keras.applications`. Some layers of the last ones are not public, but plain Keras
# loads them.
APPLICATIONS = (
    *get_args(Application),
    *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    "InceptionResNetV2",
)
# Backbones that are complete models in files.
MODEL_FILES = (".keras", ".h5")
# Backbones that are models of earlier runs in the same store: `run:<run id>/<model>`.
RUN = "run:"
# How the pixels of an image become a backbone's input.
PixelScale = Literal["unit", "raw", "tf", "torch", "caffe"]
Pooling = Literal["average", "maximum", "flatten"]

_CAFFE = ("ResNet101", "ResNet152", "ResNet50", "VGG16", "VGG19")
_TORCH = ("DenseNet",)
# Their first layers scale the pixels.
_RAW = ("ConvNeXt", "EfficientNet", "MobileNetV3")


def pixel_scale(name: str) -> PixelScale:
    """What `preprocess_input` of an application does, by its name in `imagenet_utils`.

    `tf`: RGB in [-1, 1]. `torch`: RGB in [0, 1], less ImageNet's mean, divided by its standard
    deviation. `caffe`: BGR in [0, 255], less ImageNet's mean. `raw`: RGB in [0, 255].
    """
    if name in _CAFFE:
        return "caffe"
    if name.startswith(_TORCH):
        return "torch"
    return "raw" if name.startswith(_RAW) else "tf"


class BackboneSettings(Spec):
    """A pre-trained network whose frozen layers feed a new head; then its last layers are tuned."""

    name: str | None = Field(
        None,
        description=(
            "A network of keras.applications, e.g. MobileNetV2; the path of a .keras or .h5 model; "
            "or run:<run id>/<model>, a model of an earlier run in the store. null: none."
        ),
    )
    weights_file: str | None = Field(
        None,
        description=(
            "Path of weights of that network without top (.h5 or .weights.h5). null: ImageNet's, "
            "from Keras's cache or address."
        ),
    )
    side: Annotated[int, Field(strict=True, ge=32, le=1_024)] = Field(
        96,
        description=(
            "Side to which images are resized, in pixels; a model of your own keeps its size."
        ),
    )
    pixels: Literal["auto", "unit", "raw", "tf", "torch", "caffe"] = Field(
        "auto",
        description=(
            "Range of its pixels. auto: what it was trained with, unit for a file. unit: "
            "0 to 1. raw: 0 to 255. tf: -1 to 1. torch: ImageNet's mean and deviation removed. "
            "caffe: BGR, ImageNet's mean subtracted."
        ),
    )
    cut: str | None = Field(
        None,
        description=(
            "Layer whose output feeds the head. null: the last one whose output has height and "
            "width."
        ),
    )
    tuned_after: str | None = Field(
        None,
        description=(
            "Fine-tuning trains the layers after this one. null: all layers with weights at the "
            "lowest resolution."
        ),
    )
    pooling: Pooling = Field(
        "average", description="How the head makes a vector of the backbone's output."
    )
    dense: Annotated[int, Field(strict=True, ge=0, le=65_536)] = Field(
        256, description="Units of the head's hidden layer; 0: none."
    )
    dropout: Fraction = Field(0.25, description="Dropout rate in the head.")
    epochs: Epochs = Field(11, description="Epochs with the frozen backbone.")
    fine_tune_epochs: Annotated[int, Field(strict=True, ge=0, le=10_000)] = Field(
        11, description="Epochs of fine-tuning; 0: none."
    )
    batch_size: BatchSize = Field(64, description="Images per gradient step.")
    learning_rate: LearningRate = Field(
        1e-3, description="RMSprop's learning rate with the frozen backbone."
    )
    fine_tune_learning_rate: LearningRate = Field(
        5e-5, description="RMSprop's learning rate in fine-tuning."
    )
    rate_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description=(
            "In fine-tuning, the part of the rate at which layers learn whose resolution is one "
            "step higher; its square two steps higher, and so on."
        ),
    )

    @property
    def is_file(self) -> bool:
        """Whether the backbone is a model in a file."""
        return not self.earlier and str(self.name).endswith(MODEL_FILES)

    @property
    def earlier(self) -> tuple[str, str] | None:
        """The run and the model in `run:<run id>/<model>`; None for other backbones."""
        if self.name is None or not self.name.startswith(RUN):
            return None
        run_id, _, model = self.name.removeprefix(RUN).partition("/")
        return run_id, model

    @property
    def pixel_scale(self) -> PixelScale | None:
        """The range of pixels, `auto` resolved; None for that of a model of an earlier run."""
        if self.pixels != "auto":
            return self.pixels
        if self.earlier:
            return None
        return "unit" if self.is_file else pixel_scale(str(self.name))

    @model_validator(mode="after")
    def _known(self) -> Self:
        own = self.is_file or self.earlier
        if self.earlier and not all(self.earlier):
            raise ValueError(f"name is {quoted(self.name)}; expected run:<run id>/<model>")
        if self.name is not None and not own and self.name not in APPLICATIONS:
            raise ValueError(
                f"name is {quoted(self.name)}; expected the path of a .keras or .h5 model, "
                f"run:<run id>/<model>, or one of {listed(sorted(APPLICATIONS))}"
            )
        if own and self.weights_file:
            raise ValueError("weights_file is for networks of keras.applications; leave it out")
        return self
