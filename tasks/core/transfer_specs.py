"""The specs of the retrained transfer and of any backbone; `stage_specs.py` has the others."""

from __future__ import annotations

from typing import Literal

from tasks.core.arithmetic import Arithmetic
from tasks.core.settings.backbone import PixelScale, Pooling
from tasks.core.settings.base import Spec
from tasks.core.settings.training import ClassWeight
from tasks.core.settings.transfer import TransferVariant
from tasks.core.stage_spec import LEARNS, StageSpec, TransferTraining


class Vgg16RetrainSpec(StageSpec):
    """Both phases of transfer on training and validation images, for the final model."""

    kind = "vgg16_retrain"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TransferVariant
    seed: int
    class_weight: ClassWeight = None


class BackboneSpec(StageSpec):
    """A pre-trained network up to layer `cut`; `seed` is for random weights only.

    `file`: the backbone is a model in a file. `weights`: an application with weights in a file.
    """

    kind = "backbone"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    source: Literal["imagenet", "weights", "file", "random"]
    application: str | None
    side: int
    cut: str | None
    tuned_after: str | None
    seed: int | None = None


class BackboneFeaturesSpec(StageSpec):
    """The outputs of a backbone's layers, of images or of the stored outputs of lower layers.

    `rest`: of the layers that are tuned later, from the outputs of those that are not.
    """

    kind = "backbone_features"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    pixels: PixelScale | None
    rest: bool


class BackboneHead(Spec):
    """The layers put on a backbone, which takes pixels of this range."""

    pixels: PixelScale
    pooling: Pooling
    dense: int
    dropout: float


class BackboneTrainSpec(StageSpec):
    """Training of a new `head`, or of head and last layers from the frozen stage's model."""

    kind = "backbone_train"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TransferTraining
    seed: int
    head: BackboneHead | None = None
    class_weight: ClassWeight = None
