"""The stages of a run as data: what each is called, reads and depends on. Nothing runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.records import FACTS, Stage
from tasks.core.settings import Settings
from tasks.core.specs import TrainSettings, TransferVariant, changed
from tasks.core.vgg16_layout import block_below

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


def vgg16_weights(settings: Settings) -> Stage:
    """The weights of VGG16's base."""
    transfer = settings.transfer
    values: dict[str, Any] = {"source": "imagenet"}
    external: tuple[str, ...] = ()
    if transfer.weights == "random":
        values = {"source": "random", "seed": settings.seed}
    elif transfer.weights_file:
        path = Path(transfer.weights_file).expanduser()
        if not path.is_file():
            raise UserError(f"transfer.weights_file: there is no file {path}.")
        values, external = {"source": "file"}, (str(path),)
    optional = transfer.weights != "required"
    return Stage(
        "vgg16_weights",
        "vgg16_weights",
        values,
        external=external,
        optional=optional,
    )


def transfer_variants(settings: Settings) -> dict[str, TransferVariant]:
    """The ways of transfer that a run goes, by what their stages' names end in."""
    transfer = settings.transfer
    variants = {
        "as_notebook": ("", transfer.as_notebook),
        "corrected": ("_corrected", transfer.corrected),
    }
    if transfer.weights == "off":
        return {}
    return dict(variants[name] for name in variants if transfer.variant in ("both", name))


def vgg16_features(settings: Settings, variant: TransferVariant) -> tuple[Stage, Stage]:
    """Outputs of the layers below the last block, and of that block.

    They are called after the first variant that needs them; another one shares them.
    """
    names: dict[tuple[Any, ...], str] = {}
    for suffix, other in transfer_variants(settings).items():
        for layer in _feature_layers(other):
            name = f"vgg16_{layer.removesuffix('_pool')}{suffix}"
            names.setdefault((other.side, other.preprocessing, layer), name)
    below, last = _feature_layers(variant)
    found = []
    for after, up_to in ((None, below), (below, last)):
        values = {"side": variant.side, "after": after, "up_to": up_to}
        if after is None:
            values["preprocessing"] = variant.preprocessing
        reads = {"source": (*TRAINING_SPLITS, FACTS), "weights": ("weights",)}
        name = names[variant.side, variant.preprocessing, up_to]
        found.append(Stage(name, "vgg16_features", values, reads, numerical=True))
    return found[0], found[1]


def _feature_layers(variant: TransferVariant) -> tuple[str, str]:
    return block_below(variant.features), variant.features


def vgg16_frozen(settings: Settings, suffix: str, variant: TransferVariant) -> Stage:
    """Training of a head on the outputs of VGG16's frozen layers."""
    values = {
        "training": _transfer_training(variant, variant.epochs, variant.learning_rate),
        "head": {"dense": variant.dense, "dropout": variant.dropout},
        "side": variant.side,
        "preprocessing": variant.preprocessing,
        "after": variant.features,
        "seed": settings.seed,
    }
    reads = {"features": (*TRAINING_SPLITS, FACTS), "weights": ("weights",)}
    return Stage(f"vgg16_frozen{suffix}", "vgg16_train", values, reads, numerical=True)


def vgg16_fine_tuned(settings: Settings, suffix: str, variant: TransferVariant) -> Stage:
    """Training of the head and of VGG16's last block, from where the frozen stage ended."""
    rate = variant.fine_tune_learning_rate
    values = {
        "training": _transfer_training(variant, variant.fine_tune_epochs, rate),
        "preprocessing": variant.preprocessing,
        "after": block_below(variant.features),
        "seed": settings.seed,
    }
    reads = {"features": (*TRAINING_SPLITS, FACTS), "start": ("model",)}
    return Stage(f"vgg16_fine_tuned{suffix}", "vgg16_train", values, reads, numerical=True)


def _transfer_training(variant: TransferVariant, epochs: int, rate: float) -> dict[str, Any]:
    shared = {name: getattr(variant, name) for name in ("batch_size", "loss", "decay")}
    return {"epochs": epochs, "learning_rate": rate, **shared}


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


def figures(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """The pictures of the report: learning curves, confusion matrix, comparisons."""
    augmented = [spec.augmentation for spec in _candidates(settings) if spec.augmentation]
    # The stages that keep what VGG16 was given of the first images, the same for both if shared.
    seen = {
        vgg16_features(settings, variant)[0].name: suffix.removeprefix("_") or "as_notebook"
        for suffix, variant in reversed(transfer_variants(settings).items())
    }
    values = {
        "note": data_note(settings),
        "random_transfer": settings.transfer.weights == "random",
        "models": [model.name for model in models],
        "vgg16_inputs": seen,
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
    reads |= dict.fromkeys(seen, ("input_samples",))
    return Stage("figures", "figures", values, reads, tolerant=True)


def _candidates(settings: Settings) -> list[TrainSettings]:
    overfitting = settings.overfitting
    return [overfitting, *(changed(overfitting, entry.change) for entry in settings.plan)]
