"""The stages of a run as data: what each is called, reads and depends on. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.records import FACTS, Stage
from tasks.core.settings.base import changed
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import LOWEST_VALIDATION_LOSS, TrainSettings
from tasks.core.settings.transfer import TransferVariant
from tasks.core.statistics.multiple_testing import gate_level
from tasks.core.statistics.replicates import Replicate, replicates

SYNTHETIC_NOTE = "SYNTHETIC DATA: drawn by the program, not Fashion-MNIST"
TRAINING_SPLITS = ("train", "validation")
BINARY = "binary_crossentropy"
VALIDATION_PREDICTIONS = "validation_predictions"


@dataclass(frozen=True)
class ModelStage:
    """A model and the stages that train it.

    Attributes:
        name: its name.
        step: its step in the notebook.
        trainings: its trainings by the name of their stage.
        gate: the stage that decides on it, if one does.
        transfer: its way of transfer, if it has one.
    """

    name: str
    step: str
    trainings: Mapping[str, Replicate]
    gate: str | None = None
    transfer: TransferVariant | None = None

    @property
    def validated(self) -> bool:
        """Whether it was scored on images held out from its training."""
        return self.name != "final"


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
    from tasks.sources.datasets import path_files

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


def guard(settings: Settings) -> Stage:
    """The search for images that stand in more than one split."""
    pairs = [["train", "validation"], ["train", "test"], ["validation", "test"]]
    if settings.evaluation.protocol == "kfold":
        # Every image is held out once, so those of one split may stand against each other.
        pairs += [["train", "train"], ["validation", "validation"]]
    values = settings.guard.model_dump() | {"compared": pairs, "note": data_note(settings)}
    return Stage("guard", "guard", values, {"split": ("train", "validation", "test", FACTS)})


def folds(evaluation: EvaluationSettings, seed: int, replicate: int) -> Stage:
    """The folds of a replicate."""
    values = {"folds": evaluation.folds, "seed": seed, "replicate": replicate}
    reads = {"split": TRAINING_SPLITS, "guard": ("training_pairs",)}
    return Stage(folds_name(replicate), "folds", values, reads)


def folds_name(replicate: int) -> str:
    """The name of the stage that deals a replicate's folds."""
    return "folds" + (f"_r{replicate}" if replicate > 1 else "")


def train(
    model: str,
    training: TrainSettings,
    replicate: Replicate,
    snapshots: Sequence[int | str] = (),
    beginnings: Sequence[str] = (),
) -> Stage:
    """One training of a model.

    Args:
        model: the model's name.
        training: the network and its schedule.
        replicate: which of the model's trainings.
        snapshots: the epochs that a later training may begin from.
        beginnings: the trainings that it may begin from a snapshot of; each is an input.
    """
    settings = {"training": training.model_dump(mode="json"), "seed": replicate.seed}
    reads: dict[str, tuple[str, ...]] = {"arrays": (*TRAINING_SPLITS, FACTS)}
    if replicate.fold:
        settings["fold"] = replicate.fold
        reads["folds"] = ("folds",)
    reads |= dict.fromkeys(beginnings, ())
    name = model + replicate.suffix
    return Stage(name, "train", settings, reads, numerical=True, snapshots=tuple(snapshots))


def decide(
    gate: int, incumbent: str, candidate: str, settings: Settings, replay: str | None
) -> Stage:
    """One gate of step 7."""
    suffixes = [found.suffix for found in replicates(settings.evaluation, settings.seed)]
    values = {
        "gate": gate,
        "incumbent": incumbent,
        "candidate": candidate,
        "rule": settings.rule,
        "level": gate_level(settings.alpha, len(settings.plan)),
        "replay": replay if settings.rule == "notebook" else None,
        "forced": settings.force.get(gate),
        "trainings": suffixes,
        "replicates": settings.evaluation.replicates,
        "folds": _folds(settings),
    }
    roles = [f"{role}{suffix}" for suffix in suffixes for role in ("incumbent", "candidate")]
    reads = dict.fromkeys(roles, (FACTS, VALIDATION_PREDICTIONS))
    return Stage(gate_name(gate), "decide", values, reads)


def _folds(settings: Settings) -> int | None:
    evaluation = settings.evaluation
    return evaluation.folds if evaluation.protocol == "kfold" else None


def gate_name(gate: int) -> str:
    """The name of the stage that decides on an iteration."""
    return f"gate_{gate}"


def retrain(training: TrainSettings, replicate: Replicate) -> Stage:
    """The final training on training and validation images."""
    settings = {"training": training.model_dump(mode="json"), "seed": replicate.seed}
    reads = {"arrays": (*TRAINING_SPLITS, FACTS)}
    return Stage(f"final{replicate.suffix}", "retrain", settings, reads, numerical=True)


def evaluate(model: ModelStage, training: str) -> Stage:
    """The score of one training of a model on the test split."""
    transfer = model.transfer
    values = {
        "model": training,
        "loss": transfer.loss if transfer else "categorical_crossentropy",
        "vgg16_input": {"side": transfer.side, "preprocessing": transfer.preprocessing}
        if transfer
        else None,
    }
    reads = {"model": ("model",), "arrays": ("test",)}
    return Stage(test_name(training), "evaluate", values, reads, numerical=True)


def test_name(training: str) -> str:
    """The name of the stage that scores a training on the test split."""
    return f"test_{training}"


def results(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """The tables of all models, all trainings and all verdicts."""
    gates = [model.gate for model in models if model.gate]
    values = {
        "models": [
            _trainings(model) | {"step": model.step, "gate": model.gate} for model in models
        ],
        "gates": gates,
        "folds": _folds(settings),
        "notebook": on_fashion_mnist(settings),
        "random_transfer": settings.transfer.weights == "random",
    }
    reads = _predictions(models, FACTS) | dict.fromkeys(gates, (FACTS,))
    return Stage("results", "results", values, reads, tolerant=True)


def _trainings(model: ModelStage) -> dict[str, Any]:
    trainings = [
        {"stage": name, "replicate": found.number, "fold": found.fold, "seed": found.seed}
        for name, found in model.trainings.items()
    ]
    return {"name": model.name, "validated": model.validated, "trainings": trainings}


def _predictions(models: Sequence[ModelStage], *facts: str) -> dict[str, tuple[str, ...]]:
    """All that trainings predicted, on held-out and on test images."""
    reads: dict[str, tuple[str, ...]] = {}
    for model in models:
        held_out = (VALIDATION_PREDICTIONS,) if model.validated else ()
        for training in model.trainings:
            # Of the final model nothing was held out.
            reads[training] = (*facts, *held_out)
            reads[test_name(training)] = (*facts, "test_predictions")
    return {role: files for role, files in reads.items() if files}


def selection(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """How much the choice among models flatters the one that was chosen."""
    chosen_from = [model for model in models if model.gate or model.name == "overfitting"]
    gates = [model.gate for model in models if model.gate]
    deals = {}
    if settings.evaluation.protocol == "kfold":
        numbers = range(1, settings.evaluation.replicates + 1)
        deals = {folds_name(number): ("folds",) for number in numbers}
    values = {
        "models": [_trainings(model) for model in chosen_from],
        "gates": gates,
        "epochs_chosen": [entry.change.get("epochs") for entry in settings.plan].count(
            LOWEST_VALIDATION_LOSS
        ),
        "seed": settings.seed,
    }
    trainings = [name for model in chosen_from for name in model.trainings]
    reads = dict.fromkeys(gates, (FACTS,)) | dict.fromkeys(trainings, (VALIDATION_PREDICTIONS,))
    return Stage("selection", "selection", values, reads | deals)


def success(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """The success criteria of step 2."""
    by_name = {model.name: model for model in models}
    # The final model has no folds: of the baseline, a training for each seed is enough.
    pairs = {
        role: [name for name, found in by_name[role].trainings.items() if found.fold in (None, 1)]
        for role in ("final", "baseline")
    }
    values = {"alpha": settings.alpha} | {
        role: [test_name(name) for name in names] for role, names in pairs.items()
    }
    roles = [test_name(name) for names in pairs.values() for name in names]
    reads = dict.fromkeys(roles, ("test_predictions",)) | {"preprocess": (FACTS,)}
    return Stage("success", "success", values, reads)


def quality(models: Sequence[ModelStage], settings: Settings) -> Stage:
    """What each model confuses with what, class by class, and how far its probabilities hold."""
    values = {
        "models": [_trainings(model) for model in models],
        "note": data_note(settings),
    }
    reads = _predictions(models) | {"preprocess": ("test", FACTS)}
    return Stage("quality", "quality", values, reads, tolerant=True)


def curves(
    model: str,
    trainings: Sequence[str],
    settings: Settings,
    transfer: TransferVariant | None = None,
) -> Stage:
    """The picture of how a model's trainings went."""
    values = {
        "model": model,
        "trainings": list(trainings),
        "binary": transfer is not None and transfer.loss == BINARY,
        "random": transfer is not None and settings.transfer.weights == "random",
        "note": data_note(settings),
    }
    return Stage(curves_name(model), "curves", values, dict.fromkeys(trainings, ("history",)))


def curves_name(model: str) -> str:
    """The name of the stage that draws how a model's trainings went."""
    return f"curves_{model}"


def figures(settings: Settings, vgg16_inputs: Mapping[str, str]) -> Stage:
    """The pictures that compare: scores, decisions, what networks see of the images.

    `vgg16_inputs` are the variants of transfer by the stage that keeps what VGG16 was given.
    """
    augmented = [spec.augmentation for spec in _candidates(settings) if spec.augmentation]
    values = {
        "note": data_note(settings),
        "random_transfer": settings.transfer.weights == "random",
        "changes": [iteration.name for iteration in settings.plan],
        "vgg16_inputs": dict(vgg16_inputs),
        "augmentation": augmented[0].model_dump() if augmented else None,
        "seed": settings.seed,
    }
    reads: dict[str, tuple[str, ...]] = {
        "preprocess": TRAINING_SPLITS[:1],
        "subset": (FACTS,),
        "results": ("results", "verdicts"),
    }
    reads |= dict.fromkeys(vgg16_inputs, ("input_samples",))
    return Stage("figures", "figures", values, reads, tolerant=True)


def _candidates(settings: Settings) -> list[TrainSettings]:
    overfitting = settings.overfitting
    return [overfitting, *(changed(overfitting, entry.change) for entry in settings.plan)]
