"""Readable names of the models, for figures and pages."""

from __future__ import annotations

TITLES = {
    "baseline": "Baseline",
    "low_capacity": "Low capacity",
    "overfitting": "Overfitting model",
    "final": "Final model",
    "vgg16_frozen": "VGG16, frozen base",
    "vgg16_fine_tuned": "VGG16, fine-tuned",
    "vgg16_frozen_corrected": "VGG16 corrected, frozen base",
    "vgg16_fine_tuned_corrected": "VGG16 corrected, fine-tuned",
}


def title_of(name: str) -> str:
    """A model's readable name, e.g. `Iteration 3` for `iteration_3`."""
    return TITLES.get(name, name.replace("_", " ").capitalize())
