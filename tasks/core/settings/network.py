"""Settings of a network's family and of the parts that today's families share."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from tasks.core.messages import listed, quoted
from tasks.core.settings.base import Fraction, Spec, Units

# Classifiers of `keras.applications` whose layers are all Keras's public ones. (Some of ConvNeXt's
# and InceptionResNetV2's are not.)
Application = Literal[
    "DenseNet121", "DenseNet169", "DenseNet201", "EfficientNetB0", "EfficientNetB1",
    "EfficientNetB2", "EfficientNetB3", "EfficientNetB4", "EfficientNetB5", "EfficientNetB6",
    "EfficientNetB7", "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2",
    "EfficientNetV2B3", "EfficientNetV2L", "EfficientNetV2M", "EfficientNetV2S",
    "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large",
    "MobileNetV3Small", "NASNetLarge", "NASNetMobile", "ResNet101", "ResNet101V2", "ResNet152",
    "ResNet152V2", "ResNet50", "ResNet50V2", "VGG16", "VGG19", "Xception",
]  # fmt: skip

# FILE.py:NAME or package.module:NAME.
_FUNCTION = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")
_LONGEST_OPTIONS = 4_000
_PARTS = frozenset(
    (
        "widths", "depth", "whitening", "normalisation", "activation", "pooling", "dropout",
        "stochastic_depth", "logit_scale", "views",
    )
)  # fmt: skip
# What each family uses besides its name.
_USED = {
    "stack": frozenset[str](),
    "compact": _PARTS - {"stochastic_depth"},
    "residual": _PARTS,
    "function": frozenset(("function", "options", "views")),
    "application": frozenset(("application", "options", "views")),
}
_OF_A_STACK = (
    "whose layers are set by filters, kernel_sizes, pooled, padding, batch_norm, dense, dropout "
    "and l2; set family to 'compact' or 'residual'"
)


def function_parts(function: str) -> tuple[str, str]:
    """The file or module of `FILE.py:NAME` or `package.module:NAME`, and the function's name.

    Raises:
        ValueError: it has another form.
    """
    match = _FUNCTION.fullmatch(function)
    if match is None:
        raise ValueError(
            f"{quoted(function)}: expected FILE.py:FUNCTION or package.module:FUNCTION, e.g. "
            "my_nets.py:build"
        )
    return match["place"], match["name"]


def shown_function(function: str) -> str:
    """A function for people: without the folder of its file."""
    return function.rpartition("/")[2]


class NetworkSettings(Spec):
    """The family of a network.

    A `stack` is described by the training's own settings (`filters` to `l2`), as in the notebook.
    All settings here but `family` are for the other families. A `function` or an `application`
    implies its family.
    """

    family: Literal["stack", "compact", "residual", "function", "application"] = Field(
        "stack",
        description=(
            "stack: the notebook's convolutions and dense layers. compact: a few wide blocks of "
            "two convolutions, for short trainings (after Jordan, 2024). residual: residual blocks "
            "(after He et al., 2016). function: your own. application: one of Keras's."
        ),
    )
    function: Annotated[str, Field(max_length=1_000)] | None = Field(
        None,
        description=(
            "A function that builds the network: FILE.py:NAME or package.module:NAME, called with "
            "(input_shape, classes, **options); it returns a Keras model."
        ),
    )
    application: Application | None = Field(
        None, description="A network of keras.applications, from random weights."
    )
    options: dict[str, JsonValue] = Field(
        {}, description="Keyword arguments of the function or application."
    )
    widths: tuple[Units, ...] = Field(
        (32, 64, 128), min_length=1, max_length=8, description="Channels of each group of blocks."
    )
    depth: Annotated[int, Field(strict=True, ge=1, le=50)] = Field(
        1, description="Blocks in each group; compact: convolutions in addition to the first."
    )
    whitening: bool = Field(
        True,
        description=(
            "Begin with a 3 x 3 convolution that whitens patches; it is computed from training "
            "images and not trained. False: a convolution that is trained."
        ),
    )
    normalisation: Literal["batch", "group", "none"] = Field(
        "batch", description="Normalisation after each convolution; group: 8 channels together."
    )
    activation: Literal["gelu", "relu", "silu"] = Field(
        "gelu", description="Activation of the hidden layers."
    )
    pooling: Literal["max", "average"] = Field(
        "max", description="Pooling over all positions before the last layer."
    )
    dropout: Fraction = Field(0.0, description="Dropout rate before the last layer.")
    stochastic_depth: Fraction = Field(
        0.0,
        description=(
            "residual: probability that the last block is left out in a training step; earlier "
            "blocks are left out less often, in proportion to their place (Huang et al., 2016)."
        ),
    )
    logit_scale: float = Field(
        1 / 9, gt=0, le=10, allow_inf_nan=False, description="Factor of the last layer's outputs."
    )
    views: Literal["one", "flips", "crops"] = Field(
        "one",
        description=(
            "flips: predict from the mean of the logits of an image and of its mirror image. "
            "crops: also from both moved by a pixel down and right, and up and left, which weigh "
            "half as much (Jordan, 2024). The saved model does so by itself."
        ),
    )

    def __hash__(self) -> int:
        """Of the values as JSON, since options may be lists and tables."""
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))

    @field_validator("function")
    @classmethod
    def _check_function(cls, value: str | None) -> str | None:
        if value is not None:
            function_parts(value)
        return value

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        wrong = [name for name in value if not name.isidentifier()]
        if wrong:
            raise ValueError(f"{listed(wrong)}: expected names of keyword arguments")
        try:
            length = len(json.dumps(value, allow_nan=False))
        except ValueError:
            raise ValueError("expected finite numbers, texts, lists and tables") from None
        if length > _LONGEST_OPTIONS:
            raise ValueError(f"more than {_LONGEST_OPTIONS} characters as JSON; give fewer values")
        return value

    @model_validator(mode="before")
    @classmethod
    def _imply_family(cls, given: Any) -> Any:
        """A function or an application alone says which family it is."""
        if isinstance(given, dict) and given.get("family", "stack") == "stack":
            for family in ("function", "application"):
                if given.get(family) is not None:
                    return given | {"family": family}
        return given

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        if self.family in ("function", "application") and getattr(self, self.family) is None:
            raise ValueError(
                f"family '{self.family}' needs {self.family}; give it, or set family to another"
            )
        if self.family == "compact" and self.stochastic_depth:
            raise ValueError(
                "stochastic_depth: 'compact' has no blocks that could be left out; set it to 0, or "
                "family to 'residual'"
            )
        defaults = type(self).model_fields
        unused = [
            name
            for name in defaults
            if name not in {"family", *_USED[self.family]}
            and getattr(self, name) != defaults[name].default
        ]
        if unused and self.family == "stack":
            raise ValueError(f"{listed(unused)}: unused in family 'stack', {_OF_A_STACK}")
        if unused:
            raise ValueError(
                f"{listed(unused)}: unused in family '{self.family}'; set the whole group, e.g. "
                "network = { family = 'residual' } or network = { function = 'my_nets.py:build' }"
            )
        return self
