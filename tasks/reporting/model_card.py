"""The final model's card in Markdown, as the Hugging Face hub expects it in `README.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.names import MODEL
from tasks.core.records import Record
from tasks.reporting.report_view import ReportView, render_view

WEAKEST = 3


def render_model_card(view: ReportView, final: Record, about_images: Mapping[str, Any]) -> str:
    """Render the card of the final model.

    The stored model comes from the first of its trainings, so the card gives the scores of that
    one, and the mean of all trainings beside them.

    Args:
        view: the run's results.
        final: the record of the final training.
        about_images: facts about the images that the model was trained on.
    """
    by_recall = sorted(view.per_class, key=lambda row: float(row["recall"]))
    first = next(row for row in view.trainings if row["stage"] == final.stage)
    return render_view(
        "model_card.md.j2",
        view,
        name=f"fashion-flow {view.run_id}",
        shape=about_images["image_shape"],
        seed=first["seed"],
        training=final.basis["settings"]["training"],
        model_accuracy=first["test_accuracy"],
        model_loss=first["test_loss"],
        digest=final.files[MODEL].sha256,
        weakest=by_recall[:WEAKEST],
    )
