"""Write `usage.json`: how to use a model with plain Keras or with `fashion-flow predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.data.depths import WHITES
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
# How pictures become images, step by step: see `tasks.core.data.photographs.framed`.
_DECODED = (
    "Decode the picture; a large JPEG at 1/2, 1/4 or 1/8 of its size, the least that leaves both "
    "sides at least 320 pixels and twice the longer side of this shape."
)
_DEEP = (
    "Multiply whole numbers of more than 8 bits per channel by 255, divide them by white, and "
    "round them. White is {}."
)
_LEAST = (
    "{}, the least that no colour of the picture exceeds; for its opacity, that no opacity exceeds "
    "either"
)
_UPRIGHT = (
    "Turn it as its EXIF orientation says. Convert its colours from its own ICC profile, "
    "if it has one, to sRGB.",
    "If it now has this shape, 8 bits per channel and no transparency, it is the image.",
    "Make grey pictures of fractions 8 bits: white is 1, or 255 if a pixel exceeds 1.",
)
_CHANNELS = {
    1: "Make it grey: 0.299 red + 0.587 green + 0.114 blue.",
    3: "Make grey pictures RGB.",
}
_BACKGROUND = (
    "Its background is the median colour of the pixels of its border that are more than half "
    "opaque; white if these are at most half of the border. The border is a hundredth of the "
    "shorter side wide, at least one pixel."
)
_FITS = {
    "pad": "Scale it by Lanczos so that it just fits into this shape, at least one pixel a side.",
    "crop": "Cut it to the largest part around its centre with the proportions of this shape, and "
    "scale that by Lanczos.",
    "stretch": "Scale it by Lanczos to this shape, whatever its proportions.",
}
_OPACITY = (
    "Lay what is transparent over the background. (Colours were weighted by their opacity when "
    "they were scaled.)"
)
_PADDED = (
    "Centre it on the background; of an odd number of pixels around it, one more is on the right "
    "or below."
)
# Facts about the images; every stage that makes arrays from them passes these facts on.
ABOUT_IMAGES = ("dataset", "class_names", "image_shape", "ground", "fit", "white")


def about_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a data set that go into a `usage.json`."""
    return {name: facts[name] for name in ABOUT_IMAGES}


def from_pictures(channels: int, fit: str, white: int) -> list[str]:
    """How a picture of any size becomes an image of the data set, in steps."""
    whites = " or ".join(str(one) for one in WHITES if one >= white)
    deep = _DEEP.format(_LEAST.format(whites) if white < WHITES[-1] else whites)
    steps = [_DECODED, deep, *_UPRIGHT, _CHANNELS[channels], _BACKGROUND, _FITS[fit], _OPACITY]
    return steps + [_PADDED] * (fit == "pad")


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
            "white": about["white"],
            "from_pictures": from_pictures(about["image_shape"][2], about["fit"], about["white"]),
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
