"""What a run on a data set is likely to cost: time, memory and disk, roughly and in advance.

The figures behind it are those of docs/performance.md: CPU seconds per 1,000 images and epoch, on
28 x 28 pixels for the notebook's convolutional network and on 32 x 32 for VGG16, and the peak
memory of whole runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tasks.core.errors import UserError
from tasks.core.settings.base import merged
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import LOWEST_VALIDATION_LOSS
from tasks.core.settings.transfer import TransferVariant

# CPU seconds per 1,000 images: an epoch of the networks, and VGG16's frozen layers, an epoch of
# its last block, and its scores on test images.
NETWORK_S, FROZEN_S, TUNED_S, SCORED_S = 0.55, 3.4, 1.0, 0.8
NETWORK_PIXELS, VGG16_PIXELS = 28 * 28, 32 * 32
# The epoch of the lowest validation loss, as a share of all: 11 of 40 in the notebook.
LOWEST_SHARE = 11 / 40
# Peak memory in MiB of a run without and with VGG16, and what it holds of each of two arrays.
NETWORKS_MIB, VGG16_MIB, HELD_MIB = 1_500, 3_000, 256
MIB = 2**20


@dataclass(frozen=True)
class Costs:
    """About what a run takes that finds nothing in the store.

    Attributes:
        seconds: of the networks.
        vgg16_seconds: of VGG16's part of the run; 0 without it.
        memory_mib: peak memory, in MiB.
        disk_mib: space that the images take in the store, in MiB.
    """

    seconds: float
    vgg16_seconds: float
    memory_mib: float
    disk_mib: float


def estimated(
    settings: Settings, sizes: Mapping[str, int], raw: int, shape: tuple[int, int, int]
) -> Costs:
    """The likely costs of a run with these settings.

    Args:
        settings: the run's settings.
        sizes: the images of each split.
        raw: all images of the data set.
        shape: height, width and channels of an image.
    """
    height, width, channels = shape
    cores = min(os.cpu_count() or 1, settings.execution.threads * settings.execution.workers)
    pixels = height * width
    trained = sizes["train"] + sizes["validation"]
    per_epoch = NETWORK_S / 1_000 * pixels / NETWORK_PIXELS
    seconds = per_epoch * (
        _search_epochs(settings) * sizes["train"] * _trainings(settings)
        + _last_epochs(settings) * trained * settings.evaluation.replicates
    )
    times = _trainings(settings) if settings.transfer.competes else 1
    vgg16 = sum(
        _transfer_seconds(one, trained, sizes["test"], times) for one in _variants(settings)
    )
    held = min(HELD_MIB, trained * pixels * channels / MIB) * 2
    return Costs(
        seconds / cores,
        vgg16 / cores,
        (VGG16_MIB if vgg16 else NETWORKS_MIB) + held,
        # `load` stores all, `subset` and `preprocess` the run's splits, a byte for each value.
        (raw + 2 * sum(sizes.values())) * pixels * channels / MIB,
    )


def _trainings(settings: Settings) -> int:
    folds = settings.evaluation.folds if settings.evaluation.protocol == "kfold" else 1
    return settings.evaluation.replicates * folds


def _changes(settings: Settings) -> list[float]:
    """The epochs of each iteration, as if every change of them were kept."""
    found: list[float] = []
    epochs: int | str = settings.overfitting.epochs
    for entry in settings.plan:
        change = {name: value for name, value in entry.change.items() if name == "epochs"}
        with suppress(UserError):  # the change fits another incumbent
            epochs = merged({"epochs": epochs}, change)["epochs"]
        found.append(_number(epochs, settings))
    return found


def _number(epochs: int | str, settings: Settings) -> float:
    if epochs == LOWEST_VALIDATION_LOSS:
        return LOWEST_SHARE * float(settings.overfitting.epochs)
    return float(epochs)


def _search_epochs(settings: Settings) -> float:
    return float(settings.overfitting.epochs) + sum(_changes(settings))


def _last_epochs(settings: Settings) -> float:
    return [float(settings.overfitting.epochs), *_changes(settings)][-1]


def _variants(settings: Settings) -> list[TransferVariant]:
    transfer = settings.transfer
    if transfer.weights == "off":
        return []
    both = {"as_notebook": transfer.as_notebook, "corrected": transfer.corrected}
    return [one for name, one in both.items() if transfer.variant in ("both", name)]


def _transfer_seconds(variant: TransferVariant, trained: int, tested: int, times: int) -> float:
    """Seconds of a variant that is trained so many times; all trainings share its features."""
    tuned = times * TUNED_S * variant.fine_tune_epochs
    each = (FROZEN_S + tuned) * trained + times * SCORED_S * 2 * tested
    return each / 1_000 * variant.side**2 / VGG16_PIXELS
