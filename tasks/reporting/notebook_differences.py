"""The differences between a run and the notebook, with reasons."""

from __future__ import annotations

import math

from tasks.core.names import FINAL, SPLITS, iteration_name
from tasks.core.settings.evaluation import REPLAYING
from tasks.reporting.report_view import ReportView
from tasks.reporting.transfer_section import (
    Difference,
    Variant,
    transfer_differences,
    transfer_variants,
)

_SIXTH = iteration_name(6)
_ITERATION_6 = Difference(
    "Step 7, iteration 6",
    "It is said to improve accuracy, but its 85.80 % is less than the 86.05 % of iteration 5.",
    "The figures are shown as they are.",
)


def variants_of(view: ReportView) -> list[Variant]:
    """The transfer variants that have results, the notebook's first."""
    names = [str(row.get("name")) for row in view.results]
    return transfer_variants(names, view.settings.get("transfer") or {})


def differences(view: ReportView) -> list[Difference]:
    """The differences from the notebook that apply to this run."""
    points = [
        _subset_difference(view),
        Difference(
            "Step 3, test set",
            "The test score is read after each iteration.",
            "No stage that trains, tunes or decides reads the test split. Models are scored on "
            "it after the last verdict, and each scoring is logged.",
        ),
        Difference(
            "Step 6, test score",
            "The cell evaluates model1, which is the low-capacity model's name. Which model had "
            "that name when the cell ran is unknown.",
            "Each model is scored under its own name.",
        ),
        _decision_difference(view.rule),
        Difference(
            "Step 7, final training",
            "The full training data is prepared, but the 8,000 training images are used again "
            "(63 steps per epoch).",
            _final_training(view),
        ),
        Difference("Saved model", "One .h5 file.", _saved_models(view)),
    ]
    if any(row.get("name") == _SIXTH and row.get("notebook_test_accuracy") for row in view.results):
        points.insert(4, _ITERATION_6)
    return points + transfer_differences(variants_of(view))


def _subset_difference(view: ReportView) -> Difference:
    subset = view.settings.get("subset") or {}
    method = subset.get("method", "auto")
    own = bool(view.reading)
    if own and method == "auto":
        sizes = (subset.get(name) for name in SPLITS)
        method = "stratified" if any(sizes) else "everything"
    if method == "auto":
        method = "slices" if view.notebook_comparison else "stratified"
    here = {
        "slices": "The same slices, but they are called slices.",
        "stratified": "Seeded random samples, stratified by class.",
        "everything": "All images. The last sixth of the training images is the validation split.",
    }
    if own and method == "everything":
        here[method] = "All images. Splits that the data set lacks are drawn, stratified by class."
    return Difference(
        "Step 1, subsets",
        '"Random samples" are in fact slices: the first 8,000 and the last 2,000 training images '
        "and the first 2,000 test images.",
        here[method],
    )


def _decision_difference(rule: str) -> Difference:
    here = "Decisions are based on images held out from training, never on test images."
    if rule in REPLAYING:
        whose = "notebook's" if rule == "notebook" else "plan's"
        here = (
            f"The {whose} decisions are replayed. The validation scores for and against each "
            "one are shown with it."
        )
    return Difference("Step 7, decisions", "Decisions are based on test scores.", here)


def _final_training(view: ReportView) -> str:
    here = "Training and validation images together"
    final = next((row for row in view.results if row.get("name") == FINAL), {})
    images, batch = final.get("train_samples"), final.get("batch_size")
    if images and batch:
        here += f": {images:,} images ({math.ceil(images / batch)} steps per epoch)"
    return here + "."


def _saved_models(view: ReportView) -> str:
    files = [file for row in view.stages if row["stage"] == FINAL for file in row["files"]]
    if any(file["path"].endswith(".h5") for file in files):
        return "A .keras file for every model, and also an .h5 file for the final one."
    here = "A .keras file for every model."
    if files:
        here += " The final one's operations between layers can't be stored in an .h5 file."
    return here
