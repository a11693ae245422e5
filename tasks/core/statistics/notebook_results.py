"""The notebook's results, which are shown beside those of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.names import (
    BASELINE,
    FINAL,
    LOW_CAPACITY,
    OVERFITTING,
    VGG16_FINE_TUNED,
    VGG16_FROZEN,
    iteration_name,
)


@dataclass(frozen=True)
class NotebookResult:
    """The notebook's results for one model; losses in nats, accuracies in [0, 1]."""

    step: str
    params: int
    test_loss: float
    test_accuracy: float
    decision: str | None = None
    val_accuracy: float | None = None


NOTEBOOK_RESULTS = {
    BASELINE: NotebookResult("5a", 101_770, 0.6497176289558411, 0.7500),
    LOW_CAPACITY: NotebookResult("5b", 31_962, 0.5198803544044495, 0.8160),
    OVERFITTING: NotebookResult("6", 534_026, 0.43423593044281006, 0.8520),
    iteration_name(1): NotebookResult("7", 534_026, 0.40828195214271545, 0.8575, "forward"),
    iteration_name(2): NotebookResult("7", 296_202, 0.42941126227378845, 0.8450, "back"),
    iteration_name(3): NotebookResult("7", 373_802, 0.6133295297622681, 0.8020, "back"),
    iteration_name(4): NotebookResult("7", 534_026, 0.5948675870895386, 0.8095, "back"),
    iteration_name(5): NotebookResult("7", 534_026, 0.4034961462020874, 0.8605, "forward"),
    iteration_name(6): NotebookResult("7", 535_306, 0.6232907772064209, 0.8580, "back"),
    iteration_name(7): NotebookResult("7", 534_346, 0.3863731920719147, 0.8675, "forward"),
    iteration_name(8): NotebookResult("7", 1_845_066, 0.3321758210659027, 0.8890, "forward"),
    iteration_name(9): NotebookResult("7", 1_845_066, 0.5662176609039307, 0.7825, "back"),
    FINAL: NotebookResult("7b", 1_845_066, 0.3943633735179901, 0.8750),
    VGG16_FROZEN: NotebookResult(
        "3d", 14_848_586, 0.10338427871465683, 0.8360, val_accuracy=0.8270
    ),
    VGG16_FINE_TUNED: NotebookResult(
        "3e", 14_848_586, 0.10779331624507904, 0.8450, val_accuracy=0.8505
    ),
}


def notebook_result(model: str, *, same_plan: bool) -> NotebookResult | None:
    """What the notebook reports of a model; None if it reports nothing that can be compared.

    `same_plan` is false if the overfitting model or its changes are others than the notebook's: the
    models of steps 6 and 7 are others, then, though they have the same names.
    """
    result = NOTEBOOK_RESULTS.get(model)
    return result if same_plan or (result and result.step not in ("6", "7")) else None
