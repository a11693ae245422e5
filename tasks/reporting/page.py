"""The run's report: one HTML page that needs no other file, no network and no script.

`render_report` is a pure function of a `ReportView`. The layout is in `templates/report.html.j2`
and, section by section, in `templates/report/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks.core.settings.evaluation import EvaluationSettings
from tasks.core.settings.images import GuardSettings
from tasks.core.statistics.notebook_results import NOTEBOOK_RESULTS
from tasks.reporting.backbone_section import backbone_view
from tasks.reporting.notebook_differences import differences, variants_of
from tasks.reporting.report_view import OVERFITTING_KEYS, ReportView, completed, render_view

NOTEBOOK_TRAINING_IMAGES = 8_000
# With fewer test images of a class, the report warns that its scores say little.
FEW = 10


def render_report(view: ReportView) -> str:
    """Render the page as HTML; every value from `view` is escaped."""
    variants = variants_of(view)
    comparable = _explains_notebook(view)
    return render_view(
        "report.html.j2",
        view,
        overfitting=completed(view.overfitting, OVERFITTING_KEYS),
        is_control=lambda name: view.transfer_weights == "random" and _is_transferred(name),
        variants=variants,
        backbone=backbone_view(
            [str(row.get("name")) for row in view.results],
            view.settings.get("transfer") or {},
            view.backbone,
        ),
        binary=[variant.label for variant in variants if variant.binary],
        reported=NOTEBOOK_RESULTS,
        as_published=[variant.key for variant in variants if variant.default and comparable],
        differences=differences(view),
        evaluation=EvaluationSettings.model_validate(view.settings.get("evaluation") or {}),
        guard=GuardSettings.model_validate(view.settings.get("guard") or {}),
        rarest=_rarest(view),
        heaviest=_extreme(max, view.class_weights),
        lightest=_extreme(min, view.class_weights),
        forced=[verdict for verdict in view.verdicts if verdict.get("forced")],
    )


def _rarest(view: ReportView) -> dict[str, Any]:
    """The class of the fewest test images, and how many others have fewer than ten."""
    counts = view.counts.get("test") or ()
    if not counts:
        return {"images": None}
    fewest = min(counts)
    return {
        "images": fewest,
        "name": view.class_names[list(counts).index(fewest)],
        "others": sum(count < FEW for count in counts) - 1,
    }


def _extreme(choose: Callable[..., int], values: Sequence[float]) -> int:
    """The place of the highest or the lowest value."""
    return choose(range(len(values)), key=values.__getitem__, default=0)


def _explains_notebook(view: ReportView) -> bool:
    """Whether transfer scores of this run help to explain those in the notebook.

    They do if the weights are pre-trained and there are as many training images as in the notebook.
    """
    same_size = view.split_sizes.get("train") == NOTEBOOK_TRAINING_IMAGES
    return view.notebook_comparison and view.transfer_weights != "random" and same_size


def _is_transferred(name: str | None) -> bool:
    return name is not None and name.startswith(("vgg16_", "backbone_"))
