"""Which metric of a gate finds a true gain with fewer images and seeds: accuracy or log loss?

    python benchmarks/metric_power.py [--store artifacts/metric-power] [--draws 200] [--workers 2]

Trains small networks on 2,000 images of Fashion-MNIST's training file, with and without one change,
from 12 seeds each, and predicts 10,000 other images of that file; no test image is read. All seeds
and images together say how large the gain of a change truly is, by accuracy and by log loss; where
the accuracy falls, the candidate is the network without the change. Then
a gate is simulated many times: it sees a few of these seeds and images, drawn at random, and
applies the project's own test of the gain (`tasks.core.statistics.evidence.gain`) at level 0.05.
Printed is the share of gates that find a gain. The change `none` compares trainings of the same
recipe that differ by their seeds alone, so what is found there is found wrongly.

With one seed a gate tests whether two trained networks differ, not two recipes: networks of the
same recipe do differ, so its share in the row `none` is not bounded by 0.05.

Predictions are kept in the store, so the script continues after an interruption.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fashion import training_file

from tasks.core.array_types import Float64, Int64
from tasks.core.records import digest_of
from tasks.core.seeds import generator
from tasks.core.settings.base import changed
from tasks.core.settings.evaluation import Metric
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.settings.training import TrainSettings
from tasks.core.statistics.estimates import mean_squares
from tasks.core.statistics.evidence import Scored, gain
from tasks.engine.libraries import installation
from tasks.engine.profile import configure, resolve_profile

LEVEL = 0.05
SEEDS_OF_A_JOB = 6
METRICS: tuple[Metric, ...] = ("accuracy", "log_loss")
BASE: dict[str, Any] = {
    "network": {"family": "compact", "widths": [8, 16, 32], "activation": "relu"},
    "optimizer": {"name": "muon", "weight_decay": 0.05},
    "learning_rate": 0.02,
    "decay": "linear",
    "warmup": 0.25,
    "epochs": 5,
    "batch_size": 64,
}
INCUMBENT, NONE = "base", "none"
CHANGES: dict[str, dict[str, Any]] = {
    "wider": {"network.widths": [16, 32, 64]},
    "AdamW": {"optimizer.name": "adamw", "learning_rate": 0.005},
    "alternating flips": {"variation.flip": "alternating"},
    "views of both flips": {"network.views": "flips"},
    "shift by 1": {"variation.shift": 1},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "twice the epochs": {"epochs": {"times": 2}},
}


@dataclass(frozen=True)
class Job:
    """Trainings of one recipe: the name of its change, its settings, and the file of each seed."""

    name: str
    training: TrainSettings
    paths: dict[int, Path]


def settings_of(name: str, epochs: int | None) -> TrainSettings:
    """The settings of the incumbent, or of those with a change."""
    base = changed(TrainSettings(), BASE | ({} if epochs is None else {"epochs": epochs}))
    return base if name == INCUMBENT else changed(base, CHANGES[name])


def positions(train: int, held_out: int, available: int) -> tuple[Int64, Int64]:
    """Positions of the images to train on, and of those to predict; the same for all trainings."""
    order = generator(0, "metric_power").permutation(available)
    return np.sort(order[:train]), np.sort(order[train : train + held_out])


class Trainer:
    """A recipe's network, compiled once: tracing would take longer than most of its trainings."""

    def __init__(self, training: TrainSettings, train: int, held_out: int) -> None:
        from tasks.core.networks.families import predicting
        from tasks.core.networks.fast_layers import fast_network
        from tasks.core.training.examples import Examples
        from tasks.core.training.optimizers import RateTable, make_optimizer
        from tasks.core.training.schedule import Schedule

        images, labels = training_file()
        self.learnt, self.others = (
            Examples(images[chosen][..., None], labels[chosen], 10)
            for chosen in positions(train, held_out, len(images))
        )
        self.training, self.schedule = training, Schedule.of(training)
        self.model = self.built(0)
        self.quick = fast_network(self.model)
        predictor = predicting(self.model, training.network)
        self.predictor = self.quick if predictor is self.model else predictor
        rates = RateTable(self.schedule.rates(train))
        variables = self.quick.trainable_variables
        self.optimizer = make_optimizer(self.schedule.optimizer, rates, variables)
        self.start = [variable.numpy() for variable in self.optimizer.variables]
        self.quick.compile(self.optimizer, "categorical_crossentropy")

    def built(self, seed: int) -> Any:
        """The network with the initial weights of a seed."""
        from tasks.core.networks.families import build_network
        from tasks.models.fit import whiten

        model = build_network(self.training, (28, 28, 1), 10, seed)
        whiten(model, self.learnt, seed)
        return model

    def scored(self, seed: int) -> Scored:
        """Train from a seed as `tasks.core.training.loop.train` does; score the other images."""
        from tasks.core.training.loop import Batches, evaluate
        from tasks.core.training.variation import draw_variation

        self.model.set_weights(self.built(seed).get_weights())
        for variable, value in zip(self.optimizer.variables, self.start, strict=True):
            variable.assign(value)
        count, smoothing = len(self.learnt), self.schedule.label_smoothing
        for epoch in range(1, self.schedule.epochs + 1):
            order = generator(seed, "order", epoch).permutation(count)
            varied = draw_variation(count, self.schedule.variation, seed, epoch)
            size = self.schedule.size_in(epoch)
            batches = Batches(self.learnt, size, order, None, varied, smoothing)
            self.quick.fit(batches.prefetched(), shuffle=False, verbose=0)
        _, probabilities = evaluate(
            self.predictor, self.others, "categorical_crossentropy", batch=1_000
        )
        return Scored.of(self.others.labels, probabilities)


def trained(job: Job, train: int, held_out: int) -> str:
    """Store for each seed of a job whether each image is right, and its loss; what was done."""
    configure(resolve_profile(ExecutionSettings(device="cpu")))
    trainer = Trainer(job.training, train, held_out)
    for seed, path in job.paths.items():
        found = trainer.scored(seed)
        whole = path.with_suffix(".part.npz")
        np.savez(whole, label=found.label, correct=found.correct, loss=found.loss)
        os.replace(whole, path)
    return f"{job.name}: {len(job.paths)} trainings"


def all_scored(given: argparse.Namespace) -> dict[str, list[Scored]]:
    """The scores of every training, by the name of its change; what is missing is trained."""
    folder = given.store / f"{given.train_images}-{given.held_out}"
    folder.mkdir(parents=True, exist_ok=True)
    made_by = [installation(), resolve_profile(ExecutionSettings(device="cpu"))]
    paths: dict[str, list[Path]] = {}
    jobs = []
    for name in (INCUMBENT, *given.changes):
        training = settings_of(name, given.epochs)
        # Twice as many of the incumbent, so that two groups of them can be compared.
        count = given.replicates * (2 if name == INCUMBENT else 1)
        settings = training.model_dump(mode="json")
        digest = digest_of({"training": settings, "made by": made_by})[:8]
        paths[name] = [folder / f"{digest}-{seed}.npz" for seed in range(count)]
        missing = [seed for seed, path in enumerate(paths[name]) if not path.exists()]
        for first in range(0, len(missing), SEEDS_OF_A_JOB):
            some = {seed: paths[name][seed] for seed in missing[first : first + SEEDS_OF_A_JOB]}
            jobs.append(Job(name, training, some))
    # An interrupted study has the first trainings of everything.
    jobs.sort(key=lambda job: min(job.paths))
    print(f"{sum(map(len, paths.values()))} trainings; to be done: ", end="")
    print(sum(len(job.paths) for job in jobs), flush=True)
    compute = partial(trained, train=given.train_images, held_out=given.held_out)
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        for done in pool.map(compute, jobs):
            print(done, flush=True)
    return {name: [stored(path) for path in of] for name, of in paths.items()}


def stored(path: Path) -> Scored:
    with np.load(path, allow_pickle=False) as arrays:
        return Scored(**arrays)


def shares(
    before: Sequence[Scored],
    after: Sequence[Scored] | None,
    seeds: int,
    images: int,
    draws: int,
) -> dict[Metric, float]:
    """The share of gates, with so many seeds and images drawn at random, that find a gain.

    Trainings are paired by seed. Without `after`, both groups are drawn from `before`.
    """
    rng = generator(0, "gates", seeds, images)
    tables: dict[Metric, list[Float64]] = {metric: [] for metric in METRICS}
    for _ in range(draws):
        chosen = rng.choice(len(before[0].label), images, replace=False)
        drawn = rng.permutation(len(before if after is None else after))
        second = drawn[seeds : 2 * seeds] if after is None else drawn[:seeds]
        incumbent = [before[seed] for seed in drawn[:seeds]]
        candidate = [(before if after is None else after)[seed] for seed in second]
        for metric in METRICS:
            tables[metric].append(differences(metric, incumbent, candidate, chosen))
    return {metric: float((p_values(metric, of) <= LEVEL).mean()) for metric, of in tables.items()}


def p_values(metric: Metric, tables: Sequence[Float64]) -> Float64:
    """The p values of `tasks.core.statistics.evidence.gain`, of many gates at once.

    `tables` are `(seeds, images)` differences. Making one distribution of SciPy for each gate would
    take most of the study's time; a test compares both.
    """
    from scipy import stats

    if len(tables[0]) == 1 and metric == "accuracy":
        gained = np.array([int((table > 0).sum()) for table in tables])
        lost = np.array([int((table < 0).sum()) for table in tables])
        found: Float64 = stats.binom.sf(gained - 1, gained + lost, 0.5)
        return found
    means, errors, freedoms = [], [], []
    for table in tables:
        seeds, images = table.shape
        if seeds == 1:
            both, freedom = float(table.var(ddof=1)), images - 1.0
        else:
            squares = mean_squares(table)
            of_seeds = max(squares.seeds, squares.residual)
            both = of_seeds + max(squares.images - squares.residual, 0)
            freedom = (seeds - 1) * (both / of_seeds) ** 2 if of_seeds else math.inf
        means.append(float(table.mean()))
        # Where all differences are equal, none is a gain; the least number keeps 0 / 0 away.
        errors.append(max(math.sqrt(both / table.size), sys.float_info.min))
        freedoms.append(freedom)
    return np.asarray(stats.t.sf(np.divide(means, errors), freedoms))


def differences(
    metric: Metric,
    before: Sequence[Scored],
    after: Sequence[Scored],
    images: Int64 | slice = slice(None),
) -> Float64:
    """`(seeds, images)`: by how much the candidate is better on each image."""
    pairs = zip(before, after, strict=True)
    if metric == "accuracy":
        return np.stack(
            [a.correct[images].astype(np.float64) - b.correct[images] for b, a in pairs]
        )
    return np.stack([b.loss[images] - a.loss[images] for b, a in pairs])


def signal(table: Float64, seeds: int, images: int) -> float:
    """The true gain divided by the standard error that so many seeds and images have.

    The variances of seeds, of images and of both together are estimated from the whole table.
    """
    squares = mean_squares(table)
    rows, columns = table.shape
    of_seeds = max(squares.seeds - squares.residual, 0) / columns
    of_images = max(squares.images - squares.residual, 0) / rows
    variance = of_seeds / seeds + of_images / images + squares.residual / (seeds * images)
    return float(table.mean() / np.sqrt(variance))


def comparisons(
    found: dict[str, list[Scored]], given: argparse.Namespace
) -> dict[str, tuple[list[Scored], list[Scored]]]:
    """Incumbent and candidate of each change, in the direction in which the accuracy rises."""
    pairs = {}
    for name in given.changes:
        before, after = found[INCUMBENT][: given.replicates], found[name]
        if gain("accuracy", before, after, None).value >= 0:
            pairs[name] = before, after
        else:
            pairs[f"without: {name}"] = after, before
    return pairs


def print_truth(pairs: dict[str, tuple[list[Scored], list[Scored]]]) -> None:
    """The gain of each change with all seeds and images, and its size in standard errors."""
    print("\n| change | accuracy, points | log loss, nats | in standard errors at 5 x 2,000: |  |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (before, after) in pairs.items():
        cells = [name]
        for metric, scale, digits in (("accuracy", 100, 2), ("log_loss", 1, 4)):
            whole = gain(metric, before, after, None)
            value, low, high = (scale * end for end in (whole.value, whole.low, whole.high))
            cells.append(f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
        cells += [f"{signal(differences(m, before, after), 5, 2000):+.1f}" for m in METRICS]
        print(f"| {' | '.join(cells)} |", flush=True)


def print_power(
    pairs: dict[str, tuple[list[Scored], list[Scored]]],
    same: list[Scored],
    given: argparse.Namespace,
) -> None:
    """Per cent of gates that find a gain by accuracy / by log loss, for seeds x images."""
    for images in given.images:
        print(f"\n{images:,} images; found by accuracy / by log loss, % of {given.draws} gates\n")
        print(f"| change | {' | '.join(f'{seeds} seeds' for seeds in given.seeds)} |")
        print(f"| --- |{' ---: |' * len(given.seeds)}")
        for name, (before, after) in (pairs | {NONE: (same, None)}).items():
            cells = []
            for seeds in given.seeds:
                share = shares(before, after, seeds, images, given.draws)
                cells.append(" / ".join(f"{100 * share[metric]:.0f}" for metric in METRICS))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("artifacts/metric-power"))
    parser.add_argument("--train-images", type=int, default=2_000)
    parser.add_argument("--held-out", type=int, default=10_000)
    parser.add_argument("--replicates", type=int, default=12)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--epochs", type=int, help="of the incumbent, instead of 5")
    parser.add_argument("--images", type=int, nargs="+", default=[250, 500, 1_000, 2_000, 5_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    parser.add_argument("--draws", type=int, default=200, help="simulated gates per cell")
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time")
    given = parser.parse_args()
    if max(given.seeds) > given.replicates or max(given.images) > given.held_out:
        parser.error("--seeds and --images can't exceed --replicates and --held-out")
    found = all_scored(given)
    pairs = comparisons(found, given)
    print_truth(pairs)
    print_power(pairs, found[INCUMBENT], given)


if __name__ == "__main__":
    main()
