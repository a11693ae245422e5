"""The success criteria of step 2: does the final model beat simpler ones?"""

from __future__ import annotations

from typing import Any

from tasks.core.names import CRITERIA, TEST, TRAIN
from tasks.core.records import Record
from tasks.core.stage_specs import SuccessSpec
from tasks.core.statistics.estimates import Estimate
from tasks.core.statistics.evidence import constant, gain, score
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import SUCCESS_CRITERIA
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import class_counts, scored


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
    blind = constant(final[0].label, class_counts(inputs, TRAIN))
    threshold = score(spec.metric, [blind], None).value
    alone = score(spec.metric, final, None, threshold)
    better = gain(spec.metric, baseline, final, None)
    rows = [
        _row("better than the commonest class", alone, threshold, spec),
        _row("better than the dense baseline", better, 0.0, spec),
    ]
    outputs.table(CRITERIA, from_rows(SUCCESS_CRITERIA, rows))
    failed = [row["criterion"] for row in rows if not row["met"]]
    message = "both criteria are met"
    if failed:
        message = f"the final model is not shown to be {' nor '.join(failed)}"
    return {"met": not failed, "message": message, "criteria": rows}


def _row(criterion: str, found: Estimate, threshold: float, spec: SuccessSpec) -> dict[str, Any]:
    return {
        "criterion": criterion,
        "met": found.p_value <= spec.alpha,
        "metric": spec.metric,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "threshold": threshold,
        "p_value": found.p_value,
        "alpha": spec.alpha,
    }
