"""The definition of each stage: its name, its spec and what it reads. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.recipe.recipe_model import RecipeModel
from tasks.core.errors import UserError
from tasks.core.names import (
    ARRAYS,
    BASELINE,
    CANDIDATE,
    DUPLICATES,
    EXPLORE,
    FACTS,
    FIGURES,
    FINAL,
    FOLDS,
    GUARD,
    HISTORY,
    INCUMBENT,
    INDEX,
    INPUT_SAMPLES,
    LOAD,
    MODEL,
    OVERFITTING,
    PREPROCESS,
    QUALITY,
    RAW,
    RESULTS,
    SELECTION,
    SPLIT,
    SPLITS,
    SUBSET,
    SUCCESS,
    TEST,
    TEST_PREDICTIONS,
    TRAIN,
    TRAINING_PAIRS,
    TRAINING_SPLITS,
    VALIDATION,
    VALIDATION_PREDICTIONS,
    VERDICTS,
    curves_name,
    evaluation_name,
    folds_name,
    gate_name,
)
from tasks.core.records import Stage
from tasks.core.settings.base import changed
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.images import OwnImages, SubsetSettings
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import (
    LOWEST_VALIDATION_LOSS,
    ClassWeight,
    Decision,
    TrainSettings,
)
from tasks.core.settings.transfer import TransferVariant
from tasks.core.stage_spec import Model, Training, Vgg16Input
from tasks.core.stage_specs import (
    CurvesSpec,
    DecideSpec,
    EvaluateSpec,
    ExploreSpec,
    FiguresSpec,
    FoldsSpec,
    GuardSpec,
    LoadSpec,
    ModelInResults,
    PreprocessSpec,
    QualitySpec,
    ResultsSpec,
    RetrainSpec,
    SelectionSpec,
    SubsetSpec,
    SuccessSpec,
    TrainSpec,
)
from tasks.core.statistics.multiple_testing import gate_level
from tasks.core.statistics.replicates import Replicate, replicates

SYNTHETIC_NOTE = "SYNTHETIC DATA: drawn by the program, not Fashion-MNIST"
BINARY = "binary_crossentropy"

SIZES = ("train", "validation", "test")

Reads = dict[str, tuple[str, ...]]


def data_note(settings: Settings) -> str:
    """The note on every figure of a run on synthetic images; empty for real images."""
    return SYNTHETIC_NOTE if settings.dataset == "synthetic" else ""


def on_own_images(settings: Settings) -> bool:
    """Whether the images are the user's."""
    return settings.on_own_images


def on_fashion_mnist(settings: Settings) -> bool:
    """Whether the notebook's figures may be shown beside ours."""
    return settings.dataset == "fashion-mnist"


def load(settings: Settings) -> Stage:
    """The raw data set; the key covers the content of the user's own files, not their paths."""
    if settings.dataset == "synthetic":
        return Stage(LOAD, LoadSpec(dataset="synthetic", synthetic=settings.synthetic))
    if settings.dataset == "fashion-mnist":
        return Stage(LOAD, LoadSpec(dataset="fashion-mnist"))
    from tasks.sources.datasets import data_set_digest

    own = OwnImages(
        content=data_set_digest(settings.dataset),
        images=settings.images,
        # With `everything`, sizes are ignored.
        test=None if settings.subset.method == "everything" else settings.subset.test,
        seed=settings.subset.seed,
    )
    return Stage(LOAD, LoadSpec(dataset="own", own=own), data_set=settings.dataset)


def explore(settings: Settings) -> Stage:
    """Samples and class balance of the raw data."""
    spec = ExploreSpec(note=data_note(settings), spread=on_own_images(settings))
    return Stage(EXPLORE, spec, {RAW: (TRAIN, TEST, FACTS)})


def subset(settings: Settings) -> Stage:
    """The three splits."""
    own = on_own_images(settings)
    spec = SubsetSpec(
        subset=_own_subset(settings.subset) if own else _subset(settings),
        drop_copies=settings.guard.exact == "drop",
        own=own,
    )
    return Stage(SUBSET, spec, {RAW: (TRAIN, TEST, FACTS)})


def _subset(settings: Settings) -> SubsetSettings:
    given = settings.subset
    method = given.method
    if method == "auto":
        method = "slices" if on_fashion_mnist(settings) else "stratified"
    used = {"slices": SIZES, "stratified": (*SIZES, "seed"), "everything": ()}
    # Fields that the method ignores keep their defaults, so they do not change the key.
    values = {name: getattr(given, name) for name in used[method]}
    return SubsetSettings.model_validate({"method": method, **values})


def _own_subset(given: SubsetSettings) -> SubsetSettings:
    """Sizes are for samples; `slices` makes no sense, as the images are sorted by class."""
    sizes = {name: getattr(given, name) for name in SIZES}
    method = given.method
    if method == "auto":
        method = "stratified" if any(sizes.values()) else "everything"
    if method == "slices":
        raise UserError(
            "subset.method=slices is for Fashion-MNIST: your own images are sorted by class; use "
            "stratified or everything."
        )
    used = sizes if method == "stratified" else {}
    return SubsetSettings.model_validate({"method": method, **used, "seed": given.seed})


def preprocess() -> Stage:
    """The splits as arrays for networks."""
    return Stage(PREPROCESS, PreprocessSpec(), {SPLIT: (*SPLITS, FACTS)})


def guard(settings: Settings) -> Stage:
    """The search for images that appear in more than one split."""
    pairs = [(TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)]
    if settings.evaluation.protocol == "kfold":
        # Each image is held out once, so two images of the same split may be in different folds.
        pairs += [(TRAIN, TRAIN), (VALIDATION, VALIDATION)]
    spec = GuardSpec(guard=settings.guard, compared=tuple(pairs), note=data_note(settings))
    return Stage(GUARD, spec, {SPLIT: (*SPLITS, FACTS)})


def folds(evaluation: EvaluationSettings, seed: int, replicate: int) -> Stage:
    """The folds of a replicate."""
    spec = FoldsSpec(folds=evaluation.folds, seed=seed, replicate=replicate)
    reads: Reads = {SPLIT: (*TRAINING_SPLITS, FACTS), DUPLICATES: (TRAINING_PAIRS,)}
    return Stage(folds_name(replicate), spec, reads)


def train(
    model: str,
    training: TrainSettings,
    replicate: Replicate,
    snapshots: Sequence[int | str] = (),
    beginnings: Sequence[str] = (),
    class_weight: ClassWeight = None,
) -> Stage:
    """One training of a model.

    Args:
        model: the model's name.
        training: the network and its schedule.
        replicate: which of the model's trainings.
        snapshots: the epochs after which to keep a snapshot, from which later trainings continue.
        beginnings: the earlier trainings whose snapshots it may continue from; each is an input.
        class_weight: how much the images of each class count.
    """
    spec = TrainSpec(
        training=training, seed=replicate.seed, fold=replicate.fold, class_weight=class_weight
    )
    reads: Reads = {ARRAYS: (*TRAINING_SPLITS, FACTS)}
    if replicate.fold:
        reads[FOLDS] = (FOLDS,)
    reads |= dict.fromkeys(beginnings, ())
    return Stage(model + replicate.suffix, spec, reads, snapshots=tuple(snapshots))


def decide(
    gate: int, incumbent: str, candidate: str, settings: Settings, replay: Decision | None
) -> Stage:
    """One gate, by its number from 1."""
    suffixes = tuple(found.suffix for found in replicates(settings.evaluation, settings.seed))
    spec = DecideSpec(
        gate=gate,
        incumbent=incumbent,
        candidate=candidate,
        rule=settings.gate_rule,
        metric=settings.metric,
        level=gate_level(settings.alpha, len(settings.change_names)),
        replay=replay if settings.replays else None,
        forced=settings.force.get(gate),
        trainings=suffixes,
        replicates=settings.evaluation.replicates,
        folds=_folds(settings),
    )
    roles = [f"{role}{suffix}" for suffix in suffixes for role in (INCUMBENT, CANDIDATE)]
    return Stage(gate_name(gate), spec, dict.fromkeys(roles, (FACTS, VALIDATION_PREDICTIONS)))


def _folds(settings: Settings) -> int | None:
    evaluation = settings.evaluation
    return evaluation.folds if evaluation.protocol == "kfold" else None


def retrain(
    training: TrainSettings, replicate: Replicate, class_weight: ClassWeight = None
) -> Stage:
    """The final training on training and validation images."""
    spec = RetrainSpec(training=training, seed=replicate.seed, class_weight=class_weight)
    return Stage(f"{FINAL}{replicate.suffix}", spec, {ARRAYS: (*TRAINING_SPLITS, FACTS)})


def evaluate(model: RecipeModel, training: str) -> Stage:
    """The score of one training of a model on the test split."""
    transfer = model.transfer
    spec = EvaluateSpec(
        model=training,
        loss=transfer.loss if transfer else "categorical_crossentropy",
        vgg16_input=Vgg16Input(side=transfer.side, preprocessing=transfer.preprocessing)
        if transfer
        else None,
    )
    return Stage(evaluation_name(training), spec, {MODEL: (MODEL,), ARRAYS: (TEST,)})


def results(models: Sequence[RecipeModel], settings: Settings) -> Stage:
    """The tables of all models, all trainings and all verdicts."""
    gates = [model.gate for model in models if model.gate]
    spec = ResultsSpec(
        models=tuple(
            ModelInResults(**dict(described(model)), step=model.step, gate=model.gate)
            for model in models
        ),
        gates=tuple(gates),
        folds=_folds(settings),
        notebook=on_fashion_mnist(settings),
        notebook_plan=on_fashion_mnist(settings) and settings.has_notebook_plan,
        random_transfer=settings.transfer.weights == "random",
    )
    reads = _predictions(models, FACTS) | dict.fromkeys(gates, (FACTS,))
    return Stage(RESULTS, spec, reads | {SUBSET: (INDEX, FACTS)})


def described(model: RecipeModel) -> Model:
    """The model as specs contain it."""
    trainings = [
        Training(stage=name, replicate=found.number, fold=found.fold, seed=found.seed)
        for name, found in model.trainings.items()
    ]
    return Model(name=model.name, validated=model.validated, trainings=tuple(trainings))


def _predictions(models: Sequence[RecipeModel], *facts: str) -> Reads:
    """The files with predictions on held-out and test images, and `facts`, by stage."""
    reads: Reads = {}
    for model in models:
        held_out = (VALIDATION_PREDICTIONS,) if model.validated else ()
        for training in model.trainings:
            # Nothing was held out from the final model.
            reads[training] = (*facts, *held_out)
            reads[evaluation_name(training)] = (*facts, TEST_PREDICTIONS)
    return {role: files for role, files in reads.items() if files}


def selection(models: Sequence[RecipeModel], settings: Settings) -> Stage:
    """The optimism of the best validation score, which comes from choosing among models."""
    chosen_from = [model for model in models if model.gate or model.name == OVERFITTING]
    gates = [model.gate for model in models if model.gate]
    assignments: Reads = {}
    if settings.evaluation.protocol == "kfold":
        numbers = range(1, settings.evaluation.replicates + 1)
        assignments = {folds_name(number): (FOLDS,) for number in numbers}
    spec = SelectionSpec(
        models=tuple(described(model) for model in chosen_from),
        gates=tuple(gates),
        epochs_chosen=[entry.change.get("epochs") for entry in settings.plan].count(
            LOWEST_VALIDATION_LOSS
        ),
        metric=settings.metric,
        seed=settings.seed,
    )
    trainings = [name for model in chosen_from for name in model.trainings]
    reads = dict.fromkeys(gates, (FACTS,)) | dict.fromkeys(trainings, (VALIDATION_PREDICTIONS,))
    return Stage(SELECTION, spec, reads | assignments)


def success(models: Sequence[RecipeModel], settings: Settings) -> Stage:
    """The success criteria of step 2."""
    by_name = {model.name: model for model in models}

    def scored(model: str) -> tuple[str, ...]:
        # The final model has no folds: one training of the baseline for each seed is enough.
        trainings = by_name[model].trainings.items()
        return tuple(evaluation_name(name) for name, found in trainings if found.fold in (None, 1))

    spec = SuccessSpec(
        alpha=settings.alpha,
        metric=settings.metric,
        final=scored(FINAL),
        baseline=scored(BASELINE),
    )
    reads = dict.fromkeys((*spec.final, *spec.baseline), (TEST_PREDICTIONS,))
    return Stage(SUCCESS, spec, reads | {SUBSET: (INDEX, FACTS)})


def quality(models: Sequence[RecipeModel], settings: Settings) -> Stage:
    """Scores by class, confusion matrix and calibration of each model."""
    spec = QualitySpec(models=tuple(map(described, models)), note=data_note(settings))
    return Stage(QUALITY, spec, _predictions(models) | {PREPROCESS: (TEST, FACTS)})


def curves(
    model: str,
    trainings: Sequence[str],
    settings: Settings,
    transfer: TransferVariant | None = None,
) -> Stage:
    """The learning curves of a model's trainings."""
    spec = CurvesSpec(
        model=model,
        trainings=tuple(trainings),
        binary=transfer is not None and transfer.loss == BINARY,
        random=transfer is not None and settings.transfer.weights == "random",
        note=data_note(settings),
    )
    return Stage(curves_name(model), spec, dict.fromkeys(trainings, (HISTORY,)))


def figures(settings: Settings, vgg16_inputs: Mapping[str, str]) -> Stage:
    """The charts that compare models, and samples of the networks' inputs.

    `vgg16_inputs` maps each stage that stores VGG16's inputs to its variant of transfer.
    """
    augmented = [spec.augmentation for spec in _candidates(settings) if spec.augmentation]
    spec = FiguresSpec(
        note=data_note(settings),
        metric=settings.metric,
        random_transfer=settings.transfer.weights == "random",
        changes=settings.change_names,
        vgg16_inputs=dict(vgg16_inputs),
        augmentation=augmented[0] if augmented else None,
        seed=settings.seed,
    )
    reads: Reads = {PREPROCESS: (TRAIN,), SUBSET: (FACTS,), RESULTS: (RESULTS, VERDICTS)}
    return Stage(FIGURES, spec, reads | dict.fromkeys(vgg16_inputs, (INPUT_SAMPLES,)))


def _candidates(settings: Settings) -> list[TrainSettings]:
    overfitting = settings.overfitting
    return [overfitting, *(changed(overfitting, entry.change) for entry in settings.plan)]
