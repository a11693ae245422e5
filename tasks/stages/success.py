"""The success criteria of step 2: is the final model better than chance and than the baseline?"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.core.names import CRITERIA, PREPROCESS, TEST
from tasks.core.records import Record
from tasks.core.stage_specs import SuccessSpec
from tasks.core.statistics.estimates import Estimate
from tasks.core.statistics.evidence import accuracy, accuracy_difference
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import SUCCESS_CRITERIA
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import predictions, scored


def _state(record: Record) -> tuple[str, str]:
    return ("CriteriaMet" if record.facts["met"] else "CriteriaFailed"), record.facts["message"]


@stage_task(SuccessSpec, state_of=_state)
def success(spec: SuccessSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Test the final model on the test images; store a row for each criterion.

    Both must hold, so each may be tested at alpha (Berger 1982, intersection-union tests).
    """
    final, baseline = (
        [scored(inputs, role, TEST) for role in roles] for roles in (spec.final, spec.baseline)
    )
    labels = predictions(inputs, spec.final[0], TEST).label
    classes = len(inputs.facts(PREPROCESS)["class_names"])
    # Without looking at the image, nothing beats always naming the most frequent class.
    chance = float(np.bincount(labels, minlength=classes).max() / len(labels))
    alone = accuracy(final, None, chance)
    gain = accuracy_difference(baseline, final, None)
    rows = [
        _row("better than a random classifier", alone, chance, spec.alpha),
        _row("better than the dense baseline", gain, 0.0, spec.alpha),
    ]
    outputs.table(CRITERIA, from_rows(SUCCESS_CRITERIA, rows))
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
