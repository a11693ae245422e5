"""What a store can do, found by trying it before anything is computed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.core.errors import FashionFlowError
from tasks.storage.files import FULL, unusable
from tasks.storage.store_path import StorePath
from tasks.storage.urls import path_of


@dataclass(frozen=True)
class StoreHealth:
    """What a store can do.

    Attributes:
        place: the store's folder or address.
        can: whether it can be `read`, `written` and `locked` (in a bucket: written on a condition);
            None if that was not tried because another trial failed.
        free: the number of free bytes on the disk that receives its writes; None if unknown.
        free_in: the folder on that disk: the store's, or for a bucket that of fetched files.
        problem: what is wrong and what to do; None if nothing is.
    """

    place: str
    can: Mapping[str, bool | None]
    free: int | None
    free_in: str
    problem: str | None


@cache
def check_usable(root: StorePath, *, space: bool = True) -> None:
    """Refuse a store in which runs could not be trusted; tried once in a process.

    Args:
        root: the store.
        space: whether to refuse a full disk, too.

    Raises:
        StorageError: it can't be read, written or locked, or in a bucket written on a condition.
    """
    if root.known_usable():
        return
    for name, trial in root.trials().items():
        try:
            trial()
        except OSError as error:
            if space or error.errno not in FULL:
                raise unusable(root, error, name) from error
    root.remember_usable()


def examine(url: str) -> StoreHealth:
    """What the store of that URL can do, with a text about what is wrong; raises nothing."""
    try:
        root = path_of(url)
        trials = root.trials()
        _, disk = root.disk()
    except (FashionFlowError, OSError) as error:
        return StoreHealth(url, {}, None, "", str(error))
    can: dict[str, bool | None] = dict.fromkeys(trials)
    problem = None
    for name, trial in trials.items():
        try:
            trial()
        except OSError as error:
            problem = str(unusable(root, error, name))
        except FashionFlowError as error:
            problem = str(error)
        can[name] = problem is None
        if problem:
            break
    free, folder = _free(disk)
    return StoreHealth(str(root), can, free, folder, problem)


def _free(folder: Path) -> tuple[int | None, str]:
    with suppress(OSError):
        nearest = next(place for place in (folder, *folder.parents) if place.is_dir())
        return shutil.disk_usage(nearest).free, str(folder)
    return None, str(folder)
