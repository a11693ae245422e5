"""The final model with its description, in a folder as the Hugging Face hub has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.records import Record
from tasks.reporting.page import ReportView, render_model_card
from tasks.storage.store import Store
from tasks.storage.store_path import StorePath

WEAKEST = 3


def write_model_folder(
    folder: StorePath, store: Store, view: ReportView, final: Record, about: Mapping[str, Any]
) -> None:
    """Write the model's files and `README.md`, the model card; `about` are its images' facts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in final.files.items():
        if file.kind in ("keras", "h5", "json"):
            (folder / Path(file.path).name).write(store.content(final, name))
    by_recall = sorted(view.per_class, key=lambda row: float(row["recall"]))
    first = next(row for row in view.trainings if row["stage"] == "final")
    card = render_model_card(
        view,
        name=f"fashion-flow {view.run_id}",
        shape=about["image_shape"],
        seed=first["seed"],
        training=final.basis["settings"]["training"],
        model_accuracy=first["test_accuracy"],
        model_loss=first["test_loss"],
        digest=final.files["model"].sha256,
        weakest=by_recall[:WEAKEST],
    )
    (folder / "README.md").write(card.encode())
