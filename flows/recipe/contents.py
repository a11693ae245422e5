"""The table of contents of the workflow: which stages run, with which inputs, in which order.

Runs and plans share it: a run submits each stage to Prefect, a plan looks it up in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.recipe import backbone, stages, transfer
from flows.recipe.iterate import Survivor, Trained, iterate, train
from flows.recipe.label_check import label_check
from flows.recipe.last_gate import candidate, decided, final_training, last_gate
from flows.recipe.look import look
from flows.recipe.own_code import read_codes
from flows.recipe.recipe_model import RecipeModel
from flows.recipe.run import Run
from flows.recipe.settle import settled
from tasks.core.names import (
    BACKBONE_FROZEN,
    BASELINE,
    EXPLORE,
    FINAL,
    GUARD,
    LABEL_CHECK,
    LOAD,
    LOOK,
    LOW_CAPACITY,
    OVERFITTING,
    PREPROCESS,
    SUBSET,
    TRANSFER_GATE,
    VGG16_FINE_TUNED,
    VGG16_FROZEN,
    VGG16_WEIGHTS,
    curves_name,
    evaluation_name,
    gate_name,
    iteration_name,
)
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.replicates import Replicate, final_replicates, replicates


def build(run: Run[Any], settings: Settings) -> dict[str, Any]:
    """Carry out the whole workflow; return the handle of every stage by the stage's name."""
    settings = settled(settings)
    made: dict[str, Any] = {}
    run.own_code = read_codes(settings)
    # Steps 1 to 4: the data, the splits, the arrays.
    raw = made[LOAD] = run(stages.load(settings))
    made[EXPLORE] = run(stages.explore(settings), raw=raw)
    split = made[SUBSET] = run(stages.subset(settings), raw=raw)
    guard = made[GUARD] = run(stages.guard(settings), split=split)
    made[LOOK] = run(look(settings), raw=raw, split=split, guard=guard)
    # Training waits for the guard, which stops the run if an image appears in two splits.
    arrays = made[PREPROCESS] = run(stages.preprocess(), [guard], split=split)
    for assignment in _fold_assignments(settings):
        made[assignment.name] = run(assignment, split=split, guard=guard)

    # Steps 5 and 6: a baseline to beat, and a model that overfits.
    trained: Trained = {}
    for name in (BASELINE, LOW_CAPACITY, OVERFITTING):
        train(run, settings, made, trained, name, getattr(settings, name))

    # Part 3 of the notebook depends on no decision, so it does not wait for any.
    if settings.transfer.weights != "off":
        made |= transfer.transfer(run, settings, arrays, made)
    if backbone.wanted(settings):
        made |= backbone.backbone_transfer(run, settings, split, arrays)

    # Step 7: the iterations, perhaps a gate between the survivor and transfer, then what survived
    # on training + validation images.
    survivor = last_gate(run, settings, made, iterate(run, settings, made, trained))
    for check in _label_checks(settings, survivor.model):
        made[check.name] = run(check, **{role: made[role] for role in check.reads})
    made |= _finals(run, settings, made, survivor)

    # Scoring on the test split waits for the last verdict.
    for model in decided(recipe_models(settings), survivor):
        for training in model.trainings:
            stage = stages.evaluate(model, training)
            made[stage.name] = run(stage, survivor.verdicts, model=made[training], arrays=arrays)

    # Tables and figures of the outcome.
    for stage in _summary_stages(settings):
        made[stage.name] = run(stage, **{role: made[role] for role in stage.reads})
    return made


def _finals(
    run: Run[Any], settings: Settings, made: Mapping[str, Any], survivor: Survivor
) -> dict[str, Any]:
    """Train the final model and draw its learning curves; return the handles by stage name."""
    finals = dict(
        final_training(run, settings, made, survivor, replicate)
        for replicate in final_replicates(settings.evaluation, settings.seed)
    )
    curves = stages.curves(FINAL, list(finals), settings, survivor.transfer)
    return finals | {curves.name: run(curves, **finals)}


def recipe_models(settings: Settings) -> list[RecipeModel]:
    """Every model of a run in the notebook's order; the settings alone determine them."""

    def named(name: str, found: Sequence[Replicate]) -> dict[str, Replicate]:
        return {f"{name}{replicate.suffix}": replicate for replicate in found}

    def trained(name: str, step: str, gate: str | None = None) -> RecipeModel:
        found = replicates(settings.evaluation, settings.seed)
        return RecipeModel(name, step, named(name, found), gate)

    iterations = [
        trained(iteration_name(number), "7", gate_name(number))
        for number in range(1, len(settings.plan) + 1)
    ]
    competing = candidate(settings)
    gates = {competing[0]: TRANSFER_GATE} if competing else {}
    transferred = [
        RecipeModel(model, step, named(model, transfer.trainings(settings)), gates.get(model), way)
        for suffix, way in transfer.variants(settings).items()
        for model, step in (
            (f"{VGG16_FROZEN}{suffix}", "3d"),
            (f"{VGG16_FINE_TUNED}{suffix}", "3e"),
        )
    ]
    finals = final_replicates(settings.evaluation, settings.seed)
    return [
        trained(BASELINE, "5a"),
        trained(LOW_CAPACITY, "5b"),
        trained(OVERFITTING, "6"),
        *iterations,
        RecipeModel(FINAL, "7b", named(FINAL, finals)),
        *transferred,
        *backbone.models_of(settings, finals[0]),
    ]


def stage_names(settings: Settings) -> list[str]:
    """Every stage of a run in the notebook's order."""
    models = recipe_models(settings)
    names = [LOAD, EXPLORE, SUBSET, GUARD, LOOK, PREPROCESS]
    names += [stage.name for stage in _fold_assignments(settings)]
    for model in models:
        if model.transfer:
            features = transfer.features(settings, model.transfer)
            names += [VGG16_WEIGHTS, *(stage.name for stage in features)]
        if model.name == BACKBONE_FROZEN:
            names += [stage.name for stage in backbone.preparations(settings)]
        names += [*model.trainings, curves_name(model.name)]
        names += [model.gate] if model.gate else []
    names += [LABEL_CHECK] if settings.evaluation.protocol == "kfold" else []
    names += [evaluation_name(name) for model in models for name in model.trainings]
    names += [stage.name for stage in _summary_stages(settings)]
    return list(dict.fromkeys(names))


def _fold_assignments(settings: Settings) -> list[Stage]:
    """The stages that assign images to folds, if the protocol has folds."""
    evaluation = settings.evaluation
    if evaluation.protocol == "holdout":
        return []
    numbers = range(1, evaluation.replicates + 1)
    return [stages.folds(evaluation, settings.seed, number) for number in numbers]


def _label_checks(settings: Settings, survivor: str) -> list[Stage]:
    """The stage that looks for wrong labels with a model's predictions, if there are folds."""
    if settings.evaluation.protocol == "holdout":
        return []
    models = recipe_models(settings)
    return [label_check(model, settings) for model in models if model.name == survivor]


def _summary_stages(settings: Settings) -> list[Stage]:
    """The tables and figures that compare all models."""
    models = recipe_models(settings)
    found = [
        stages.results(models, settings),
        stages.success(models, settings),
        stages.quality(models, settings),
        stages.figures(settings, transfer.inputs_kept(settings)),
    ]
    if settings.change_names:
        found.insert(1, stages.selection(models, settings))
    return found
