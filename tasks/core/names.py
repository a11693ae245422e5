"""The names of stages, of the files that they store, and of their inputs.

Names are stored in records and enter cache keys by value, so this module is left out of the
fingerprints of code. Renaming a stored file changes the format, so increase
`tasks.core.records.FORMAT_VERSION` with it.
"""

from __future__ import annotations

# Splits of the images; also the names of the files that hold them.
TRAIN, VALIDATION, TEST = "train", "validation", "test"
TRAINING_SPLITS = (TRAIN, VALIDATION)
SPLITS = (TRAIN, VALIDATION, TEST)

# Stages that occur once in a run.
LOAD, EXPLORE, SUBSET, GUARD, PREPROCESS = "load", "explore", "subset", "guard", "preprocess"
LOOK = "look"
VGG16_WEIGHTS = "vgg16_weights"
# Also the role of that stage as an input.
BACKBONE = "backbone"
BACKBONE_CHECK = "backbone_check"
BACKBONE_FEATURES, BACKBONE_OUTPUTS = "backbone_features", "backbone_outputs"
RESULTS, SELECTION, SUCCESS, QUALITY = "results", "selection", "success", "quality"
LABEL_CHECK = "label_check"
# The gate after those of step 7.
TRANSFER_GATE = "gate_transfer"
FIGURES, REPORT = "figures", "report"

# Models. The stage of a training is named after its model, with `replicate_suffix` appended.
BASELINE, LOW_CAPACITY, OVERFITTING, FINAL = "baseline", "low_capacity", "overfitting", "final"
# A row of the results for what needs no training.
COMMONEST_CLASS = "commonest_class"
VGG16_FROZEN, VGG16_FINE_TUNED = "vgg16_frozen", "vgg16_fine_tuned"
BACKBONE_FROZEN, BACKBONE_FINE_TUNED = "backbone_frozen", "backbone_fine_tuned"

# Roles: a stage's names for its inputs. Stages with many inputs use the inputs' stage names.
RAW, SPLIT, ARRAYS, MODEL = "raw", "split", "arrays", "model"
SOURCE, WEIGHTS, FEATURES, START = "source", "weights", "features", "start"
HEAD_FEATURES = "head_features"
DUPLICATES, FOLDS = "guard", "folds"
INCUMBENT, CANDIDATE = "incumbent", "candidate"
# A model of an earlier run, with what that run has of its images and of its own backbone.
EARLIER, EARLIER_SPLIT, EARLIER_BACKBONE = "earlier", "earlier_split", "earlier_backbone"

# Files, without their suffixes. `FACTS` is not a file but the small values in the record.
FACTS = "facts"
HISTORY, USAGE = "history", "usage"
SEEN = "seen"
VALIDATION_PREDICTIONS, TEST_PREDICTIONS = "validation_predictions", "test_predictions"
INDEX, CLASS_COUNTS = "index", "class_counts"
ORIGINS, READING = "origins", "reading"
FINDINGS, AFFECTED, CLASS_SAMPLES = "findings", "affected", "class_samples"
PAIRS, TRAINING_PAIRS, PAIRS_PICTURE = "pairs", "training_pairs", "pairs_picture"
LABEL_ERRORS, LABEL_ERROR_COUNTS = "label_errors", "label_error_counts"
LABEL_ERRORS_PICTURE = "label_errors_picture"
VERDICT, VERDICTS, REPLICATES = "verdict", "verdicts", "replicates"
CRITERIA = "criteria"
PER_CLASS, CONFUSION, CALIBRATION = "per_class", "confusion", "calibration"
INPUT_SAMPLES = "input_samples"
FINAL_H5 = "fashion_mnist_final"


def iteration_name(number: int) -> str:
    """The model that iteration `number` of the plan, from 1, trains."""
    return f"iteration_{number}"


def gate_name(number: int) -> str:
    """The stage that decides on iteration `number`."""
    return f"gate_{number}"


def evaluation_name(training: str) -> str:
    """The stage that scores a training on the test split."""
    return f"test_{training}"


def curves_name(model: str) -> str:
    """The stage that draws the learning curves of a model, and the file that it stores."""
    return f"curves_{model}"


def replicate_suffix(number: int, fold: int | None = None) -> str:
    """The suffix of a training's stage name: empty, `_r3`, `_f2` or `_f2_r3`."""
    return (f"_f{fold}" if fold else "") + (f"_r{number}" if number > 1 else "")


def folds_name(replicate: int) -> str:
    """The stage that assigns images to folds for a replicate, from 1."""
    return f"folds{replicate_suffix(replicate)}"


def features_name(layer: str, variant_suffix: str) -> str:
    """The stage that stores the outputs of one of VGG16's layers, e.g. `vgg16_block4`."""
    return f"vgg16_{layer.removesuffix('_pool')}{variant_suffix}"


def finding_name(number: int) -> str:
    """The picture of images that show a finding, whose numbers count from 1."""
    return f"finding_{number}"


def labels_name(split: str) -> str:
    """The table of labels that the `load` stage stores beside a split."""
    return f"{split}_labels"


def predictions_name(split: str) -> str:
    """The table of predictions on `validation` or `test` images."""
    return f"{split}_predictions"
