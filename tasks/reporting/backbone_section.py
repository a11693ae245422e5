"""The transfer from a backbone in the report: its models and its settings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from tasks.core.names import BACKBONE_FINE_TUNED, BACKBONE_FROZEN
from tasks.core.settings.backbone import BackboneSettings

PIXELS = {
    "unit": "0 to 1",
    "raw": "0 to 255 (the network scales them itself)",
    "tf": "-1 to 1",
    "torch": "ImageNet's mean subtracted, divided by its standard deviation",
    "caffe": "BGR, ImageNet's mean subtracted",
}


@dataclass(frozen=True)
class BackboneView:
    """What the report says of the backbone.

    Attributes:
        name: the network, or the name of its file.
        models: its models that have results, the frozen one first.
        words: its settings in words, by label.
    """

    name: str
    models: tuple[str, ...]
    words: Mapping[str, str]


def backbone_view(models: Sequence[str], settings: Mapping[str, Any]) -> BackboneView | None:
    """The backbone's part of a run, None without results of it.

    Args:
        models: the names of the models with results.
        settings: the transfer settings.
    """
    found = tuple(name for name in (BACKBONE_FROZEN, BACKBONE_FINE_TUNED) if name in models)
    try:
        chosen = BackboneSettings.model_validate(settings.get("backbone") or {})
    except ValidationError:
        return None
    if not found or chosen.name is None:
        return None
    name = PurePath(chosen.name).name
    words = {
        "Network": name,
        "Pixel values": PIXELS[chosen.pixel_scale],
        "Image size": "its own" if chosen.is_file else f"{chosen.side} x {chosen.side}",
        "Last layer used": chosen.cut or "the last with height and width",
        "Fine-tuning trains the layers after": chosen.tuned_after
        or "the last one above the lowest resolution",
        "RMSprop learning rate, frozen": _decimal(chosen.learning_rate),
        "RMSprop learning rate, fine-tuning": _decimal(chosen.fine_tune_learning_rate),
        "Epochs, frozen + fine-tuning": f"{chosen.epochs} + {chosen.fine_tune_epochs}",
    }
    return BackboneView(name, found, words)


def _decimal(rate: float) -> str:
    """A learning rate without an exponent, in which a line could break."""
    return f"{Decimal(str(rate)):f}, warm-up, then cosine decay to 0"
