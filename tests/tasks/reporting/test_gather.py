"""What a report shows is found in the records and the log of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.settings.run_settings import Settings
from tasks.reporting.gather import gather_view
from tasks.reporting.notebook_differences import differences
from tasks.reporting.report_view import ReportView
from tests.tasks.reporting.fabricated import (
    NETWORKS,
    PLAN,
    PNG,
    PROFILE,
    TRANSFER,
    FabricatedRun,
    accuracy_of,
    fabricated_run,
)


def view_of(run: FabricatedRun) -> ReportView:
    return gather_view(run.settings, run.outcomes, run.log, PROFILE)


def settings(**changed: Any) -> Settings:
    return Settings.model_validate({"plan": PLAN, **changed})


def test_a_whole_run_is_gathered(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path))
    run.log.store.log_scoring({"test_data": run.outcomes["preprocess"].digest(("test",))})
    run.log.store.log_scoring({"test_data": "another test split"})
    view = view_of(run)
    assert (view.run_id, view.dataset, view.synthetic) == ("r1", "Fashion-MNIST", False)
    assert view.notebook_comparison
    models = [*NETWORKS, "iteration_1", "iteration_2", "final", *TRANSFER]
    assert [row["name"] for row in view.results] == models
    assert [row["stage"] for row in view.trainings] == models
    assert list(view.split_sizes.items()) == [("train", 4), ("validation", 2), ("test", 2)]
    assert view.counts == {"train": [3, 1], "validation": [1, 1], "test": [1, 1]}
    assert view.overfitting["lowest_validation_loss_epoch"] == 1
    assert view.transfer_start == 0.625
    assert view.transfer_skipped is None
    assert view.scorings == 1, "only those of this test split count"
    assert view.guard == [{"splits": ["train", "test"], "exact": 0, "near": 3, "search": "exact"}]
    assert view.selection["survivor"] == "iteration_1"
    assert [row["met"] for row in view.criteria] == [False]
    assert {row["model"] for row in view.per_class} == {"final"}
    assert view.confusion["baseline"] == [[7, 3], [1, 5]], "on held-out images"
    assert "final" not in view.confusion
    assert view.calibration_error == {"final": {"test": 0.0312}}
    assert view.model_files["final"] == f"{tmp_path}/stages/final/key/model.keras"
    assert view.profile == PROFILE
    saved = next(point.here for point in differences(view) if point.where == "Saved model")
    assert "also an .h5 file" in saved


def test_figures_come_from_the_stages_that_draw(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path))
    files = {"features": ("png", b"not a figure of the report")}
    run.add("vgg16_block4", files, kind="vgg16_features")
    figures = view_of(run).figures
    assert {"samples", "balance", "pairs_picture", "confusion_final", "accuracy"} <= set(figures)
    assert {f"curves_{model}" for model in (*NETWORKS, *TRANSFER)} <= set(figures)
    assert "features" not in figures
    assert set(figures.values()) == {PNG}


def test_what_was_found_in_the_images_is_gathered(tmp_path: Path) -> None:
    view = view_of(fabricated_run(str(tmp_path)))
    assert view.look
    assert (view.look.images, view.look.faults) == (8, 1)
    (finding,) = view.look.findings
    assert (finding["images"], finding["names"]) == (1, ["test image 1"])
    assert finding["picture"] == "finding_1"
    assert {"class_samples", "finding_1"} <= set(view.figures)
    assert view.look.chosen[0] == ("Image size", "28 x 28, grey")


def test_sources_name_tables_by_stage_and_figures_by_themselves(tmp_path: Path) -> None:
    sources = view_of(fabricated_run(str(tmp_path))).sources
    assert sources["results/verdicts"] == "stages/results/key/verdicts.parquet"
    assert sources["samples"] == "stages/explore/key/samples.png"


def test_verdicts_are_joined_with_the_plan(tmp_path: Path) -> None:
    first, second = view_of(fabricated_run(str(tmp_path))).verdicts
    assert first["iteration"] == "iteration_1"
    assert first["change_name"] == "dropout"
    assert first["hypothesis"] == "Dropout overfits less."
    assert first["change"] == "dropout = 0.25"
    assert second["change"].startswith("augmentation with rotation_range = 40.0, "), (
        "defaults are spelled out"
    )


def test_a_run_without_a_plan_has_no_verdicts_and_no_selection(tmp_path: Path) -> None:
    view = view_of(fabricated_run(str(tmp_path), settings(plan=())))
    assert view.verdicts == []
    assert view.selection == {}


def test_skipped_transfer_is_explained(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path), without_transfer="no weights; get them")
    view = view_of(run)
    assert view.transfer_skipped == "no weights; get them"
    assert view.transfer_start is None
    assert "vgg16_frozen" not in view.model_files
    (line,) = (line for line in view.stages if line["stage"] == "vgg16_frozen")
    assert (line["state"], line["reason"], line["files"]) == (
        "skipped",
        "no weights; get them",
        [],
    )


def test_transfer_that_is_switched_off_is_explained(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path), settings(transfer={"weights": "off"}))
    assert "transfer.weights=off" in (view_of(run).transfer_skipped or "")


@pytest.mark.parametrize(
    ("transfer", "label"),
    [
        ({}, "imagenet"),
        ({"weights": "required"}, "imagenet"),
        ({"weights_file": "/somewhere/vgg16.h5"}, "file"),
        ({"weights": "random"}, "random"),
    ],
)
def test_the_origin_of_the_weights_is_named(
    transfer: dict[str, str], label: str, tmp_path: Path
) -> None:
    run = fabricated_run(str(tmp_path), settings(transfer=transfer))
    assert view_of(run).transfer_weights == label


def test_replicates_and_folds_are_all_listed(tmp_path: Path) -> None:
    evaluation = {"protocol": "kfold", "folds": 2, "replicates": 2}
    view = view_of(fabricated_run(str(tmp_path), settings(evaluation=evaluation)))
    stages = [row["stage"] for row in view.trainings]
    assert stages[:4] == ["baseline_f1", "baseline_f2", "baseline_f1_r2", "baseline_f2_r2"]
    assert [stage for stage in stages if stage.startswith("final")] == ["final", "final_r2"]
    assert view.overfitting["highest_validation_accuracy"] == accuracy_of("overfitting_f1")
    assert "overfitting_f1" in view.model_files


def test_the_first_suspects_and_likeliest_pairs_are_shown(tmp_path: Path) -> None:
    evaluation = {"protocol": "kfold", "folds": 2}
    view = view_of(fabricated_run(str(tmp_path), settings(evaluation=evaluation)))
    found = view.label_check
    assert (found["model"], found["suspects"]) == ("iteration_1", 30)
    assert [row["rank"] for row in found["first"]] == list(range(1, 21))
    assert [row["images"] for row in found["pairs"]] == list(range(12, 2, -1))
    assert "label_errors_picture" in view.figures
    assert view_of(fabricated_run(str(tmp_path / "holdout"))).label_check == {}


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("synthetic", "synthetic garments"), ("/home/somebody/shoes", "shoes"), ("x.npz", "x.npz")],
)
def test_a_data_set_is_named_without_its_folder(dataset: str, name: str, tmp_path: Path) -> None:
    view = view_of(fabricated_run(str(tmp_path), settings(dataset=dataset)))
    assert view.dataset == name
    assert view.synthetic == (dataset == "synthetic")
    assert not view.notebook_comparison


def test_a_cached_stage_shows_how_long_it_took_when_it_was_computed(tmp_path: Path) -> None:
    first = fabricated_run(str(tmp_path))
    again = FabricatedRun(first.settings, type(first.log)(first.log.store, "r2"))
    again.log.begin({}, PROFILE, None)
    for stage, outcome in first.outcomes.items():
        again.outcomes[stage] = outcome
        again.log.stage(outcome, "cached", "2026-01-02")
    view = view_of(again)
    assert {line["state"] for line in view.stages} == {"cached"}
    assert {line["seconds"] for line in view.stages} == {2.0}
    assert view.computed_seconds == 2.0 * len(first.outcomes)
    assert view.started.startswith("20")


def test_the_legend_of_numbered_figures_comes_from_the_stages_that_draw(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path))
    assert (view_of(run).legend, view_of(run).font_advice) == ((), "")
    facts = {"font_advice": "Install a font.", "legend": ["猫", "靴"]}
    run.add("explore", facts={"balanced": True} | facts)
    run.add("guard", facts={"counts": []} | facts)
    assert (view_of(run).legend, view_of(run).font_advice) == (["猫", "靴"], "Install a font.")
