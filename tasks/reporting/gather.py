"""Collect the contents of a report from the records and the log of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.core.names import (
    BACKBONE,
    BACKBONE_FEATURES,
    CONFUSION,
    FINAL,
    GUARD,
    HISTORY,
    LABEL_CHECK,
    LABEL_ERROR_COUNTS,
    LABEL_ERRORS,
    LOAD,
    LOOK,
    MODEL,
    OVERFITTING,
    PER_CLASS,
    PREPROCESS,
    QUALITY,
    REPLICATES,
    RESULTS,
    SELECTION,
    SPLITS,
    SUBSET,
    SUCCESS,
    TEST,
    TRAIN,
    VALIDATION,
    VERDICTS,
    VGG16_FROZEN,
    VGG16_WEIGHTS,
    replicate_suffix,
)
from tasks.core.own_code import OWN_CODE, short_digest
from tasks.core.records import Outcome, Record, Skipped
from tasks.core.settings.evaluation import REPLAYING
from tasks.core.settings.network import shown_function
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings, Iteration
from tasks.core.settings.transfer import TRANSFER_CHANGE
from tasks.core.training.class_weights import class_weights
from tasks.reporting.look_view import dataset_name, gather_look, images_per_class, reading_of
from tasks.reporting.report_view import ReportView
from tasks.storage.run_log import RunLog, computed, now
from tasks.storage.store import Store

# The kinds of stages whose pictures the report shows.
DRAWING_KINDS = ("explore", "look", "guard", "label_check", "quality", "curves", "figures")
# Confusion matrices of more classes would fill the page with empty cells; their table is stored.
LARGEST_MATRIX = 40
# Rows of the tables of probable label errors that are shown; all are stored.
MOST_SUSPECTS = 20
MOST_PAIRS = 10


def gather_view(
    settings: Settings,
    outcomes: Mapping[str, Outcome],
    run_log: RunLog,
    profile: Mapping[str, Any],
) -> ReportView:
    """Collect the view of a run whose stages have all ended.

    Args:
        settings: the run's settings.
        outcomes: by stage, its record or the reason why it was skipped.
        run_log: the run's log; its store holds the files that the records name.
        profile: the execution profile of the run.
    """
    store = run_log.store
    records = {name: item for name, item in outcomes.items() if isinstance(item, Record)}
    data = records[SUBSET].facts
    return ReportView(
        run_id=run_log.run_id,
        generated=now(),
        dataset=dataset_name(settings),
        synthetic=settings.dataset == "synthetic",
        class_names=data["class_names"],
        split_sizes={split: data["sizes"][split] for split in SPLITS},
        overfitting=_first_training(records, OVERFITTING).facts,
        figures=_figures(store, records.values()),
        transfer_skipped=_reason_without_transfer(settings, outcomes),
        transfer_weights=_weights_label(settings),
        transfer_start=_first_epoch_accuracy(store, records.get(VGG16_FROZEN)),
        rule=settings.rule,
        scorings=len(store.scorings(records[PREPROCESS].digest((TEST,)))),
        settings=settings.model_dump(mode="json"),
        profile=profile,
        model_files={
            name: str(store.root / record.files[MODEL].path)
            for name, record in records.items()
            if MODEL in record.files
        },
        notebook_comparison=settings.dataset == "fashion-mnist",
        **_about_networks(records),
        **_about_images(settings, store, records),
        **_about_fonts(records),
        **_scores(settings, store, records),
        **_provenance(run_log, records),
    )


def _about_networks(records: Mapping[str, Record]) -> dict[str, Any]:
    """Collect the fields of the view on networks that are not the program's own."""
    backbone: dict[str, Any] = {}
    if {BACKBONE, BACKBONE_FEATURES} <= set(records):
        shape = records[BACKBONE_FEATURES].facts["image_shape"]
        backbone = {**records[BACKBONE].facts, "image_shape": shape}
    return {"own_networks": _own_networks(records.values()), "backbone": backbone}


def _about_images(
    settings: Settings, store: Store, records: Mapping[str, Record]
) -> dict[str, Any]:
    """Collect the fields of the view that come from the images."""
    counts = images_per_class(store, records[SUBSET])
    names = records[SUBSET].facts["class_names"]
    return {
        "counts": counts,
        "class_weights": _class_weights(settings, counts[TRAIN], names),
        "look": gather_look(settings, store, records) if LOOK in records else None,
        "reading": reading_of(store, records.get(LOAD)),
        "copies": records[SUBSET].facts.get("copies", {}),
        "guard": records[GUARD].facts["counts"],
    }


def _scores(settings: Settings, store: Store, records: Mapping[str, Record]) -> dict[str, Any]:
    """Collect the fields of the view that come from scores and checks."""
    results, quality = records[RESULTS], records[QUALITY]
    classes = len(records[SUBSET].facts["class_names"])
    per_class = store.table(quality, PER_CLASS).to_pylist()
    return {
        "selection": records[SELECTION].facts if SELECTION in records else {},
        "label_check": _label_check(store, records.get(LABEL_CHECK)),
        "criteria": records[SUCCESS].facts["criteria"],
        "results": store.table(results, RESULTS).to_pylist(),
        "verdicts": _verdicts(settings, store.table(results, VERDICTS).to_pylist()),
        "trainings": store.table(results, REPLICATES).to_pylist(),
        "per_class": [row for row in per_class if row["model"] == FINAL],
        "calibration_error": quality.facts["calibration_error"],
        "confusion": _confusion(store.table(quality, CONFUSION).to_pylist(), classes)
        if classes <= LARGEST_MATRIX
        else {},
    }


def _label_check(store: Store, record: Record | None) -> dict[str, Any]:
    """The facts of the label check, with the first rows of its tables."""
    if record is None:
        return {}
    rows = {
        "first": store.table(record, LABEL_ERRORS).slice(0, MOST_SUSPECTS),
        "pairs": store.table(record, LABEL_ERROR_COUNTS).slice(0, MOST_PAIRS),
    }
    return {**record.facts, **{name: table.to_pylist() for name, table in rows.items()}}


def _provenance(run_log: RunLog, records: Mapping[str, Record]) -> dict[str, Any]:
    """Collect times, machine and paths from the run's log and the records' files."""
    entry, last_computed = run_log.read(), computed(run_log.store)
    stages = [
        {
            "stage": line["stage"],
            "state": line["state"],
            "reason": line["reason"],
            # A cached stage shows how long it took when it was computed.
            "seconds": last_computed.get(line["key"], line)["seconds"],
            "files": [vars(file) for file in records[line["stage"]].files.values()]
            if line["stage"] in records
            else [],
        }
        for line in run_log.stages()
    ]
    return {
        "store": str(run_log.store.root),
        "started": entry["started"],
        "computed_seconds": sum(row["seconds"] for row in stages),
        "machine": entry["machine"],
        "stages": stages,
        "sources": _sources(records.values()),
    }


def _sources(records: Iterable[Record]) -> dict[str, str]:
    """Map tables (`<stage>/<name>`) and figures (`<name>`) to their paths in the store."""
    return {
        name if file.kind == "png" else f"{record.stage}/{name}": file.path
        for record in records
        for name, file in record.files.items()
    }


def _figures(store: Store, records: Iterable[Record]) -> dict[str, bytes]:
    return {
        name: store.content(record, name)
        for record in records
        if record.kind in DRAWING_KINDS
        for name, file in record.files.items()
        if file.kind == "png"
    }


def _about_fonts(records: Mapping[str, Record]) -> dict[str, Any]:
    """What a reader needs to understand figures that have numbers in place of names."""
    facts = [record.facts for record in records.values() if record.kind in DRAWING_KINDS]
    return {
        "legend": next((found["legend"] for found in facts if "legend" in found), ()),
        "font_advice": " ".join(
            dict.fromkeys(found["font_advice"] for found in facts if "font_advice" in found)
        ),
    }


def _own_networks(records: Iterable[Record]) -> dict[str, str]:
    """By stage of a training, the digest of the code that built its network, if a function did."""
    return {
        record.stage: short_digest(record.basis[OWN_CODE])
        for record in records
        if OWN_CODE in record.basis
    }


def _first_training(records: Mapping[str, Record], model: str) -> Record:
    """The record of a model's first training, which under k-fold validation is that of fold 1."""
    return records.get(model) or records[model + replicate_suffix(1, fold=1)]


def _first_epoch_accuracy(store: Store, record: Record | None) -> float | None:
    if record is None:
        return None
    accuracy: float = store.table(record, HISTORY)["accuracy"][0].as_py()
    return accuracy


def _weights_label(settings: Settings) -> str:
    transfer = settings.transfer
    if transfer.weights == "random":
        return "random"
    return "file" if transfer.weights_file else "imagenet"


def _reason_without_transfer(settings: Settings, outcomes: Mapping[str, Outcome]) -> str | None:
    for stage in (VGG16_WEIGHTS, BACKBONE):
        weights = outcomes.get(stage)
        if isinstance(weights, Skipped):
            return weights.reason
    if settings.transfer.weights == "off":
        return "switched off by transfer.weights=off; set it to imagenet to run this part."
    return None


def _class_weights(settings: Settings, counts: list[int], names: Sequence[str]) -> Sequence[float]:
    if settings.class_weight is None:
        return ()
    found: list[float] = class_weights(np.array(counts), names, settings.class_weight).tolist()
    return found


def _confusion(cells: list[dict[str, Any]], classes: int) -> dict[str, list[list[int]]]:
    """By model, the confusion matrix on held-out images, one row per label."""
    counts: dict[str, list[int]] = {}
    for cell in cells:
        if cell["split"] == VALIDATION:
            counts.setdefault(cell["model"], []).append(cell["count"])
    return {
        model: [found[row : row + classes] for row in range(0, len(found), classes)]
        for model, found in counts.items()
    }


def _verdicts(settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The verdicts, each with what the plan says of its iteration, or what the last gate is for."""
    plan = [_tried(entry) for entry in settings.plan]
    last = {"change_name": TRANSFER_CHANGE, "of_transfer": True, "evidence": ""}
    found = []
    for row, about in zip(rows, [*plan, last][: len(settings.change_names)], strict=True):
        evidence = about["evidence"] if row["rule"] in REPLAYING else ""
        found.append(row | {"iteration": row["candidate"]} | about | {"evidence": evidence})
    return found


def _tried(entry: Iteration) -> dict[str, Any]:
    return {
        "change_name": entry.name,
        "hypothesis": entry.hypothesis,
        "evidence": entry.evidence,
        "change": ", ".join(_change(*item) for item in entry.change.items()),
        "of_transfer": False,
    }


def _change(field: str, value: Any) -> str:
    """One changed setting as text; for augmentation, every setting including its defaults."""
    if field == "augmentation" and value is not None:
        value = AugmentSettings.model_validate(value).model_dump()
        return "augmentation with " + ", ".join(f"{name} = {v}" for name, v in value.items())
    if isinstance(value, Mapping) and set(value) == {"times"}:
        return f"{field} \N{MULTIPLICATION SIGN} {value['times']}"
    if field == "network.function" and isinstance(value, str):
        value = shown_function(value)
    if field == "network" and isinstance(value, Mapping):
        value = {
            name: shown_function(item) if name == "function" and item else item
            for name, item in value.items()
        }
    return f"{field} = {value}"
