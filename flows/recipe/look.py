"""The definition of the stage that looks at all images for what is wrong with them."""

from __future__ import annotations

from flows.recipe.stages import data_note, on_own_images
from tasks.core.names import (
    DUPLICATES,
    FACTS,
    INDEX,
    LOOK,
    ORIGINS,
    PAIRS,
    RAW,
    READING,
    SPLIT,
    TEST,
    TRAIN,
)
from tasks.core.records import Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import LookSpec


def look(settings: Settings) -> Stage:
    """What is in the images and what is wrong with them."""
    # Only of the user's own images is it known which files they are.
    files = (ORIGINS, READING) if on_own_images(settings) else ()
    return Stage(
        LOOK,
        LookSpec(guard=settings.guard, note=data_note(settings)),
        {RAW: (TRAIN, TEST, FACTS, *files), SPLIT: (TRAIN, INDEX, FACTS), DUPLICATES: (PAIRS,)},
    )
