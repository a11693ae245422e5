"""Read VGG16's weights from HDF5 without Keras, so that errors can name layer and shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.core.networks.vgg16_layout import Weights, check_weights, layer_shapes


def read_weights(path: Path) -> Weights:
    """The base's weights from `.h5` (as Keras publishes them) or `.weights.h5` (Keras 3).

    Raises:
        UserError: the file is not HDF5, or does not contain the weights of VGG16 without top; the
            message names the layer and gives the expected shape and the shape found.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers = _legacy_layers(file) if "layer_names" in file.attrs else _keras_3_layers(file)
    except (OSError, KeyError) as error:
        raise UserError(
            f"{path} is not an HDF5 file with weights ({first_line(error)}); use weights of "
            "VGG16, as Keras saves them."
        ) from None
    weights = {
        f"{layer}/{name}": value
        for layer, values in layers.items()
        for name, value in zip(("kernel", "bias"), values, strict=False)
    }
    check_weights(weights, str(path))
    _refuse_more_convolutions(layers, path)
    return {name: weights[name] for layer in layer_shapes() for name in _names(layer)}


def _refuse_more_convolutions(layers: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Refuse VGG19, which has every layer of VGG16 and three more; allow a classifier on top."""
    for layer, values in layers.items():
        if layer not in layer_shapes() and values and values[0].ndim == 4:
            raise UserError(
                f"{path}: these are not weights of VGG16 without top: VGG16 has no {layer}/kernel, "
                f"found {values[0].dtype} {values[0].shape}. Use weights of VGG16."
            )


def _names(layer: str) -> tuple[str, str]:
    return f"{layer}/kernel", f"{layer}/bias"


def _legacy_layers(file: Any) -> dict[str, list[Any]]:
    """Keras 1 and 2: attributes list each layer's weights in order; the names vary."""
    layers = {}
    for name in map(_text, file.attrs["layer_names"]):
        group = file.get(name)
        if group is not None:
            listed = group.attrs.get("weight_names", [])
            layers[name] = [np.asarray(group[_text(weight)]) for weight in listed]
    return layers


def _keras_3_layers(file: Any) -> dict[str, list[Any]]:
    """Keras 3: `layers/<name>/vars/0`, `1`; convolutions have the layers' names or numbers."""
    groups = file.get("layers", {})
    found = {name: groups[name]["vars"] for name in groups if len(groups[name].get("vars", ()))}
    ordered = sorted(found, key=_natural)
    expected = list(layer_shapes())
    names = ordered if set(ordered) >= set(expected) else expected + ordered[len(expected) :]
    return {
        name: [np.asarray(found[key][index]) for index in sorted(found[key], key=int)]
        for name, key in zip(names, ordered, strict=False)
    }


def _natural(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)_?(\d*)", name)
    assert match is not None
    return match[1], int(match[2] or 0)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
