"""A training killed at any moment resumes after its last epoch and ends with the same bytes."""

from __future__ import annotations

import hashlib
import io
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.storage.checkpoints import checkpoints
from tasks.storage.local_path import LocalPath
from tests.conftest import ROOT
from tests.reliability.support import Record, Size, contents, differing
from tests.support import on_disk

STEP_S = 120
EPOCH = re.compile(r"(\S+)\s+epoch (\d+)/(\d+)")
RESUMED = re.compile(r"(\S+) continues after epoch (\d+)$")

Kill = Callable[["Trainings"], None]


class Trainings:
    """The process that trains, and what it has logged so far."""

    def __init__(self, store: Path, environment: dict[str, str]) -> None:
        self.store = store
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.train", str(store)],
            cwd=ROOT,
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """Kill the process and read the rest of its log."""
        self.process.kill()
        assert self.process.stderr is not None
        self.lines += self.process.stderr.read().splitlines()
        self.process.stderr.close()
        self.process.wait()

    def finish(self) -> None:
        """Let the process finish."""
        assert self.process.stderr is not None
        self.lines += self.process.stderr.read().splitlines()
        self.process.stderr.close()
        self.process.wait()
        assert self.process.returncode == 0, "\n".join(self.lines)
        assert "all done" in self.lines

    def wait_for(self, pattern: str) -> bool:
        """Wait for a line; return False if the process ended before."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return True
        return False

    def last_epochs(self) -> dict[str, int]:
        """The last finished epoch of each training."""
        found = [match for line in self.lines if (match := EPOCH.match(line))]
        return {match[1]: int(match[2]) for match in found}

    def resumed(self) -> dict[str, int]:
        """The epoch after which each training resumed."""
        found = [match for line in self.lines if (match := RESUMED.match(line))]
        return {match[1]: int(match[2]) for match in found}


@pytest.fixture(scope="module")
def quiet(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after undisturbed trainings."""
    store = tmp_path_factory.mktemp("trainings") / "store"
    Trainings(store, environment).finish()
    return store


def in_an_epoch(chance: random.Random) -> Kill:
    def kill(trainings: Trainings) -> None:
        trainings.wait_for(r"epoch \d+/" if chance.random() < 0.7 else "Running")
        time.sleep(chance.uniform(0, 1.5))

    return kill


def while_a_checkpoint_is_written(chance: random.Random) -> Kill:
    def kill(trainings: Trainings) -> None:
        trainings.wait_for(r"epoch \d+/")
        skipped = chance.randrange(4)
        for _ in range(skipped):
            trainings.wait_for(r"epoch \d+/")
        # The line comes before the checkpoint is written.
        end = time.monotonic() + 0.5
        while time.monotonic() < end and trainings.process.poll() is None:
            if next((trainings.store / "stages").glob("*/*/.part-*"), None):
                return

    return kill


def between_stages(chance: random.Random) -> Kill:
    def kill(trainings: Trainings) -> None:
        trainings.wait_for("Completed")
        time.sleep(chance.uniform(0, 0.02))

    return kill


def before_it_has_begun(chance: random.Random) -> Kill:
    def kill(_trainings: Trainings) -> None:
        time.sleep(chance.uniform(0, 3))

    return kill


def kinds(chance: random.Random) -> Iterator[tuple[str, Kill]]:
    """What to wait for before each kill: mostly the moments at which most could go wrong."""
    while True:
        for make in (in_an_epoch, while_a_checkpoint_is_written, in_an_epoch, between_stages):
            yield make.__name__, make(chance)
        yield before_it_has_begun.__name__, before_it_has_begun(chance)


@pytest.mark.timeout(3600)
def test_a_training_killed_repeatedly_ends_with_the_same_bytes(
    size: Size, quiet: Path, environment: dict[str, str], tmp_path: Path, record_property: Record
) -> None:
    chance = random.Random(0)
    kills: list[str] = []
    lost: list[int] = []
    rounds = 0
    upcoming = kinds(chance)
    while len(kills) < size.training_kills:
        rounds += 1
        store = tmp_path / f"store_{rounds}"
        before: dict[str, int] = {}
        ended = False
        while not ended and len(kills) < size.training_kills:
            name, kill = next(upcoming)
            trainings = Trainings(store, environment)
            kill(trainings)
            ended = trainings.process.poll() is not None
            trainings.kill()
            lost += epochs_lost(before, trainings)
            before |= trainings.last_epochs()
            if not ended:
                kills.append(name)
        last = Trainings(store, environment)
        last.finish()
        lost += epochs_lost(before, last)
        assert differing(contents(store), contents(quiet)) == []
    assert max(lost) <= 1, lost
    record_property(
        "trainings killed",
        f"{len(kills)} times ({', '.join(f'{kills.count(n)} {n}' for n in sorted({*kills}))}), "
        f"{rounds} times to the end, the same bytes each time; finished epochs lost: {sum(lost)} "
        f"in all, at most {max(lost)} per kill",
    )


def epochs_lost(before: dict[str, int], after: Trainings) -> list[int]:
    """How many finished epochs of one process the next process had to repeat."""
    resumed = after.resumed()
    trained = {*resumed, *after.last_epochs()}
    return [epoch - resumed.get(name, 0) for name, epoch in before.items() if name in trained]


def overfitting_folder(store: Path) -> LocalPath:
    """The folder of the overfitting training."""
    return next(LocalPath(store / "stages" / "overfitting").iterdir())


def stopped_after_an_epoch(store: Path, environment: dict[str, str]) -> Path:
    """Kill the first training after some epochs; return its checkpoint."""
    trainings = Trainings(store, environment)
    assert trainings.wait_for("overfitting .*epoch 3/")
    trainings.kill()
    (checkpoint,) = map(on_disk, checkpoints(overfitting_folder(store)))
    return checkpoint


@pytest.mark.usefixtures("full")
def test_the_comparison_notices_an_incomplete_resume(
    quiet: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Negative control: without the optimizer's last variable, the bytes differ."""
    store = tmp_path / "store"
    checkpoint = stopped_after_an_epoch(store, environment)
    with np.load(checkpoint) as archive:
        arrays = {name: archive[name] for name in archive.files}
    forgotten = max(name for name in arrays if name.startswith("variables/"))
    assert arrays[forgotten].any()
    arrays[forgotten] = np.zeros_like(arrays[forgotten])
    replace(checkpoint, arrays)
    again = Trainings(store, environment)
    again.finish()
    assert again.resumed()["overfitting"] in (2, 3)
    changed = differing(contents(store), contents(quiet))
    assert any(path.startswith("stages/overfitting/") and ".keras" in path for path in changed)


def test_a_damaged_checkpoint_costs_only_time(
    quiet: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    checkpoint = stopped_after_an_epoch(store, environment)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    again = Trainings(store, environment)
    again.finish()
    assert "overfitting" not in again.resumed()
    assert any(" ignores " in line for line in again.lines)
    assert differing(contents(store), contents(quiet)) == []


def test_a_training_from_another_s_snapshot_has_the_same_bytes_as_one_from_scratch(
    quiet: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(quiet, store)
    (snapshot,) = map(on_disk, checkpoints(overfitting_folder(store)))
    snapshot.unlink()
    shutil.rmtree(store / "stages" / "fewer_epochs")
    again = Trainings(store, environment)
    again.finish()
    assert again.last_epochs() == {"fewer_epochs": 5}, "it is trained from scratch"
    missing = str(snapshot.relative_to(store))
    assert differing(contents(store), contents(quiet)) == [missing]


def replace(checkpoint: Path, arrays: dict[str, np.ndarray]) -> None:
    """Replace a checkpoint with other arrays, under the name that their digest gives."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    word, epoch, _ = checkpoint.stem.split("-")
    name = f"{word}-{epoch}-{hashlib.sha256(content).hexdigest()}.npz"
    checkpoint.unlink()
    checkpoint.with_name(name).write_bytes(content)


def test_the_kill_is_real(environment: dict[str, str], tmp_path: Path) -> None:
    trainings = Trainings(tmp_path / "store", environment)
    assert trainings.wait_for("overfitting .*epoch 1/")
    trainings.kill()
    assert trainings.process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "store/stages/overfitting").glob("*/record.json"))
