"""The presets: the notebook, a smoke test of it, all images, and the notebook with modern parts.

The settings of all presets leave the rule open (`auto`); flows/recipe/settle.py chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.core.settings.base import changed
from tasks.core.settings.evaluation import Rule
from tasks.core.settings.images import SubsetSettings, SyntheticSettings
from tasks.core.settings.modern_plan import MODERN_OVERFITTING, MODERN_PLAN, settled_plan
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import TransferSettings


@dataclass(frozen=True)
class Preset:
    """Settings to start from, and whether the decisions in their plan hold.

    Attributes:
        settings: those of Fashion-MNIST, and of generated images in its place.
        replays: the rule that replays the decisions in the plan if the user gives none, as long as
            they were made on such images; None if this run's evidence shall decide.
        own: the settings of a run on the user's own images if the user gives no rule; None if they
            are `settings`.
    """

    settings: Settings
    replays: Rule | None = None
    own: Settings | None = None


# The notebook's own settings: 8,000 / 2,000 / 2,000 images.
NOTEBOOK = Settings()

# The changes of the notebook's plan, by name, that need smaller values in the smoke test.
SMOKE_CHANGES: dict[str, dict[str, Any]] = {
    "fewer epochs": {"epochs": 1},
    "no first dense layer": {"dense": [16]},
    "half the dense units": {"dense": [16, 8]},
}

SMALL_TRANSFER = {"dense": 32, "epochs": 2, "fine_tune_epochs": 1, "batch_size": 64}

# Every stage at a small size: few synthetic images, small networks, one to three epochs.
SMOKE = Settings(
    dataset="synthetic",
    synthetic=SyntheticSettings(train=700, test=200),
    subset=SubsetSettings(train=400, validation=200, test=200),
    baseline=changed(NOTEBOOK.baseline, {"epochs": 2}),
    low_capacity=changed(NOTEBOOK.low_capacity, {"epochs": 3, "batch_size": 64}),
    overfitting=changed(
        NOTEBOOK.overfitting,
        {"filters": [8, 16, 16], "dense": [32, 16], "epochs": 2, "batch_size": 16},
    ),
    plan=tuple(
        entry.model_copy(update={"change": entry.change | SMOKE_CHANGES.get(entry.name, {})})
        for entry in NOTEBOOK.plan
    ),
    transfer=TransferSettings(
        weights="random",
        as_notebook=changed(NOTEBOOK.transfer.as_notebook, SMALL_TRANSFER),
        corrected=changed(NOTEBOOK.transfer.corrected, SMALL_TRANSFER | {"side": 32}),
    ),
)

# The notebook's settings on all images of the data set. The notebook decided on a sixth of them:
# with more images, networks overfit less, so its decisions need not hold.
FULL = NOTEBOOK.model_copy(update={"subset": SubsetSettings(method="everything")})

# The notebook's workflow with today's building blocks.
MODERN = NOTEBOOK.model_copy(update={"overfitting": MODERN_OVERFITTING, "plan": MODERN_PLAN})

# On own images, what `modern` settled is tried as a whole, so a run takes minutes.
MODERN_OWN = MODERN.model_copy(update={"plan": settled_plan()})

PRESETS = {
    "notebook": Preset(NOTEBOOK, replays="notebook"),
    "smoke": Preset(SMOKE, replays="notebook"),
    "full": Preset(FULL),
    "modern": Preset(MODERN, replays="replay", own=MODERN_OWN),
}
