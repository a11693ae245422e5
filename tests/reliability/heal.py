"""Damage a store's files one by one and run the flow after each: `heal.py STORE FLOW COUNT`.

All runs share one process, so that TensorFlow is imported once. The last line of standard output is
JSON that says what was damaged and what was not repaired. With a COUNT of 0, every file is damaged
in every way.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from flows.recipe.compose import compose
from flows.running.server_address import PREFECT_DEFAULTS
from tasks.core.settings.run_settings import Settings
from tasks.storage.checkpoints import is_snapshot
from tasks.storage.local_path import LocalPath
from tasks.storage.run_log import all_runs
from tasks.storage.store import Store
from tests.reliability.support import contents, differing

Damage = Callable[[Path, bytes], None]

FLOWS: Mapping[str, Settings] = {
    "smoke": compose("smoke", None, {}, []),
    "short": compose("smoke", None, {"plan": [], "transfer.weights": "off"}, []),
}


def delete(path: Path, _other: bytes) -> None:
    """Remove the file."""
    path.unlink()


def empty(path: Path, _other: bytes) -> None:
    """Truncate the file to nothing."""
    path.write_bytes(b"")


def truncate(path: Path, _other: bytes) -> None:
    """Keep the first half of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_a_bit(path: Path, _other: bytes) -> None:
    """Change one bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace(path: Path, other: bytes) -> None:
    """Replace the file's content with that of another stage's file."""
    path.write_bytes(other)


WAYS: tuple[Damage, ...] = (delete, empty, truncate, flip_a_bit, replace)


def stranger_to(path: Path, files: list[Path]) -> bytes:
    """The content of another stage's file, of the same kind if there is one."""
    others = [other for other in files if other.parent.parent != path.parent.parent]
    alike = [other for other in others if other.suffix == path.suffix] or others
    content = path.read_bytes()
    return next(found for other in alike if (found := other.read_bytes()) != content)


def main(store: Path, settings: Settings, count: int) -> None:
    """Damage a random sample of `count` pairs of file and way; run the flow after each."""
    from flows.build_model import build_model

    expected = contents(store)
    files = [store / path for path in expected]
    snapshots = {path: path.read_bytes() for path in files if is_snapshot(LocalPath(path))}
    pairs = [(path, way) for path in files for way in WAYS]
    random.Random(2).shuffle(pairs)
    ways: Counter[str] = Counter()
    damaged: set[Path] = set()
    not_healed: list[str] = []
    computed = 0
    for number, (path, way) in enumerate(pairs[: count or None]):
        way(path, stranger_to(path, files))
        shown = f"{path.relative_to(store)} {way.__name__}"
        assert differing(contents(store), expected), f"{shown} changed nothing"
        build_model(settings=settings, store=str(store), run_id=f"heal-{number}")
        if is_snapshot(LocalPath(path)):
            # A run does not repair snapshots: only trainings that have not run yet would use them.
            path.write_bytes(snapshots[path])
        wrong = differing(contents(store), expected)
        not_healed += [f"{shown}: {left}" for left in wrong]
        run = all_runs(Store(str(store)))[-1]
        again = [line["stage"] for line in run.stages() if line["state"] == "completed"]
        computed += len(again)
        print(f"{number + 1} of {len(pairs)}: {shown}: {again}", flush=True)
        ways[way.__name__] += 1
        damaged.add(path)
        if wrong:
            break
    print(
        json.dumps(
            {
                "files": len(damaged),
                "healed": sum(ways.values()) - len(not_healed),
                "ways": ways,
                "computed": computed,
                "not_healed": not_healed,
            }
        )
    )


if __name__ == "__main__":
    for variable, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    main(Path(sys.argv[1]), FLOWS[sys.argv[2]], int(sys.argv[3]))
