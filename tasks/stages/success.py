"""The success criteria of step 2: is the final model better than chance and than the baseline?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.records import Record
from tasks.core.statistics.estimates import Estimate
from tasks.core.statistics.evidence import accuracy, accuracy_difference
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.prediction_tables import predictions, scored

SCHEMA = pa.schema(
    [
        ("criterion", pa.string()),
        ("met", pa.bool_()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("threshold", pa.float64()),
        ("p_value", pa.float64()),
        ("alpha", pa.float64()),
    ]
)


def _state(record: Record) -> tuple[str, str]:
    return ("CriteriaMet" if record.facts["met"] else "CriteriaFailed"), record.facts["message"]


@stage_task(state_of=_state)
def success(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Test the final model on the test images; leave a row a criterion.

    Both must hold, so each may be tested at alpha (Berger 1982, intersection-union tests).
    """
    final, baseline = (
        [scored(inputs, role, "test") for role in settings[name]] for name in ("final", "baseline")
    )
    labels = predictions(inputs, settings["final"][0], "test").label
    classes = len(inputs.facts("preprocess")["class_names"])
    # Who sees no image can do no better than to say the commonest class each time.
    chance = float(np.bincount(labels, minlength=classes).max() / len(labels))
    alone = accuracy(final, None, chance)
    gain = accuracy_difference(baseline, final, None)
    rows = [
        _row("better than a random classifier", alone, chance, settings["alpha"]),
        _row("better than the dense baseline", gain, 0.0, settings["alpha"]),
    ]
    outputs.table("criteria", pa.Table.from_pylist(rows, SCHEMA))
    failed = [row["criterion"] for row in rows if not row["met"]]
    message = "both criteria are met"
    if failed:
        message = f"the final model is not shown to be {' nor '.join(failed)}"
    return {"met": not failed, "message": message, "criteria": rows}


def _row(criterion: str, found: Estimate, threshold: float, alpha: float) -> dict[str, Any]:
    return {
        "criterion": criterion,
        "met": found.p_value <= alpha,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "threshold": threshold,
        "p_value": found.p_value,
        "alpha": alpha,
    }
