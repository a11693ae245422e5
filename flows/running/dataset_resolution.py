"""Resolve the data set of a run: check its path, or replace Fashion-MNIST if unavailable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.recipe import stages
from tasks.core.errors import UnavailableError, UserError
from tasks.core.messages import quoted
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.engine.keys import key_of
from tasks.sources.fashion_mnist import RAW_FOLDER, download_fashion_mnist, find_fashion_mnist
from tasks.sources.keras_home import UserEnvironment
from tasks.sources.remote import is_remote
from tasks.storage.store import Store

log = logging.getLogger("fashion_flow")


def resolve(
    store: Store, settings: Settings, profile: Mapping[str, Any], *, replaceable: bool, fetch: bool
) -> tuple[Settings, str]:
    """Choose an available data set; return the settings with it, and a notice if it was replaced.

    Only Fashion-MNIST can be replaced, by synthetic images, and never without a notice. A path
    becomes absolute.

    Args:
        store: may already hold Fashion-MNIST.
        settings: name the data set.
        profile: the execution profile, which is part of the key in the store.
        replaceable: whether synthetic images may replace Fashion-MNIST.
        fetch: whether to download Fashion-MNIST if it is not on this machine.

    Raises:
        UserError: the data set is neither a known name nor an existing path.
    """
    if settings.dataset == "synthetic":
        return settings, ""
    if settings.dataset != "fashion-mnist":
        return settings.model_copy(update={"dataset": _existing(settings.dataset)}), ""
    if not replaceable or _available(store, settings, profile):
        return settings, ""
    if not fetch:
        return settings, (
            "Fashion-MNIST is not on this machine: a run would download it, or use synthetic "
            "images if the download fails."
        )
    try:
        download_fashion_mnist(RAW_FOLDER, log.info)
    except UnavailableError as error:
        notice = (
            "SYNTHETIC DATA: this run uses images drawn by the program, so its scores say nothing "
            f"about Fashion-MNIST. {error}"
        )
        return settings.model_copy(update={"dataset": "synthetic"}), notice
    return settings, ""


def _existing(dataset: str) -> str:
    """The absolute path of a data set, or its address.

    Raises:
        UserError: it does not exist.
    """
    if is_remote(dataset):
        return dataset
    path = Path(dataset).expanduser().absolute()
    if not path.exists():
        raise UserError(
            f"dataset {quoted(dataset, 100)}: expected auto, fashion-mnist, synthetic, or the "
            "path or s3:// address of your own images; there is no such path."
        )
    return str(path)


def _available(store: Store, settings: Settings, profile: Mapping[str, Any]) -> bool:
    """Whether Fashion-MNIST is already in the store or on this machine."""
    stage = stages.load(settings)
    key, _ = key_of(stage, {}, profile)
    if isinstance(store.lookup(stage, key), Record):
        return True
    return find_fashion_mnist(UserEnvironment(), Path.cwd()) is not None
