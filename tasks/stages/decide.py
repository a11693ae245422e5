"""A gate: decide on validation scores whether a change is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.core.messages import listed
from tasks.core.names import CANDIDATE, INCUMBENT, VALIDATION, VERDICT
from tasks.core.records import Record
from tasks.core.stage_specs import DecideSpec
from tasks.core.statistics.decisions import Contender, Evidence, gather, opinions
from tasks.core.statistics.decisions import decide as verdict_of
from tasks.core.statistics.evidence import Scored, score
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.verdicts import GATE_VERDICT
from tasks.engine.profile import profile_changes
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import scored


def _state(record: Record) -> tuple[str, str]:
    return record.facts["state"], record.facts["reason"]


@stage_task(DecideSpec, state_of=_state)
def decide(spec: DecideSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Compare the candidate with the incumbent; store evidence and verdict as a table of one row.

    Whatever the rule, the row says what every rule makes of the evidence.
    """
    before, after = (
        [scored(inputs, role + suffix, VALIDATION) for suffix in spec.trainings]
        for role in (INCUMBENT, CANDIDATE)
    )
    evidence = gather(
        _contender(spec, spec.incumbent, inputs, INCUMBENT, before),
        _contender(spec, spec.candidate, inputs, CANDIDATE, after),
        before,
        after,
        spec.folds,
        spec.metric,
    )
    row = _row(spec, evidence)
    row["reason"] += _profiles(spec, inputs)
    outputs.table(VERDICT, from_rows(GATE_VERDICT, [row]))
    return row


def _profiles(spec: DecideSpec, inputs: Inputs) -> str:
    """A warning if not all trainings were computed in the same way; otherwise nothing."""
    first, *others = (
        inputs.profile(role + suffix)
        for role in (INCUMBENT, CANDIDATE)
        for suffix in spec.trainings
    )
    unlike = [change for other in others for change in profile_changes(first, other)]
    if not unlike:
        return ""
    return (
        "; the models were computed under different execution profiles "
        f"({listed(dict.fromkeys(unlike), separator='; ')})"
    )


def _row(spec: DecideSpec, evidence: Evidence) -> dict[str, Any]:
    verdict = verdict_of(evidence, spec.rule, spec.level, spec.replay, spec.forced)
    says = opinions(evidence, spec.level)
    return {
        "gate": spec.gate,
        "incumbent": spec.incumbent,
        "candidate": spec.candidate,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "rule": spec.rule,
        "delta_accuracy": evidence.accuracy.value,
        "ci_low": evidence.accuracy.low,
        "ci_high": evidence.accuracy.high,
        "metric": spec.metric,
        "gain": evidence.gain.value,
        "gain_low": evidence.gain.low,
        "gain_high": evidence.gain.high,
        "p_value": evidence.gain.p_value,
        "delta_loss": evidence.loss.value,
        "replicates": spec.replicates,
        "folds": spec.folds,
        "state": verdict.state,
        "forced": spec.forced is not None,
        "level": spec.level,
        "standard_error": evidence.gain.error,
        "loss_ci_low": evidence.loss.low,
        "loss_ci_high": evidence.loss.high,
        "mcnemar_only_incumbent": evidence.mcnemar.only_incumbent,
        "mcnemar_only_candidate": evidence.mcnemar.only_candidate,
        "mcnemar_p_value": evidence.mcnemar.p_value,
        "gap_incumbent": evidence.incumbent.gap,
        "gap_candidate": evidence.candidate.gap,
    } | {f"by_{rule}": opinion for rule, opinion in says.items()}


def _contender(
    spec: DecideSpec, name: str, inputs: Inputs, role: str, trainings: list[Scored]
) -> Contender:
    facts = [inputs.facts(role + suffix) for suffix in spec.trainings]
    return Contender(
        name,
        score(spec.metric, trainings, spec.folds).value,
        float(np.mean([training.correct.mean() for training in trainings])),
        float(np.mean([training.loss.mean() for training in trainings])),
        float(np.mean([found["train_accuracy"] for found in facts])),
        facts[0]["params"],
        facts[0]["epochs"],
    )
