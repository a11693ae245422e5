"""The pictures that compare models, and what networks see of the images."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tasks.core.drawing import comparisons, image_grids
from tasks.core.records import Outcome, Record, Stage
from tasks.core.settings.training import AugmentSettings
from tasks.core.stage_specs import FiguresSpec
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import MODELS
from tasks.core.tables.verdicts import ALL_VERDICTS
from tests.tasks.stages.workbench import NAMES, Computed, Workbench, images, skipped

VERDICT = {
    "gate": 1,
    "incumbent": "overfitting",
    "candidate": "iteration_1",
    "decision": "forward",
    "state": "RolledForward",
    "reason": "better",
    "rule": "validation",
    "delta_accuracy": 0.02,
    "ci_low": 0.01,
    "ci_high": 0.03,
    "metric": "accuracy",
    "gain": 0.02,
    "gain_low": 0.01,
    "gain_high": 0.03,
    "p_value": 0.01,
    "p_value_adjusted": 0.01,
    "replicates": 1,
    "forced": False,
}


def result(name: str, accuracy: float, notebook: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "test_accuracy": accuracy,
        "test_accuracy_low": accuracy - 0.02,
        "test_accuracy_high": accuracy + 0.02,
        "notebook_test_accuracy": notebook,
    }


RESULTS = [result("baseline", 0.75, 0.8), result("vgg16_frozen", 0.6)]


def results(bench: Workbench, verdicts: list[dict[str, Any]]) -> Record:
    tables = {"results": from_rows(MODELS, RESULTS), "verdicts": from_rows(ALL_VERDICTS, verdicts)}
    return bench.stored("results", tables=tables)


def samples(bench: Workbench, count: int = 2) -> Record:
    """What a stage keeps of the inputs of VGG16."""
    before = (images(count) / 255).astype(np.float32)
    after = np.repeat(before * 255, 3, axis=3)
    return bench.stored(
        "vgg16_block4", arrays={"input_samples": {"before": before, "after": after}}
    )


def drawn(
    bench: Workbench,
    verdicts: list[dict[str, Any]] | None = None,
    vgg16: Mapping[str, Outcome] | None = None,
    **changes: Any,
) -> Computed:
    inputs = dict(vgg16 or {})
    values: dict[str, Any] = {
        "note": "",
        "metric": "accuracy",
        "random_transfer": False,
        "changes": ("fewer epochs",),
        "vgg16_inputs": {role: f"variant_{n}" for n, role in enumerate(inputs)},
        "augmentation": None,
        "seed": 0,
    }
    train = {"x": images(12), "y": (np.arange(12) % 3).astype(np.uint8)}
    reads = {"preprocess": ("train",), "subset": ("facts",), "results": ("results", "verdicts")}
    stage = Stage(
        "figures",
        FiguresSpec.model_validate(values | changes),
        reads | dict.fromkeys(inputs, ("input_samples",)),
    )
    return bench.compute(
        stage,
        preprocess=bench.stored("preprocess", arrays={"train": train}),
        subset=bench.stored("subset", class_names=NAMES),
        results=results(bench, verdicts or []),
        **inputs,
    )


def noted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> list[tuple[Any, ...]]:
    """What a function that draws is given."""
    found: list[tuple[Any, ...]] = []
    real = getattr(module, name)

    def note(*arguments: Any) -> bytes:
        found.append(arguments)
        picture: bytes = real(*arguments)
        return picture

    monkeypatch.setattr(module, name, note)
    return found


def test_only_accuracies_are_drawn_if_there_is_nothing_else(bench: Workbench) -> None:
    done = drawn(bench)
    assert done.files == {"accuracy": "png"}
    assert done.picture("accuracy").width > 300
    assert done.facts == {}


def test_accuracies_are_drawn_with_their_intervals_and_the_notebook_s(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noted(monkeypatch, comparisons, "score_chart")
    drawn(bench, note="SYNTHETIC")
    assert given == [
        (
            ["Baseline", "VGG16, frozen base"],
            [0.75, 0.6],
            [(0.73, 0.77), (0.58, 0.62)],
            [0.8, None],
            "SYNTHETIC",
            "accuracy",
        )
    ]


def test_transfer_from_random_weights_is_named_so(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noted(monkeypatch, comparisons, "score_chart")
    drawn(bench, random_transfer=True)
    assert given[0][0] == ["Baseline", "VGG16, frozen base (random weights)"]


def test_decisions_are_drawn_if_there_were_gates(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noted(monkeypatch, comparisons, "decision_tree")
    done = drawn(bench, [VERDICT])
    assert set(done.files) == {"accuracy", "decisions"}
    assert done.picture("decisions").width > 100
    ((verdicts, changes, note, _),) = given
    assert [row["candidate"] for row in verdicts] == ["iteration_1"]
    assert (changes, note) == (["fewer epochs"], "")


def test_augmented_images_are_drawn_if_a_training_uses_them(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noted(monkeypatch, image_grids, "augmented_samples")
    done = drawn(bench, augmentation=AugmentSettings())
    assert set(done.files) == {"accuracy", "augmentation"}
    done.picture("augmentation")
    ((originals, augmented, _),) = given
    assert len(originals) == len(augmented) == 8
    assert not np.array_equal(originals, augmented)
    # Each seed distorts otherwise.
    other = drawn(bench, augmentation=AugmentSettings(), seed=1)
    assert other.digests["augmentation"] != done.digests["augmentation"]


def test_the_inputs_of_vgg16_are_drawn_for_each_variant(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = noted(monkeypatch, image_grids, "before_after")
    done = drawn(
        bench, vgg16={"vgg16_block4": samples(bench), "vgg16_block4_corrected": samples(bench, 3)}
    )
    assert set(done.files) == {"accuracy", "vgg16_input_variant_0", "vgg16_input_variant_1"}
    before, after, labels, names, *_ = given[1]
    assert before.dtype == np.uint8
    assert before.tobytes() == images(3).tobytes(), "scaled back without loss"
    assert after.shape == (3, 12, 12, 3)
    assert (labels.tolist(), names) == ([0, 1, 2], NAMES)


def test_what_was_skipped_is_left_out(bench: Workbench) -> None:
    inputs: dict[str, Outcome] = {
        "vgg16_block4": skipped("vgg16_weights"),
        "vgg16_block3": samples(bench),
    }
    done = drawn(bench, vgg16=inputs)
    assert done.state == "Completed"
    assert set(done.files) == {"accuracy", "vgg16_input_variant_1"}


def test_other_metrics_have_charts_of_their_own_without_the_notebook(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = noted(monkeypatch, comparisons, "score_chart")
    tree = noted(monkeypatch, comparisons, "decision_tree")
    loss = {"test_log_loss": 1.5, "test_log_loss_low": 1.25, "test_log_loss_high": 1.75}
    rows = [{"name": "commonest_class", "test_log_loss": 2.3}, {**RESULTS[0], **loss}]
    monkeypatch.setattr("tests.tasks.stages.test_figures.RESULTS", rows)
    verdict = VERDICT | {"metric": "log_loss", "gain": 0.5, "gain_low": 0.25, "gain_high": 0.75}
    done = drawn(bench, [verdict], metric="log_loss")
    assert chart[0] == (["Baseline"], [1.5], [(1.25, 1.75)], [None], "", "log_loss")
    assert tree[0][0][0]["gain"] == 0.5
    done.picture("accuracy")
    done.picture("decisions")
