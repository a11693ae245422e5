"""A run on two classes with made-up records: stored like a real one, but nothing is trained."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.names import replicate_suffix
from tasks.core.records import Outcome, Record, Skipped, StoredFile
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import Iteration
from tasks.core.statistics.replicates import final_replicates, replicates
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.images import AFFECTED_IMAGES, ERRORS_BY_PAIR, FOUND, SUSPECTS
from tasks.core.tables.quality import CLASS_SCORES, CONFUSIONS
from tasks.core.tables.results import MODELS, TRAININGS
from tasks.core.tables.schema import Table
from tasks.core.tables.verdicts import ALL_VERDICTS
from tasks.storage.files import content_digest
from tasks.storage.run_log import DONE, RunLog
from tasks.storage.store import Store
from tests.support import basis

CLASSES = ["left", "right"]
NETWORKS = ("baseline", "low_capacity", "overfitting")
TRANSFER = ("vgg16_frozen", "vgg16_fine_tuned")
PROFILE = {"device": "cpu", "threads": 1}
PNG = b"\x89PNG\r\n\x1a\n"
PLAN = (
    Iteration(name="dropout", hypothesis="Dropout overfits less.", change={"dropout": 0.25}),
    Iteration(name="augmentation", hypothesis="", change={"augmentation": {}}),
)


def accuracy_of(model: str) -> float:
    """A different accuracy in [0.5, 1) for each model."""
    return 0.5 + sum(model.encode()) % 4000 / 8000


def parquet(table: pa.Table) -> tuple[str, bytes]:
    """The kind and content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return "parquet", buffer.getvalue()


def tables(rows: Mapping[Table, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[str, bytes]]:
    """Files with these rows, by the names of their tables."""
    return {table.name: parquet(from_rows(table, found)) for table, found in rows.items()}


@dataclass
class FabricatedRun:
    """Records in a store and the log of the run that they belong to."""

    settings: Settings
    log: RunLog
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def add(
        self,
        stage: str,
        files: Mapping[str, tuple[str, bytes]] | None = None,
        *,
        kind: str | None = None,
        facts: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a stage's files, each given as its kind and content, and log it as computed."""
        stored = {}
        for name, (suffix, content) in (files or {}).items():
            path = f"stages/{stage}/key/{name}.{suffix}"
            (self.log.store.root / path).write(content)
            stored[name] = StoredFile(path, content_digest(content), len(content), suffix, {})
        key = content_digest(stage.encode())
        made = basis(settings=dict(settings or {}))
        record = Record(stage, kind or stage, key, stored, dict(facts or {}), made)
        self.outcomes[stage] = record
        self.log.stage(record, "completed", "2026-01-01", seconds=2.0)

    def skip(self, stages: Iterable[str], reason: str) -> None:
        """Log stages as skipped."""
        for stage in stages:
            self.outcomes[stage] = Skipped(stage, reason)
            self.log.stage(self.outcomes[stage], "skipped", "2026-01-01")


def fabricated_run(
    url: str,
    settings: Settings | None = None,
    *,
    run_id: str = "r1",
    without_transfer: str | None = None,
) -> FabricatedRun:
    """Store a whole run: the records of every stage that these settings have.

    Args:
        url: where the store is.
        settings: the run's settings; by default those of a short plan on Fashion-MNIST.
        run_id: the run.
        without_transfer: why the VGG16 branch was skipped, if it was.
    """
    settings = settings or Settings(plan=PLAN)
    run = FabricatedRun(settings, RunLog(Store(url), run_id))
    run.log.begin(settings.model_dump(mode="json"), PROFILE, None)
    _add_data(run)
    models = [*NETWORKS, *(f"iteration_{number + 1}" for number in range(len(settings.plan)))]
    for model in models:
        for training in replicates(settings.evaluation, settings.seed):
            _add_training(run, model + training.suffix)
    models.append("final")
    for training in final_replicates(settings.evaluation, settings.seed):
        _add_final(run, "final" + training.suffix)
    if settings.transfer.weights != "off":
        if without_transfer:
            run.skip(("vgg16_weights", *TRANSFER), without_transfer)
        else:
            run.add("vgg16_weights")
            models += TRANSFER
            for model in TRANSFER:
                _add_training(run, model)
    _add_scores(run, models)
    run.log.end(DONE)
    return run


def _add_data(run: FabricatedRun) -> None:
    sizes = {"train": 4, "validation": 2, "test": 2}
    index = {
        "split": [split for split, size in sizes.items() for _ in range(size)],
        "label": [0, 0, 0, 1, 0, 1, 0, 1],
    }
    about = {"dataset": run.settings.dataset, "class_names": CLASSES, "image_shape": [28, 28, 1]}
    run.add("load", facts=about | {"train": 6, "test": 2})
    run.add("explore", {"samples": ("png", PNG), "balance": ("png", PNG)})
    # As JSON with sorted keys has them.
    facts = about | {"sizes": dict(sorted(sizes.items()))}
    run.add("subset", {"index": parquet(pa.table(index))}, facts=facts)
    counts = [{"splits": ["train", "test"], "exact": 0, "near": 3, "search": "exact"}]
    run.add("guard", {"pairs_picture": ("png", PNG)}, facts={"counts": counts})
    _add_look(run)
    run.add("preprocess", {"test": ("npz", b"test images")}, facts=about)


def _add_look(run: FabricatedRun) -> None:
    finding = {"kind": "blank", "level": "fault", "sentence": "1 image is blank.", "advice": "Go."}
    about = {"finding": 1, "split": "test", "position": 1, "class": "right", "name": ""}
    pictures = {"class_samples": ("png", PNG), "finding_1": ("png", PNG)}
    none = {"same_label": 0, "other_label": 0}
    run.add(
        "look",
        pictures | tables({FOUND: [finding], AFFECTED_IMAGES: [about]}),
        facts={
            "images": 8,
            "copies": [{"split": "train", "other_split": "test"} | none],
            "near": [],
            "frames": {"sampled": 4, "with_others": 0, "among": 4},
        },
    )


def _add_training(run: FabricatedRun, stage: str) -> None:
    history = pa.table({"epoch": [1, 2], "accuracy": [0.625, 0.75], "loss": [1.0, 0.5]})
    facts = {
        "lowest_validation_loss": 0.4,
        "lowest_validation_loss_epoch": 1,
        "highest_validation_accuracy": accuracy_of(stage),
        "highest_validation_accuracy_epoch": 2,
    }
    files = {"model": ("keras", stage.encode()), "history": parquet(history)}
    run.add(stage, files, kind="train", facts=facts)
    run.add(f"curves_{stage}", {f"curves_{stage}": ("png", PNG)}, kind="curves")


def _add_final(run: FabricatedRun, stage: str) -> None:
    files = {
        "model": ("keras", b"a model"),
        "fashion_mnist_final": ("h5", b"the same model"),
        "usage": ("json", b"{}"),
        "history": ("parquet", b"a table"),
    }
    run.add(stage, files, kind="retrain", settings={"training": {"epochs": 2}})


def _add_scores(run: FabricatedRun, models: Sequence[str]) -> None:
    plan = run.settings.plan
    results = {
        MODELS: [_result(run.settings, model) for model in models],
        TRAININGS: [row for model in models for row in _trainings(run.settings, model)],
        ALL_VERDICTS: [_verdict(number) for number in range(1, len(plan) + 1)],
    }
    if run.settings.transfer.competes:
        results[ALL_VERDICTS].append(_on_transfer(run.settings))
    run.add("results", tables(results))
    scored = [(model, split) for model in models for split in ("validation", "test")]
    scored.remove(("final", "validation"))
    quality = {
        CLASS_SCORES: [row for model, split in scored for row in _class_scores(model, split)],
        CONFUSIONS: [row for model, split in scored for row in _confusions(model, split)],
    }
    calibration = {"calibration_error": {"final": {"test": 0.0312}}}
    run.add("quality", {"confusion_final": ("png", PNG), **tables(quality)}, facts=calibration)
    run.add("success", facts={"criteria": [_criterion()]})
    run.add("figures", {"accuracy": ("png", PNG), "decisions": ("png", PNG)})
    if plan:
        run.add("selection", facts=_selection())
    if run.settings.evaluation.protocol == "kfold":
        files = {"label_errors_picture": ("png", PNG), **tables(_label_check())}
        facts = {"model": "iteration_1", "images": 6, "estimated_errors": 29.6, "suspects": 30}
        run.add("label_check", files, facts=facts)


def _class_scores(model: str, split: str) -> list[dict[str, Any]]:
    key = {"model": model, "split": split, "precision": 0.9, "f1": 0.85, "support": 1}
    recalls = zip(CLASSES, (0.75, 0.5), strict=True)
    return [key | {"class": name, "recall": recall} for name, recall in recalls]


def _confusions(model: str, split: str) -> list[dict[str, Any]]:
    counts = iter((7, 3, 1, 5) if split == "validation" else (90, 91, 92, 93))
    return [
        {"model": model, "split": split, "label": label, "predicted": other, "count": next(counts)}
        for label in CLASSES
        for other in CLASSES
    ]


def _criterion() -> dict[str, Any]:
    interval = {"value": 0.005, "low": -0.01, "high": 0.02}
    test = {"threshold": 0.0, "p_value": 0.31, "alpha": 0.05}
    return {"criterion": "better than the dense baseline", "met": False} | interval | test


def _selection() -> dict[str, Any]:
    corrected = {"best_corrected": 0.7, "best_corrected_low": 0.6, "best_corrected_high": 0.8}
    found = {"looks": 2, "models": 5, "survivor": "iteration_1", "val_score": 0.75}
    return found | corrected | {"optimism": 0.01, "method": "bootstrap"}


def _label_check() -> dict[Table, list[dict[str, Any]]]:
    """Thirty suspects and twelve pairs of classes."""
    image = {"split": "train", "position": 1, "source_position": 7, "origin": None}
    labels = {"given": "left", "suggested": "right"}
    chances = {"self_confidence": 0.01, "suggested_probability": 0.98}
    suspects = [{"rank": rank, **image, **labels, **chances} for rank in range(1, 31)]
    pair = {"given": "left", "true": "right"}
    return {SUSPECTS: suspects, ERRORS_BY_PAIR: [pair | {"images": 12 - n} for n in range(12)]}


def _result(settings: Settings, model: str) -> dict[str, Any]:
    transfer, final = model.startswith("vgg16"), model == "final"
    found = _trainings(settings, model)
    values = [row["test_accuracy"] for row in found]
    mean = sum(values) / len(values)
    return {
        "name": model,
        "step": "3d" if transfer else "7",
        "params": 101_770,
        "epochs": 2,
        "batch_size": 2,
        "train_samples": 6 if final else 4,
        "trainings": len(found),
        "val_accuracy": None if final else accuracy_of(model),
        "test_accuracy": mean,
        "test_loss": 0.5,
        "test_accuracy_sd": 0.01 if len(found) > 1 else None,
        "test_accuracy_low": mean - 0.02,
        "test_accuracy_high": mean + 0.02,
    }


def _trainings(settings: Settings, model: str) -> list[dict[str, Any]]:
    if model.startswith("vgg16"):
        found = replicates(EvaluationSettings(), settings.seed)
    elif model == "final":
        found = final_replicates(settings.evaluation, settings.seed)
    else:
        found = replicates(settings.evaluation, settings.seed)
    return [
        {
            "model": model,
            "stage": model + replicate_suffix(training.number, training.fold),
            "replicate": training.number,
            "fold": training.fold,
            "seed": training.seed,
            "epochs": 2,
            "train_samples": 4,
            "test_loss": 0.5 + 0.01 * number,
            "test_accuracy": accuracy_of(model) - 0.01 * number,
        }
        for number, training in enumerate(found)
    ]


def _on_transfer(settings: Settings) -> dict[str, Any]:
    """The verdict of the last gate: back, or as it was forced."""
    number = len(settings.plan) + 1
    decision = settings.force.get(number, "back")
    return _verdict(number) | {
        "incumbent": "iteration_1",
        "candidate": "vgg16_fine_tuned",
        "decision": decision,
        "state": f"Forced{decision.capitalize()}" if number in settings.force else "KeptIncumbent",
        "forced": number in settings.force,
    }


def _verdict(number: int) -> dict[str, Any]:
    return {
        "gate": number,
        "incumbent": "overfitting" if number == 1 else "iteration_1",
        "candidate": f"iteration_{number}",
        "decision": "forward" if number == 1 else "back",
        "reason": "it scores so",
        "rule": "validation",
        "delta_accuracy": 0.0125,
        "ci_low": -0.01,
        "ci_high": 0.03,
        "p_value": 0.2,
        "p_value_adjusted": 0.4,
        "delta_loss": -0.02,
        "loss_ci_low": -0.04,
        "loss_ci_high": 0.01,
        "state": "RolledForward" if number == 1 else "KeptIncumbent",
        "forced": False,
        "level": 0.025,
        "mcnemar_only_incumbent": 3,
        "mcnemar_only_candidate": 5,
        "mcnemar_p_value": 0.7,
        "gap_incumbent": 0.1,
        "gap_candidate": 0.05,
        "by_validation": "forward",
        "by_one_standard_error": "back",
    }
