"""The inputs that `run.py` gives to the plain script and to the flow, so that both do the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flows.recipe.compose import compose
from flows.recipe.presets import NOTEBOOK
from tasks.core.data.synthetic import draw_dataset
from tasks.core.networks.vgg16_layout import layer_shapes, random_weights
from tasks.core.settings.run_settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def without_prefect() -> dict[str, str]:
    """This process's environment without Prefect's variables."""
    return {name: value for name, value in os.environ.items() if name[:8] != "PREFECT_"}


@dataclass(frozen=True)
class Size:
    """Numbers of images, the limit of epochs, and whether VGG16 is included."""

    train: int
    validation: int
    test: int
    epochs: int | None
    transfer: bool

    def capped(self, epochs: Any) -> Any:
        return min(epochs, self.epochs or epochs)


@dataclass(frozen=True)
class Work:
    """What both sides get: a size, and files made for it."""

    size: Size
    data: Path
    weights: Path | None
    plan: Path | None

    @property
    def real(self) -> bool:
        return self.data.is_dir()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of both sides, without Prefect's variables and with the data's folder."""
        return without_prefect() | {
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **({"FASHION_MNIST_DIR": str(self.data)} if self.real else {}),
        }

    @property
    def script_options(self) -> list[str]:
        size = self.size
        options = ["--data", str(self.data)]
        for name in ("train", "validation", "test"):
            options += [f"--{name}", str(getattr(size, name))]
        options += ["--epochs", str(size.epochs)] if size.epochs else []
        return options + (["--weights", str(self.weights)] if self.weights else ["--no-transfer"])

    @property
    def flow_options(self) -> list[str]:
        options = ["--rule", "notebook", "--dataset", self._dataset]
        options += ["--plan", str(self.plan)] if self.plan else []
        weights = str(self.weights)
        options += ["--vgg16-weights", weights] if self.weights else ["--transfer-weights", "off"]
        for name, value in self._changes().items():
            options += ["--set", f"{name}={json.dumps(value)}"]
        return options

    @property
    def settings(self) -> Settings:
        """The settings that `flow_options` give."""
        weights = {"transfer.weights_file": str(self.weights)} if self.weights else {}
        values = {"rule": "notebook", "dataset": self._dataset} | self._changes() | weights
        values |= {} if self.weights else {"transfer.weights": "off"}
        return compose("notebook", self.plan, values)

    @property
    def _dataset(self) -> str:
        return "fashion-mnist" if self.real else str(self.data)

    def _changes(self) -> dict[str, Any]:
        size = self.size
        found = {f"subset.{name}": getattr(size, name) for name in ("train", "validation", "test")}
        found |= {} if self.real else {"subset.method": "slices"}
        found |= {"transfer.variant": "as_notebook"} if size.transfer else {}
        if size.epochs:
            for name in ("baseline", "low_capacity", "overfitting"):
                found[f"{name}.epochs"] = size.capped(getattr(NOTEBOOK, name).epochs)
            for name in ("epochs", "fine_tune_epochs") if size.transfer else ():
                epochs = size.capped(getattr(NOTEBOOK.transfer.as_notebook, name))
                found[f"transfer.as_notebook.{name}"] = epochs
        return found


def prepared(size: Size, real: Path | None, folder: Path) -> Work:
    """Write synthetic images if there are no real ones, random weights of VGG16, and the plan."""
    data = real or _drawn(size, folder / "drawn.npz")
    weights = plan = None
    if size.transfer:
        weights = folder / "vgg16_notop.h5"
        _write_weights(weights)
    if size.epochs:
        plan = folder / "plan.toml"
        plan.write_text("".join(_entries(size)))
    return Work(size, data.absolute(), weights, plan)


def _drawn(size: Size, path: Path) -> Path:
    images = draw_dataset(size.train + size.validation, size.test, seed=0)
    np.savez(
        path,
        x_train=images.train.images[..., 0],
        y_train=images.train.labels,
        x_test=images.test.images[..., 0],
        y_test=images.test.labels,
        class_names=np.array(images.class_names),
    )
    return path


def _write_weights(path: Path) -> None:
    """Write random weights of VGG16 without top, in the format of Keras's published file."""
    weights = random_weights(seed=0)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layer_shapes()]
        for layer in layer_shapes():
            names = [f"{layer}/kernel", f"{layer}/bias"]
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = weights[name]


def _entries(size: Size) -> Iterator[str]:
    """The notebook's plan with fewer epochs, as TOML."""
    for entry in NOTEBOOK.plan:
        change = dict(entry.change)
        if "epochs" in change:
            change["epochs"] = size.capped(change["epochs"])
        values = {"name": entry.name, "replay": entry.replay}
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        lines += [f"change.{name} = {json.dumps(value)}" for name, value in change.items()]
        yield "\n".join(["[[iteration]]", *lines, ""])
