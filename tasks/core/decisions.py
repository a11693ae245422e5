"""Whether a change is kept: pure functions of validation results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.core.errors import UserError

Decision = Literal["forward", "back"]


@dataclass(frozen=True)
class Scores:
    """A model's scores on the validation split: accuracy in [0, 1], loss in nats."""

    name: str
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """What a gate decided, and why."""

    decision: Decision
    reason: str
    rule: str
    delta_accuracy: float
    delta_loss: float

    @property
    def keep(self) -> bool:
        """Whether the candidate becomes the incumbent."""
        return self.decision == "forward"


def decide(
    incumbent: Scores, candidate: Scores, rule: str, replay: Decision | None = None
) -> Verdict:
    """Compare a candidate with the incumbent.

    Rule `validation` keeps the candidate where its validation accuracy is higher, or equal with a
    lower validation loss. Rule `notebook` returns `replay` and reports the scores beside it.

    Raises:
        UserError: an unknown rule, or nothing to replay.
    """
    gain = candidate.accuracy - incumbent.accuracy
    change = candidate.loss - incumbent.loss
    seen = (
        f"validation accuracy {candidate.accuracy:.4f} against {incumbent.accuracy:.4f} of "
        f"{incumbent.name}, loss {candidate.loss:.4f} against {incumbent.loss:.4f}"
    )
    if rule == "notebook":
        if replay is None:
            raise UserError("rule 'notebook' has no decision to replay for this iteration")
        return Verdict(replay, f"the notebook's decision; {seen}", rule, gain, change)
    if rule != "validation":
        raise UserError(f"unknown rule {rule!r}; expected 'validation' or 'notebook'")
    keep = gain > 0 or (gain == 0 and change < 0)
    return Verdict("forward" if keep else "back", seen, rule, gain, change)
