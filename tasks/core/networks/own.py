"""A network that a function built, as one of the program's: plain, seeded, with softmax last.

The function's model is only a description. It is written as Keras's JSON, every seed in it is
replaced by one of the run, and the network is built anew from that. So initial weights, dropout and
random layers depend on the run's seed alone, and nothing is left that plain Keras can't load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import keras
import numpy as np

from tasks.core.array_types import Float32
from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted, shortened
from tasks.core.seeds import generator, layer_seed

Shape = tuple[int, int, int]
T = TypeVar("T")

# Names of the last layers. Optimisers treat the kernel of `logits` as that of a last layer.
LOGITS, OUTPUT, PROBABILITIES = "logits", "output", "probabilities"
_PROBES = 3
# Sums may be taken in another order.
_RTOL, _ATOL = 1e-3, 1e-4
# Modules of Keras whose classes have no public name.
_PRIVATE = ("keras.src.models.", "keras.src.ops.")


def own_network(
    make: Callable[[], Any], shape: Shape, classes: int, seed: int, what: str, *, twice: bool
) -> keras.Model:
    """The network that `make` describes, from `(n, h, w, c)` in [0, 1] to probabilities.

    Args:
        make: returns a Keras model whose last layer gives logits or ends with softmax.
        shape: the shape of an image.
        classes: the number of classes.
        seed: of initial weights, dropout and random layers, in place of all seeds in the model.
        what: the function's name, for messages.
        twice: call `make` again, to find out whether it always makes the same model.

    Raises:
        UserError: it is no Keras model of this shape, or not one that plain Keras can load, or
            depends on more than its arguments.
    """

    def described() -> keras.Model:
        return _checked_shapes(_checked_settings(make, what), shape, classes, what)

    model = apart(described)
    config = _config_of(model, what)
    again = None
    if twice:
        again = apart(described)
        if _config_of(again, what) != config:
            raise UserError(
                f"{what} made two different models of the same arguments; everything that it "
                "chooses must follow from them."
            )
    made, softmax = _seeded(config, seed, what, last=_last_weighted(model))
    rebuilt = apart(lambda: _loaded(made, what))
    initial = rebuilt.get_weights()
    _check_same(model, rebuilt, shape, what, softmax=softmax)
    if again is not None:
        _check_weights(model, again, initial, config, what)
    rebuilt.set_weights(initial)
    return apart(lambda: _with_softmax(rebuilt))


def apart(call: Callable[[], T]) -> T:
    """Call in a new thread, where Keras numbers layers from the beginning."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def _checked_settings(make: Callable[[], Any], what: str) -> Any:
    """Call `make`; refuse if it changes what Keras does in the whole process."""
    config = keras.config
    before = (config.floatx(), config.epsilon(), config.image_data_format())
    try:
        return make()
    finally:
        after = (config.floatx(), config.epsilon(), config.image_data_format())
        if after != before:
            config.set_floatx(before[0])
            config.set_epsilon(before[1])
            config.set_image_data_format(before[2])
            raise UserError(
                f"{what} changes Keras's configuration ({listed(after)}), which all networks "
                "share; give dtype or data_format to its layers instead."
            )


def _checked_shapes(model: Any, shape: Shape, classes: int, what: str) -> keras.Model:
    """The model, built, if it takes such images and has an output for each class."""
    if not isinstance(model, keras.Model):
        raise UserError(
            f"{what} returned {type(model).__name__} instead of a keras.Model; it must return one."
        )
    if not type(model).__module__.startswith("keras."):
        raise UserError(
            f"{what} returned {type(model).__name__}, a class of its own, which plain Keras can't "
            "load; it must return keras.Model(inputs, outputs) or keras.Sequential."
        )
    if not model.built:
        try:
            model.build((None, *shape))
        except Exception as error:
            raise UserError(
                f"the variables of {what}'s model are not built ({first_line(error)}); start it "
                "with keras.Input(input_shape)."
            ) from None
    found = [tuple(tensor.shape) for tensor in model.inputs]
    kinds = [tensor.dtype for tensor in model.inputs]
    if found != [(None, *shape)] or kinds != ["float32"]:
        raise UserError(
            f"{what}'s model takes {listed(found)} of {listed(kinds)}; expected one input "
            f"{(None, *shape)} of float32: keras.Input(input_shape)."
        )
    found = [tuple(tensor.shape) for tensor in model.outputs]
    if found != [(None, classes)]:
        raise UserError(
            f"{what}'s model returns {listed(found)}; expected one output {(None, classes)}: a "
            "logit or a probability for each class."
        )
    if not model.trainable_weights:
        raise UserError(f"{what}'s model has no weights that could be trained; add a layer.")
    return model


def _config_of(model: keras.Model, what: str) -> Any:
    """The model as JSON, of which plain Keras can build it.

    Raises:
        UserError: it can't; the message names the layer.
    """
    try:
        found = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except Exception as error:
        raise UserError(
            f"{what}'s model can't be written as JSON ({first_line(error)}); use Keras's own "
            "layers."
        ) from None
    for node, layer in _nodes(found, ""):
        node.pop("compile_config", None)
        kind, module = str(node.get("class_name")), str(node.get("module", "keras"))
        if not (module == "keras" or module.startswith("keras.")) or kind in ("Lambda", "function"):
            custom = True
        else:
            custom = kind == "__lambda__" or (
                module.startswith("keras.src.") and not module.startswith(_PRIVATE)
            )
        if custom:
            name = node["config"] if kind == "function" else kind
            raise UserError(
                f"{what}'s layer {quoted(layer)} uses {quoted(name)}, which plain Keras can't load "
                "without your code; use Keras's own layers."
            )
        if node.get("activity_regularizer") or kind == "ActivityRegularization":
            raise UserError(
                f"{what}'s layer {quoted(layer)} penalises activations, which scores would "
                "contain; use kernel_regularizer."
            )
    return found


def _nodes(value: Any, layer: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object of a JSON value, with the name of the layer that it belongs to."""
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item, layer)
    elif isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict):
            layer = str(config.get("name", layer))
        yield value, layer
        for item in value.values():
            yield from _nodes(item, layer)


def _last_weighted(model: keras.Model) -> str:
    """The name of the layer that computes the logits; empty if there is no single one."""
    operation = model.outputs[0]._keras_history.operation
    while not getattr(operation, "weights", None):
        given = operation.input
        if not isinstance(given, keras.KerasTensor):
            return ""
        operation = given._keras_history.operation
    # A model within the model has hidden layers, too.
    return "" if isinstance(operation, keras.Model) else str(operation.name)


def _seeded(config: Any, seed: int, what: str, last: str) -> tuple[Any, bool]:
    """The config with the run's seeds, logits as output, and the last layer named `logits`.

    Returns:
        The config, and whether the model ended with softmax.
    """
    found = with_seeds(config, seed, "")
    inner = found["config"]
    inner["name"] = "network"
    layers = inner["layers"]
    ends = inner.get("output_layers") or [layers[-1]["config"]["name"]]
    while isinstance(ends, list):
        ends = ends[0]
    softmax = False
    for layer in layers:
        if layer["config"]["name"] == ends:
            softmax = _as_logits(layer, what)
    names = {layer["config"]["name"] for layer in layers}
    taken = names & ({OUTPUT, PROBABILITIES, LOGITS} - {last, ends})
    if taken:
        raise UserError(
            f"{what}'s model has a layer {quoted(min(taken))} before its end; give it another "
            "name: these are for the last layers."
        )
    if ends != last and ends in (OUTPUT, PROBABILITIES, LOGITS):
        _rename(layers, inner, ends, f"{ends}_1")
    if last and any(layer["config"]["name"] == last for layer in layers):
        _rename(layers, inner, last, LOGITS)
    return found, softmax


def with_seeds(value: Any, seed: int, path: str) -> Any:
    """A copy of a JSON value with a seed of its own wherever there is one."""
    if isinstance(value, list):
        return [with_seeds(item, seed, f"{path}/{place}") for place, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {
        name: layer_seed(seed, f"{path}/{name}")
        if name == "seed"
        else with_seeds(item, seed, f"{path}/{name}")
        for name, item in value.items()
    }


def _as_logits(layer: dict[str, Any], what: str) -> bool:
    """Remove softmax from the last layer; return whether it was there."""
    config = layer["config"]
    if layer["class_name"] == "Softmax" and layer["module"] == "keras.layers":
        name, dtype = config["name"], config["dtype"]
        layer |= {
            "class_name": "Activation",
            "config": {"name": name, "dtype": dtype, "activation": "linear"},
        }
        return True
    if layer["module"] == "keras.src.ops.nn" and layer["class_name"] == "Softmax":
        raise UserError(
            f"{what} ends with keras.ops.softmax; use a layer instead, or leave it out."
        )
    activation = config.get("activation", "linear")
    if activation not in ("linear", "softmax"):
        raise UserError(
            f"{what}'s last layer {quoted(config['name'])} has activation {quoted(activation)}; "
            "expected softmax, or none (logits)."
        )
    if "activation" in config:
        config["activation"] = "linear"
    return bool(activation == "softmax")


def _rename(layers: list[Any], inner: dict[str, Any], old: str, new: str) -> None:
    """Give a layer of a model's config another name, also where other layers name it."""
    for layer in layers:
        if layer["config"]["name"] == old:
            layer["config"]["name"] = new
            if "name" in layer:
                layer["name"] = new
        if "inbound_nodes" in layer:
            layer["inbound_nodes"] = _replaced(layer["inbound_nodes"], old, new)
    for ends in ("input_layers", "output_layers"):
        if ends in inner:
            inner[ends] = _replaced(inner[ends], old, new)


def _replaced(value: Any, old: str, new: str) -> Any:
    """References to a layer, `[name, node, tensor]`, with another name."""
    if isinstance(value, dict):
        return {name: _replaced(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        if len(value) == 3 and value[0] == old and isinstance(value[1], int):
            return [new, *value[1:]]
        return [_replaced(item, old, new) for item in value]
    return value


def _loaded(config: Any, what: str) -> keras.Model:
    try:
        return keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:
        raise UserError(
            f"plain Keras can't load {what}'s model again ({first_line(error)}); use Keras's "
            "own layers."
        ) from None


def _check_same(
    model: keras.Model, rebuilt: keras.Model, shape: Shape, what: str, *, softmax: bool
) -> None:
    """Refuse a model that computes something else once it is loaded again; changes weights."""
    weights = model.get_weights()
    fits = [value.shape for value in weights] == [value.shape for value in rebuilt.get_weights()]
    images = generator(0, "probe").random((_PROBES, *shape), dtype=np.float32)
    try:
        expected = _outputs(model, images)
    except Exception as error:
        raise UserError(
            f"{what}'s model can't be called with images ({_last_line(error)}); correct its layers."
        ) from None
    if fits:
        rebuilt.set_weights(weights)
        found = _outputs(rebuilt, images)
        found = keras.ops.convert_to_numpy(keras.ops.softmax(found)) if softmax else found
    if not fits or not np.allclose(expected, found, _RTOL, _ATOL):
        raise UserError(
            f"{what}'s model predicts otherwise once plain Keras has loaded it again, so it has "
            "something that its layers' configuration does not say; use Keras's layers unchanged."
        )
    sums = expected.sum(axis=1)
    if not softmax and (expected >= 0).all() and np.allclose(sums, 1, _RTOL, _ATOL):
        raise UserError(
            f"{what}'s model returns probabilities, but its last layer has no softmax; make it the "
            "activation of the last layer, or return logits (classifier_activation=None)."
        )


def _last_line(error: Exception) -> str:
    """What Keras says of an error, below where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(lines[1] if len(lines) > 1 else first_line(error), 160)


def _outputs(model: keras.Model, images: Float32) -> Float32:
    found: Float32 = keras.ops.convert_to_numpy(model(images, training=False))
    return found


def _check_weights(
    model: keras.Model, again: keras.Model, initial: list[Any], config: Any, what: str
) -> None:
    """Refuse weights that don't come from the initialisers of their layers.

    Those that are the same each time are constants, come from seeds that the function gave, or were
    set, e.g. from a file that is in no key. A model from the same config tells them apart.
    """
    pairs = zip(model.get_weights(), again.get_weights(), initial, strict=True)
    suspects = [
        place
        for place, (one, other, ours) in enumerate(pairs)
        if np.array_equal(one, other) and not np.array_equal(one, ours)
    ]
    if not suspects:
        return
    plain = apart(lambda: _loaded(config, what)).get_weights()
    weights = model.get_weights()
    for place in suspects:
        if not np.array_equal(weights[place], plain[place]):
            raise UserError(
                f"{what} sets the weights of {quoted(model.weights[place].path)}, which the key "
                "does not cover; use an initializer of the layer."
            )


def _with_softmax(rebuilt: keras.Model) -> keras.Model:
    """The network: the layers of `rebuilt`, which returns logits, then softmax."""
    logits = keras.layers.Activation("linear", dtype="float32", name=OUTPUT)(rebuilt.outputs[0])
    found = keras.layers.Activation("softmax", dtype="float32", name=PROBABILITIES)(logits)
    return keras.Model(rebuilt.inputs[0], found, name="network")
