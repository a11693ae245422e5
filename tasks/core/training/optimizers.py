"""Optimisers from settings: Keras's own, and Muon for convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tasks.core.array_types import Float64
from tasks.core.networks.precision import on_cpus
from tasks.core.settings.optimization import OptimizerSettings


class RateTable(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate for each step, `(steps,)`; the last one stays."""

    def __init__(self, rates: Float64) -> None:
        self._rates = rates

    def __call__(self, step: Any) -> Any:
        """The rate of a step, from 0."""
        rates = ops.convert_to_tensor(self._rates, keras.config.floatx())
        return ops.take(rates, ops.minimum(ops.cast(step, "int32"), len(self._rates) - 1))

    def get_config(self) -> dict[str, Any]:
        """As numbers."""
        return {"rates": self._rates.tolist()}


class RMSpropByLayer(keras.optimizers.RMSprop):  # type: ignore[misc]
    """RMSprop in which some layers learn at a part of the learning rate.

    Lower layers of a pre-trained network are more general, so they have less to learn (Howard and
    Ruder, "Universal language model fine-tuning for text classification", 2018).
    """

    def __init__(self, factors: Mapping[str, float], **values: Any) -> None:
        super().__init__(**values)
        self._factors = factors
        self._of_variables: list[float] = []

    def build(self, variables: list[Any]) -> None:
        """Note the part of the rate of each variable, by the layer in its path."""
        self._of_variables = [
            next((self._factors[name] for name in v.path.split("/") if name in self._factors), 1.0)
            for v in variables
        ]
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of a variable."""
        factor = self._of_variables[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


class MuonOfKernels(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon in which a convolution's kernel counts as a matrix of patches by filters.

    Keras's own leaves kernels of convolutions to AdamW. Here only the last layer's kernel, biases
    and normalisations are (Jordan et al., "Muon: an optimizer for hidden layers in neural
    networks", 2024). The step is scaled as by Liu et al. (arXiv 2502.16982).

    A kernel's matrix has far more rows than columns, and Keras multiplies by it twice in each of
    the five steps of Newton and Schulz. All factors are polynomials of one symmetric matrix, the
    product of the kernel with itself, so here they are multiplied first, as small squares. Errors
    of that product grow a hundred thousand times, so not on GPUs, which use TensorFloat-32.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) < 2 or variable.path.startswith(("logits/", "probabilities/"))

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        # In TensorFlow's graphs, some gradients don't say all sides of their shapes.
        super()._muon_update_step(ops.reshape(gradient, variable.shape), variable, lr, m)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Orthogonalise a kernel of any rank by an odd polynomial of its matrix."""
        flat = ops.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
        if not on_cpus():
            return ops.reshape(super().zeropower_via_newtonschulz5(flat, steps), x.shape)
        flat = flat / (ops.norm(flat) + 1e-7)
        tall = flat.shape[0] > flat.shape[1]
        turned = ops.transpose(flat)
        square = turned @ flat if tall else flat @ turned
        one = self.muon_a * ops.eye(square.shape[0], dtype=square.dtype)
        factor = None
        for step in range(steps):
            new = one + self.muon_b * square + self.muon_c * (square @ square)
            factor = new if factor is None else factor @ new
            if step < steps - 1:
                square = square @ new @ new
        return ops.reshape(flat @ factor if tall else factor @ flat, x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """Scale a step as one of the matrix that its kernel is."""
        return x * (max(math.prod(x.shape[:-1]), x.shape[-1]) ** 0.5 * self.rms_rate)


def make_optimizer(
    settings: OptimizerSettings,
    rate: Any,
    variables: list[Any],
    layer_rates: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """The optimiser for `variables`, with its own variables built.

    `rate` is a number or a Keras schedule. Only kernels decay. `layer_rates`, for RMSprop, has the
    part of the rate at which layers learn, by name.
    """
    common: dict[str, Any] = {"learning_rate": rate, "global_clipnorm": settings.clip_norm}
    decay = settings.weight_decay or None
    if layer_rates:
        assert settings.name == "rmsprop", "transfer trains with it"
        optimizer = RMSpropByLayer(layer_rates, weight_decay=decay, **common)
    elif settings.name == "rmsprop":
        optimizer = keras.optimizers.RMSprop(weight_decay=decay, **common)
    elif settings.name == "sgd":
        optimizer = keras.optimizers.SGD(
            momentum=settings.momentum, nesterov=True, weight_decay=decay, **common
        )
    elif settings.name == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, **common)
    elif settings.name == "lion":
        optimizer = keras.optimizers.Lion(weight_decay=decay, **common)
    else:
        optimizer = MuonOfKernels(
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            adam_weight_decay=settings.weight_decay,
            **common,
        )
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(
            var_list=[variable for variable in variables if len(variable.shape) < 2]
        )
    # The variables must exist before the first step, to be restored.
    optimizer.build(variables)
    return optimizer
