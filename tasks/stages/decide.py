"""A gate: decide on validation scores whether a change is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.records import Record
from tasks.core.statistics.decisions import Contender, gather, opinions
from tasks.core.statistics.decisions import decide as verdict_of
from tasks.core.statistics.evidence import Scored
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.prediction_tables import scored


def _state(record: Record) -> tuple[str, str]:
    return record.facts["state"], record.facts["reason"]


@stage_task(state_of=_state)
def decide(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Compare the candidate with the incumbent; leave evidence and verdict as a table of one row.

    Whatever the rule, the row says what each rule makes of the evidence.
    """
    before, after = (
        [scored(inputs, role + suffix, "validation") for suffix in settings["trainings"]]
        for role in ("incumbent", "candidate")
    )
    evidence = gather(
        _contender(settings, inputs, "incumbent", before),
        _contender(settings, inputs, "candidate", after),
        before,
        after,
        settings["folds"],
    )
    verdict = verdict_of(
        evidence, settings["rule"], settings["level"], settings["replay"], settings["forced"]
    )
    row: dict[str, Any] = {
        "gate": settings["gate"],
        "incumbent": settings["incumbent"],
        "candidate": settings["candidate"],
        "decision": verdict.decision,
        "reason": verdict.reason,
        "rule": settings["rule"],
        "delta_accuracy": evidence.accuracy.value,
        "ci_low": evidence.accuracy.low,
        "ci_high": evidence.accuracy.high,
        "p_value": evidence.accuracy.p_value,
        "delta_loss": evidence.loss.value,
        "replicates": settings["replicates"],
        "folds": settings["folds"],
        "state": verdict.state,
        "forced": settings["forced"] is not None,
        "level": settings["level"],
        "standard_error": evidence.accuracy.error,
        "loss_ci_low": evidence.loss.low,
        "loss_ci_high": evidence.loss.high,
        "mcnemar_only_incumbent": evidence.mcnemar.only_incumbent,
        "mcnemar_only_candidate": evidence.mcnemar.only_candidate,
        "mcnemar_p_value": evidence.mcnemar.p_value,
        "gap_incumbent": evidence.incumbent.gap,
        "gap_candidate": evidence.candidate.gap,
    }
    says = opinions(evidence, settings["level"])
    row |= {f"by_{rule}": opinion for rule, opinion in says.items()}
    outputs.table("verdict", pa.Table.from_pylist([row], VERDICT))
    return row


def _contender(
    settings: Mapping[str, Any], inputs: Inputs, role: str, trainings: list[Scored]
) -> Contender:
    facts = [inputs.facts(role + suffix) for suffix in settings["trainings"]]
    return Contender(
        settings[role],
        float(np.mean([training.correct.mean() for training in trainings])),
        float(np.mean([training.loss.mean() for training in trainings])),
        float(np.mean([found["train_accuracy"] for found in facts])),
        facts[0]["params"],
        facts[0]["epochs"],
    )


VERDICT = pa.schema(
    [
        ("gate", pa.int64()),
        ("incumbent", pa.string()),
        ("candidate", pa.string()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("rule", pa.string()),
        ("delta_accuracy", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("p_value", pa.float64()),
        ("delta_loss", pa.float64()),
        ("replicates", pa.int64()),
        ("folds", pa.int64()),
        ("state", pa.string()),
        ("forced", pa.bool_()),
        ("level", pa.float64()),
        ("standard_error", pa.float64()),
        ("loss_ci_low", pa.float64()),
        ("loss_ci_high", pa.float64()),
        ("mcnemar_only_incumbent", pa.int64()),
        ("mcnemar_only_candidate", pa.int64()),
        ("mcnemar_p_value", pa.float64()),
        ("gap_incumbent", pa.float64()),
        ("gap_candidate", pa.float64()),
        ("by_validation", pa.string()),
        ("by_significant", pa.string()),
        ("by_one_standard_error", pa.string()),
    ]
)
