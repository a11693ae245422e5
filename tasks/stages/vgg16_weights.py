"""Get the weights of VGG16's convolutional base."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from tasks.core.errors import UnavailableError, UserError
from tasks.core.messages import first_line
from tasks.core.names import WEIGHTS
from tasks.core.networks.vgg16_layout import random_weights
from tasks.core.stage_specs import Vgg16WeightsSpec
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.sources.download import download
from tasks.sources.keras_home import keras_home
from tasks.sources.weight_files import read_weights

log = logging.getLogger("fashion_flow")

# As in keras.applications.vgg16 (WEIGHTS_PATH_NO_TOP and its file hash).
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
IMAGENET_MD5 = "6d6bbae143d832006294945121d1f1fc"


@stage_task(Vgg16WeightsSpec)
def vgg16_weights(spec: Vgg16WeightsSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store the base's weights as named arrays: from a file, from ImageNet, or random."""
    if spec.seed is not None:
        weights = random_weights(spec.seed)
    else:
        weights = read_weights(inputs.external[0] if inputs.external else _imagenet_file())
    outputs.arrays(WEIGHTS, **weights)
    return {"source": spec.source}


def _imagenet_file() -> Path:
    """Return the ImageNet file in Keras's cache, downloading it if needed; verify its checksum."""
    home = keras_home()
    path = home / "models" / IMAGENET_URL.rsplit("/", 1)[1]
    if path.is_file():
        try:
            _verify(path)
        except UserError as error:
            log.warning("%s; downloading it again", error)
        else:
            return path
    try:
        return download(IMAGENET_URL, path, verify=_verify, log=log.info)
    except UnavailableError as error:
        raise UnavailableError(
            "VGG16's ImageNet weights are not available. Name a file with --vgg16-weights FILE, "
            "or use --transfer-weights random for a control with random weights. "
            f"({first_line(error, 100)})"
        ) from error


def _verify(path: Path) -> None:
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "md5").hexdigest()
    if found != IMAGENET_MD5:
        raise UserError(f"{path}: expected MD5 {IMAGENET_MD5}, found {found}")
