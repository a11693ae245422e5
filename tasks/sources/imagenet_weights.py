"""Files with the ImageNet weights of `keras.applications`: from Keras's cache, or downloaded."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from tasks.core.errors import UnavailableError, UserError
from tasks.core.messages import first_line
from tasks.core.networks.imagenet_files import IMAGENET
from tasks.sources.download import download
from tasks.sources.keras_home import keras_home

log = logging.getLogger("fashion_flow")

_MD5_LENGTH = 32


def imagenet_file(name: str) -> Path:
    """The file for a network without top, verified if Keras publishes its checksum.

    Raises:
        UnavailableError: it is not in Keras's cache and can't be downloaded.
    """
    there = IMAGENET[name]
    path = keras_home() / "models" / there.name

    def verify(file: Path) -> None:
        _verify(file, there.digest)

    if path.is_file():
        try:
            verify(path)
        except UserError as error:
            log.warning("%s; downloading it again", error)
        else:
            return path
    try:
        return download(there.url, path, verify=verify, log=log.info)
    except UnavailableError as error:
        raise UnavailableError(
            f"the ImageNet weights of {name} are not available. Set transfer.backbone.weights_file "
            "to a file with them, or use --transfer-weights random for a control with random "
            f"weights. ({first_line(error, 100)})"
        ) from error


def _verify(path: Path, digest: str | None) -> None:
    if digest is None:
        return
    algorithm = "md5" if len(digest) == _MD5_LENGTH else "sha256"
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, algorithm).hexdigest()
    if found != digest:
        raise UserError(f"{path}: expected {algorithm.upper()} {digest}, found {found}")
