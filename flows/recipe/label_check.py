"""The definition of the stage that looks for probable label errors."""

from __future__ import annotations

from flows.recipe.recipe_model import RecipeModel
from flows.recipe.stages import Reads, data_note, described, on_own_images
from tasks.core.names import (
    FACTS,
    FOLDS,
    INDEX,
    LABEL_CHECK,
    LOAD,
    ORIGINS,
    SUBSET,
    TRAINING_SPLITS,
    VALIDATION_PREDICTIONS,
    folds_name,
)
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import LabelCheckSpec


def label_check(model: RecipeModel, settings: Settings) -> Stage:
    """Probable label errors, by what a model predicts for the fold held out from each training."""
    reads: Reads = {SUBSET: (*TRAINING_SPLITS, INDEX, FACTS)}
    origins = on_own_images(settings)
    if origins:
        reads[LOAD] = (ORIGINS,)
    reads |= {folds_name(found.number): (FOLDS,) for found in model.trainings.values()}
    reads |= dict.fromkeys(model.trainings, (VALIDATION_PREDICTIONS,))
    spec = LabelCheckSpec(model=described(model), origins=origins, note=data_note(settings))
    return Stage(LABEL_CHECK, spec, reads)
