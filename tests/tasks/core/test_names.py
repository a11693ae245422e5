"""The names in the store: other tools read these files, and records of earlier runs name them."""

from __future__ import annotations

import pytest

from flows.recipe.contents import stage_names
from tasks.core import names
from tasks.core.records import FORMAT_VERSION
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import SPECS
from tasks.core.statistics.replicates import replicates
from tests.wiring import wire

ADVICE = (
    "A name in the store changed. Earlier results would be looked for under the new name, so raise "
    "FORMAT_VERSION in tasks/core/records.py, change artifacts/README.md, and only then this list."
)

FORMAT = 1
FILES = {
    "TRAIN": "train",
    "VALIDATION": "validation",
    "TEST": "test",
    "FACTS": "facts",
    "HISTORY": "history",
    "USAGE": "usage",
    "MODEL": "model",
    "WEIGHTS": "weights",
    "VALIDATION_PREDICTIONS": "validation_predictions",
    "TEST_PREDICTIONS": "test_predictions",
    "INDEX": "index",
    "CLASS_COUNTS": "class_counts",
    "FINDINGS": "findings",
    "AFFECTED": "affected",
    "CLASS_SAMPLES": "class_samples",
    "PAIRS": "pairs",
    "TRAINING_PAIRS": "training_pairs",
    "PAIRS_PICTURE": "pairs_picture",
    "FOLDS": "folds",
    "VERDICT": "verdict",
    "VERDICTS": "verdicts",
    "RESULTS": "results",
    "REPLICATES": "replicates",
    "SELECTION": "selection",
    "LABEL_ERRORS": "label_errors",
    "LABEL_ERROR_COUNTS": "label_error_counts",
    "LABEL_ERRORS_PICTURE": "label_errors_picture",
    "CRITERIA": "criteria",
    "PER_CLASS": "per_class",
    "CONFUSION": "confusion",
    "CALIBRATION": "calibration",
    "INPUT_SAMPLES": "input_samples",
    "FINAL_H5": "fashion_mnist_final",
}

STAGES = """
load explore subset guard look preprocess
baseline curves_baseline low_capacity curves_low_capacity overfitting curves_overfitting
iteration_1 curves_iteration_1 gate_1 iteration_2 curves_iteration_2 gate_2
final curves_final
vgg16_weights vgg16_block4 vgg16_block5 vgg16_frozen curves_vgg16_frozen
vgg16_fine_tuned curves_vgg16_fine_tuned
vgg16_block4_corrected vgg16_block5_corrected vgg16_frozen_corrected curves_vgg16_frozen_corrected
vgg16_fine_tuned_corrected curves_vgg16_fine_tuned_corrected
test_baseline test_low_capacity test_overfitting test_iteration_1 test_iteration_2 test_final
test_vgg16_frozen test_vgg16_fine_tuned test_vgg16_frozen_corrected test_vgg16_fine_tuned_corrected
results selection success quality figures
"""
FOLDED = """
load explore subset guard look preprocess folds folds_r2
baseline_f1 baseline_f2 baseline_f1_r2 baseline_f2_r2 curves_baseline
low_capacity_f1 low_capacity_f2 low_capacity_f1_r2 low_capacity_f2_r2 curves_low_capacity
overfitting_f1 overfitting_f2 overfitting_f1_r2 overfitting_f2_r2 curves_overfitting
final final_r2 curves_final label_check
test_baseline_f1 test_baseline_f2 test_baseline_f1_r2 test_baseline_f2_r2
test_low_capacity_f1 test_low_capacity_f2 test_low_capacity_f1_r2 test_low_capacity_f2_r2
test_overfitting_f1 test_overfitting_f2 test_overfitting_f1_r2 test_overfitting_f2_r2
test_final test_final_r2
results success quality figures
"""
BACKBONE = """
backbone backbone_features backbone_outputs backbone_frozen curves_backbone_frozen
backbone_fine_tuned curves_backbone_fine_tuned test_backbone_frozen test_backbone_fine_tuned
"""
KINDS = (
    "vgg16_retrain backbone backbone_check backbone_features backbone_train "
    "load explore subset guard look preprocess folds train retrain curves decide vgg16_weights "
    "vgg16_features vgg16_train evaluate results selection label_check success quality figures"
)


def test_names_of_stored_files() -> None:
    assert FORMAT_VERSION == FORMAT, "the format changed; compare the names below, too"
    assert {name: getattr(names, name) for name in FILES} == FILES, ADVICE
    assert [names.labels_name(split) for split in names.SPLITS] == [
        "train_labels",
        "validation_labels",
        "test_labels",
    ], ADVICE
    assert names.predictions_name("validation") == names.VALIDATION_PREDICTIONS, ADVICE
    assert names.predictions_name("test") == names.TEST_PREDICTIONS, ADVICE
    assert names.curves_name("baseline") == "curves_baseline", ADVICE
    assert names.finding_name(1) == "finding_1", ADVICE


def test_names_of_kinds() -> None:
    assert [spec.kind for spec in SPECS] == KINDS.split(), ADVICE


def test_names_of_a_backbone_s_stages() -> None:
    values = {"weights": "random", "variant": "none", "backbone": {"name": "MobileNetV2"}}
    chosen = Settings.model_validate({"transfer": values, "plan": []})
    found = [name for name in stage_names(chosen) if "backbone" in name]
    assert found == BACKBONE.split(), ADVICE
    assert not [name for name in stage_names(chosen) if "vgg16" in name], ADVICE
    # Without VGG16, nothing competes with the winner of step 7.
    required = {"transfer": values | {"weights": "required"}, "plan": []}
    assert stage_names(Settings.model_validate(required)) == stage_names(chosen), ADVICE


def test_names_of_stages() -> None:
    plan = [{"name": str(n), "change": {"epochs": n}} for n in (1, 2)]
    chosen = Settings.model_validate({"transfer": {"weights": "random"}, "plan": plan})
    assert stage_names(chosen) == STAGES.split(), ADVICE


def test_the_order_of_the_splits() -> None:
    """Keys do not depend on it, but results do: training images come before validation images."""
    assert names.TRAINING_SPLITS == ("train", "validation"), ADVICE
    assert names.SPLITS == ("train", "validation", "test"), ADVICE


def test_names_of_stages_of_folds_and_replicates() -> None:
    protocol = {"protocol": "kfold", "folds": 2, "replicates": 2}
    settings = {"transfer": {"weights": "off"}, "plan": [], "evaluation": protocol}
    assert stage_names(Settings.model_validate(settings)) == FOLDED.split(), ADVICE


def test_names_of_the_stages_of_transfer_that_competes() -> None:
    protocol = {"protocol": "kfold", "folds": 2}
    settings = {"transfer": {"weights": "required"}, "plan": [], "evaluation": protocol}
    found = stage_names(Settings.model_validate(settings))
    expected = "vgg16_fine_tuned_corrected_f1 vgg16_fine_tuned_corrected_f2"
    begin = found.index("vgg16_fine_tuned_corrected_f1")
    assert found[begin : begin + 4] == [
        *expected.split(),
        "curves_vgg16_fine_tuned_corrected",
        "gate_transfer",
    ], ADVICE


def test_roles_are_names_of_this_module_or_of_stages() -> None:
    """Roles enter keys, too."""
    known = {value for value in vars(names).values() if isinstance(value, str)}
    made = wire(evaluation={"protocol": "kfold", "folds": 2}, transfer={"weights": "required"})
    suffixes = ("", "_f1", "_f2")
    contenders = {f"{role}{suffix}" for role in ("incumbent", "candidate") for suffix in suffixes}
    for wired in made.values():
        assert set(wired.definition.reads) <= known | contenders | set(made)


@pytest.mark.parametrize(
    ("number", "fold", "suffix"),
    [(1, None, ""), (3, None, "_r3"), (1, 2, "_f2"), (3, 2, "_f2_r3")],
)
def test_the_suffix_of_a_training(number: int, fold: int | None, suffix: str) -> None:
    assert names.replicate_suffix(number, fold) == suffix


def test_a_replicate_has_the_suffix_that_names_its_stages() -> None:
    settings = Settings.model_validate(
        {"evaluation": {"protocol": "kfold", "folds": 3, "replicates": 2}}
    )
    for found in replicates(settings.evaluation, 0):
        assert found.suffix == names.replicate_suffix(found.number, found.fold)


@pytest.mark.parametrize(
    ("layer", "suffix", "name"),
    [("block5_pool", "", "vgg16_block5"), ("block4_pool", "_corrected", "vgg16_block4_corrected")],
)
def test_the_stage_of_a_layer_s_outputs(layer: str, suffix: str, name: str) -> None:
    assert names.features_name(layer, suffix) == name
