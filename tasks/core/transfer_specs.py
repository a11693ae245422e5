"""The spec of the retrained transfer; the other kinds of stages are in `stage_specs.py`."""

from __future__ import annotations

from tasks.core.arithmetic import Arithmetic
from tasks.core.settings.training import ClassWeight
from tasks.core.settings.transfer import TransferVariant
from tasks.core.stage_spec import LEARNS, StageSpec


class Vgg16RetrainSpec(StageSpec):
    """Both phases of transfer on training and validation images, for the final model."""

    kind = "vgg16_retrain"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TransferVariant
    seed: int
    class_weight: ClassWeight = None
