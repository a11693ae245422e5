"""Time, memory and completeness of the search for near duplicates with an index.

    python benchmarks/near_duplicates.py [--dataset fashion-mnist] [--first 60000] [--second 10000]
                                         [--planted 0] [--rounds 2] [--index-only]

Looks for near duplicates between the first training images and the first test images of a data set
(`fashion-mnist`, `synthetic`, or a folder with your own), with `guard.search=index` and, unless
`--index-only` is given, with `exact`. With `--planted`, so many changed training images take the
place of the test images: each shifted by one or two pixels across, down or both, and every third
made darker (x 0.6) or lighter (+ 40). Then there are many pairs to find.

Each search runs in a new process, which reads images by rows from the store, describes them and
finds the pairs; the table has its fastest round. Recall is the share of the exact search's pairs
that the index finds.
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
    """The time of a search by its parts, its process's peak memory in MiB, and the pairs."""

    describing: Seconds
    finding: Seconds
    peak: float
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
    from tasks.core.data.duplicates import find_duplicates
    from tasks.core.data.image_descriptors import describe_images, principal_axes

    inputs = Store(root).inputs(READER, {RAW: raw})
    train, test = (inputs.by_rows(RAW, name)["images"] for name in (TRAIN, TEST))
    first: RowReader = Picked(train, np.arange(min(given.first, len(train))))
    second: RowReader = Picked(test, np.arange(min(given.second, len(test))))
    if given.planted:
        chosen = np.random.default_rng(0).permutation(len(first))[: given.planted]
        second = altered(first[np.sort(chosen)])
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
    return Search(described - began, ended - described, peak, pairs)


def apart(root: str, raw: Record, given: argparse.Namespace, search: str) -> Search:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(searched, root, raw, given, search).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="fashion-mnist")
    for name, default in (("first", 60_000), ("second", 10_000), ("planted", 0), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--index-only", action="store_true")
    given = parser.parse_args()
    settings = changed(
        NOTEBOOK,
        {"dataset": given.dataset, "synthetic": {"train": given.first, "test": given.second}},
    )
    with tempfile.TemporaryDirectory() as root:
        profile = resolve_profile(ExecutionSettings(device="cpu"))
        raw = ApartRun(Path(root), profile, lambda *_: None).take(stages.load(settings), (), {})
        assert isinstance(raw, Record)
        kinds = ("index",) if given.index_only else ("exact", "index")
        print("seconds (of CPU):    describing        finding         in all     peak   pairs")
        best = {}
        for kind in kinds:
            rounds = [apart(root, raw, given, kind) for _ in range(given.rounds)]
            assert len({tuple(found.pairs.items()) for found in rounds}) == 1
            found = best[kind] = min(rounds, key=attrgetter("whole.wall"))
            times = "".join(
                f"{time!s:>15}" for time in (found.describing, found.finding, found.whole)
            )
            print(f"{kind:<16}{times}{found.peak:6,.0f} MiB{len(found.pairs):8,}", flush=True)
    if not given.index_only:
        every, index = best["exact"].pairs, best["index"].pairs
        assert index.items() <= every.items(), "the index found what the exact search did not"
        print(f"recall {len(index) / max(1, len(every)):.4f} of {len(every):,} pairs")


if __name__ == "__main__":
    main()
