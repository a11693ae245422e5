"""A gate: decide on validation scores whether a change is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from tasks.core.decisions import Scores
from tasks.core.decisions import decide as verdict_of
from tasks.core.records import Record
from tasks.stage import Facts, Inputs, Outputs, stage_task


def _state(record: Record) -> tuple[str, str]:
    name = "RolledForward" if record.facts["decision"] == "forward" else "KeptIncumbent"
    return name, record.facts["reason"]


@stage_task(state_of=_state)
def decide(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Compare the candidate with the incumbent; leave the verdict as a table of one row."""
    verdict = verdict_of(
        _scores(inputs, "incumbent", settings["incumbent"]),
        _scores(inputs, "candidate", settings["candidate"]),
        settings["rule"],
        settings["replay"],
    )
    names = {name: settings[name] for name in ("gate", "incumbent", "candidate")}
    row = names | asdict(verdict)
    outputs.table("verdict", pa.table({name: [value] for name, value in row.items()}))
    return row


def _scores(inputs: Inputs, role: str, name: str) -> Scores:
    facts = inputs.facts(role)
    return Scores(name, facts["val_accuracy"], facts["val_loss"])
