"""Write `usage.json`: how to use a model with plain Keras or with `fashion-flow predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.names import USAGE
from tasks.storage.exchange import Outputs

# Names of the ways in which pixels become a model's input.
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
_FITS = {
    "pad": "scaled to fit, centred, and padded with the median colour of its border",
    "crop": "scaled to cover the image, and cut to its centre",
    "stretch": "scaled to the image's size",
}
# Facts about the images; every stage that makes arrays from them passes these facts on.
ABOUT_IMAGES = ("dataset", "class_names", "image_shape", "ground", "fit")


def about_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a data set that go into a `usage.json`."""
    return {name: facts[name] for name in ABOUT_IMAGES}


def write_usage(
    outputs: Outputs,
    about: Mapping[str, Any],
    shape: Sequence[int | None],
    method: str,
    files: Mapping[str, str],
) -> None:
    """Store `usage.json` beside a model.

    Args:
        outputs: where the model is stored.
        about: the facts about its data set.
        shape: the shape of one input.
        method: how pixels become an input: `scaled`, `raw` or `vgg16`.
        files: the model's files by format.
    """
    usage = {
        "dataset": about["dataset"],
        "class_names": about["class_names"],
        "image": {
            "shape": about["image_shape"],
            "dtype": "uint8",
            "ground": about["ground"],
            "fit": about["fit"],
            "from_pictures": (
                "turned as its EXIF orientation says, converted to sRGB"
                f"{' and then to grey' if about['image_shape'][2] == 1 else ''}, transparent parts "
                f"filled with the median colour of its border, {_FITS[about['fit']]} (Lanczos)"
            ),
        },
        "input": {
            "shape": ["n", *shape],
            "dtype": "float32",
            "method": method,
            "preprocessing": PREPROCESSING[method],
        },
        "output": "probabilities of the classes, in the order of class_names",
        "files": dict(files),
    }
    outputs.blob(USAGE, "json", json.dumps(usage, indent=1).encode())
