"""Put every model's scores into one table, and every verdict into another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.core.reported import REPORTED
from tasks.stage import Facts, Inputs, Outputs, stage_task

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("step", pa.string()),
        ("params", pa.int64()),
        ("epochs", pa.int64()),
        ("batch_size", pa.int64()),
        ("train_samples", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_accuracy", pa.float64()),
        ("test_loss", pa.float64()),
        ("test_accuracy", pa.float64()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("notebook_test_loss", pa.float64()),
        ("notebook_test_accuracy", pa.float64()),
    ]
)

# Stands in the rows of a transfer that is none.
CONTROL = "a control: VGG16 has random weights here"

VERDICTS = pa.schema(
    [
        ("gate", pa.int64()),
        ("incumbent", pa.string()),
        ("candidate", pa.string()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("rule", pa.string()),
        ("delta_accuracy", pa.float64()),
        ("delta_loss", pa.float64()),
    ]
)


@stage_task()
def results(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave a row a model and a row a gate; models that were skipped have no row."""
    rows = [
        _row(model, inputs, settings)
        for model in settings["models"]
        if inputs.skipped(model["name"]) is None
    ]
    outputs.table("results", pa.Table.from_pylist(rows, SCHEMA))
    verdicts = [dict(inputs.facts(role)) for role in settings["gates"]]
    outputs.table("verdicts", pa.Table.from_pylist(verdicts, VERDICTS))
    skipped = {
        model["name"]: inputs.skipped(model["name"])
        for model in settings["models"]
        if inputs.skipped(model["name"]) is not None
    }
    return {"models": [row["name"] for row in rows], "skipped": skipped}


def _row(
    model: Mapping[str, str | None], inputs: Inputs, settings: Mapping[str, Any]
) -> dict[str, Any]:
    name, gate = str(model["name"]), model["gate"]
    verdict = inputs.facts(gate) if gate else {}
    reported = REPORTED.get(name) if settings["notebook"] else None
    control = settings["random_transfer"] and name.startswith("vgg16")
    return {
        "name": name,
        "step": model["step"],
        **{key: inputs.facts(name)[key] for key in SCHEMA.names[2:10]},
        **{key: inputs.facts(f"test_{name}")[key] for key in ("test_loss", "test_accuracy")},
        "decision": verdict.get("decision"),
        "reason": CONTROL if control else verdict.get("reason"),
        "notebook_test_loss": reported.test_loss if reported else None,
        "notebook_test_accuracy": reported.test_accuracy if reported else None,
    }
