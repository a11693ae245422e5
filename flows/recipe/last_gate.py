"""The last gate: whether transfer replaces the winner of step 7 as the final model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.recipe import stages, transfer
from flows.recipe.iterate import Survivor, compared, decision
from flows.recipe.recipe_model import RecipeModel
from flows.recipe.run import Run
from tasks.core.names import (
    FACTS,
    FEATURES,
    FINAL,
    HEAD_FEATURES,
    PREPROCESS,
    TRAINING_SPLITS,
    TRANSFER_GATE,
    VGG16_FINE_TUNED,
    VGG16_WEIGHTS,
    WEIGHTS,
)
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import Decision
from tasks.core.settings.transfer import TransferVariant
from tasks.core.statistics.replicates import Replicate
from tasks.core.transfer_specs import Vgg16RetrainSpec

# Where decisions are replayed: neither the notebook nor a plan replaces its winner.
REPLAYED: Decision = "back"


def candidate(settings: Settings) -> tuple[str, TransferVariant] | None:
    """The model that competes, and its variant; None if the run has no such gate.

    It is fine-tuned and of the last variant, which is the corrected one if the run trains it.
    """
    if not settings.transfer.competes:
        return None
    suffix, variant = list(transfer.variants(settings).items())[-1]
    return f"{VGG16_FINE_TUNED}{suffix}", variant


def last_gate(
    run: Run[Any], settings: Settings, made: dict[str, Any], survivor: Survivor
) -> Survivor:
    """Compare step 7's survivor with transfer; return what survives. Adds the gate to `made`."""
    found = candidate(settings)
    if found is None:
        return survivor
    model, variant = found
    number = len(settings.change_names)
    gate = replace(
        stages.decide(number, survivor.model, model, settings, REPLAYED), name=TRANSFER_GATE
    )
    verdict = made[gate.name] = run(gate, **compared(settings, made, survivor.model, model))
    verdicts = (*survivor.verdicts, verdict)
    known = settings.force.get(number, REPLAYED if settings.replays else None)
    if (known or decision(run, verdict)) == "forward":
        return replace(survivor, model=model, transfer=variant, verdicts=verdicts)
    return replace(survivor, verdicts=verdicts)


def decided(models: Sequence[RecipeModel], survivor: Survivor) -> list[RecipeModel]:
    """The models of a run, once it is known whether the final one is a VGG16 model."""
    return [
        replace(model, transfer=survivor.transfer) if model.name == FINAL else model
        for model in models
    ]


def final_training(
    run: Run[Any],
    settings: Settings,
    made: Mapping[str, Any],
    survivor: Survivor,
    replicate: Replicate,
) -> tuple[str, Any]:
    """Train what survived on training and validation images; return the stage's name and handle."""
    variant = survivor.transfer
    if variant is None:
        final = stages.retrain(survivor.training, replicate, settings.class_weight)
        return final.name, run(final, arrays=made[PREPROCESS])
    final = retrained_transfer(settings, variant, replicate)
    below, last = transfer.features(settings, variant)
    inputs = {FEATURES: made[below.name], HEAD_FEATURES: made[last.name]}
    return final.name, run(final, **inputs, weights=made[VGG16_WEIGHTS])


def retrained_transfer(settings: Settings, variant: TransferVariant, replicate: Replicate) -> Stage:
    """The final training of a head and of VGG16's last block, from stored features."""
    spec = Vgg16RetrainSpec(
        training=variant, seed=replicate.seed, class_weight=settings.class_weight
    )
    reads = dict.fromkeys((FEATURES, HEAD_FEATURES), (*TRAINING_SPLITS, FACTS))
    return Stage(f"{FINAL}{replicate.suffix}", spec, reads | {WEIGHTS: (WEIGHTS,)})
