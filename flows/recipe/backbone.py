"""Transfer from any pre-trained network: describes its stages and wires them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.recipe.earlier import find_earlier
from flows.recipe.recipe_model import RecipeModel
from flows.recipe.run import Run
from flows.recipe.stages import curves
from tasks.core.errors import UserError
from tasks.core.names import (
    BACKBONE,
    BACKBONE_CHECK,
    BACKBONE_FEATURES,
    BACKBONE_FINE_TUNED,
    BACKBONE_FROZEN,
    BACKBONE_OUTPUTS,
    FACTS,
    FEATURES,
    MODEL,
    SEEN,
    SOURCE,
    SPLIT,
    START,
    TEST,
    TRAINING_SPLITS,
    VALIDATION,
)
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_spec import TransferTraining
from tasks.core.statistics.replicates import Replicate
from tasks.core.transfer_specs import (
    BackboneCheckSpec,
    BackboneFeaturesSpec,
    BackboneHead,
    BackboneSpec,
    BackboneTrainSpec,
)


def backbone_transfer(run: Run[Any], settings: Settings, split: Any, arrays: Any) -> dict[str, Any]:
    """Run the frozen layers, train a head on their outputs, then tune the last layers."""
    network, below, last, *trainings = stages_of(settings)
    made = _taken(run, network, settings, split)
    given = made[network.name]
    # Nothing is trained on a model that has seen images of this run's validation or test split.
    checked = [made[BACKBONE_CHECK]] if BACKBONE_CHECK in made else []
    made[below.name] = run(below, checked, source=arrays, backbone=given)
    made[last.name] = run(last, source=made[below.name], backbone=given)
    inputs: dict[str, Any] = {FEATURES: made[last.name]}
    for stage in trainings:
        made[stage.name] = run(stage, **inputs, backbone=given)
        inputs = {FEATURES: made[below.name], START: made[stage.name]}
        drawing = curves(stage.name, [stage.name], settings)
        made[drawing.name] = run(drawing, **{stage.name: made[stage.name]})
    return made


def _taken(run: Run[Any], network: Stage, settings: Settings, split: Any) -> dict[str, Any]:
    """Get the backbone; compare this run's images with those of an earlier run's model."""
    if not settings.transfer.backbone.earlier:
        return {network.name: run(network)}
    assert run.earlier_runs is not None, "whoever carries out such a recipe has a store"
    found = find_earlier(run.earlier_runs, settings)
    spec = network.spec.model_copy(update={"trained_on": found.trained_on})
    network = replace(network, spec=spec, reads=found.reads)
    name = settings.transfer.backbone.name
    inputs = {
        role: run.earlier(f"{name} ({record.stage})", record)
        for role, record in found.records.items()
    }
    made = {network.name: run(network, **inputs)}
    made[BACKBONE_CHECK] = run(check(), backbone=made[network.name], split=split)
    return made


def check() -> Stage:
    """The search for this run's images among those that an earlier model was trained on."""
    reads = {BACKBONE: (SEEN,), SPLIT: (VALIDATION, TEST)}
    return Stage(BACKBONE_CHECK, BackboneCheckSpec(), reads)


def preparations(settings: Settings) -> list[Stage]:
    """The stages before the trainings."""
    network, *frozen = stages_of(settings)[:3]
    return [network, *([check()] if settings.transfer.backbone.earlier else []), *frozen]


def wanted(settings: Settings) -> bool:
    """Whether a run transfers from a backbone besides VGG16."""
    return settings.transfer.weights != "off" and settings.transfer.backbone.name is not None


def stages_of(settings: Settings) -> list[Stage]:
    """The backbone, the outputs of its lower and its last layers, and the trainings.

    Raises:
        UserError: a file that the settings name does not exist.
    """
    chosen = settings.transfer.backbone
    reads = {SOURCE: (*TRAINING_SPLITS, FACTS), BACKBONE: (MODEL, FACTS)}
    below, last = (BackboneFeaturesSpec(rest=rest) for rest in (False, True))
    head = BackboneHead(pooling=chosen.pooling, dense=chosen.dense, dropout=chosen.dropout)
    frozen = BackboneTrainSpec(
        training=_training(settings, chosen.epochs, chosen.learning_rate),
        seed=settings.seed,
        head=head,
        class_weight=settings.class_weight,
    )
    features = {FEATURES: (*TRAINING_SPLITS, FACTS)}
    found = [
        _backbone(settings),
        Stage(BACKBONE_FEATURES, below, reads),
        Stage(BACKBONE_OUTPUTS, last, reads),
        Stage(BACKBONE_FROZEN, frozen, features | {BACKBONE: (MODEL, FACTS)}),
    ]
    if chosen.fine_tune_epochs:
        rate = chosen.fine_tune_learning_rate
        tuned = BackboneTrainSpec(
            training=_training(settings, chosen.fine_tune_epochs, rate),
            seed=settings.seed,
            rate_decay=chosen.rate_decay,
            class_weight=settings.class_weight,
        )
        reads = features | {BACKBONE: (FACTS,), START: (MODEL,)}
        found.append(Stage(BACKBONE_FINE_TUNED, tuned, reads))
    return found


def models_of(settings: Settings, replicate: Replicate) -> list[RecipeModel]:
    """The models of this branch, each trained once like those of VGG16."""
    if not wanted(settings):
        return []
    trainings = [stage.name for stage in stages_of(settings)[3:]]
    return [RecipeModel(name, "3", {name: replicate}) for name in trainings]


def _backbone(settings: Settings) -> Stage:
    chosen, weights = settings.transfer.backbone, settings.transfer.weights
    values: dict[str, Any] = {
        "application": None if chosen.is_file or chosen.earlier else chosen.name,
        "side": chosen.side,
        "pixels": chosen.pixel_scale,
        "cut": chosen.cut,
        "tuned_after": chosen.tuned_after,
    }
    external: tuple[str, ...] = ()
    if chosen.is_file:
        # Its size is its own.
        source, values["side"] = "file", 0
        external = (_existing("transfer.backbone.name", str(chosen.name)),)
    elif chosen.earlier:
        source, values["side"] = "run", 0
    elif weights == "random":
        source, values["seed"] = "random", settings.seed
    elif chosen.weights_file:
        source = "weights"
        external = (_existing("transfer.backbone.weights_file", chosen.weights_file),)
    else:
        source = "imagenet"
    spec = BackboneSpec(source=source, **values)
    return Stage(BACKBONE, spec, external=external, optional=weights != "required")


def _existing(setting: str, file: str) -> str:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{setting}: {path} is not a file; name an existing one.")
    return str(path)


def _training(settings: Settings, epochs: int, learning_rate: float) -> TransferTraining:
    return TransferTraining(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=settings.transfer.backbone.batch_size,
        loss="categorical_crossentropy",
        decay="cosine",
    )
