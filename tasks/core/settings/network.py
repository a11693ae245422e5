"""Settings of a network's family and of the parts that today's families share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.core.messages import listed
from tasks.core.settings.base import Fraction, Spec, Units


class NetworkSettings(Spec):
    """The family of a network.

    A `stack` is described by the training's own settings (`filters` to `l2`), as in the notebook.
    All settings here but `family` are for the other families.
    """

    family: Literal["stack", "compact", "residual"] = Field(
        "stack",
        description=(
            "stack: the notebook's convolutions and dense layers. compact: a few wide blocks of "
            "two convolutions, for short trainings (after Jordan, 2024). residual: residual blocks "
            "(after He et al., 2016)."
        ),
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

    @model_validator(mode="after")
    def _check_family(self) -> Self:
        if self.family == "stack":
            defaults = type(self).model_fields
            unused = [
                name
                for name in defaults
                if name != "family" and getattr(self, name) != defaults[name].default
            ]
            if unused:
                raise ValueError(
                    f"{listed(unused)}: unused in family 'stack', whose layers are set by "
                    "filters, kernel_sizes, pooled, padding, batch_norm, dense, dropout and l2; "
                    "set family to 'compact' or 'residual'"
                )
        if self.family == "compact" and self.stochastic_depth:
            raise ValueError(
                "stochastic_depth: 'compact' has no blocks that could be left out; set it to 0, or "
                "family to 'residual'"
            )
        return self
