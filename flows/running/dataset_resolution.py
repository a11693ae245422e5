"""What the data set `auto` of the command line means on this machine, now."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.recipe import stages
from tasks.core.errors import UnavailableError, UserError
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.engine.keys import key_of
from tasks.sources.fashion_mnist import RAW_FOLDER, download_fashion_mnist, find_fashion_mnist
from tasks.storage.store import Store

log = logging.getLogger("fashion_flow")


def resolve(
    store: Store, settings: Settings, profile: Mapping[str, Any], *, replaceable: bool, fetch: bool
) -> tuple[Settings, str]:
    """The settings with a data set that can be had, and a notice where it is not the one wanted.

    Fashion-MNIST is replaced by drawn images only where it is `replaceable`, and then loudly. With
    `fetch` it is downloaded first if need be. A path becomes absolute.

    Raises:
        UserError: the data set is neither known by name nor a path that exists.
    """
    dataset = settings.dataset
    if dataset != "fashion-mnist":
        if dataset == "synthetic":
            return settings, ""
        path = Path(dataset).expanduser().absolute()
        if not path.exists():
            raise UserError(
                f"dataset {dataset!r}: expected auto, fashion-mnist, synthetic, or the path of a "
                "folder of IDX files or of an .npz; there is no such path."
            )
        return settings.model_copy(update={"dataset": str(path)}), ""
    if not replaceable or _at_hand(store, settings, profile):
        return settings, ""
    if not fetch:
        return settings, (
            "Fashion-MNIST is not on this machine: a run would download it, or use synthetic "
            "images where that fails."
        )
    try:
        download_fashion_mnist(RAW_FOLDER, log.info)
    except UnavailableError as error:
        notice = (
            "SYNTHETIC DATA: this run uses images drawn by the program, not Fashion-MNIST, which "
            f"can't be had: {error} Its scores say nothing about Fashion-MNIST."
        )
        return settings.model_copy(update={"dataset": "synthetic"}), notice
    return settings, ""


def _at_hand(store: Store, settings: Settings, profile: Mapping[str, Any]) -> bool:
    """Whether Fashion-MNIST is in the store already or on this machine."""
    stage = stages.load(settings)
    key, _ = key_of(stage, {}, profile)
    if isinstance(store.lookup(stage, key), Record):
        return True
    return find_fashion_mnist(os.environ, Path.cwd()) is not None
