"""Optimisers take the steps of their definitions; only kernels decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tasks.core.settings.optimization import OptimizerSettings
from tests.support import computing_in

pytestmark = [
    pytest.mark.usefixtures("tensorflow_ready"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
]
NAMES = ("rmsprop", "sgd", "adamw", "lion", "muon")


def variables(*shapes: tuple[int, ...], name: str = "conv") -> list[Any]:
    import keras

    rng = np.random.default_rng(0)
    with keras.name_scope(name):
        return [
            keras.Variable(rng.normal(size=shape), name=f"v{at}") for at, shape in enumerate(shapes)
        ]


def stepped(
    settings: OptimizerSettings, given: list[Any], gradients: Sequence[Any], rate: float = 0.1
) -> list[Any]:
    from tasks.core.training.optimizers import make_optimizer

    optimizer = make_optimizer(settings, rate, given)
    for _ in range(2):
        optimizer.apply([np.array(one) for one in gradients], given)
    return [np.array(variable.numpy()) for variable in given]


@pytest.mark.parametrize("name", NAMES)
def test_each_optimizer_descends_and_has_its_variables_before_the_first_step(name: str) -> None:
    from tasks.core.training.optimizers import make_optimizer

    settings = OptimizerSettings(name=name, weight_decay=0.01, clip_norm=1.0)
    (kernel,) = variables((3, 3, 2, 4))
    optimizer = make_optimizer(settings, 0.01, [kernel])
    count = len(optimizer.variables)
    before = float(np.square(kernel.numpy()).sum())
    for _ in range(5):
        optimizer.apply([kernel.numpy()], [kernel])
    assert float(np.square(kernel.numpy()).sum()) < before
    assert len(optimizer.variables) == count


@pytest.mark.parametrize("name", NAMES)
def test_biases_and_normalisations_do_not_decay(name: str) -> None:
    shapes = ((2, 4), (4,))
    zero = [np.zeros(shape) for shape in shapes]
    settings = OptimizerSettings(name=name, weight_decay=0.5)
    start = [np.array(one.numpy()) for one in variables(*shapes)]
    kernel, bias = stepped(settings, variables(*shapes), zero)
    np.testing.assert_allclose(kernel, start[0] * 0.95**2, rtol=1e-5)
    np.testing.assert_array_equal(bias, start[1])


def orthogonalised(matrix: Any, steps: int = 5) -> Any:
    """The quintic iteration of Jordan et al. (2024), written anew."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (2, 2, 2, 30), (12, 7)])
def test_muon_orthogonalises_kernels_as_matrices_of_patches_by_filters(
    shape: tuple[int, ...],
) -> None:
    with computing_in("float64"):
        gradient = np.random.default_rng(1).normal(size=shape)
        given = variables(shape)
        start = np.array(given[0].numpy())
        (found,) = stepped(OptimizerSettings(name="muon", momentum=0.6), given, [gradient])
    flat = gradient.reshape(-1, shape[-1])
    expected, momentum = start.reshape(flat.shape), np.zeros_like(flat)
    for _ in range(2):
        momentum = 0.6 * momentum + flat
        step = orthogonalised(flat + 0.6 * momentum)
        expected = expected - 0.1 * 0.2 * max(flat.shape) ** 0.5 * step
    np.testing.assert_allclose(found.reshape(flat.shape), expected, atol=1e-6)


@pytest.mark.parametrize("decades", [0, 2, 8])
def test_products_of_small_squares_orthogonalise_in_float32_too(decades: int) -> None:
    """Even if the singular values of a kernel range over many powers of ten."""
    from tasks.core.training.optimizers import MuonOfKernels

    rng = np.random.default_rng(decades)
    left, right = (np.linalg.qr(rng.normal(size=(side, 32)))[0] for side in (288, 32))
    kernel = (left * 10.0 ** -np.linspace(0, decades, 32)) @ right.T
    kernel = kernel.astype(np.float32).reshape(3, 3, 32, 32)
    found = np.asarray(MuonOfKernels().zeropower_via_newtonschulz5(kernel, 5))
    expected = orthogonalised(kernel.reshape(-1, 32).astype(np.float64))
    error = np.linalg.norm(found.reshape(-1, 32) - expected) / np.linalg.norm(expected)
    assert error < 2e-3


def test_muon_takes_gradients_that_do_not_say_their_shapes() -> None:
    """As those of attention with one head in TensorFlow's graphs."""
    import tensorflow as tf

    from tasks.core.training.optimizers import make_optimizer

    settings = OptimizerSettings(name="muon")
    gradient = np.random.default_rng(1).normal(size=(6, 1, 4)).astype(np.float32)
    given = variables((6, 1, 4))
    optimizer = make_optimizer(settings, 0.1, given)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 4), "float32")])  # type: ignore[untyped-decorator]
    def step(one: Any) -> None:
        optimizer.apply([one], given)

    for _ in range(2):
        step(gradient)
    expected = stepped(settings, variables((6, 1, 4)), [gradient])
    np.testing.assert_allclose(given[0].numpy(), expected[0], atol=1e-6)


@pytest.mark.parametrize("layer", ["logits", "probabilities"])
def test_muon_leaves_the_last_layer_to_adamw(layer: str) -> None:
    gradient = [np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)]
    found = stepped(OptimizerSettings(name="muon"), variables((6, 3), name=layer), gradient)
    expected = stepped(OptimizerSettings(name="adamw"), variables((6, 3)), gradient)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_a_table_of_rates_gives_the_rate_of_each_step_and_keeps_the_last() -> None:
    from tasks.core.training.optimizers import RateTable

    table = RateTable(np.array([0.5, 0.25, 0.0]))
    assert [float(table(step)) for step in range(5)] == [0.5, 0.25, 0, 0, 0]
