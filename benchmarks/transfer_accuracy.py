"""How well VGG16 transfers: the notebook's variant, and corrected ones at several sizes.

    python benchmarks/transfer_accuracy.py [--weights FILE] [--sides 32 48 64 96]
        [--features block4_pool block5_pool] [--seeds 1] [--store artifacts/transfer-accuracy]
        [--tuned-after block4_pool block3_pool] [--rate-decays 1 0.3]

Needs Fashion-MNIST and ImageNet weights, from Keras's cache, from its download server or from a
file. Each training is a stage of the flow and is kept in the store, so the script continues after
an interruption. Variants are compared by validation accuracy, with one seed each. Only the
notebook's variant and the best corrected one are trained with all `--seeds` and scored on the test
split. `--tuned-after` fine-tunes more or fewer blocks at each side, as `--backbone VGG16` does,
with rates that fall with depth by `--rate-decays`. `--weights random` is for trying the script; its
results say nothing about transfer.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bare import BareRun, dataset_at_hand, settings_of
from numpy.typing import NDArray

from flows.recipe import backbone, stages, transfer
from flows.recipe.contents import recipe_models
from tasks.core.errors import FashionFlowError
from tasks.core.names import BACKBONE_FINE_TUNED, BACKBONE_FROZEN, SUBSET, TEST_PREDICTIONS
from tasks.core.settings.base import changed
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.estimates import over_seeds_and_images
from tasks.core.statistics.proportions import wilson_interval
from tasks.engine.profile import resolve_profile

Row = dict[str, Any]


def measure(run: BareRun, settings: Settings, arrays: Any) -> list[Row]:
    """Train the two models of one variant; print and return their scores and seconds."""
    run.seconds.clear()
    run.cached.clear()
    made = transfer.transfer(run, settings, arrays)
    rows = []
    for model in recipe_models(settings):
        way = model.transfer
        if way is None:
            continue
        facts = run.facts(made[model.name])
        done = [model.name]
        if "frozen" in model.name:
            done += [stage.name for stage in transfer.features(settings, way)]
        took = f"{run.took(*done).wall:.1f}"
        rows.append({"model": model, "made": made[model.name], **facts})
        print(
            f"{model.name:<27}{way.side:>5}  {way.features:<12}{way.learning_rate:>8g}"
            f"{way.fine_tune_learning_rate:>8g}{100 * facts['train_accuracy']:>9.2f}"
            f"{100 * facts['val_accuracy']:>9.2f}{'cached' if run.cached & set(done) else took:>9}",
            flush=True,
        )
    return rows


def tuned(run: BareRun, settings: Settings, arrays: Any) -> None:
    """Fine-tune the layers after one of VGG16's; print the scores on validation images."""
    run.seconds.clear()
    made = backbone.backbone_transfer(run, settings, run.made[SUBSET], arrays)
    chosen = settings.transfer.backbone
    facts = run.facts(made[BACKBONE_FINE_TUNED])
    frozen = run.facts(made[BACKBONE_FROZEN])
    print(
        f"{chosen.side} x {chosen.side}, layers after {chosen.tuned_after}, rates falling by "
        f"{chosen.rate_decay:g}: training {100 * facts['train_accuracy']:.2f}, validation "
        f"{100 * facts['val_accuracy']:.2f} % (frozen {100 * frozen['val_accuracy']:.2f}), "
        f"{run.took(BACKBONE_FINE_TUNED).wall:.1f} s",
        flush=True,
    )


def deeper(given: argparse.Namespace, weights: Row) -> Iterator[Row]:
    """The settings of transfer for each way of fine-tuning more blocks than the last.

    Everything but the depth is as in `corrected`.
    """
    shared = {"name": "VGG16", "weights_file": weights.get("weights_file"), "pooling": "flatten"}
    shared |= {"batch_size": 128, "epochs": given.epochs, "fine_tune_epochs": given.epochs}
    for side, after, decay in itertools.product(given.sides, given.tuned_after, given.rate_decays):
        deep = {"side": side, "tuned_after": after, "rate_decay": decay}
        yield {"weights": weights["weights"], "variant": "none", "backbone": shared | deep}


def score(run: BareRun, settings: Settings, arrays: Any) -> None:
    """Train the two models of a variant with all seeds; print their scores on the test split.

    The interval is over seeds and test images together.
    """
    made = transfer.transfer(run, settings, arrays)
    for model in recipe_models(settings):
        way = model.transfer
        if way is None:
            continue
        right, validation = [], []
        for training in model.trainings:
            tested = run(stages.evaluate(model, training), model=made[training], arrays=arrays)
            table = run.store.table(tested, TEST_PREDICTIONS)
            right.append(np.asarray(table["predicted"]) == np.asarray(table["label"]))
            validation.append(100 * run.facts(made[training])["val_accuracy"])
        accuracy = np.mean(right)
        low, high = _interval(np.array(right, np.float64))
        print(
            f"test accuracy of {model.name} ({way.side} x {way.side}, {way.features}): "
            f"{100 * accuracy:.2f} % ({100 * low:.2f} to {100 * high:.2f}), {len(right)} seeds; "
            f"validation {np.mean(validation):.2f} %",
            flush=True,
        )


def _interval(right: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean of `(seeds, images)`."""
    if len(right) == 1:
        return wilson_interval(int(right.sum()), right.size)
    estimate = over_seeds_and_images(right)
    return estimate.low, estimate.high


def _validation(rows: list[Row]) -> list[float]:
    return [row["val_accuracy"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="imagenet", help="imagenet, random or a file")
    sides, layers = [32, 48, 64, 96], ["block3_pool", "block4_pool", "block5_pool"]
    parser.add_argument("--sides", type=int, nargs="+", default=sides, choices=sides)
    parser.add_argument("--features", nargs="+", default=layers[1:], choices=layers)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="frozen base")
    parser.add_argument("--fine-tune-rates", type=float, nargs="+", default=[5e-5])
    parser.add_argument("--epochs", type=int, default=11)
    deep = ["block2_pool", "block3_pool", "block4_pool"]
    parser.add_argument("--tuned-after", nargs="*", default=[], choices=deep)
    parser.add_argument("--rate-decays", type=float, nargs="+", default=[1.0, 0.3])
    parser.add_argument("--seeds", type=int, default=1)
    for name, default in (("train", 8000), ("validation", 2000), ("test", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", type=Path, default=Path("artifacts/transfer-accuracy"))
    given = parser.parse_args()
    # With "required", missing weights are an error; with "imagenet", the stages would be skipped.
    weights: Row = {"weights": "random" if given.weights == "random" else "required"}
    if given.weights not in ("imagenet", "random"):
        weights["weights_file"] = given.weights
    epochs = {"epochs": given.epochs, "fine_tune_epochs": given.epochs}
    ways: list[Row] = [{"variant": "as_notebook", "as_notebook": epochs}]
    for side, features, rate, tuning in itertools.product(
        given.sides, given.features, given.rates, given.fine_tune_rates
    ):
        corrected = {"side": side, "features": features, "learning_rate": rate}
        corrected |= {"fine_tune_learning_rate": tuning} | epochs
        ways.append({"variant": "corrected", "corrected": corrected})
    # Accuracies on synthetic images mean nothing.
    dataset = dataset_at_hand() if given.weights == "random" else "fashion-mnist"
    every = [
        settings_of(dataset, given.train, given.validation, given.test, weights | way)
        for way in ways
    ]
    run = BareRun(given.store, resolve_profile(every[0].execution))
    # First, since everything else depends on them.
    run(transfer.weights(every[0]))
    arrays = run.preprocessed(every[0])
    print(f"data set {dataset}, weights {given.weights}", flush=True)
    print(f"{'model':<27} side  features{'rates':>13}{'train %':>16}{'val. %':>9}{'seconds':>9}")
    found = [measure(run, settings, arrays) for settings in every]
    for way in deeper(given, weights):
        tuned(run, settings_of(dataset, given.train, given.validation, given.test, way), arrays)
    best = max(range(1, len(every)), key=lambda number: max(_validation(found[number])))
    for number in (0, best):
        evaluation = {"replicates": given.seeds}
        score(run, changed(every[number], {"evaluation": evaluation}), arrays)


if __name__ == "__main__":
    try:
        main()
    except FashionFlowError as error:
        sys.exit(f"error: {error}")
