"""Pre-trained networks as backbones: cut in two, run once where frozen, tuned in their last layers.

A backbone is a Keras model from the pixels that it was trained on to an output `(n, h, w, c)`. It
always computes in inference mode, also while its last layers are tuned: batch normalisation keeps
what it learnt in its first training, and nothing is dropped (Keras's guide "Transfer learning and
fine-tuning"). `training=False` in a functional model is not enough for that: Keras 3's `fit` calls
every layer with `training=True` (keras-team/keras, issue 20285).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

import keras
import numpy as np

from tasks.core.array_types import Float32
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted
from tasks.core.names import BACKBONE
from tasks.core.networks.families import VIEW_LOGITS
from tasks.core.networks.own import apart, with_seeds
from tasks.core.networks.stack import glorot
from tasks.core.networks.vgg16_layout import MEAN_BGR
from tasks.core.seeds import layer_seed
from tasks.core.settings.backbone import PixelScale, Pooling

# Images of 96 x 96 pixels per batch of the frozen layers; larger images are fewer at a time.
_BATCH, _BATCH_SIDE = 128, 96
# ImageNet's mean and standard deviation of red, green and blue in [0, 1] (`imagenet_utils`).
_MEAN_RGB, _DEVIATION_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Weights of red, green and blue in a grey value (ITU-R BT.601), as pictures are converted.
_GREY = (0.299, 0.587, 0.114)
_SHOWN = 8

Shape = tuple[int, int, int]


def application(name: str, side: int, seed: int) -> keras.Model:
    """A network of `keras.applications` without top, with random weights that depend on `seed`.

    Raises:
        UserError: the network does not take images of this size.
    """

    def made() -> keras.Model:
        model = getattr(keras.applications, name)(
            weights=None, include_top=False, input_shape=(side, side, 3)
        )
        config = with_seeds(keras.saving.serialize_keras_object(model), seed, "")
        return keras.saving.deserialize_keras_object(config, safe_mode=True)

    try:
        return apart(made)
    except ValueError as error:
        raise UserError(
            f"transfer.backbone.side is {side}, which {name} does not take "
            f"({first_line(error, 160)}); set another side."
        ) from None


def as_backbone(model: keras.Model, cut: str | None, what: str) -> keras.Model:
    """The part of a model up to layer `cut`, or to its last output with height and width.

    Raises:
        UserError: the model has no such layer, or does not take images of one size.
    """
    # A network that averages its logits of several views of an image: of each view, the same part.
    inside = [layer for layer in model.layers if layer.name == VIEW_LOGITS]
    model = inside[0] if inside else model
    if cut is None:
        # The last layer of rank 4 through which everything passes.
        inputs = {
            layer.name for layer in model.layers if isinstance(layer, keras.layers.InputLayer)
        }
        places = [
            name
            for name in cut_points(model)
            if name not in inputs and len(_output(model, name).shape) == 4
        ]
        if not places:
            raise UserError(
                f"{what}: no layer of the model has height and width as its output; use a "
                "convolutional network."
            )
        cut = places[-1]
    elif cut not in cut_points(model):
        raise UserError(_no_cut("transfer.backbone.cut", cut, model))
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(
            f"{what}: the model takes {shape}; expected one input of images, (n, height, width, 1 "
            "or 3)."
        )
    found = keras.Model(model.input, _output(model, cut), name=BACKBONE)
    for layer in found._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            # In inference mode wherever it is trained, also by others who load the model.
            layer.trainable = False
    if len(found.output_shape) != 4 or None in found.output_shape[1:]:
        raise UserError(
            f"{what}: the output of layer {quoted(cut)} is {found.output_shape}; expected height, "
            "width and channels; set transfer.backbone.cut to another layer, or use a model that "
            "takes images of one size."
        )
    return found


def cut_points(model: keras.Model) -> list[str]:
    """The layers through which everything passes, in order: the network can be cut after them.

    After such a layer, its output is the only tensor that later layers use.

    Raises:
        UserError: a layer is used more than once.
    """
    tensors = {id(tensor) for tensor in model.outputs}
    uses: Counter[int] = Counter()
    nodes = _nodes(model)
    for node in nodes.values():
        uses.update(map(id, node.input_tensors))
    open_uses: dict[int, int] = {}
    found = []
    for name, node in nodes.items():
        for tensor in node.input_tensors:
            open_uses[id(tensor)] -= 1
            if not open_uses[id(tensor)]:
                del open_uses[id(tensor)]
        outputs = node.output_tensors
        for tensor in outputs:
            if uses[id(tensor)] or id(tensor) in tensors:
                open_uses[id(tensor)] = uses[id(tensor)] + (id(tensor) in tensors)
        if len(outputs) == 1 and list(open_uses) == [id(outputs[0])]:
            found.append(name)
    return found


def _nodes(model: keras.Model) -> dict[str, Any]:
    """The input and output tensors of layers, and of operations such as `x + y` between them.

    They are by name and in order. `input` and `output` of a model within a model, which may be a
    layer here, are those inside it.
    """
    found: dict[str, Any] = dict.fromkeys(operation.name for operation in model.operations)
    for node in chain.from_iterable(model._nodes_by_depth.values()):
        name = node.operation.name
        if found[name] is not None:
            raise UserError(
                f"the backbone uses layer {quoted(name)} more than once; name a model in which "
                "each layer is used once."
            )
        found[name] = node
    return found


def tuned_after(backbone: keras.Model, named: str | None) -> str:
    """The layer after which fine-tuning trains: `named`, or the last one before the lowest part.

    That part has the lowest resolution at which there are layers with weights; in VGG16 it is
    block 5.

    Raises:
        UserError: the network can't be cut after the named layer, or nothing is left to train.
    """
    points = cut_points(backbone)
    if named is not None:
        if named not in points:
            raise UserError(_no_cut("transfer.backbone.tuned_after", named, backbone))
        if named == points[-1] or not part(backbone, named, None).trainable_weights:
            raise UserError(
                f"transfer.backbone.tuned_after is {quoted(named)}, and no layer after it has "
                "weights; name an earlier layer."
            )
        return named
    # What lies between two cut points has the resolution of the second.
    weighted = [
        (before, _pixels(backbone, point))
        for before, point in pairwise(points)
        if part(backbone, before, point).trainable_weights
    ]
    if not weighted:
        raise UserError(
            "the backbone has no layers that could be tuned; set "
            "transfer.backbone.fine_tune_epochs to 0."
        )
    lowest = min(pixels for _, pixels in weighted)
    return next(before for before, pixels in weighted if pixels == lowest)


def rates_by_layer(backbone: keras.Model, after: str, decay: float) -> dict[str, float]:
    """The part of the learning rate for the layers after `after`, by name; empty for 1.

    Layers of the lowest resolution, like the head, learn at the full rate.
    """
    if decay == 1:
        return {}
    points = cut_points(backbone)
    found = {
        layer.name: _pixels(backbone, end)
        for start, end in pairwise(points[points.index(after) :])
        for layer in part(backbone, start, end).layers
        if layer.weights
    }
    resolutions = sorted(set(found.values()))
    return {name: decay ** resolutions.index(pixels) for name, pixels in found.items()}


def _pixels(model: keras.Model, name: str) -> int:
    """Height times width of a layer's output."""
    shape = _output(model, name).shape
    return math.prod(shape[1:3]) if len(shape) == 4 else 1


def _no_cut(setting: str, named: str, model: keras.Model) -> str:
    points = cut_points(model)
    return (
        f"{setting} is {quoted(named)}; expected a layer through which everything passes, such as "
        f"{listed(points[-_SHOWN:])}."
    )


def _output(model: keras.Model, name: str) -> keras.KerasTensor:
    found: keras.KerasTensor = _nodes(model)[name].output_tensors[0]
    return found


def part(backbone: keras.Model, after: str | None, up_to: str | None) -> keras.Model:
    """The layers after `after` (None: from the input) up to `up_to` (None: to the end).

    It shares their weights.
    """
    start = backbone.input if after is None else _output(backbone, after)
    end = backbone.output if up_to is None else _output(backbone, up_to)
    return keras.Model(start, end)


def converted(image: keras.KerasTensor, backbone: keras.Model, pixels: PixelScale) -> Any:
    """Images `(n, h, w, 1 or 3)` in [0, 1] as the backbone's input, by layers.

    They are resized bilinearly to its size, whatever their proportions, with anti-aliasing if they
    shrink; then a frozen dense layer repeats, weights or swaps the channels and scales the values.
    """
    height, width, channels = backbone.input_shape[1:]
    height, width = height or image.shape[1], width or image.shape[2]
    x = image
    if tuple(x.shape[1:3]) != (height, width):
        shrinks = max(x.shape[1:3]) > max(height, width)
        x = keras.layers.Resizing(height, width, antialias=shrinks, name="resized")(x)
    kernel, bias = _pixel_weights(x.shape[3], channels, pixels)
    scaling = keras.layers.Dense(channels, trainable=False, name="pixels")
    x = scaling(x)
    scaling.set_weights([kernel, bias])
    return x


def _pixel_weights(given: int, wanted: int, pixels: PixelScale) -> tuple[Float32, Float32]:
    """Kernel `(given, wanted)` and bias that turn channels in [0, 1] into the backbone's."""
    if given == wanted:
        colours = np.eye(wanted)
    elif given == 1:
        colours = np.ones((1, wanted))
    else:
        colours = np.array(_GREY)[:, np.newaxis]
    scale, offset = np.ones(wanted), np.zeros(wanted)
    if pixels == "raw":
        scale = scale * 255
    elif pixels == "tf":
        scale, offset = scale * 2, offset - 1
    elif pixels == "torch" and wanted == 3:
        scale = 1 / np.array(_DEVIATION_RGB)
        offset = -np.array(_MEAN_RGB) * scale
    elif pixels == "caffe" and wanted == 3:
        colours, scale, offset = colours[:, ::-1], scale * 255, -np.array(MEAN_BGR)
    return (colours * scale).astype(np.float32), offset.astype(np.float32)


def frozen_part(backbone: keras.Model, shape: Shape, pixels: PixelScale, up_to: str) -> keras.Model:
    """From images of a data set, in [0, 1], to the output of layer `up_to`."""
    image = keras.Input(shape, name="image")
    below = part(backbone, None, up_to)
    return keras.Model(image, below(converted(image, backbone, pixels), training=False))


def batch_size(backbone: keras.Model) -> int:
    """Images per batch of the frozen layers; every size of images takes the same memory."""
    height, width = (side or _BATCH_SIDE for side in backbone.input_shape[1:3])
    return max(1, _BATCH * _BATCH_SIDE**2 // (height * width))


def outputs(model: keras.Model, batches: Iterable[Float32]) -> Iterator[Float32]:
    """The output of a part for each batch, in inference mode."""
    for batch in batches:
        yield model.predict_on_batch(batch)


def complete_network(
    backbone: keras.Model,
    shape: Shape,
    pixels: PixelScale,
    pooling: Pooling,
    dense: int,
    dropout: float,
    classes: int,
    seed: int,
) -> keras.Model:
    """From images of a data set, in [0, 1], to probabilities; the head's weights are seeded."""
    image = keras.Input(shape, name="image")
    x = backbone(converted(image, backbone, pixels), training=False)
    pools = {
        "average": keras.layers.GlobalAveragePooling2D,
        "maximum": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }
    x = pools[pooling](name="pooled")(x)
    if dense:
        x = keras.layers.Dense(
            dense, activation="relu", kernel_initializer=glorot(seed, "head"), name="head"
        )(x)
    x = keras.layers.Dropout(dropout, seed=layer_seed(seed, "head_dropout"), name="head_dropout")(x)
    probabilities = keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=glorot(seed, "probabilities"),
        name="probabilities",
    )(x)
    return keras.Model(image, probabilities, name="transfer")


class InferenceMode(keras.layers.Layer):  # type: ignore[misc]
    """A model as a layer that computes in inference mode, also while its weights are trained."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="tuned")
        self.model = model

    def call(self, x: Any) -> Any:
        """Apply the model."""
        return self.model(x, training=False)


def trainable_part(complete: keras.Model, after: str | None) -> keras.Model:
    """From the output of the backbone's layer `after` to probabilities, sharing weights.

    None: from the backbone's output, so only the head is trained. Training this part on features is
    the same as training the complete network with all layers up to `after` frozen, because they
    compute in inference mode.
    """
    backbone = complete.get_layer(BACKBONE)
    names = [layer.name for layer in complete.layers]
    if after is None:
        x = features = keras.Input(backbone.output_shape[1:], name="features")
    else:
        rest = part(backbone, after, None)
        features = keras.Input(rest.input_shape[1:], name="features")
        x = InferenceMode(rest)(features)
    for layer in complete.layers[names.index("pooled") :]:
        x = layer(x)
    return keras.Model(features, x, name="trainable_part")
