"""Quality by class, confusions and calibration, counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.core.drawing import image_grids
from tasks.core.records import Outcome, Record, Stage
from tasks.core.stage_spec import Model, Training
from tasks.core.stage_specs import QualitySpec
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images, skipped

#               boots     coats        shirts
LABELS = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
GUESSED = [0, 0, 1, 1, 1, 2, 2, 2, 2, 1]


def model(name: str, *trainings: str) -> Model:
    given = [
        Training(stage=stage, replicate=n, fold=None, seed=0)
        for n, stage in enumerate(trainings or (name,), 1)
    ]
    return Model(name=name, validated=name != "final", trainings=tuple(given))


def arrays(bench: Workbench, labels: Sequence[int] = LABELS) -> Record:
    test = {"x": images(len(labels)), "y": np.array(labels, np.uint8)}
    return bench.stored("preprocess", arrays={"test": test}, class_names=NAMES)


def assessed(
    bench: Workbench, models: Sequence[Model], inputs: dict[str, Outcome], note: str = ""
) -> Computed:
    reads = {
        role: ("test_predictions" if role.startswith("test_") else "validation_predictions",)
        for role in inputs
    }
    stage = Stage(
        "quality",
        QualitySpec(models=tuple(models), note=note),
        {**reads, "preprocess": ("test", "facts")},
    )
    return bench.compute(stage, **inputs, preprocess=arrays(bench))


def both(
    bench: Workbench,
    name: str,
    guessed: Sequence[int] = GUESSED,
    confidence: float | Sequence[float] = 0.5,
) -> dict[str, Outcome]:
    """The same predictions on held-out and on test images."""
    return {
        name: bench.predicted(name, "validation", LABELS, guessed, confidence),
        f"test_{name}": bench.predicted(f"test_{name}", "test", LABELS, guessed, confidence),
    }


def test_confusions_are_counted(bench: Workbench) -> None:
    done = assessed(bench, [model("baseline")], both(bench, "baseline"))
    rows = done.rows("confusion")
    assert [row["split"] for row in rows] == ["validation"] * 9 + ["test"] * 9
    assert {row["model"] for row in rows} == {"baseline"}
    for part in (rows[:9], rows[9:]):
        assert [(row["label"], row["predicted"], row["count"]) for row in part] == [
            ("boot", "boot", 2),
            ("boot", "coat", 1),
            ("boot", "shirt", 0),
            ("coat", "boot", 0),
            ("coat", "coat", 2),
            ("coat", "shirt", 2),
            ("shirt", "boot", 0),
            ("shirt", "coat", 1),
            ("shirt", "shirt", 2),
        ]


def test_each_class_has_its_scores(bench: Workbench) -> None:
    rows = assessed(bench, [model("baseline")], both(bench, "baseline")).rows("per_class")
    boot, coat, shirt = rows[:3]
    assert boot == {
        "model": "baseline",
        "split": "validation",
        "class": "boot",
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 5),
        "support": 3,
    }
    assert (coat["precision"], coat["recall"], coat["support"]) == (0.5, 0.5, 4)
    assert (shirt["precision"], shirt["recall"]) == (0.5, pytest.approx(2 / 3))
    assert shirt["f1"] == pytest.approx(4 / 7)


def test_confidence_is_compared_with_accuracy_in_bins(bench: Workbench) -> None:
    """Fifteen bins: 0.5 is in (7/15, 8/15], 0.9 in (13/15, 14/15], 1 in the last."""
    # Right with 0.5: two of four. Right with 0.9: two of three. Right with 1: two of three.
    confidence = [0.5, 0.9, 0.5, 1, 0.5, 0.9, 1, 0.9, 1, 0.5]
    done = assessed(bench, [model("baseline")], both(bench, "baseline", confidence=confidence))
    rows = [row for row in done.rows("calibration") if row["split"] == "test"]
    assert len(rows) == 15
    assert [(row["above"], row["up_to"]) for row in rows[:2]] == [
        (0, pytest.approx(1 / 15)),
        (pytest.approx(1 / 15), pytest.approx(2 / 15)),
    ]
    filled = {number: row for number, row in enumerate(rows) if row["count"]}
    assert list(filled) == [7, 13, 14]
    assert [row["count"] for row in filled.values()] == [4, 3, 3]
    assert [row["confidence"] for row in filled.values()] == pytest.approx([0.5, 0.9, 1])
    assert [row["accuracy"] for row in filled.values()] == pytest.approx([2 / 4, 2 / 3, 2 / 3])
    error = (3 * (0.9 - 2 / 3) + 3 * (1 - 2 / 3)) / 10
    assert done.facts["calibration_error"]["baseline"] == {
        "validation": pytest.approx(error),
        "test": pytest.approx(error),
    }


def test_a_model_s_trainings_are_counted_together(bench: Workbench) -> None:
    inputs = both(bench, "baseline") | both(bench, "baseline_r2", LABELS)
    done = assessed(bench, [model("baseline", "baseline", "baseline_r2")], inputs)
    rows = [row for row in done.rows("confusion") if row["split"] == "test"]
    assert [row["count"] for row in rows] == [5, 1, 0, 0, 6, 2, 0, 1, 5]
    assert done.rows("per_class")[0]["support"] == 6


def test_a_skipped_model_leaves_no_row(bench: Workbench) -> None:
    inputs = both(bench, "baseline")
    inputs |= {"vgg16_frozen": skipped("weights"), "test_vgg16_frozen": skipped("weights")}
    done = assessed(bench, [model("baseline"), model("vgg16_frozen")], inputs)
    assert done.state == "Completed"
    for table in ("per_class", "confusion", "calibration"):
        assert {row["model"] for row in done.rows(table)} == {"baseline"}
    assert set(done.facts["calibration_error"]) == {"baseline"}


def final(bench: Workbench, **trainings: Sequence[int]) -> dict[str, Outcome]:
    return {
        f"test_{name}": bench.predicted(
            f"test_{name}", "test", LABELS, guessed, [0.5, 0.6, 0.7, 0.8, 0.9] * 2
        )
        for name, guessed in trainings.items()
    }


def test_the_final_model_is_assessed_on_test_images_only_and_drawn(bench: Workbench) -> None:
    done = assessed(bench, [model("final")], final(bench, final=GUESSED))
    assert {row["split"] for row in done.rows("confusion")} == {"test"}
    drawn = {name for name, kind in done.files.items() if kind == "png"}
    assert drawn == {"confusion_final", "reliability_final", "confused_final"}
    for name in drawn:
        assert done.picture(name).width > 100
    assert set(done.facts["calibration_error"]["final"]) == {"test"}


def test_other_models_are_not_drawn(bench: Workbench) -> None:
    done = assessed(bench, [model("baseline")], both(bench, "baseline"))
    assert set(done.files.values()) == {"parquet"}
    assert done.facts["most_confused"] == []


def confused_rows(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, Any, Any]]]:
    """What the picture of confused classes is given, each time that it is drawn."""
    drawn: list[list[tuple[str, Any, Any]]] = []
    real = image_grids.confused_pairs

    def noted(rows: Any, *others: Any) -> bytes:
        drawn.append(list(rows))
        return real(rows, *others)

    monkeypatch.setattr(image_grids, "confused_pairs", noted)
    return drawn


def test_the_most_confused_classes_are_shown_by_the_surest_errors(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = confused_rows(monkeypatch)
    done = assessed(bench, [model("final")], final(bench, final=GUESSED))
    assert done.facts["most_confused"] == [
        {"label": "coat", "predicted": "shirt", "count": 2},
        {"label": "boot", "predicted": "coat", "count": 1},
        {"label": "shirt", "predicted": "coat", "count": 1},
    ]
    ((first, second, third),) = drawn
    x: NDArray[np.float32] = (images(10) / 255).astype(np.float32)
    title, shown, confidence = first
    assert title == "coat taken for shirt, 2 times"
    # Of images 5 and 6, the network was surer of the second.
    assert shown.tobytes() == x[[6, 5]].tobytes()
    assert confidence.tolist() == pytest.approx([0.6, 0.5])
    assert second[0] == "boot taken for coat, 1 times"
    assert third[1].tobytes() == x[[9]].tobytes()


def test_only_errors_of_the_first_training_are_shown(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training may make an error that the first does not make."""
    drawn = confused_rows(monkeypatch)
    inputs = final(bench, final=LABELS, final_r2=GUESSED)
    done = assessed(bench, [model("final", "final", "final_r2")], inputs)
    assert done.facts["most_confused"][0] == {"label": "coat", "predicted": "shirt", "count": 2}
    assert drawn == []
    assert "confused_final" not in done.files


def test_a_final_model_without_errors_confuses_nothing(bench: Workbench) -> None:
    done = assessed(bench, [model("final")], final(bench, final=LABELS))
    assert done.facts["most_confused"] == []
    assert "confused_final" not in done.files
    assert "confusion_final" in done.files
