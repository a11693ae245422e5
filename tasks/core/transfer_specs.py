"""The specs of the retrained transfer and of any backbone; `stage_specs.py` has the others."""

from __future__ import annotations

from typing import Literal

from tasks.core.arithmetic import Arithmetic
from tasks.core.names import BACKBONE, FACTS, SEEN
from tasks.core.seal import Purpose, SealRule
from tasks.core.settings.backbone import PixelScale, Pooling
from tasks.core.settings.base import Spec
from tasks.core.settings.training import ClassWeight
from tasks.core.settings.transfer import TransferVariant
from tasks.core.stage_spec import LEARNS, StageSpec, TransferTraining, files_of


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

    `file`: the backbone is a model in a file. `run`: a model of an earlier run. `weights`: an
    application with weights in a file. `pixels`: None for what the earlier run trained it with.
    `trained_on`: the splits of the earlier run, and `seen` for what its own backbone had seen.
    """

    kind = "backbone"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    source: Literal["imagenet", "weights", "file", "run", "random"]
    application: str | None
    side: int
    pixels: PixelScale | None
    cut: str | None
    tuned_after: str | None
    seed: int | None = None
    trained_on: tuple[str, ...] = ()


class BackboneCheckSpec(StageSpec):
    """The search for this run's images among those that a backbone was trained on."""

    kind = "backbone_check"
    seal = SealRule(Purpose.DATA, {FACTS: files_of(BACKBONE, SEEN)})
    arithmetic = Arithmetic.EXACT


class BackboneFeaturesSpec(StageSpec):
    """The outputs of a backbone's layers, of images or of the stored outputs of lower layers.

    `rest`: of the layers that are tuned later, from the outputs of those that are not.
    """

    kind = "backbone_features"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    rest: bool


class BackboneHead(Spec):
    """The layers put on a backbone."""

    pooling: Pooling
    dense: int
    dropout: float


class BackboneTrainSpec(StageSpec):
    """Training of a new `head`, or of head and last layers from the frozen stage's model.

    Layers learn at `rate_decay` of the rate for each step up in resolution.
    """

    kind = "backbone_train"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TransferTraining
    seed: int
    head: BackboneHead | None = None
    rate_decay: float = 1.0
    class_weight: ClassWeight = None
