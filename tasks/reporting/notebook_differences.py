"""Where a run differs from the notebook, and why: the points that apply to it."""

from __future__ import annotations

import math

from tasks.reporting.report_view import ReportView
from tasks.reporting.transfer_section import (
    Difference,
    Variant,
    transfer_differences,
    transfer_variants,
)


def variants_of(view: ReportView) -> list[Variant]:
    """The variants of the transfer that have results, the notebook's first."""
    names = [str(row.get("name")) for row in view.results]
    return transfer_variants(names, view.settings.get("transfer") or {})


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
    return points + transfer_differences(variants_of(view))


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


def _subset_method(view: ReportView) -> str | None:
    return (view.settings.get("subset") or {}).get("method")
