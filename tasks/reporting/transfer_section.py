"""What the run's page says of the transfer from VGG16: its variants, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.settings.transfer import VARIANTS, TransferVariant, corrected_transfer

LABELS = {"as_notebook": "As in the notebook", "corrected": "Corrected"}
DEFAULTS = {"as_notebook": TransferVariant(), "corrected": corrected_transfer()}
PIXELS = {
    "raw": "RGB, 0 to 255",
    "vgg16": "BGR, ImageNet's mean subtracted: VGG16's own preprocessing",
}
LOSSES = {
    "binary_crossentropy": "binary cross-entropy",
    "categorical_crossentropy": "categorical cross-entropy",
}
DECAYS = {"none": "constant", "cosine": "rising, then falling to 0 along a cosine"}
INPUT, SIDE, LAYER, LOSS = "Pixels", "Size", "Layer that the head reads", "Loss"
RATE, TUNING_RATE = "RMSprop's rate, frozen base", "RMSprop's rate, fine-tuning"


@dataclass(frozen=True)
class Difference:
    """One point in which this program does something else than the notebook, and why."""

    where: str
    notebook: str
    here: str


@dataclass(frozen=True)
class Variant:
    """One way of transfer that a run went.

    Attributes:
        key: its name among the settings.
        label: its name for readers.
        frozen: the model with the frozen base.
        fine_tuned: the model with the last block trained too.
        words: its settings for readers.
        binary: whether its losses are binary cross-entropy.
        swapped: whether VGG16 is given blue, green and red instead of red, green and blue.
        default: whether its settings are the default ones.
    """

    key: str
    label: str
    frozen: str
    fine_tuned: str
    words: Mapping[str, str]
    binary: bool
    swapped: bool
    default: bool


def transfer_variants(models: Sequence[str], settings: Mapping[str, Any]) -> list[Variant]:
    """The variants that have results, the notebook's first.

    `settings` are the transfer's; where a variant's are missing, its default ones are meant.
    """
    found = []
    for suffix, key in VARIANTS.items():
        frozen, fine_tuned = f"vgg16_frozen{suffix}", f"vgg16_fine_tuned{suffix}"
        if not {frozen, fine_tuned} & set(models):
            continue
        spec = TransferVariant.model_validate(settings.get(key) or DEFAULTS[key].model_dump())
        found.append(
            Variant(
                key,
                LABELS[key],
                frozen,
                fine_tuned,
                _words(spec),
                binary=spec.loss == "binary_crossentropy",
                swapped=spec.preprocessing == "vgg16",
                default=spec == DEFAULTS[key],
            )
        )
    return found


def _words(spec: TransferVariant) -> dict[str, str]:
    decay = DECAYS[spec.decay]
    return {
        INPUT: PIXELS[spec.preprocessing],
        SIDE: f"{spec.side} x {spec.side}",
        LAYER: spec.features,
        LOSS: LOSSES[spec.loss],
        RATE: f"{spec.learning_rate:g}, {decay}",
        TUNING_RATE: f"{spec.fine_tune_learning_rate:g}, {decay}",
        "Epochs": f"{spec.epochs} + {spec.fine_tune_epochs}",
    }


def transfer_differences(variants: Sequence[Variant]) -> list[Difference]:
    """What is done otherwise than in the notebook's transfer; nothing where there was none."""
    if not variants:
        return []
    points = [
        Difference(
            "VGG16, frozen layers",
            "Every image passes all of VGG16 in each epoch.",
            "The frozen layers' outputs are computed once and trained on: equal up to rounding, "
            "in a fraction of the time.",
        )
    ]
    for variant in variants:
        points += _CLEAN_START if variant.key == "as_notebook" else _corrections(variant.words)
    return points


_CLEAN_START = [
    Difference(
        "VGG16, start",
        "The log begins at 94.6 % training accuracy, so the cell had probably been run before.",
        "A clean start: a fresh head, and for fine-tuning the frozen stage's model.",
    )
]


def _corrections(words: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(
            "VGG16 corrected, input",
            "RGB from 0 to 255 at 32 x 32, without the mean subtraction that VGG16 was trained "
            "with.",
            f"{words[INPUT]}; {words[SIDE]}.",
        ),
        Difference(
            "VGG16 corrected, training",
            "Softmax with binary cross-entropy; RMSprop at a constant 1e-05.",
            f"{words[LOSS].capitalize()}; RMSprop at {words[RATE]}, for fine-tuning at "
            f"{words[TUNING_RATE]}.",
        ),
    ]
