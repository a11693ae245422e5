"""The run's page: one HTML file that needs no other file, no network and no script.

`render_report` is a pure function of a `ReportView`; the layout is `templates/report.html.j2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment

from tasks.core.drawing.titles import title_of
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.images import GuardSettings
from tasks.core.statistics.reported import REPORTED
from tasks.reporting.rendering import UNKNOWN, environment
from tasks.reporting.transfer_section import (
    Difference,
    Variant,
    transfer_differences,
    transfer_variants,
)

RESULT_KEYS = (
    "name",
    "step",
    "params",
    "epochs",
    "batch_size",
    "train_samples",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "test_loss",
    "test_accuracy",
    "decision",
    "state",
    "reason",
    "notebook_test_loss",
    "notebook_test_accuracy",
    "trainings",
    "val_accuracy_sd",
    "val_accuracy_low",
    "val_accuracy_high",
    "test_accuracy_sd",
    "test_accuracy_low",
    "test_accuracy_high",
)
VERDICT_KEYS = (
    "gate",
    "iteration",
    "change_name",
    "hypothesis",
    "change",
    "incumbent",
    "candidate",
    "decision",
    "reason",
    "rule",
    "delta_accuracy",
    "ci_low",
    "ci_high",
    "p_value",
    "p_value_adjusted",
    "delta_loss",
    "loss_ci_low",
    "loss_ci_high",
    "replicates",
    "folds",
    "state",
    "forced",
    "level",
    "mcnemar_only_incumbent",
    "mcnemar_only_candidate",
    "mcnemar_p_value",
    "gap_incumbent",
    "gap_candidate",
    "by_validation",
    "by_significant",
    "by_one_standard_error",
)
OVERFITTING_KEYS = (
    "lowest_validation_loss",
    "lowest_validation_loss_epoch",
    "highest_validation_accuracy",
    "highest_validation_accuracy_epoch",
)
NOTEBOOKS_IMAGES = 8_000

Row = dict[str, Any]


@dataclass(frozen=True)
class ReportView:
    """Everything that the page shows. Accuracies are in [0, 1], losses in nats.

    Attributes:
        results: a row a model with the fields `RESULT_KEYS`, in the order in which to show them.
        verdicts: a row a gate with the fields `VERDICT_KEYS`; `iteration` is the stage's name.
        overfitting: the fields `OVERFITTING_KEYS` of the overfitting model.
        figures: PNG bytes named `samples`, `balance`, `pairs_picture`, `augmentation`, `accuracy`,
            `decisions`, `final`, `confusion_final`, `reliability_final`, `confused_final`,
            `vgg16_input_<variant>` and `curves_<model>`.
        transfer_skipped: why there is no transfer, and what to do; None where there is.
        transfer_weights: `imagenet`, `file` or `random`; the last is labelled as a control.
        scorings: how many times any model was scored on this run's test split.
        model_files: the path of each model's file by the model's name.
        notebook_comparison: whether the notebook's figures may stand beside these.
        counts: images of each class (in the order of `class_names`) by split.
        transfer_start: training accuracy of `vgg16_frozen` in its first epoch; None where it has
            none.
        guard: what the search for duplicates counted: rows with `splits` (two names), `exact` and
            `near`.
        selection: the fields of the selection stage; empty where nothing was chosen.
        criteria: rows of the success stage.
        per_class: rows with `class`, `precision`, `recall`, `f1` and `support` of the final model.
        calibration_error: by model, then by split.
        confusion: by model, a row a label of the counts of each prediction, on held-out images.
        store: the folder of results that paths are in.
        started: when the run began.
        computed_seconds: how long its stages computed, in all.
        machine: what it ran on.
        trainings: rows of the table of replicates.
        stages: rows with `stage`, `state`, `seconds`, `reason` and `files` (each with `path` and
            `sha256`), in the order in which they ended.
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
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    transfer_start: float | None = None
    guard: Sequence[Mapping[str, Any]] = ()
    selection: Mapping[str, Any] = field(default_factory=dict)
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


def render_report(view: ReportView) -> str:
    """The page as HTML text; everything that comes from `view` is escaped."""
    rows = [_complete(row, RESULT_KEYS) for row in view.results]
    variants = _variants(view)
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            view=view,
            rows=rows,
            row_of=_row_of(rows),
            verdicts=[_complete(verdict, VERDICT_KEYS) for verdict in view.verdicts],
            overfitting=_complete(view.overfitting, OVERFITTING_KEYS),
            is_control=lambda name: view.transfer_weights == "random" and _is_vgg16(name),
            variants=variants,
            reported=REPORTED,
            as_published=[v.key for v in variants if v.default and _with_real_weights(view)],
            differences=differences(view),
            subset_method=_subset_method(view),
            evaluation=EvaluationSettings.model_validate(view.settings.get("evaluation") or {}),
            guard=GuardSettings.model_validate(view.settings.get("guard") or {}),
            forced=[verdict for verdict in view.verdicts if verdict.get("forced")],
        )
    )


def render_summary(view: ReportView, page: str) -> str:
    """The run's results as Markdown, for the Prefect UI; `page` is where the report is."""
    template = _templates().get_template("summary.md.j2")
    rows = [_complete(row, RESULT_KEYS) for row in view.results]
    verdicts = [_complete(verdict, VERDICT_KEYS) for verdict in view.verdicts]
    return template.render(view=view, rows=rows, row_of=_row_of(rows), verdicts=verdicts, path=page)


def render_model_card(view: ReportView, **model: Any) -> str:
    """The final model's card as Markdown; `model` is what only the model's own record knows."""
    rows = [_complete(row, RESULT_KEYS) for row in view.results]
    template = _templates().get_template("model_card.md.j2")
    return template.render(view=view, row_of=_row_of(rows), **model)


def _row_of(rows: Sequence[Row]) -> Callable[[str], Row]:
    """The row of a model by its name; one of nothing where there is none."""
    by_name = {row["name"]: row for row in rows}
    return lambda name: by_name.get(name) or _complete({"name": name}, RESULT_KEYS)


def differences(view: ReportView) -> list[Difference]:
    """Where and why this run differs from the notebook: the points that apply to it."""
    points = [
        _split_difference(_subset_method(view)),
        Difference(
            "Step 3, test set",
            "The test score was looked at after each iteration.",
            "No stage that trains, tunes or decides reads the test split. Models are scored on "
            "it after the last verdict, and each scoring is counted.",
        ),
        Difference(
            "Step 6, test score",
            "The cell evaluates model1, the low-capacity model's name; which model that name "
            "stood for when the cell ran is unknown.",
            "Each model's score is its own.",
        ),
        _decision_difference(view.rule),
        Difference(
            "Step 7, final training",
            "The full training data is prepared, but the 8,000 training images are used again "
            "(63 steps an epoch).",
            _final_training(view),
        ),
        Difference(
            "Saved model",
            "One .h5 file.",
            "A .keras file of every model, and .h5 beside it for the final one.",
        ),
    ]
    if view.notebook_comparison:
        points.insert(4, _ITERATION_6)
    return points + transfer_differences(_variants(view))


def _variants(view: ReportView) -> list[Variant]:
    names = [str(row.get("name")) for row in view.results]
    return transfer_variants(names, view.settings.get("transfer") or {})


def _with_real_weights(view: ReportView) -> bool:
    """Whether scores of the notebook's settings say something of the notebook's scores."""
    notebooks_size = view.split_sizes.get("train") == NOTEBOOKS_IMAGES
    return view.notebook_comparison and view.transfer_weights != "random" and notebooks_size


_ITERATION_6 = Difference(
    "Step 7, iteration 6",
    "Said to improve accuracy; its 85.80 % is less than the 86.05 % of iteration 5.",
    "The figures are shown as they are.",
)


def _split_difference(method: str | None) -> Difference:
    here = {
        "slices": "The same slices, called slices.",
        "stratified": "Seeded random draws in which every class has its share.",
        "everything": "All images; the last sixth of the training images is the validation split.",
    }
    return Difference(
        "Step 1, subsets",
        '"Random samples" are slices: the first 8,000 and the last 2,000 training images and the '
        "first 2,000 test images.",
        here.get(method or "", "The method stands in the settings at the end of this page."),
    )


def _decision_difference(rule: str) -> Difference:
    here = "Decisions are read off images held out from training, never off test images."
    if rule == "notebook":
        here = (
            "The notebook's decisions are replayed; the validation scores that would speak for "
            "or against them stand beside each."
        )
    return Difference("Step 7, decisions", "Decisions are read off the test set.", here)


def _final_training(view: ReportView) -> str:
    here = "Training and validation images together"
    final = next((row for row in view.results if row.get("name") == "final"), {})
    images, batch = final.get("train_samples"), final.get("batch_size")
    if images and batch:
        here += f": {images:,} images ({math.ceil(images / batch)} steps an epoch)"
    return here + "."


def _is_vgg16(name: str | None) -> bool:
    return name is not None and name.startswith("vgg16")


def _subset_method(view: ReportView) -> str | None:
    return (view.settings.get("subset") or {}).get("method")


def _complete(row: Mapping[str, Any], keys: Sequence[str]) -> Row:
    return {key: row.get(key) for key in keys}


@cache
def _templates() -> Environment:
    templates = environment()
    templates.filters["title_of"] = lambda name: UNKNOWN if name is None else title_of(name)
    return templates
