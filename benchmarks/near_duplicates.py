"""Time, memory and completeness of the search for near duplicates with an index.

    python benchmarks/near_duplicates.py [--dataset fashion-mnist] [--first 60000] [--second 10000]
                                         [--planted 0] [--rounds 2] [--index-only] [--growth]

Looks for near duplicates between the first training images and the first test images of a data set
(`fashion-mnist`, `synthetic`, or a folder with your own), with `guard.search=index` and, unless
`--index-only` is given, with `exact`. With `--planted`, so many changed training images take the
place of the test images: each shifted by one or two pixels across, down or both, and every third
made darker (x 0.6) or lighter (+ 40). Then there are many pairs to find.

Each search runs in a new process, which reads images by rows from the store, describes them and
finds the pairs; the table has its fastest round. `compared` is how many pairs of vectors the index
compares: images with images, images with centroids, and the sample with centroids in each round of
k-means. Recall is the share of the exact search's pairs that the index finds; with `--planted` and
`--index-only` it is the share of the planted pairs that are near duplicates by definition.

`--growth` searches with the index only, in sets of 1/64, 1/16, 1/4 and all of both sizes, and
prints the exponents e of `(first x second) ^ e` that fit the comparisons and the CPU seconds best.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from pathlib import Path

import numpy as np
from apart import MIB, ApartRun
from bare import Seconds

from flows.recipe import stages
from flows.recipe.presets import NOTEBOOK
from tasks.core.data.rows import Picked, RowReader
from tasks.core.names import RAW, TEST, TRAIN
from tasks.core.records import Record, Stage
from tasks.core.settings.base import changed
from tasks.core.settings.execution import ExecutionSettings
from tasks.core.stage_specs import ExploreSpec
from tasks.engine.environment import fix_blas
from tasks.engine.profile import resolve_profile
from tasks.storage.store import Store

# Any stage that reads both splits.
READER = Stage("explore", ExploreSpec(note=""), {RAW: (TRAIN, TEST)})
SHIFTS = [shift for shift in product(range(-2, 3), repeat=2) if shift != (0, 0)]


@dataclass(frozen=True)
class Search:
    """A search: time by parts, peak memory in MiB, vectors compared, recall, pairs by position.

    `planted` is the share of planted near duplicates that were found; None if none were planted.
    """

    describing: Seconds
    finding: Seconds
    peak: float
    compared: int
    planted: float | None
    pairs: dict[tuple[int, int], float]

    @property
    def whole(self) -> Seconds:
        return self.describing + self.finding


def altered(images: np.ndarray) -> np.ndarray:
    """Shifted images, a third of them darker and a third lighter; new pixels repeat the edge."""
    height, width = images.shape[1:3]
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    found = np.empty_like(images)
    for at, image in enumerate(wide):
        down, right = SHIFTS[at % len(SHIFTS)]
        moved = image[2 - down :, 2 - right :][:height, :width].astype(float)
        kind = at // len(SHIFTS) % 3
        found[at] = np.rint((moved, 0.6 * moved, np.minimum(moved + 40, 255))[kind])
    return found


def searched(root: str, raw: Record, given: argparse.Namespace, search: str) -> Search:
    """Describe the images, and find the pairs."""
    fix_blas()
    import faiss

    from tasks.core.data.duplicates import find_duplicates
    from tasks.core.data.image_descriptors import describe_images, principal_axes

    inputs = Store(root).inputs(READER, {RAW: raw})
    train, test = (inputs.by_rows(RAW, name)["images"] for name in (TRAIN, TEST))
    first: RowReader = Picked(train, np.arange(min(given.first, len(train))))
    second: RowReader = Picked(test, np.arange(min(given.second, len(test))))
    chosen = np.sort(np.random.default_rng(0).permutation(len(first))[: given.planted])
    if given.planted:
        second = altered(first[chosen])
    guard = NOTEBOOK.guard
    began = Seconds.now()
    axes = principal_axes(first, guard.shift)
    one, other = (describe_images(images, axes, guard.shift) for images in (first, second))
    described = Seconds.now()
    found = find_duplicates(one, other, guard.similarity, search)
    ended = Seconds.now()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    places = zip(found.first.tolist(), found.second.tolist(), strict=True)
    pairs = dict(zip(places, found.similarity.tolist(), strict=True))
    compared = faiss.cvar.indexIVF_stats.ndis + with_centroids(len(first), len(second))
    share = None
    if given.planted:
        planted = planted_pairs(one, other, chosen, guard.similarity)
        share = len(planted & pairs.keys()) / len(planted)
    return Search(described - began, ended - described, peak, compared, share, pairs)


def with_centroids(first: int, second: int) -> int:
    """How many images an index compares with centroids, to build it and to choose cells."""
    from tasks.core.data.nearest import ROUNDS, SAMPLE, cells

    count = cells(first)
    return count * (ROUNDS * min(first, SAMPLE * count) + first + second)


def planted_pairs(one, other, chosen, least: float) -> set[tuple[int, int]]:  # type: ignore[no-untyped-def]
    """The planted pairs that are near duplicates by definition, found without any bound."""
    from tasks.core.data.duplicates import SLACK
    from tasks.core.data.gradient_correlation import gradients, similarity
    from tasks.core.data.image_descriptors import amplitudes

    found = []
    for start in range(0, len(chosen), 1_000):
        mine, theirs = (
            one.images[chosen[start : start + 1_000]],
            other.images[start : start + 1_000],
        )
        near = similarity(gradients(mine), gradients(theirs), one.shift) >= least
        bound = (amplitudes(mine, one.shift) * amplitudes(theirs, one.shift)).sum(axis=1)
        found.append(start + np.flatnonzero(near & (bound >= least - SLACK)))
    at = np.concatenate(found)
    return set(zip(chosen[at].tolist(), at.tolist(), strict=True))


def apart(root: str, raw: Record, given: argparse.Namespace, search: str) -> Search:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(searched, root, raw, given, search).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="fashion-mnist")
    for name, default in (("first", 60_000), ("second", 10_000), ("planted", 0), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("--index-only", "--growth"):
        parser.add_argument(name, action="store_true")
    given = parser.parse_args()
    settings = changed(
        NOTEBOOK,
        {"dataset": given.dataset, "synthetic": {"train": given.first, "test": given.second}},
    )
    with tempfile.TemporaryDirectory() as root:
        profile = resolve_profile(ExecutionSettings(device="cpu"))
        raw = ApartRun(Path(root), profile, lambda *_: None).take(stages.load(settings), (), {})
        assert isinstance(raw, Record)
        print(
            "seconds (of CPU):              describing        finding         in all     peak"
            "       compared     pairs"
        )
        if given.growth:
            show_growth(root, raw, given)
        else:
            compare(root, raw, given)


def compare(root: str, raw: Record, given: argparse.Namespace) -> None:
    """The search with an index, beside the exact one unless that is left out."""
    kinds = ("index",) if given.index_only else ("exact", "index")
    best = {kind: fastest(root, raw, given, kind) for kind in kinds}
    every, index = best.get("exact"), best["index"]
    if every:
        assert index.pairs.items() <= every.pairs.items(), "found what the exact search did not"
        share = len(index.pairs) / max(1, len(every.pairs))
        print(f"recall {share:.4f} of {len(every.pairs):,} pairs")
    elif index.planted is not None:
        print(f"recall {index.planted:.4f} of the planted near duplicates")


def show_growth(root: str, raw: Record, given: argparse.Namespace) -> None:
    """Searches in ever larger sets, and how their cost grows."""
    rows = []
    for part in (64, 16, 4, 1):
        counts = {"first": given.first // part, "second": given.second // part}
        smaller = argparse.Namespace(**{**vars(given), **counts, "planted": given.planted // part})
        found = fastest(root, raw, smaller, "index")
        second = smaller.planted or smaller.second
        rows.append((smaller.first * second, found.compared, found.finding.cpu))
        if found.planted is not None:
            print(f"recall {found.planted:.4f} of the planted near duplicates")
    pairs, compared, seconds = np.log(np.array(rows, dtype=float)).T
    for name, values in (("comparisons", compared), ("CPU seconds", seconds)):
        print(f"{name} grow like (first x second) ^ {np.polyfit(pairs, values, 1)[0]:.2f}")


def fastest(root: str, raw: Record, given: argparse.Namespace, kind: str) -> Search:
    """The fastest of some rounds, all with the same pairs; its row of the table is printed."""
    rounds = [apart(root, raw, given, kind) for _ in range(given.rounds)]
    assert len({tuple(found.pairs.items()) for found in rounds}) == 1
    found = min(rounds, key=attrgetter("whole.wall"))
    times = "".join(f"{time!s:>15}" for time in (found.describing, found.finding, found.whole))
    compared = f"{found.compared:15,}" if kind == "index" else " " * 15
    sizes = f"{given.first:,} x {given.planted or given.second:,}"
    row = f"{kind:<6}{sizes:>20}{times}{found.peak:6,.0f} MiB{compared}{len(found.pairs):10,}"
    print(row, flush=True)
    return found


if __name__ == "__main__":
    main()
