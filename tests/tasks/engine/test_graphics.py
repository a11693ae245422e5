"""Models of GPUs, CUDA's libraries and the driver, as Linux describes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.engine import graphics as module
from tasks.engine.graphics import graphics

CARDS = {"0000:01:00.0": ("NVIDIA A100", "GPU-aaaa"), "0000:81:00.0": ("Tesla T4", "GPU-bbbb")}
VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 16\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, (model, uuid) in CARDS.items():
        folder = tmp_path / "gpus" / name
        folder.mkdir(parents=True)
        text = f"Model: \t\t {model}\nIRQ:   \t\t 55\nGPU UUID: \t {uuid}\n"
        (folder / "information").write_text(text)
    (tmp_path / "version").write_text(VERSION)
    monkeypatch.setattr(module, "GPUS", tmp_path / "gpus")
    monkeypatch.setattr(module, "DRIVER", tmp_path / "version")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (["0"], "NVIDIA A100"),
        (["1"], "Tesla T4"),
        (["1", "0"], "NVIDIA A100, Tesla T4"),
        (["GPU-bb"], "Tesla T4"),
        (["MIG-cc"], "MIG-cc"),
        (["7"], "unknown"),
    ],
)
def test_only_the_visible_ones_count(visible: list[str], expected: str) -> None:
    assert graphics(visible)["gpu"] == expected


def test_the_driver_is_named() -> None:
    assert graphics(["0"])["driver"] == "570.86.15"


def test_cudas_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = SimpleNamespace(metadata={"Name": "nvidia-cudnn-cu12"}, version="9.3.0")
    monkeypatch.setattr(module, "distributions", lambda: [installed])
    assert graphics(["0"])["cuda"] == "cudnn-cu12 9.3.0"


def test_a_machine_that_tells_nothing_has_unknown_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "GPUS", tmp_path / "none")
    monkeypatch.setattr(module, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(module, "distributions", list)
    assert set(graphics(["0"]).values()) == {"unknown"}
