"""What a run is likely to cost: larger with more of anything, and near what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from flows.planning.costs import Costs, estimated
from tasks.core.settings.run_settings import Settings

SIZES = {"train": 8_000, "validation": 2_000, "test": 2_000}


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def cost(
    sizes: dict[str, int] = SIZES,
    shape: tuple[int, int, int] = (28, 28, 1),
    **settings: Any,
) -> Costs:
    return estimated(Settings.model_validate(settings), sizes, 70_000, shape)


def test_the_notebook_s_run_costs_about_what_was_measured() -> None:
    found = cost(transfer={"variant": "as_notebook"})
    measured = 416
    assert 0.6 * measured < found.seconds + found.vgg16_seconds < 1.6 * measured
    assert 2_000 < found.memory_mib < 4_000
    assert found.disk_mib == pytest.approx((70_000 + 2 * 12_000) * 784 / 2**20)


@pytest.mark.parametrize(
    "more",
    [
        {"sizes": {"train": 16_000, "validation": 2_000, "test": 2_000}},
        {"shape": (56, 56, 1)},
        {"evaluation": {"replicates": 3}},
        {"evaluation": {"protocol": "kfold"}},
        {"overfitting": {"epochs": 80}},
    ],
    ids=str,
)
def test_more_of_anything_takes_longer(more: dict[str, Any]) -> None:
    assert cost(**more).seconds > cost().seconds


def test_without_vgg16_a_run_is_cheaper() -> None:
    off = cost(transfer={"weights": "off"})
    assert off.vgg16_seconds == 0
    assert off.memory_mib < cost().memory_mib
    assert off.seconds == cost().seconds


def test_the_epoch_of_the_lowest_loss_counts_as_in_the_notebook() -> None:
    def plan(epochs: int | str) -> Costs:
        return cost(plan=[{"name": "fewer", "change": {"epochs": epochs}}])

    assert plan("lowest_validation_loss") == plan(11)
