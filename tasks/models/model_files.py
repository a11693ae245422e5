"""Save and load models; the bytes of a file depend on the model alone."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import keras

# The earliest date that a zip archive can hold, in place of the current one.
NO_DATE = (1980, 1, 1, 0, 0, 0)


def save_keras(model: keras.Model, path: Path) -> None:
    """Save as `.keras`, without the dates that Keras writes into the archive and its metadata."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    members["config.json"] = _renumbered(members["config.json"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, NO_DATE), content)


def _renumbered(config: bytes) -> bytes:
    """Replace the ids of shared objects, which are memory addresses, by consecutive numbers."""
    numbers: dict[bytes, int] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return match[1] + str(numbers.setdefault(match[2], len(numbers))).encode()

    return re.sub(rb'("shared_object_id": )(\d+)', number, config)


def save_h5(model: keras.Model, path: Path) -> None:
    """Save as HDF5, the legacy format that the notebook uses."""
    model.save(path)


def fits_hdf5(model: keras.Model) -> bool:
    """Whether an HDF5 file can hold the model: not operations such as `x + y` between layers."""
    return all(
        isinstance(operation, keras.layers.Layer)
        and (not isinstance(operation, keras.Model) or fits_hdf5(operation))
        # A sequence has layers only.
        for operation in getattr(model, "operations", model.layers)
    )


def load_keras(path: Path) -> keras.Model:
    """Load a `.keras` or `.h5` model, uncompiled; a model that contains code is refused."""
    return keras.models.load_model(path, compile=False, safe_mode=True)
