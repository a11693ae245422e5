"""Every kind of stage as a frozen value: what it receives, and how it takes part in the seal.

The recipe makes these values, the stage's function receives them, so the type checker sees both
ends. A value is part of its stage's cache key; nothing is computed here. `<Kind>Spec` belongs to
the function `<kind>` in `tasks/stages/<kind>.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from tasks.core.names import (
    DUPLICATES,
    FACTS,
    FOLDS,
    INDEX,
    PAIRS,
    RAW,
    SPLIT,
    SPLITS,
    TEST,
    TRAIN,
    TRAINING_PAIRS,
    VALIDATION,
    labels_name,
)
from tasks.core.seal import Mark, Origin, Purpose, SealRule
from tasks.core.settings.base import Spec
from tasks.core.settings.images import GuardSettings, SubsetSettings, SyntheticSettings
from tasks.core.settings.run_settings import Rule
from tasks.core.settings.training import AugmentSettings, Decision, TrainSettings
from tasks.core.settings.transfer import Decay, Loss, VGG16Preprocessing

LEARNS = SealRule(Purpose.LEARN)
REPORTS = SealRule(Purpose.REPORT)


class StageSpec(Spec):
    """What a stage receives beside its inputs.

    Class attributes, the same for every stage of a kind:
        kind: the name of the function, of its module in `tasks/stages` and of the Prefect task.
        seal: what the kind may read, and which marks its files get.
        numerical: whether the execution profile is part of the key.
        tolerant: whether skipped inputs are handed to the stage instead of skipping it too.
    """

    kind: ClassVar[str]
    seal: ClassVar[SealRule]
    numerical: ClassVar[bool] = False
    tolerant: ClassVar[bool] = False

    def as_json(self) -> dict[str, Any]:
        """The values as JSON, for the key and the record."""
        return self.model_dump(mode="json")


def _of(*reads: str) -> Origin:
    return Origin(reads)


_TEST_IMAGES = Origin(marks=frozenset({Mark.TEST_IMAGES}))


class LoadSpec(StageSpec):
    """A raw data set; `synthetic` only where the program draws it."""

    kind = "load"
    seal = SealRule(
        Purpose.DATA,
        {
            TRAIN: Origin(),
            labels_name(TRAIN): Origin(),
            TEST: _TEST_IMAGES,
            labels_name(TEST): _TEST_IMAGES,
            FACTS: Origin(),
        },
    )

    dataset: Literal["synthetic", "fashion-mnist", "own"]
    synthetic: SyntheticSettings | None = None


class ExploreSpec(StageSpec):
    """Pictures of the raw data; `note` is printed on each of them."""

    kind = "explore"
    seal = REPORTS

    note: str


class SubsetSpec(StageSpec):
    """The choice of splits; settings that its method does not use have their defaults."""

    kind = "subset"
    seal = SealRule(
        Purpose.DATA,
        {
            TRAIN: _of(f"{RAW}/{TRAIN}"),
            VALIDATION: _of(f"{RAW}/{TRAIN}"),
            TEST: _of(f"{RAW}/{TEST}"),
            INDEX: _of(f"{RAW}/{TRAIN}", f"{RAW}/{TEST}"),
            FACTS: _of(f"{RAW}/{FACTS}"),
        },
    )

    subset: SubsetSettings


class GuardSpec(StageSpec):
    """The search for duplicates; `compared` names the pairs of splits."""

    kind = "guard"
    # Pairs with a test image are left out of the pairs that the folds are made by.
    seal = SealRule(
        Purpose.DATA,
        {
            TRAINING_PAIRS: _of(f"{SPLIT}/{TRAIN}", f"{SPLIT}/{VALIDATION}"),
            PAIRS: _of(*(f"{SPLIT}/{name}" for name in SPLITS)),
        },
    )

    guard: GuardSettings
    compared: tuple[tuple[str, str], ...]
    note: str


class PreprocessSpec(StageSpec):
    """Arrays as networks read them."""

    kind = "preprocess"
    seal = SealRule(
        Purpose.DATA,
        {
            TRAIN: _of(f"{SPLIT}/{TRAIN}", f"{SPLIT}/{FACTS}"),
            VALIDATION: _of(f"{SPLIT}/{VALIDATION}", f"{SPLIT}/{FACTS}"),
            TEST: _of(f"{SPLIT}/{TEST}", f"{SPLIT}/{FACTS}"),
            FACTS: _of(f"{SPLIT}/{TRAIN}", f"{SPLIT}/{FACTS}"),
        },
    )


class FoldsSpec(StageSpec):
    """The assignment of training and validation images to folds, for one replicate."""

    kind = "folds"
    seal = SealRule(
        Purpose.DATA,
        dict.fromkeys(
            (FOLDS, FACTS),
            _of(f"{SPLIT}/{TRAIN}", f"{SPLIT}/{VALIDATION}", f"{DUPLICATES}/{TRAINING_PAIRS}"),
        ),
    )

    folds: int
    seed: int
    replicate: int


class TrainSpec(StageSpec):
    """One training of a network; with `fold`, from 1, those images are held out."""

    kind = "train"
    seal = LEARNS
    numerical = True

    training: TrainSettings
    seed: int
    fold: int | None = None


class RetrainSpec(StageSpec):
    """One training of the final model on training and validation images."""

    kind = "retrain"
    seal = LEARNS
    numerical = True

    training: TrainSettings
    seed: int


class CurvesSpec(StageSpec):
    """The learning curves of a model; `trainings` are the roles of its inputs.

    `binary` says that the loss is binary cross-entropy, `random` that VGG16's weights are.
    """

    kind = "curves"
    seal = REPORTS

    model: str
    trainings: tuple[str, ...]
    binary: bool
    random: bool
    note: str


class DecideSpec(StageSpec):
    """A gate; `trainings` are the suffixes of both models' trainings, paired by position.

    `folds` is None where models are judged on one validation split.
    """

    kind = "decide"
    seal = LEARNS

    gate: int
    incumbent: str
    candidate: str
    rule: Rule
    level: float
    replay: Decision | None
    forced: Decision | None
    trainings: tuple[str, ...]
    replicates: int
    folds: int | None


class Vgg16WeightsSpec(StageSpec):
    """The weights of VGG16's base; `seed` is that of random ones."""

    kind = "vgg16_weights"
    seal = LEARNS

    source: Literal["imagenet", "file", "random"]
    seed: int | None = None


class Vgg16FeaturesSpec(StageSpec):
    """The outputs of layer `up_to`, of images or of the outputs of layer `after`."""

    kind = "vgg16_features"
    seal = LEARNS
    numerical = True

    side: int
    after: str | None
    up_to: str
    preprocessing: VGG16Preprocessing | None = None


class TransferTraining(Spec):
    """How layers behind VGG16's frozen ones are trained."""

    epochs: int
    learning_rate: float
    batch_size: int
    loss: Loss
    decay: Decay


class TransferHead(Spec):
    """The layers put on VGG16's base, which reads images of `side` x `side` pixels."""

    side: int
    dense: int
    dropout: float


class Vgg16TrainSpec(StageSpec):
    """Training of what follows layer `after`; with a `head`, from VGG16's weights."""

    kind = "vgg16_train"
    seal = LEARNS
    numerical = True

    training: TransferTraining
    preprocessing: VGG16Preprocessing
    after: str
    seed: int
    head: TransferHead | None = None


class Vgg16Input(Spec):
    """How images become what VGG16 reads."""

    side: int
    preprocessing: VGG16Preprocessing


class EvaluateSpec(StageSpec):
    """The scoring of a training on the test split; `vgg16_input` where VGG16 is part of it."""

    kind = "evaluate"
    seal = SealRule(Purpose.REPORT, adds=frozenset(Mark))
    numerical = True

    model: str
    loss: Loss
    vgg16_input: Vgg16Input | None = None


class Training(Spec):
    """A training, by its stage."""

    stage: str
    replicate: int
    fold: int | None
    seed: int


class Model(Spec):
    """A model and its trainings; `validated` unless nothing was held out from it."""

    name: str
    validated: bool
    trainings: tuple[Training, ...]


class ModelInResults(Model):
    """A model with its step in the notebook and the gate that decided on it."""

    step: str
    gate: str | None


class ResultsSpec(StageSpec):
    """The tables of results; `notebook` puts the notebook's figures beside ours."""

    kind = "results"
    seal = REPORTS
    tolerant = True

    models: tuple[ModelInResults, ...]
    gates: tuple[str, ...]
    folds: int | None
    notebook: bool
    random_transfer: bool


class SelectionSpec(StageSpec):
    """The optimism of choosing among models; `epochs_chosen` by validation loss count too."""

    kind = "selection"
    seal = LEARNS

    models: tuple[Model, ...]
    gates: tuple[str, ...]
    epochs_chosen: int
    seed: int


class SuccessSpec(StageSpec):
    """The success criteria; `final` and `baseline` name the stages that scored trainings."""

    kind = "success"
    seal = REPORTS

    alpha: float
    final: tuple[str, ...]
    baseline: tuple[str, ...]


class QualitySpec(StageSpec):
    """Quality by class, calibration and confusions of every model."""

    kind = "quality"
    seal = REPORTS
    tolerant = True

    models: tuple[Model, ...]
    note: str


class FiguresSpec(StageSpec):
    """Pictures that compare models; `vgg16_inputs` are variants of transfer by stage."""

    kind = "figures"
    seal = REPORTS
    tolerant = True

    note: str
    random_transfer: bool
    changes: tuple[str, ...]
    vgg16_inputs: Mapping[str, str]
    augmentation: AugmentSettings | None
    seed: int


SPECS: tuple[type[StageSpec], ...] = (
    LoadSpec,
    ExploreSpec,
    SubsetSpec,
    GuardSpec,
    PreprocessSpec,
    FoldsSpec,
    TrainSpec,
    RetrainSpec,
    CurvesSpec,
    DecideSpec,
    Vgg16WeightsSpec,
    Vgg16FeaturesSpec,
    Vgg16TrainSpec,
    EvaluateSpec,
    ResultsSpec,
    SelectionSpec,
    SuccessSpec,
    QualitySpec,
    FiguresSpec,
)
