"""The run's report: one HTML page that needs no other file, no network and no script.

`render_report` is a pure function of a `ReportView`. The layout is in `templates/report.html.j2`
and, section by section, in `templates/report/`.
"""

from __future__ import annotations

from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.images import GuardSettings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.reporting.notebook_differences import differences, variants_of
from tasks.reporting.report_view import OVERFITTING_KEYS, ReportView, completed, render_view

NOTEBOOK_TRAINING_IMAGES = 8_000


def render_report(view: ReportView) -> str:
    """Render the page as HTML; every value from `view` is escaped."""
    variants = variants_of(view)
    comparable = _explains_notebook(view)
    return render_view(
        "report.html.j2",
        view,
        overfitting=completed(view.overfitting, OVERFITTING_KEYS),
        is_control=lambda name: view.transfer_weights == "random" and _is_vgg16(name),
        variants=variants,
        binary=[variant.label for variant in variants if variant.binary],
        reported=NOTEBOOK_RESULTS,
        as_published=[variant.key for variant in variants if variant.default and comparable],
        differences=differences(view),
        evaluation=EvaluationSettings.model_validate(view.settings.get("evaluation") or {}),
        guard=GuardSettings.model_validate(view.settings.get("guard") or {}),
        forced=[verdict for verdict in view.verdicts if verdict.get("forced")],
    )


def _explains_notebook(view: ReportView) -> bool:
    """Whether transfer scores of this run help to explain those in the notebook.

    They do if the weights are pre-trained and there are as many training images as in the notebook.
    """
    same_size = view.split_sizes.get("train") == NOTEBOOK_TRAINING_IMAGES
    return view.notebook_comparison and view.transfer_weights != "random" and same_size


def _is_vgg16(name: str | None) -> bool:
    return name is not None and name.startswith("vgg16")
