"""The transfer from VGG16 in the report: its variants and their differences from the notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tasks.core.settings.transfer import VARIANTS, TransferVariant, corrected_transfer

LABELS = {"as_notebook": "As in the notebook", "corrected": "Corrected"}
DEFAULTS = {"as_notebook": TransferVariant(), "corrected": corrected_transfer()}
PIXELS = {
    "raw": "RGB, 0 to 255",
    "vgg16": "BGR, ImageNet mean subtracted (VGG16's own preprocessing)",
}
LOSSES = {
    "binary_crossentropy": "binary cross-entropy",
    "categorical_crossentropy": "categorical cross-entropy",
}
DECAYS = {"none": "constant", "cosine": "warm-up, then cosine decay to 0"}
INPUT, SIDE, LAYER, LOSS = "Pixel values", "Image size", "Last layer used", "Loss"
RATE, TUNING_RATE = "RMSprop learning rate, frozen base", "RMSprop learning rate, fine-tuning"
EPOCHS = "Epochs, frozen + fine-tuning"


@dataclass(frozen=True)
class Difference:
    """A difference between this program and the notebook, with the reason."""

    where: str
    notebook: str
    here: str


@dataclass(frozen=True)
class Variant:
    """A transfer variant that has results.

    Attributes:
        key: its name in the settings.
        label: its name for readers.
        frozen: the model with the frozen base.
        fine_tuned: the model whose last block was fine-tuned.
        words: its settings in words, by label.
        binary: whether it was trained with binary cross-entropy.
        swapped: whether VGG16 gets BGR instead of RGB images.
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

    Args:
        models: the names of the models with results.
        settings: the transfer settings; a variant that is missing has its default settings.
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
        RATE: f"{_decimal(spec.learning_rate)}, {decay}",
        TUNING_RATE: f"{_decimal(spec.fine_tune_learning_rate)}, {decay}",
        EPOCHS: f"{spec.epochs} + {spec.fine_tune_epochs}",
    }


def _decimal(rate: float) -> str:
    """A learning rate without an exponent, in which a line could break."""
    return f"{Decimal(str(rate)):f}"


def transfer_differences(variants: Sequence[Variant]) -> list[Difference]:
    """The differences from the notebook's transfer; none without transfer results."""
    if not variants:
        return []
    points = [
        Difference(
            "VGG16, frozen layers",
            "Every image passes through all of VGG16 in each epoch.",
            "The outputs of the frozen layers are computed once and used for training, which is "
            "equal up to rounding and takes a fraction of the time.",
        )
    ]
    for variant in variants:
        points += _CLEAN_START if variant.key == "as_notebook" else _corrections(variant.words)
    return points


_CLEAN_START = [
    Difference(
        "VGG16, start",
        "The log begins at 94.6 % training accuracy, so the cell had probably been run before.",
        "A clean start: a new head, and for fine-tuning the model from the frozen stage.",
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
            "Softmax with binary cross-entropy; RMSprop at a constant learning rate of 0.00001.",
            f"Softmax with {words[LOSS]}; RMSprop at {words[RATE]}; for fine-tuning at "
            f"{words[TUNING_RATE]}.",
        ),
    ]
