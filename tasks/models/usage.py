"""What somebody must know to use a model that a run made, with plain Keras or with `predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.storage.exchange import Outputs

# How pixels become what a model reads, by name.
SCALED, RAW, VGG16 = "scaled", "raw", "vgg16"

_RESIZED = (
    "uint8 pixels (0 to 255), grey repeated to RGB, resized by tf.image.resize (bilinear, "
    "antialias=True where an image is larger than the input)"
)
PREPROCESSING = {
    SCALED: "uint8 pixels (0 to 255) divided by 255",
    RAW: _RESIZED,
    VGG16: (
        f"{_RESIZED}; then keras.applications.vgg16.preprocess_input (BGR, ImageNet's mean "
        "subtracted)"
    ),
}
# What is known of the images, and handed on by every stage that makes others of them.
ABOUT_IMAGES = ("dataset", "class_names", "image_shape", "ground")


def about_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts on a data set that its models' users need."""
    return {name: facts[name] for name in ABOUT_IMAGES}


def write_usage(
    outputs: Outputs,
    about: Mapping[str, Any],
    shape: Sequence[int | None],
    method: str,
    files: Mapping[str, str],
) -> None:
    """Leave `usage.json` beside the model; `about` are the facts on its data set."""
    usage = {
        "dataset": about["dataset"],
        "class_names": about["class_names"],
        "image": {"shape": about["image_shape"], "dtype": "uint8", "ground": about["ground"]},
        "input": {
            "shape": ["n", *shape],
            "dtype": "float32",
            "method": method,
            "preprocessing": PREPROCESSING[method],
        },
        "output": "probabilities of the classes, in the order of class_names",
        "files": dict(files),
    }
    outputs.blob("usage", "json", json.dumps(usage, indent=1).encode())
