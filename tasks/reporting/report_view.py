"""The contents of a run's report, summary and model card, and their rendering by templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from jinja2 import Environment

from tasks.core.drawing.titles import title_of
from tasks.core.names import BASELINE, COMMONEST_CLASS, FINAL
from tasks.core.settings.evaluation import REPLAYING, Metric
from tasks.core.statistics.metric_words import NAMES, unit
from tasks.core.statistics.replayed import evidence_sentences, own_decision
from tasks.core.tables.results import MODELS
from tasks.core.tables.verdicts import ALL_VERDICTS
from tasks.reporting import scores
from tasks.reporting.look_view import LookView
from tasks.reporting.rendering import UNKNOWN, environment

RESULT_KEYS = MODELS.names
# The iteration's entry in the plan is shown with its verdict.
VERDICT_KEYS = (
    *ALL_VERDICTS.names,
    *("iteration", "change_name", "hypothesis", "evidence", "change", "of_transfer"),
)
OVERFITTING_KEYS = (
    "lowest_validation_loss",
    "lowest_validation_loss_epoch",
    "highest_validation_accuracy",
    "highest_validation_accuracy_epoch",
)

Row = dict[str, Any]


@dataclass(frozen=True)
class ReportView:
    """Everything that the report shows. Accuracies are in [0, 1], losses in nats.

    Attributes:
        results: one row per model with the fields `RESULT_KEYS`, in display order.
        verdicts: one row per gate with the fields `VERDICT_KEYS`; `iteration` is the name of the
            candidate's stage, and `of_transfer` says whether this is the last gate, between the
            winner of step 7 and transfer.
        overfitting: the fields `OVERFITTING_KEYS` of the overfitting model.
        figures: PNG bytes named `samples`, `balance`, `pairs_picture`, `label_errors_picture`,
            `augmentation`, `accuracy`, `decisions`, `final`, `confusion_final`,
            `reliability_final`, `confused_final`, `vgg16_input_<variant>` and `curves_<model>`.
        transfer_skipped: why there is no transfer and what to do about it; None if there is one.
        transfer_weights: `imagenet`, `file` or `random`; the last is labelled as a control.
        scorings: how often models were scored on this test split, earlier runs included.
        model_files: the path of each model's file by the model's name.
        notebook_comparison: whether the notebook's figures are comparable, and hence shown.
        look: what the stage `look` found; None in runs of earlier versions.
        counts: images of each class (in the order of `class_names`) by split.
        class_weights: the weight of each class's images in a training on the training split, in the
            order of `class_names`; empty if all count the same.
        transfer_start: training accuracy of `vgg16_frozen` after its first epoch, if it was
            trained.
        reading: what became of the user's own files: `lines`, `unreadable` (rows with `name` and
            `reason`) and `unreadable_count`; empty for other data sets.
        copies: how many images of a split were left out, since another split has a copy.
        guard: duplicates per pair of splits: rows with `splits` (two names), `exact`, `near` (None:
            not searched) and `search` (exact, index or off).
        selection: the facts of the selection stage; empty if nothing was selected.
        label_check: the facts of the label check, its `first` suspects and the likeliest `pairs` of
            given and true class, as in its tables; empty without k-fold validation.
        criteria: rows of the success stage.
        per_class: rows with `class`, `precision`, `recall`, `f1` and `support` of the final model.
        calibration_error: expected calibration error by model, then by split.
        confusion: by model, the confusion matrix on held-out images, labels in rows.
        store: the folder or URL that paths are relative to.
        started: when the run began.
        computed_seconds: total computing time of its stages.
        machine: the machine that the run was started on.
        trainings: rows of the table of replicates.
        stages: rows with `stage`, `state`, `seconds`, `reason` and `files` (each with `path` and
            `sha256`), in the order in which they ended.
        legend: the class names if figures have numbers in their place, in the order of the numbers.
        font_advice: which font to install if figures have numbers in place of names; else empty.
        backbone: the facts of the backbone, and the `image_shape` of the run's images.
        own_networks: by model, the digest of the code of the function that built its network.
        sources: the path of a table by `<stage>/<name>` and of a figure by its name.

    In rows and mappings a field may be None or missing, and any figure may be absent.
    """

    run_id: str
    generated: str
    dataset: str
    synthetic: bool
    class_names: Sequence[str]
    split_sizes: Mapping[str, int]
    results: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]
    overfitting: Mapping[str, Any]
    figures: Mapping[str, bytes]
    transfer_skipped: str | None
    transfer_weights: str
    rule: str
    scorings: int
    settings: Mapping[str, Any]
    profile: Mapping[str, Any]
    model_files: Mapping[str, str]
    notebook_comparison: bool
    look: LookView | None = None
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    class_weights: Sequence[float] = ()
    backbone: Mapping[str, Any] = field(default_factory=dict)
    own_networks: Mapping[str, str] = field(default_factory=dict)
    transfer_start: float | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    copies: Mapping[str, int] = field(default_factory=dict)
    guard: Sequence[Mapping[str, Any]] = ()
    selection: Mapping[str, Any] = field(default_factory=dict)
    label_check: Mapping[str, Any] = field(default_factory=dict)
    criteria: Sequence[Mapping[str, Any]] = ()
    per_class: Sequence[Mapping[str, Any]] = ()
    calibration_error: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    store: str = ""
    started: str = ""
    computed_seconds: float | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    trainings: Sequence[Mapping[str, Any]] = ()
    stages: Sequence[Mapping[str, Any]] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    legend: Sequence[str] = ()
    font_advice: str = ""


def render_view(template: str, view: ReportView, **more: Any) -> str:
    """Render a template with the view; fields missing from its rows become None.

    Besides `view`, templates get `rows` (of results), `row_of(name)`, `verdicts`, the rows
    `baseline`, `final` and `commonest`, the `metric` with its name and
    the `units` of gains, and `better(one, other)`, by how much a row's test score is better.
    `last_gate` is the verdict on transfer, None without that gate, and `transferred` says whether
    the final model is a VGG16 model. `own_evidence` are sentences on which replayed decisions this
    run would make differently, and `own_decision(verdict, rule)` says what it would decide.
    """
    verdicts = [completed(verdict, VERDICT_KEYS) for verdict in view.verdicts]
    rows = [completed(row, RESULT_KEYS) for row in view.results]
    row_of = _row_of(rows)
    last_gate = next((verdict for verdict in verdicts if verdict["of_transfer"]), None)
    metric: Metric = view.settings.get("metric", "accuracy")
    return (
        templates()
        .get_template(template)
        .render(
            view=view,
            rows=rows,
            row_of=row_of,
            baseline=row_of(BASELINE),
            final=row_of(FINAL),
            commonest=row_of(COMMONEST_CLASS),
            metric=metric,
            metric_name=NAMES[metric],
            units=unit(metric),
            better=partial(_better, metric),
            verdicts=verdicts,
            last_gate=last_gate,
            transferred=last_gate is not None and last_gate["decision"] == "forward",
            own_evidence=evidence_sentences(verdicts, [row["change_name"] for row in verdicts]),
            own_decision=own_decision,
            replays=view.rule in REPLAYING,
            **more,
        )
    )


def completed(row: Mapping[str, Any], keys: Sequence[str]) -> Row:
    """The row with exactly these keys; the missing ones are None."""
    return {key: row.get(key) for key in keys}


def _better(metric: Metric, one: Row, other: Row, split: str = "test") -> float | None:
    score, before = one[f"{split}_{metric}"], other[f"{split}_{metric}"]
    if score is None or before is None:
        return None
    return float(before - score if metric == "log_loss" else score - before)


def _row_of(rows: Sequence[Row]) -> Callable[[str], Row]:
    """Look up a model's row by its name; a model without results gets an empty row."""
    by_name = {row["name"]: row for row in rows}
    return lambda name: by_name.get(name) or completed({"name": name}, RESULT_KEYS)


@cache
def templates() -> Environment:
    """The environment of the report's templates."""
    found = environment()
    found.filters |= {"score": scores.score, "gain": scores.gain}
    found.globals |= {"interval": scores.interval, "scores_from": scores.scores_from}
    found.filters["title_of"] = lambda name: UNKNOWN if name is None else title_of(name)
    return found
