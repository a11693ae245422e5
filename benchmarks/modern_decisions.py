"""Decide the changes of preset `modern` anew, on images that the preset itself does not use.

    python benchmarks/modern_decisions.py [--replicates 10] [--store artifacts/decisions]
        [--table] [ARGUMENT OF fashion-flow run ...]

Of the 60,000 training images of Fashion-MNIST, the preset uses the first 8,000 and the last 2,000.
This script draws 10,000 of the other 50,000 to train on, 18,000 to decide on and 2,000 for the
final score, and runs the preset on them with rule `significant`. The 20,000 that remain are those
on which sizes and rates were chosen. Test images are not used. An interrupted run continues.

`--table` trains nothing and prints what the gates have decided so far, as in docs/modern.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from flows.recipe.presets import MODERN
from tasks.core.errors import FashionFlowError
from tasks.sources.fashion_mnist import find_fashion_mnist, read_fashion_mnist

# The training images that the preset uses: the first and the last.
_FIRST, _LAST = 8_000, 2_000
_PARTS = {"train": 10_000, "validation": 18_000, "test": 2_000}
_SEED = 1


def write_images(folder: Path, path: Path) -> None:
    """Write the images that the decisions are made on as an `.npz` of uint8 arrays."""
    data = read_fashion_mnist(folder)
    images, labels = (part[_FIRST:-_LAST] for part in (data.train.images, data.train.labels))
    order = np.random.default_rng(_SEED).permutation(len(labels))
    arrays = {"class_names": np.array(data.class_names)}
    begin = 0
    for name, count in _PARTS.items():
        chosen = np.sort(order[begin : begin + count])
        arrays |= {f"x_{name}": images[chosen], f"y_{name}": labels[chosen]}
        begin += count
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first, so that a file that is there is whole.
    part = path.with_name(f"part-{path.name}")
    np.savez(part, **arrays)
    part.replace(path)


def print_table(store: Path) -> None:
    """Print the verdicts of the latest run in a store as a Markdown table."""
    command = [sys.executable, "-m", "flows", "verdicts", "--json", "--store", str(store)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print("| change | accuracy, % | gain, points | 95 % interval | p | decision |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for verdict, entry in zip(found, MODERN.plan, strict=False):
        after = re.search(r"accuracy (0\.\d+) against", verdict["reason"])
        gain, low, high = (100 * verdict[name] for name in ("gain", "gain_low", "gain_high"))
        chance = "< 0.0001" if verdict["p_value"] < 1e-4 else f"{verdict['p_value']:.4f}"
        kept = "kept" if verdict["decision"] == "forward" else "dropped"
        print(
            f"| {verdict['gate']} {entry.name} | {100 * float(after[1]) if after else 0:.2f} "
            f"| {gain:+.2f} | {low:+.2f} to {high:+.2f} | {chance} | {kept} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=10)
    parser.add_argument("--store", type=Path, default=Path("artifacts/decisions"))
    parser.add_argument("--table", action="store_true")
    given, more = parser.parse_known_args()
    if given.table:
        print_table(given.store)
        return
    folder = find_fashion_mnist(os.environ, Path.cwd())
    if folder is None:
        sys.exit("error: Fashion-MNIST was not found; set FASHION_MNIST_DIR to its folder.")
    images = given.store / "leftover.npz"
    if not images.exists():
        write_images(folder, images)
    command = ["run", "--preset", "modern", "--dataset", str(images), "--rule", "significant"]
    command += ["--replicates", str(given.replicates), "--transfer-weights", "off"]
    command += ["--store", str(given.store), *more]
    sys.exit(subprocess.run([sys.executable, "-m", "flows", *command], check=False).returncode)


if __name__ == "__main__":
    try:
        main()
    except FashionFlowError as error:
        sys.exit(f"error: {error}")
