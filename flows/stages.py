"""The stages of a run as data: what each is called, reads and depends on. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.records import FACTS, Stage
from tasks.core.settings import Settings
from tasks.core.specs import TrainSettings, TransferVariant, changed

SYNTHETIC_NOTE = "SYNTHETIC DATA: drawn by the program, not Fashion-MNIST"
TRAINING_SPLITS = ("train", "validation")
BINARY = "binary_crossentropy"


@dataclass(frozen=True)
class ModelStage:
    """A trained model's name, its step in the notebook, and its way of transfer if it has one."""

    name: str
    step: str
    gate: str | None = None
    transfer: TransferVariant | None = None


def data_note(settings: Settings) -> str:
    """What every figure of a run on drawn images says; empty on real ones."""
    return SYNTHETIC_NOTE if settings.dataset == "synthetic" else ""


def on_fashion_mnist(settings: Settings) -> bool:
    """Whether the notebook's figures may stand beside ours."""
    return settings.dataset == "fashion-mnist"


def load(settings: Settings) -> Stage:
    """The raw data set; a data set of the user's own enters the key by content, not by place."""
    if settings.dataset == "synthetic":
        return Stage("load", "load", {"dataset": "synthetic"} | settings.synthetic.model_dump())
    if settings.dataset == "fashion-mnist":
        return Stage("load", "load", {"dataset": "fashion-mnist"})
    from tasks.sources import path_files

    files = path_files(Path(settings.dataset).expanduser())
    return Stage("load", "load", {"dataset": "own"}, external=tuple(map(str, files)))


def explore(settings: Settings) -> Stage:
    """Samples and class balance of the raw data."""
    reads = {"raw": ("train", "test", FACTS)}
    return Stage("explore", "explore", {"note": data_note(settings)}, reads)


def subset(settings: Settings) -> Stage:
    """The three splits."""
    reads = {"raw": ("train", "test", FACTS)}
    values = settings.subset.model_dump()
    if values["method"] == "auto":
        values["method"] = "slices" if on_fashion_mnist(settings) else "stratified"
    sizes = ("method", "train", "validation", "test")
    used = {"slices": sizes, "stratified": (*sizes, "seed"), "everything": ("method",)}
    values = {name: values[name] for name in used[values["method"]]}
    return Stage("subset", "subset", values, reads)


def preprocess() -> Stage:
    """The splits as networks read them."""
    reads = {"split": ("train", "validation", "test", FACTS)}
    return Stage("preprocess", "preprocess", {}, reads)


def train(
    name: str,
    training: TrainSettings,
    seed: int,
    snapshots: Sequence[int | str] = (),
    *,
    begun: bool = False,
) -> Stage:
    """One training on the training split.

    Args:
        name: the stage's name.
        training: the network and its schedule.
        seed: what initial weights, order and augmentation come from.
        snapshots: the epochs that a later training may begin from.
        begun: whether it may begin from a snapshot of the training given as `beginning`.
    """
    settings = {"training": training.model_dump(mode="json"), "seed": seed}
    reads: dict[str, tuple[str, ...]] = {"arrays": TRAINING_SPLITS}
    if begun:
        reads["beginning"] = ()
    return Stage(name, "train", settings, reads, numerical=True, snapshots=tuple(snapshots))


def decide(
    gate: int, incumbent: str, candidate: str, settings: Settings, replay: str | None
) -> Stage:
    """One gate of step 7."""
    values = {
        "gate": gate,
        "incumbent": incumbent,
        "candidate": candidate,
        "rule": settings.rule,
        "replay": replay if settings.rule == "notebook" else None,
    }
    reads = {"incumbent": (FACTS,), "candidate": (FACTS,)}
    return Stage(gate_name(gate), "decide", values, reads)


def gate_name(gate: int) -> str:
    """The name of the stage that decides on an iteration."""
    return f"gate_{gate}"


def retrain(training: TrainSettings, seed: int) -> Stage:
    """The final training on training and validation images."""
    settings = {"training": training.model_dump(mode="json"), "seed": seed}
    return Stage(
        "final", "retrain", settings, {"arrays": (*TRAINING_SPLITS, FACTS)}, numerical=True
    )


def evaluate(model: ModelStage) -> Stage:
    """The score of a model on the test split."""
    transfer = model.transfer
    values = {
        "model": model.name,
        "loss": transfer.loss if transfer else "categorical_crossentropy",
        "vgg16_input": {"side": transfer.side, "preprocessing": transfer.preprocessing}
        if transfer
        else None,
    }
    reads = {"model": ("model",), "arrays": ("test",)}
    return Stage(test_name(model.name), "evaluate", values, reads, numerical=True)


def test_name(model: str) -> str:
    """The name of the stage that scores a model on the test split."""
    return f"test_{model}"


def results(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """The tables of all models and all verdicts."""
    gates = [model.gate for model in models if model.gate]
    roles = [role for model in models for role in (model.name, test_name(model.name))]
    values = {
        "models": [{"name": m.name, "step": m.step, "gate": m.gate} for m in models],
        "gates": gates,
        "notebook": on_fashion_mnist(settings),
        "random_transfer": settings.transfer.weights == "random",
    }
    reads = dict.fromkeys([*roles, *gates], (FACTS,))
    return Stage("results", "results", values, reads, tolerant=True)


def figures(
    models: Sequence[ModelStage], settings: Settings, vgg16_inputs: Mapping[str, str]
) -> Stage:
    """The pictures of the report: learning curves, confusion matrix, comparisons.

    `vgg16_inputs` are the variants of transfer by the stage that keeps what VGG16 was given.
    """
    augmented = [spec.augmentation for spec in _candidates(settings) if spec.augmentation]
    values = {
        "note": data_note(settings),
        "random_transfer": settings.transfer.weights == "random",
        "models": [model.name for model in models],
        "vgg16_inputs": dict(vgg16_inputs),
        "binary": [m.name for m in models if m.transfer and m.transfer.loss == BINARY],
        "augmentation": augmented[0].model_dump() if augmented else None,
        "seed": settings.seed,
    }
    reads: dict[str, tuple[str, ...]] = {model.name: ("history",) for model in models}
    reads |= {
        "load": (FACTS,),
        "preprocess": TRAINING_SPLITS[:1],
        "results": ("results",),
        "test_final": ("test_predictions",),
    }
    reads |= dict.fromkeys(vgg16_inputs, ("input_samples",))
    return Stage("figures", "figures", values, reads, tolerant=True)


def _candidates(settings: Settings) -> list[TrainSettings]:
    overfitting = settings.overfitting
    return [overfitting, *(changed(overfitting, entry.change) for entry in settings.plan)]
