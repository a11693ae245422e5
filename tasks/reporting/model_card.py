"""The final model's card in Markdown, as the Hugging Face hub expects it in `README.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.names import MODEL
from tasks.core.records import Record
from tasks.core.settings.network import function_parts
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
        own_function=_own_function(final),
        final_stage=final.stage,
        weakest=by_recall[:WEAKEST],
    )


def _own_function(final: Record) -> str:
    """The name of the user's function that built the network; empty if none did."""
    network = final.basis["settings"]["training"].get("network", {})
    function = network.get("function")
    return function_parts(function)[1] if function else ""
