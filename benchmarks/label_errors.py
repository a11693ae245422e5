"""How many wrong labels the label check finds among labels that this script made wrong.

    python benchmarks/label_errors.py [--photographs FOLDER] [--store artifacts/label-errors]

Of 10,000 images of Fashion-MNIST, and of the photographs in FOLDER (such as
clothing-dataset-small), 1, 5 and 10 % of the labels of training and validation images are replaced,
chosen at random: by any other class, each equally likely (`uniform`), or by the class that a model
takes that class for most often (`confused`). Small networks are trained in five folds on the wrong
labels, and the stage `label_check` looks for them. Labels that were wrong from the beginning count
as right, so precision is a little too low.

The first table is about the product's rule; "first 100" is the precision of the first 100
suspects. The second compares the paper's rules and two orders by that precision, averaged. All
stages are kept in the store, so the script continues after an interruption.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bare import BareRun, dataset_at_hand, settings_of

from flows.recipe import stages
from flows.recipe.contents import recipe_models
from flows.recipe.label_check import label_check
from flows.recipe.presets import NOTEBOOK
from flows.recipe.stages import RecipeModel
from tasks.core.array_types import Bool, Float64, Int64
from tasks.core.errors import FashionFlowError
from tasks.core.names import (
    INDEX,
    LABEL_ERRORS,
    LOAD,
    OVERFITTING,
    SPLITS,
    SUBSET,
    TRAIN,
    TRAINING_SPLITS,
    VALIDATION,
    folds_name,
)
from tasks.core.records import Record, Stage, digest_of
from tasks.core.seeds import generator
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.label_errors import calibrated_joint, confident_joint, self_confidence
from tasks.core.statistics.metrics import confusion_matrix
from tasks.engine.profile import resolve_profile
from tasks.models.held_out import by_image
from tasks.models.stored_predictions import predictions

Row = dict[str, Any]

FIRST = 100
KINDS = ("uniform", "confused")
SHARES = (0.01, 0.05, 0.1)
ON_ARRAYS = {
    "filters": [],
    "kernel_sizes": [],
    "pooled": [],
    "dense": [256],
    "dropout": 0.3,
    "epochs": 12,
    "batch_size": 128,
}
ON_PHOTOGRAPHS = {
    "filters": [16, 32, 64],
    "kernel_sizes": [3, 3, 3],
    "pooled": [True, True, True],
    "dense": [64],
    "dropout": 0.3,
    "epochs": 15,
    "batch_size": 32,
}


def flipped(labels: Int64, share: float, taken_for: Int64 | None, classes: int) -> Int64:
    """The labels with a share of them replaced, by `taken_for` of the class or by any other."""
    rng = generator(0, "flips", round(100 * share))
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    wrong = labels.copy()
    if taken_for is None:
        wrong[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    else:
        wrong[chosen] = taken_for[labels[chosen]]
    return wrong


class Check:
    """The label check of one data set, with its true labels or others."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.settings = settings
        self.run = BareRun(root, resolve_profile(settings.execution))
        self.raw = self.run(stages.load(settings))
        self.split = self.run(stages.subset(settings), raw=self.raw)
        # It depends on the images, not on their labels.
        self.guard = self.run(stages.guard(settings), split=self.split)
        self.arrays = {name: self.run.arrays(SUBSET, name) for name in SPLITS}
        labels = [self.arrays[name]["labels"] for name in TRAINING_SPLITS]
        self.labels = np.concatenate(labels).astype(np.int64)
        self.classes = len(self.split.facts["class_names"])

    def relabelled(self, labels: Int64) -> Record:
        """Store the splits with these labels, as if `subset` had."""
        key = digest_of([self.split.key, labels.tolist()])
        outputs = self.run.store.writer(stages.subset(self.settings), key, self.split.basis)
        parts = np.split(labels, [len(self.arrays[TRAINING_SPLITS[0]]["labels"])])
        given = dict(zip(TRAINING_SPLITS, parts, strict=True))
        for name, arrays in self.arrays.items():
            kept = arrays["labels"]
            outputs.arrays(name, **arrays | {"labels": given.get(name, kept).astype(kept.dtype)})
        outputs.table(INDEX, self.run.store.table(self.split, INDEX))
        return self.run.store.commit(outputs, self.split.facts)

    def checked(self, labels: Int64) -> tuple[Record, Float64]:
        """The record of the label check, and the probabilities that it was made from."""
        split = self.relabelled(labels)
        arrays = self.run(stages.preprocess(), split=split)
        evaluation, seed = self.settings.evaluation, self.settings.seed
        folds = self.run(stages.folds(evaluation, seed, 1), split=split, guard=self.guard)
        model = _overfitting(self.settings)
        made: dict[str, Any] = {SUBSET: split, LOAD: self.raw, folds_name(1): folds}
        for name, replicate in model.trainings.items():
            stage = stages.train(OVERFITTING, self.settings.overfitting, replicate)
            made[name] = self.run(stage, arrays=arrays, folds=folds)
        stage = label_check(model, self.settings)
        inputs = {role: made[role] for role in stage.reads}
        found = self.run(stage, **inputs)
        return found, self._probabilities(stage, inputs, model)

    def _probabilities(
        self, stage: Stage, given: Mapping[str, Record], model: RecipeModel
    ) -> Float64:
        inputs = self.run.store.inputs(stage, given)
        return by_image(
            stages.described(model),
            inputs,
            lambda name: predictions(inputs, name, VALIDATION).probabilities,
        )


def _overfitting(settings: Settings) -> RecipeModel:
    return next(model for model in recipe_models(settings) if model.name == OVERFITTING)


def rules(labels: Int64, probabilities: Float64) -> dict[str, Bool]:
    """The images that each of the paper's rules suspects, `(n,)`."""
    counted = confident_joint(labels, probabilities)
    joint = np.rint(calibrated_joint(counted, np.bincount(labels, minlength=len(counted))))
    by_class, by_pair = np.zeros((2, len(labels)), bool)
    for given in range(len(joint)):
        of_class = np.flatnonzero(labels == given)
        chances = probabilities[of_class]
        errors = int(joint[given].sum() - joint[given, given])
        by_class[of_class[np.argsort(chances[:, given], kind="stable")[:errors]]] = True
        for true in set(range(len(joint))) - {given}:
            gain = chances[:, given] - chances[:, true]
            by_pair[of_class[np.argsort(gain, kind="stable")[: int(joint[given, true])]]] = True
    doubted = probabilities.argmax(axis=1) != labels
    return {
        "prune by class": by_class & doubted,
        "prune by noise rate": by_pair & doubted,
        "both": by_class & by_pair & doubted,
        "argmax differs": doubted,
    }


def orders(labels: Int64, probabilities: Float64) -> dict[str, Float64]:
    """Two values by which suspects can be ranked, the lowest first, `(n,)`."""
    confidence = self_confidence(labels, probabilities)
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    return {"self-confidence": confidence, "normalised margin": confidence - others.max(axis=1)}


def compared(labels: Int64, probabilities: Float64, wrong: Bool) -> Iterator[tuple[str, Row]]:
    """What each rule and order would have found."""
    for rule, suspected in rules(labels, probabilities).items():
        row = {"recall": (suspected & wrong).sum() / wrong.sum()}
        for order, values in orders(labels, probabilities).items():
            found = np.flatnonzero(suspected)
            row[order] = wrong[found[np.argsort(values[found], kind="stable")][:FIRST]].mean()
        yield rule, row


def conditions(check: Check) -> Iterator[tuple[str, float, Int64]]:
    """The kind and share of wrong labels, and the labels; the true labels first."""
    yield "none", 0.0, check.labels
    _, probabilities = check.checked(check.labels)
    matrix = confusion_matrix(probabilities.argmax(axis=1), check.labels, check.classes)
    np.fill_diagonal(matrix, -1)
    for share in SHARES:
        for kind in KINDS:
            likeliest = matrix.argmax(axis=1) if kind == "confused" else None
            yield kind, share, flipped(check.labels, share, likeliest, check.classes)


def measure(name: str, check: Check, rows: dict[str, list[Row]]) -> None:
    """Print a row for each condition, and add to `rows` what each of the paper's rules finds."""
    for kind, share, labels in conditions(check):
        record, probabilities = check.checked(labels)
        wrong = labels != check.labels
        suspects = check.run.store.table(record, LABEL_ERRORS)
        validation = suspects["split"].to_numpy() == VALIDATION
        trained = len(check.arrays[TRAIN]["labels"])
        found = wrong[suspects["position"].to_numpy() + np.where(validation, trained, 0)]
        accuracy = (probabilities.argmax(axis=1) == check.labels).mean()
        print(
            f"{name:<14}{kind:<10}{wrong.sum():>6}{record.facts['estimated_errors']:>11.0f}"
            f"{len(found):>10}{_percent(found[:FIRST].mean() if share else None)}"
            f"{_percent(found.sum() / wrong.sum() if share else None)}{_percent(accuracy)}",
            flush=True,
        )
        if share:
            for rule, row in compared(labels, probabilities, wrong):
                rows[rule].append(row)


def _percent(value: float | None) -> str:
    return f"{'':>11}" if value is None else f"{100 * value:>9.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", help="a data set of photographs; without it, none")
    parser.add_argument("--store", type=Path, default=Path("artifacts/label-errors"))
    for name, default in (("train", 8000), ("validation", 2000), ("test", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default, help="of Fashion-MNIST")
    parser.add_argument("--epochs", type=int, help="instead of 12 and 15")
    given = parser.parse_args()
    sizes = given.train, given.validation, given.test
    off = {"weights": "off"}
    dataset = dataset_at_hand()
    sets = {dataset: (ON_ARRAYS, settings_of(dataset, *sizes, off))}
    if given.photographs:
        whole = changed(NOTEBOOK, {"dataset": given.photographs, "transfer": off})
        sets["photographs"] = ON_PHOTOGRAPHS, changed(whole, {"images": {"side": 32}})
    print(
        f"{'data set':<14}{'flipped':<10}{'wrong':>6}{'estimated':>11}{'suspects':>10}"
        f"{'first 100':>11}{'recall':>11}{'accuracy':>11}"
    )
    rows: dict[str, list[Row]] = defaultdict(list)
    for name, (network, settings) in sets.items():
        network = network | ({"epochs": given.epochs} if given.epochs else {})
        more = {"overfitting": network, "plan": [], "evaluation": {"protocol": "kfold"}}
        measure(name, Check(given.store, changed(settings, more)), rows)
    columns = list(next(iter(rows.values()))[0])
    print(f"\n{'mean':<20}" + "".join(f"{column:>20}" for column in columns))
    for rule, found in rows.items():
        means = (np.mean([row[column] for row in found]) for column in columns)
        print(f"{rule:<20}" + "".join(f"{100 * mean:>18.0f} %" for mean in means))


if __name__ == "__main__":
    try:
        main()
    except FashionFlowError as error:
        sys.exit(f"error: {error}")
