"""Publish a run: one self-contained HTML page from what its stages left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect import task

from tasks.core.records import Outcome, Record, Skipped
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.training import AugmentSettings
from tasks.engine.events import stage_is
from tasks.engine.publish import publish_summary
from tasks.engine.stage import RunContext
from tasks.storage.run_log import RunLog, computed, now
from tasks.storage.store import Store

# The kinds of stages that draw.
DRAWN = ("explore", "guard", "quality", "curves", "figures")


@task(name="report", task_run_name="report", persist_result=False)
def report(settings: Settings, outcomes: dict[str, Outcome], context: RunContext) -> str:
    """Write the run's page and its summary for the UI, anew in every run; return its path."""
    from tasks.reporting.model_card import write_model_folder
    from tasks.reporting.page import render_report, render_summary

    run_log = RunLog(Store(context.store_url), context.run_id)
    path = run_log.report
    view = view_of(settings, outcomes, context)
    path.write(render_report(view).encode())
    final, arrays = outcomes["final"], outcomes["preprocess"]
    assert isinstance(final, Record), "a run that comes here has a final model"
    assert isinstance(arrays, Record), "and the arrays that it was trained on"
    write_model_folder(run_log.model_folder, run_log.store, view, final, arrays.facts)
    publish_summary(render_summary(view, str(path)), f"Results on {view.dataset}")
    stage_is("report", "Completed", str(path))
    return str(path)


def view_of(settings: Settings, outcomes: Mapping[str, Outcome], context: RunContext) -> Any:
    """Everything that the page shows, gathered from records."""
    from tasks.reporting.page import ReportView

    store = Store(context.store_url)
    found = {name: item for name, item in outcomes.items() if isinstance(item, Record)}
    weights = outcomes.get("vgg16_weights")
    test_data = found["preprocess"].digest(("test",))
    return ReportView(
        run_id=context.run_id,
        generated=now(),
        dataset=_dataset_name(settings),
        synthetic=settings.dataset == "synthetic",
        class_names=found["subset"].facts["class_names"],
        split_sizes=found["subset"].facts["sizes"],
        results=store.table(found["results"], "results").to_pylist(),
        verdicts=_verdicts(settings, store.table(found["results"], "verdicts").to_pylist()),
        overfitting=_first_training(found, "overfitting").facts,
        figures=_figures(store, (item for item in found.values() if item.kind in DRAWN)),
        transfer_skipped=weights.reason
        if isinstance(weights, Skipped)
        else _switched_off(settings),
        transfer_weights=_weights_label(settings),
        rule=settings.rule,
        scorings=len(store.scorings(test_data)),
        settings=settings.model_dump(mode="json"),
        profile=context.profile,
        model_files={
            name: str(store.root / item.files["model"].path)
            for name, item in found.items()
            if "model" in item.files
        },
        guard=found["guard"].facts["counts"],
        selection=found["selection"].facts if "selection" in found else {},
        criteria=found["success"].facts["criteria"],
        per_class=[
            row
            for row in store.table(found["quality"], "per_class").to_pylist()
            if row["model"] == "final"
        ],
        calibration_error=found["quality"].facts["calibration_error"],
        confusion=_confusion(
            store.table(found["quality"], "confusion").to_pylist(),
            len(found["subset"].facts["class_names"]),
        ),
        notebook_comparison=settings.dataset == "fashion-mnist",
        counts=_counts(store, found["subset"]),
        transfer_start=_first_epoch(store, found.get("vgg16_frozen")),
        trainings=store.table(found["results"], "replicates").to_pylist(),
        sources=_sources(found.values()),
        **_provenance(RunLog(store, context.run_id), found),
    )


def _sources(records: Iterable[Record]) -> dict[str, str]:
    """Where tables and figures are, as the page calls them."""
    found = {}
    for record in records:
        for name, file in record.files.items():
            found[name if file.kind == "png" else f"{record.stage}/{name}"] = file.path
    return found


def _provenance(run_log: RunLog, records: Mapping[str, Record]) -> dict[str, Any]:
    """What the run's own log knows: when, where, how long, and what came of each stage."""
    entry, known = run_log.read(), computed(run_log.store)
    stages = [
        {
            "stage": line["stage"],
            "state": line["state"],
            "reason": line["reason"],
            # Of what was cached: how long it took when it was computed.
            "seconds": known.get(line["key"], line)["seconds"],
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
    }


def _first_epoch(store: Store, record: Record | None) -> float | None:
    if record is None:
        return None
    accuracy: float = store.table(record, "history")["accuracy"][0].as_py()
    return accuracy


def _dataset_name(settings: Settings) -> str:
    names = {"fashion-mnist": "Fashion-MNIST", "synthetic": "synthetic garments"}
    # Where it lies is among the settings; a card goes to others.
    return names.get(settings.dataset, Path(settings.dataset).name)


def _weights_label(settings: Settings) -> str:
    transfer = settings.transfer
    if transfer.weights == "random":
        return "random"
    return "file" if transfer.weights_file else "imagenet"


def _switched_off(settings: Settings) -> str | None:
    if settings.transfer.weights == "off":
        return "switched off by transfer.weights=off; set it to imagenet to run this part."
    return None


def _counts(store: Store, subset: Record) -> dict[str, list[int]]:
    """Images of each class in each split."""
    index = store.table(subset, "index").to_pydict()
    classes = range(len(subset.facts["class_names"]))
    found = Counter(zip(index["split"], index["label"], strict=True))
    return {split: [found[split, label] for label in classes] for split in subset.facts["sizes"]}


def _confusion(cells: list[dict[str, Any]], classes: int) -> dict[str, list[list[int]]]:
    """By model, a row a label of the counts of each prediction, on held-out images."""
    counts: dict[str, list[int]] = {}
    for cell in cells:
        if cell["split"] == "validation":
            counts.setdefault(cell["model"], []).append(cell["count"])
    return {
        model: [found[row : row + classes] for row in range(0, len(found), classes)]
        for model, found in counts.items()
    }


def _first_training(found: Mapping[str, Record], model: str) -> Record:
    return found.get(model) or found[f"{model}_f1"]


def _figures(store: Store, records: Iterable[Record]) -> dict[str, bytes]:
    return {
        name: store.content(record, name)
        for record in records
        for name, file in record.files.items()
        if file.kind == "png"
    }


def _change(field: str, value: Any) -> str:
    """One changed setting in words; augmentation with its defaults spelled out."""
    if field == "augmentation" and value is not None:
        value = AugmentSettings.model_validate(value).model_dump()
        return "augmentation with " + ", ".join(f"{name} = {v}" for name, v in value.items())
    return f"{field} = {value}"


def _verdicts(settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The verdicts with what the plan says of each iteration."""
    return [
        row
        | {
            "iteration": row["candidate"],
            "change_name": entry.name,
            "hypothesis": entry.hypothesis,
            "change": ", ".join(_change(*item) for item in entry.change.items()),
        }
        for row, entry in zip(rows, settings.plan, strict=True)
    ]
