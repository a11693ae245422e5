"""The size of each batch and the rate of each step follow from the settings alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.settings.optimization import AverageSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.training.averages import Averages
from tasks.core.training.schedule import Schedule


def test_a_schedule_has_the_settings_of_a_training() -> None:
    training = TrainSettings(epochs=7, decay="linear", label_smoothing=0.1, final_batch_size=256)
    schedule = Schedule.of(training)
    assert (schedule.epochs, schedule.decay) == (7, "linear")
    assert (schedule.label_smoothing, schedule.final_batch_size) == (0.1, 256)


def test_by_default_the_rate_is_constant_and_no_epoch_depends_on_their_number() -> None:
    training = TrainSettings(epochs=3)
    assert Schedule.of(training).rates(100) is None
    assert training.is_open_ended


@pytest.mark.parametrize(
    "change",
    [{"decay": "linear"}, {"average": {"kind": "last"}}, {"final_batch_size": 512}],
    ids=str,
)
def test_other_schedules_depend_on_the_number_of_epochs(change: dict[str, object]) -> None:
    assert not TrainSettings.model_validate({"epochs": 3} | change).is_open_ended


@given(
    decay=st.sampled_from(["cosine", "linear", "one_cycle"]),
    images=st.integers(1, 500),
    epochs=st.integers(1, 9),
    warmup=st.floats(0, 0.9),
)
def test_rates_rise_to_the_peak_and_fall_to_zero(
    decay: str, images: int, epochs: int, warmup: float
) -> None:
    schedule = Schedule(epochs, 32, 0.5, decay=decay, warmup=warmup)  # type: ignore[arg-type]
    rates = schedule.rates(images)
    assert rates is not None
    assert len(rates) == epochs * -(-images // 32) + 1
    steps = len(rates) - 1
    assert rates[-1] == pytest.approx(0) or math.ceil(steps * warmup) >= steps - 1
    assert (rates[:-1] > 0).all(), "each step learns"
    assert rates.max() <= 0.5
    top = int(rates.argmax())
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()


def test_a_linear_rate_by_hand() -> None:
    rates = Schedule(2, 10, 1.0, decay="linear", warmup=0.4).rates(50)
    expected = [0.25, 0.4375, 0.625, 0.8125, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    np.testing.assert_allclose(rates, expected)  # type: ignore[arg-type]


def test_batches_grow_by_doubling_at_equal_intervals() -> None:
    schedule = Schedule(8, 32, 0.1, final_batch_size=200)
    sizes = [schedule.size_in(epoch) for epoch in range(1, 9)]
    assert sizes == [32, 32, 64, 64, 128, 128, 200, 200]
    assert Schedule(1, 32, 0.1, final_batch_size=64).size_in(1) == 32
    assert [Schedule(2, 64, 0.1, final_batch_size=1024).size_in(at) for at in (1, 2)] == [64, 1024]
    with pytest.raises(ValueError, match="batches only grow; set it to 128"):
        TrainSettings(final_batch_size=64)


@given(
    kind=st.sampled_from(["ema", "last"]),
    epochs=st.integers(1, 6),
    window=st.integers(1, 8),
    decay=st.floats(0, 0.95),
)
def test_averages_by_their_definition(kind: str, epochs: int, window: int, decay: float) -> None:
    settings = AverageSettings(kind=kind, decay=decay, epochs=window)
    averages = Averages(settings, epochs, 2)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(epochs, 3)).astype(np.float32)
    state: tuple[np.ndarray, ...] = ()
    for epoch in range(1, epochs + 1):
        # A weight and a counter of the model, and a variable of the optimizer.
        values = (weights[epoch - 1], np.array(epoch), np.array([9.0]))
        state = averages.after(epoch, state, values)
        assert averages.without(state) == values
    average, counter = averages.of(state)
    if kind == "last":
        expected = weights[-window:].mean(axis=0)
    else:
        expected = weights[0]
        for new in weights[1:]:
            expected = decay * expected + (1 - decay) * new
    np.testing.assert_allclose(average, expected, atol=1e-5)
    assert counter == epochs, "counters have no average"


def test_without_averages_a_state_is_what_it_is() -> None:
    averages = Averages(AverageSettings(), 3, 1)
    values = (np.ones(2), np.zeros(1))
    assert averages.after(1, (), values) == averages.without(values) == values
    assert not averages.wanted
