"""The spec of each kind of stage: the values that it receives, and its rule for the seal.

The recipe creates specs and stages receive them, so the type checker sees both ends. A spec is
part of its stage's cache key. `<Kind>Spec` belongs to `<kind>` in `tasks/stages/<kind>.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tasks.core import transfer_specs
from tasks.core.arithmetic import Arithmetic
from tasks.core.names import (
    DUPLICATES,
    FACTS,
    FOLDS,
    INDEX,
    LABEL_ERROR_COUNTS,
    LABEL_ERRORS,
    LABEL_ERRORS_PICTURE,
    LOAD,
    ORIGINS,
    PAIRS,
    PREPROCESS,
    RAW,
    READING,
    SPLIT,
    SPLITS,
    SUBSET,
    TEST,
    TRAIN,
    TRAINING_PAIRS,
    TRAINING_SPLITS,
    VALIDATION,
    labels_name,
)
from tasks.core.seal import Mark, Origin, Purpose, SealRule
from tasks.core.settings.evaluation import Metric, Rule
from tasks.core.settings.images import GuardSettings, OwnImages, SubsetSettings, SyntheticSettings
from tasks.core.settings.training import AugmentSettings, ClassWeight, Decision, TrainSettings
from tasks.core.settings.transfer import Loss, VGG16Preprocessing
from tasks.core.stage_spec import (
    LEARNS,
    REPORTS,
    Fold,
    Model,
    StageSpec,
    TransferHead,
    TransferTraining,
    Vgg16Input,
    files_of,
)
from tasks.core.stage_spec import ModelInResults as ModelInResults


class LoadSpec(StageSpec):
    """A raw data set; `synthetic` is for images that the program draws, `own` for the user's."""

    kind = "load"
    arithmetic = Arithmetic.EXACT
    seal = SealRule(
        Purpose.DATA,
        dict.fromkeys((TRAIN, labels_name(TRAIN), FACTS), Origin())
        # What was read names test images, too, but only people read it.
        | dict.fromkeys((ORIGINS, READING), Origin(marks=frozenset({Mark.TEST_IMAGES})))
        | dict.fromkeys((TEST, labels_name(TEST)), Origin(marks=frozenset({Mark.TEST_IMAGES}))),
    )

    dataset: Literal["synthetic", "fashion-mnist", "own"]
    synthetic: SyntheticSettings | None = None
    own: OwnImages | None = None


class ExploreSpec(StageSpec):
    """Pictures of the raw data; `note` is printed on each of them.

    `spread`: samples are taken from all of the training images, which are sorted by class.
    """

    kind = "explore"
    seal = REPORTS
    draws = True
    class_names_from = RAW

    note: str
    spread: bool = False


class SubsetSpec(StageSpec):
    """The choice of splits; settings that the method does not use keep their defaults.

    `drop_copies`: an image that would be in two splits stays in one of them. `own`: the images are
    the user's, so their splits and groups count.
    """

    kind = "subset"
    arithmetic = Arithmetic.EXACT
    # Training images derive from test images only in so far as copies of these are left out.
    seal = SealRule(
        Purpose.DATA,
        {
            TRAIN: files_of(RAW, TRAIN),
            VALIDATION: files_of(RAW, TRAIN),
            TEST: files_of(RAW, TEST),
            INDEX: files_of(RAW, TRAIN, TEST),
            FACTS: files_of(RAW, FACTS),
        },
    )

    subset: SubsetSettings
    drop_copies: bool = False
    own: bool = False


class GuardSpec(StageSpec):
    """The search for duplicates; `compared` names the pairs of splits."""

    kind = "guard"
    # The assignment to folds uses `training_pairs`, which contain no test image.
    seal = SealRule(
        Purpose.DATA,
        {TRAINING_PAIRS: files_of(SPLIT, TRAIN, VALIDATION), PAIRS: files_of(SPLIT, *SPLITS)},
    )
    draws = True
    class_names_from = SPLIT

    guard: GuardSettings
    compared: tuple[tuple[str, str], ...]
    note: str


class LookSpec(StageSpec):
    """What is in the images and what is wrong with them."""

    kind = "look"
    seal = REPORTS
    draws = True
    class_names_from = RAW

    guard: GuardSettings
    note: str


class PreprocessSpec(StageSpec):
    """Arrays as networks read them."""

    kind = "preprocess"
    arithmetic = Arithmetic.EXACT
    seal = SealRule(
        Purpose.DATA,
        {
            TRAIN: files_of(SPLIT, TRAIN, FACTS),
            VALIDATION: files_of(SPLIT, VALIDATION, FACTS),
            TEST: files_of(SPLIT, TEST, FACTS),
            FACTS: files_of(SPLIT, TRAIN, FACTS),
        },
    )


class FoldsSpec(StageSpec):
    """The assignment of training and validation images to folds, for one replicate."""

    kind = "folds"
    arithmetic = Arithmetic.EXACT
    seal = SealRule(
        Purpose.DATA,
        dict.fromkeys(
            (FOLDS, FACTS),
            Origin(
                (*files_of(SPLIT, TRAIN, VALIDATION, FACTS).reads, f"{DUPLICATES}/{TRAINING_PAIRS}")
            ),
        ),
    )

    folds: int
    seed: int
    replicate: int


class TrainSpec(StageSpec):
    """One training of a network; `fold`, from 1, is held out (None: the validation split)."""

    kind = "train"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TrainSettings
    seed: int
    fold: int | None = None
    class_weight: ClassWeight = None


class RetrainSpec(StageSpec):
    """One training of the final model on training and validation images."""

    kind = "retrain"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TrainSettings
    seed: int
    class_weight: ClassWeight = None


class CurvesSpec(StageSpec):
    """The learning curves of a model; `trainings` are the roles of its inputs.

    `binary`: the loss is binary cross-entropy. `random`: VGG16's weights are random.
    """

    kind = "curves"
    seal = REPORTS
    draws = True

    model: str
    trainings: tuple[str, ...]
    binary: bool
    random: bool
    note: str


class DecideSpec(StageSpec):
    """A gate; `trainings` are the suffixes of both models' trainings, `folds` None for hold-out."""

    kind = "decide"
    seal = LEARNS

    gate: int
    incumbent: str
    candidate: str
    rule: Rule
    metric: Metric
    level: float
    replay: Decision | None
    forced: Decision | None
    trainings: tuple[str, ...]
    replicates: int
    folds: int | None


class Vgg16WeightsSpec(StageSpec):
    """The weights of VGG16's base; `seed` is for random weights only."""

    kind = "vgg16_weights"
    arithmetic = Arithmetic.EXACT
    seal = LEARNS

    source: Literal["imagenet", "file", "random"]
    seed: int | None = None


class Vgg16FeaturesSpec(StageSpec):
    """The outputs of layer `up_to`, from images or from the stored outputs of layer `after`."""

    kind = "vgg16_features"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    side: int
    after: str | None
    up_to: str
    preprocessing: VGG16Preprocessing | None = None


class Vgg16TrainSpec(StageSpec):
    """Training of the layers after `after`, on VGG16's weights if there is a new `head`."""

    kind = "vgg16_train"
    seal = LEARNS
    arithmetic = Arithmetic.NETWORK

    training: TransferTraining
    preprocessing: VGG16Preprocessing
    after: str
    seed: int
    head: TransferHead | None = None
    class_weight: ClassWeight = None
    fold: Fold = None


class EvaluateSpec(StageSpec):
    """The scoring of a training on the test split; `vgg16_input` if VGG16 is part of it."""

    kind = "evaluate"
    seal = SealRule(Purpose.REPORT, adds=frozenset(Mark))
    arithmetic = Arithmetic.NETWORK

    model: str
    loss: Loss
    vgg16_input: Vgg16Input | None = None


class ResultsSpec(StageSpec):
    """The tables of results; with the notebook's figures, of all steps if its plan is followed."""

    kind = "results"
    seal = REPORTS
    tolerant = True

    models: tuple[ModelInResults, ...]
    gates: tuple[str, ...]
    folds: int | None
    notebook: bool
    notebook_plan: bool
    random_transfer: bool


class SelectionSpec(StageSpec):
    """The optimism of choosing models; `epochs_chosen`: choices of epochs by validation loss."""

    kind = "selection"
    seal = LEARNS

    models: tuple[Model, ...]
    gates: tuple[str, ...]
    epochs_chosen: int
    metric: Metric
    seed: int


class LabelCheckSpec(StageSpec):
    """The search for probable label errors; `origins` if the files of the images are known."""

    kind = "label_check"
    seal = SealRule(
        Purpose.DATA,
        dict.fromkeys(
            (LABEL_ERROR_COUNTS, LABEL_ERRORS_PICTURE, FACTS),
            files_of(SUBSET, *TRAINING_SPLITS, FACTS),
        )
        # The tables that say where images come from name test images, too.
        | {
            LABEL_ERRORS: Origin(
                (*files_of(SUBSET, *TRAINING_SPLITS, FACTS, INDEX).reads, f"{LOAD}/{ORIGINS}")
            )
        },
    )
    draws = True
    class_names_from = SUBSET

    model: Model
    origins: bool
    note: str


class SuccessSpec(StageSpec):
    """The success criteria; `final` and `baseline` name the stages that scored trainings."""

    kind = "success"
    seal = REPORTS

    alpha: float
    metric: Metric
    final: tuple[str, ...]
    baseline: tuple[str, ...]


class QualitySpec(StageSpec):
    """Quality by class, calibration and confusions of every model."""

    kind = "quality"
    seal = REPORTS
    tolerant = True
    draws = True
    class_names_from = PREPROCESS

    models: tuple[Model, ...]
    note: str


class FiguresSpec(StageSpec):
    """Pictures that compare models; `vgg16_inputs` maps stages to transfer variants."""

    kind = "figures"
    seal = REPORTS
    tolerant = True
    draws = True
    class_names_from = SUBSET

    note: str
    metric: Metric
    random_transfer: bool
    changes: tuple[str, ...]
    vgg16_inputs: Mapping[str, str]
    augmentation: AugmentSettings | None
    seed: int

    def drawn_changes(self) -> tuple[str, ...]:
        """The names of the plan's changes, in the figure of decisions."""
        return self.changes


# Every kind of stage.
_MODULES = (__name__, transfer_specs.__name__)
SPECS = tuple(spec for spec in StageSpec.__subclasses__() if spec.__module__ in _MODULES)
