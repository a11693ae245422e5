"""The tables of a gate: its verdict, and all verdicts of a run."""

from __future__ import annotations

from tasks.core.names import VERDICT, VERDICTS
from tasks.core.tables.schema import Column, Table

_TEST = (
    Column("gate", "int64", "number of the gate, from 1"),
    Column("incumbent", "string", "model before the change"),
    Column("candidate", "string", "model with the change"),
    Column("decision", "string", "`forward` (the change is kept) or `back`"),
    Column("reason", "string", "why, in words"),
    Column("rule", "string", "the rule that decided"),
    Column("delta_accuracy", "float64", "gain in held-out accuracy, in [-1, 1]"),
    Column("ci_low", "float64", "lower end of its 95 % interval"),
    Column("ci_high", "float64", "upper end of its 95 % interval"),
    Column("metric", "string", "the metric that decided"),
    Column(
        "gain", "float64", "by how much the candidate is better by `metric`: in [-1, 1] or nats"
    ),
    Column("gain_low", "float64", "lower end of its 95 % interval"),
    Column("gain_high", "float64", "upper end of its 95 % interval"),
    Column("p_value", "float64", "one-sided: probability of a `gain` this high if there were none"),
)
_ADJUSTED = Column("p_value_adjusted", "float64", "the p value adjusted for all gates (Holm)")
_EVIDENCE = (
    Column("delta_loss", "float64", "difference of cross-entropies, nats, without L2 penalties"),
    Column("replicates", "int64", "seeds per model"),
    Column("folds", "int64", "number of folds; null without folds"),
    Column(
        "state",
        "string",
        "Prefect state: `RolledForward`, `KeptIncumbent`, `Inconclusive`, `ForcedForward` or "
        "`ForcedBack`",
    ),
    Column("forced", "bool", "whether `--force` overrode the rule"),
    Column("level", "float64", "significance level of this gate"),
    Column("standard_error", "float64", "of `gain`"),
    Column("loss_ci_low", "float64", "lower end of the 95 % interval of `delta_loss`"),
    Column("loss_ci_high", "float64", "upper end of the 95 % interval of `delta_loss`"),
    Column(
        "mcnemar_only_incumbent",
        "int64",
        "images that only the incumbent's first training gets right",
    ),
    Column(
        "mcnemar_only_candidate",
        "int64",
        "images that only the candidate's first training gets right",
    ),
    Column("mcnemar_p_value", "float64", "McNemar's exact test, two-sided"),
    Column("gap_incumbent", "float64", "the incumbent's training minus held-out accuracy"),
    Column("gap_candidate", "float64", "the candidate's training minus held-out accuracy"),
    Column("by_validation", "string", "what rule `validation` says: `forward` or `back`"),
    Column(
        "by_significant",
        "string",
        "what rule `significant` says: `forward`, `back` or `inconclusive`; null with fewer than "
        "three trainings",
    ),
    Column(
        "by_one_standard_error",
        "string",
        "what rule `one_standard_error` says: `forward` or `back`",
    ),
)

GATE_VERDICT = Table(VERDICT, "the gate", (*_TEST, *_EVIDENCE))
ALL_VERDICTS = Table(VERDICTS, "each gate", (*_TEST, _ADJUSTED, *_EVIDENCE))
