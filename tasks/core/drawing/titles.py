"""Readable names of the models, for figures and pages."""

from __future__ import annotations

from tasks.core.names import (
    BACKBONE_FINE_TUNED,
    BACKBONE_FROZEN,
    BASELINE,
    COMMONEST_CLASS,
    FINAL,
    LOW_CAPACITY,
    OVERFITTING,
    VGG16_FINE_TUNED,
    VGG16_FROZEN,
)

TITLES = {
    COMMONEST_CLASS: "Commonest class",
    BASELINE: "Baseline",
    LOW_CAPACITY: "Low capacity",
    OVERFITTING: "Overfitting model",
    FINAL: "Final model",
    VGG16_FROZEN: "VGG16, frozen base",
    VGG16_FINE_TUNED: "VGG16, fine-tuned",
    f"{VGG16_FROZEN}_corrected": "VGG16 corrected, frozen base",
    f"{VGG16_FINE_TUNED}_corrected": "VGG16 corrected, fine-tuned",
    BACKBONE_FROZEN: "Backbone, frozen",
    BACKBONE_FINE_TUNED: "Backbone, fine-tuned",
}


def title_of(name: str) -> str:
    """A model's readable name, e.g. `Iteration 3` for `iteration_3`."""
    return TITLES.get(name, name.replace("_", " ").capitalize())
