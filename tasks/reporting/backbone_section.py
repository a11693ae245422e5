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


def backbone_view(
    models: Sequence[str], settings: Mapping[str, Any], facts: Mapping[str, Any]
) -> BackboneView | None:
    """The backbone's part of a run, None without results of it.

    Args:
        models: the names of the models with results.
        settings: the transfer settings.
        facts: those of the backbone, and the `image_shape` of the run's images.
    """
    found = tuple(name for name in (BACKBONE_FROZEN, BACKBONE_FINE_TUNED) if name in models)
    try:
        chosen = BackboneSettings.model_validate(settings.get("backbone") or {})
    except ValidationError:
        return None
    if not found or chosen.name is None:
        return None
    name = PurePath(chosen.name).name
    if chosen.earlier:
        run_id, model = chosen.earlier
        name = f"{model} of run {run_id}"
    words = {
        "Network": name,
        "Pixel values": PIXELS[facts.get("pixels") or chosen.pixel_scale or "unit"],
        **_images(facts),
        "Last layer used": chosen.cut or "the last with height and width",
        "Fine-tuning trains the layers after": chosen.tuned_after
        or "the last one above the lowest resolution",
        "RMSprop learning rate, frozen": _decimal(chosen.learning_rate),
        "RMSprop learning rate, fine-tuning": _decimal(chosen.fine_tune_learning_rate),
        "Epochs, frozen + fine-tuning": f"{chosen.epochs} + {chosen.fine_tune_epochs}",
    }
    if chosen.rate_decay < 1:
        words["Part of the rate for each step up in resolution"] = f"{chosen.rate_decay:g}"
    return BackboneView(name, found, words)


def _images(facts: Mapping[str, Any]) -> dict[str, str]:
    """The size and colour of its images, and what becomes of those of the run."""
    if not {"input_shape", "image_shape"} <= set(facts):
        return {}
    given, wanted = facts["image_shape"], facts["input_shape"]
    # A network that takes every size takes that of the run's images.
    wanted = [side or own for side, own in zip(wanted, given, strict=True)]
    changes = []
    if given[:2] != wanted[:2]:
        changes.append("resized, whatever their proportions")
    if given[2] != wanted[2]:
        repeated = "repeated in three channels" if wanted[2] > given[2] else "made grey"
        changes.append(repeated)
    made = f": the run's images, {_size(given)}, are {' and '.join(changes)}" if changes else ""
    return {"Images": f"{_size(wanted)}{made}"}


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{height} x {width} {'RGB' if channels > 1 else 'grey'}"


def _decimal(rate: float) -> str:
    """A learning rate without an exponent, in which a line could break."""
    return f"{Decimal(str(rate)):f}, warm-up, then cosine decay to 0"
