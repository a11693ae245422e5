"""Part 3 of the notebook: transfer from VGG16, as the notebook does it and corrected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.recipe.run import Run
from flows.recipe.stages import curves
from tasks.core.errors import UserError
from tasks.core.names import (
    FACTS,
    FEATURES,
    FOLDS,
    MODEL,
    SOURCE,
    START,
    TRAINING_SPLITS,
    VGG16_FINE_TUNED,
    VGG16_FROZEN,
    VGG16_WEIGHTS,
    WEIGHTS,
    features_name,
    folds_name,
)
from tasks.core.networks.vgg16_layout import block_below
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import VARIANTS, TransferVariant
from tasks.core.stage_spec import TransferHead, TransferTraining
from tasks.core.stage_specs import Vgg16FeaturesSpec, Vgg16TrainSpec, Vgg16WeightsSpec
from tasks.core.statistics.replicates import Replicate, final_replicates, replicates

_NO_FOLDS: Mapping[str, Any] = {}


def transfer(
    run: Run[Any], settings: Settings, arrays: Any, folds: Mapping[str, Any] = _NO_FOLDS
) -> dict[str, Any]:
    """For each variant, run the frozen layers, train a head on their outputs, then fine-tune.

    Features depend on no seed, so all trainings share them. `folds` has the handles of the stages
    that assign images to folds, by name.
    """
    if not variants(settings):
        return {}
    given = run(weights(settings))
    made = {VGG16_WEIGHTS: given}
    for suffix, variant in variants(settings).items():
        below, last = features(settings, variant)
        if below.name not in made:
            made[below.name] = run(below, source=arrays, weights=given)
        if last.name not in made:
            made[last.name] = run(last, source=made[below.name], weights=given)
        for replicate in trainings(settings):
            held_out = {FOLDS: folds[folds_name(replicate.number)]} if replicate.fold else {}
            head = frozen(settings, suffix, variant, replicate)
            made[head.name] = run(head, features=made[last.name], weights=given, **held_out)
            tuning = fine_tuned(settings, suffix, variant, replicate)
            inputs = {FEATURES: made[below.name], START: made[head.name], **held_out}
            made[tuning.name] = run(tuning, **inputs)
        for model in (f"{VGG16_FROZEN}{suffix}", f"{VGG16_FINE_TUNED}{suffix}"):
            names = [f"{model}{replicate.suffix}" for replicate in trainings(settings)]
            drawing = curves(model, names, settings, variant)
            made[drawing.name] = run(drawing, **{name: made[name] for name in names})
    return made


def trainings(settings: Settings) -> tuple[Replicate, ...]:
    """The trainings of each model: those of all models if transfer competes at the last gate.

    Otherwise part 3 is a comparison, not a decision: each model is trained once, without folds.
    """
    if settings.transfer.competes:
        return replicates(settings.evaluation, settings.seed)
    return final_replicates(settings.evaluation, settings.seed)[:1]


def weights(settings: Settings) -> Stage:
    """The weights of VGG16's base.

    Raises:
        UserError: the file that the settings name does not exist.
    """
    transfer = settings.transfer
    spec = Vgg16WeightsSpec(source="imagenet")
    external: tuple[str, ...] = ()
    if transfer.weights == "random":
        spec = Vgg16WeightsSpec(source="random", seed=settings.seed)
    elif transfer.weights_file:
        path = Path(transfer.weights_file).expanduser()
        if not path.is_file():
            raise UserError(f"transfer.weights_file: {path} is not a file; name an existing one.")
        spec, external = Vgg16WeightsSpec(source="file"), (str(path),)
    optional = transfer.weights != "required"
    return Stage(VGG16_WEIGHTS, spec, external=external, optional=optional)


def variants(settings: Settings) -> dict[str, TransferVariant]:
    """The variants of transfer that a run trains, by the suffix of their stages' names."""
    transfer = settings.transfer
    if transfer.weights == "off":
        return {}
    return {
        suffix: getattr(transfer, name)
        for suffix, name in VARIANTS.items()
        if transfer.variant in ("both", name)
    }


def features(settings: Settings, variant: TransferVariant) -> tuple[Stage, Stage]:
    """The outputs of the layers below the last block, and those of that block.

    These stages are named after the first variant that needs them; other variants share them.
    """
    names: dict[tuple[Any, ...], str] = {}
    for suffix, other in variants(settings).items():
        for layer in _feature_layers(other):
            key = (other.side, other.preprocessing, layer)
            names.setdefault(key, features_name(layer, suffix))
    below, last = _feature_layers(variant)

    def stage(after: str | None, up_to: str) -> Stage:
        spec = Vgg16FeaturesSpec(
            side=variant.side,
            after=after,
            up_to=up_to,
            preprocessing=None if after else variant.preprocessing,
        )
        reads = {SOURCE: (*TRAINING_SPLITS, FACTS), WEIGHTS: (WEIGHTS,)}
        return Stage(names[variant.side, variant.preprocessing, up_to], spec, reads)

    return stage(None, below), stage(below, last)


def inputs_kept(settings: Settings) -> dict[str, str]:
    """The variant of each stage that stores VGG16's inputs; if two share a stage, the first."""
    found: dict[tuple[int, str], tuple[str, str]] = {}
    for suffix, variant in variants(settings).items():
        below, _ = features(settings, variant)
        found.setdefault((variant.side, variant.preprocessing), (below.name, VARIANTS[suffix]))
    return dict(found.values())


def _feature_layers(variant: TransferVariant) -> tuple[str, str]:
    return block_below(variant.features), variant.features


def frozen(
    settings: Settings, suffix: str, variant: TransferVariant, replicate: Replicate | None = None
) -> Stage:
    """The training of a head on the outputs of VGG16's frozen layers."""
    replicate = replicate or trainings(settings)[0]
    spec = Vgg16TrainSpec(
        training=_training(variant, variant.epochs, variant.learning_rate),
        preprocessing=variant.preprocessing,
        after=variant.features,
        seed=replicate.seed,
        fold=replicate.fold,
        class_weight=settings.class_weight,
        head=TransferHead(side=variant.side, dense=variant.dense, dropout=variant.dropout),
    )
    reads = {FEATURES: (*TRAINING_SPLITS, FACTS), WEIGHTS: (WEIGHTS,)} | _folds(replicate)
    return Stage(f"{VGG16_FROZEN}{suffix}{replicate.suffix}", spec, reads)


def fine_tuned(
    settings: Settings, suffix: str, variant: TransferVariant, replicate: Replicate | None = None
) -> Stage:
    """The training of the head and VGG16's last block, starting from the frozen stage's model."""
    replicate = replicate or trainings(settings)[0]
    rate = variant.fine_tune_learning_rate
    spec = Vgg16TrainSpec(
        training=_training(variant, variant.fine_tune_epochs, rate),
        preprocessing=variant.preprocessing,
        after=block_below(variant.features),
        seed=replicate.seed,
        fold=replicate.fold,
        class_weight=settings.class_weight,
    )
    reads = {FEATURES: (*TRAINING_SPLITS, FACTS), START: (MODEL,)} | _folds(replicate)
    return Stage(f"{VGG16_FINE_TUNED}{suffix}{replicate.suffix}", spec, reads)


def _folds(replicate: Replicate) -> dict[str, tuple[str, ...]]:
    """What a training reads besides if it holds a fold out."""
    return {FOLDS: (FOLDS,)} if replicate.fold else {}


def _training(variant: TransferVariant, epochs: int, learning_rate: float) -> TransferTraining:
    return TransferTraining(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=variant.batch_size,
        loss=variant.loss,
        decay=variant.decay,
    )
