"""A training continues only from intact checkpoints of its own lineage."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.core.errors import StageError
from tasks.core.settings.training import LOWEST_VALIDATION_LOSS
from tasks.core.training.progress import Progress
from tasks.storage.checkpoints import (
    Checkpoints,
    checkpoints,
    content_fault,
    is_checkpoint,
    is_snapshot,
    remove_checkpoints,
)
from tasks.storage.files import content_digest
from tasks.storage.local_path import LocalPath
from tests.disks import fill, small_disk
from tests.support import on_disk

ROOT = Path(__file__).resolve().parents[3]
LINEAGE = "1" * 64


@pytest.fixture
def root(tmp_path: Path) -> LocalPath:
    return LocalPath(tmp_path)


def checkpoints_in(folder: LocalPath, epochs: int = 9, **changes: Any) -> Checkpoints:
    folder.mkdir(parents=True, exist_ok=True)
    made = Checkpoints("model", folder, LINEAGE, epochs, (), (), lambda: None)
    return replace(made, **changes)


def progress(epochs: int, losses: Sequence[float] = ()) -> Progress:
    """What a made-up training has after so many epochs, with that validation loss after each."""
    rows = [{"epoch": float(e), "loss": 1 / e, "val_loss": 1 / e} for e in range(1, epochs + 1)]
    for row, loss in zip(rows, losses, strict=False):
        row["val_loss"] = loss
    return Progress(tuple(rows), (np.full((2, 3), epochs, np.float32), np.array(epochs, np.int64)))


def save_all(saving: Checkpoints, epochs: int, losses: Sequence[float] = ()) -> None:
    for epoch in range(1, epochs + 1):
        saving.save(progress(epoch, losses))


def left(folder: Path) -> list[str]:
    """Word and epoch of every file in a folder, e.g. `snapshot 3`."""
    names = [re.fullmatch(r"(\w+)-(\d{6})-[0-9a-f]{64}\.npz", p.name) for p in folder.iterdir()]
    return sorted(f"{found[1]} {int(found[2])}" for found in names if found)


def in_bytes(state: Progress | None) -> Any:
    assert state is not None, "there is something to go on from"
    values = [(value.dtype, value.shape, value.tobytes()) for value in state.variables]
    return [list(row.items()) for row in state.history], values


# What is kept


names = st.text("abcdefghijklmnopqrstuvwxyz_/ ", min_size=1, max_size=12)
dtypes = st.sampled_from([np.float32, np.int64, np.uint32, np.bool_])
variables = st.lists(
    dtypes.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_side=4))),
    max_size=12,
)


@st.composite
def states(draw: st.DrawFn) -> Progress:
    columns = ["epoch", *draw(st.sets(names.filter(lambda name: name != "epoch"), max_size=4))]
    count = draw(st.integers(1, 12))
    numbers = st.floats(allow_nan=False, width=64)
    rows = [{name: draw(numbers) for name in columns} for _ in range(count)]
    for epoch, row in enumerate(rows, start=1):
        row["epoch"] = float(epoch)
    return Progress(tuple(rows), tuple(draw(variables)))


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> LocalPath:
    return LocalPath(tmp_path_factory.mktemp("checkpoints"))


@settings(max_examples=60)
@given(states())
def test_a_saved_state_is_read_back_to_the_byte(shared_folder: LocalPath, state: Progress) -> None:
    remove_checkpoints(shared_folder, snapshots=True)
    saving = checkpoints_in(shared_folder, epochs=12)
    saving.save(state)
    assert in_bytes(saving.latest()) == in_bytes(state)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint32"])
def test_variables_keep_their_type_and_shape(root: LocalPath, dtype: str) -> None:
    values = tuple(np.ones(shape, dtype) for shape in [(), (0,), (1, 2), (2, 1, 3)] * 4)
    saving = checkpoints_in(root)
    saving.save(replace(progress(1), variables=values))
    found = saving.latest()
    assert found is not None
    assert [(v.dtype, v.shape) for v in found.variables] == [(v.dtype, v.shape) for v in values]


def test_the_same_state_has_the_same_bytes(root: LocalPath) -> None:
    names = []
    for folder in (root / "a", root / "b"):
        checkpoints_in(folder).save(progress(3))
        names += [path.name for path in folder.iterdir()]
    assert names[0] == names[1], "the name tells the content"


def test_there_is_no_checkpoint_yet(root: LocalPath) -> None:
    assert checkpoints_in(root).latest() is None
    missing = replace(checkpoints_in(root), folder=root / "x", snapshot_folders=(root / "y",))
    assert missing.latest() is None
    assert checkpoints(root / "x") == []


def test_only_the_latest_stays(root: LocalPath) -> None:
    saving = checkpoints_in(root)
    for epoch in range(1, 5):
        saving.save(progress(epoch))
        assert left(root) == [f"checkpoint {epoch}"]
        assert len(list(root.iterdir())) == 1
    assert in_bytes(saving.latest()) == in_bytes(progress(4))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((2,), ["checkpoint 6", "snapshot 2"]),
        ((2, 4), ["checkpoint 6", "snapshot 2", "snapshot 4"]),
        ((4, 2, 2), ["checkpoint 6", "snapshot 2", "snapshot 4"]),
        ((6,), ["snapshot 6"]),
        # What goes on longer begins at the end of what is shorter.
        ((60,), ["snapshot 6"]),
        ((3, 60, 600), ["snapshot 3", "snapshot 6"]),
    ],
)
def test_the_epochs_that_others_begin_from_stay(
    root: LocalPath, wanted: tuple[int, ...], expected: list[str]
) -> None:
    saving = checkpoints_in(root, 6, snapshots=wanted)
    save_all(saving, 6)
    assert left(root) == expected
    remove_checkpoints(root, snapshots=False)
    assert left(root) == [name for name in expected if name.startswith("snapshot")]


def test_the_lowest_validation_loss_so_far_stays_and_the_one_before_goes(root: LocalPath) -> None:
    saving = checkpoints_in(root, 6, snapshots=(LOWEST_VALIDATION_LOSS,))
    losses = [5.0, 3.0, 4.0, 2.0, 2.0, 9.0]
    stays = []
    for epoch in range(1, 7):
        saving.save(progress(epoch, losses))
        stays.append(left(root))
    assert stays == [
        ["snapshot 1"],
        ["snapshot 2"],
        ["checkpoint 3", "snapshot 2"],
        ["snapshot 4"],
        # Of equals, the first counts.
        ["checkpoint 5", "snapshot 4"],
        ["checkpoint 6", "snapshot 4"],
    ]


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 4).map(float), min_size=1, max_size=6),
    st.sets(st.integers(1, 9) | st.just(LOWEST_VALIDATION_LOSS), max_size=3),
)
def test_the_latest_checkpoint_and_the_wanted_snapshots_stay(
    shared_folder: LocalPath, losses: list[float], wanted: set[int | str]
) -> None:
    remove_checkpoints(shared_folder, snapshots=True)
    end = len(losses)
    saving = checkpoints_in(shared_folder, end, snapshots=tuple(wanted))
    save_all(saving, end, losses)
    snapshots = {min(epoch, end) for epoch in wanted if isinstance(epoch, int)}
    if LOWEST_VALIDATION_LOSS in wanted:
        snapshots.add(losses.index(min(losses)) + 1)
    expected = {f"snapshot {epoch}" for epoch in snapshots}
    expected |= set() if end in snapshots else {f"checkpoint {end}"}
    assert set(left(shared_folder)) == expected


def test_other_files_are_left_alone(root: LocalPath) -> None:
    others = ["model.keras", "checkpoint-3.npz", "checkpoint-000003-abc.npz", ".part-x.npz"]
    for name in others:
        (root / name).write_text(name)
    saving = checkpoints_in(root)
    save_all(saving, 2)
    remove_checkpoints(root, snapshots=True)
    assert sorted(path.name for path in root.iterdir()) == sorted(others)
    assert saving.latest() is None


def test_the_same_epoch_again_replaces_what_was_there(root: LocalPath) -> None:
    saving = checkpoints_in(root)
    saving.save(progress(2, [9, 9]))
    saving.save(progress(2, [8, 8]))
    assert left(root) == ["checkpoint 2"]
    assert in_bytes(saving.latest()) == in_bytes(progress(2, [8, 8]))


# What is not intact


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def to_epoch(path: Path, epoch: int) -> None:
    path.rename(path.with_name(re.sub(r"-\d{6}-", f"-{epoch:06d}-", path.name)))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped bit": (flip_a_bit, "is damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged"),
    "emptied": (lambda path: path.write_bytes(b""), "is damaged"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"."), "is damaged"),
    "another epoch": (lambda path: to_epoch(path, 5), "belongs to another training"),
    "a folder": (to_folder, "can't be read (Is a directory)"),
}


def with_two_states(folder: LocalPath) -> Checkpoints:
    saving = checkpoints_in(folder, snapshots=(2,))
    save_all(saving, 3)
    assert left(folder) == ["checkpoint 3", "snapshot 2"]
    return saving


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_ignored_for_the_one_before(
    root: LocalPath, damage: Callable[[Path], Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    saving = with_two_states(root)
    damage(next(on_disk(path) for path in checkpoints(root) if not is_snapshot(path)))
    with caplog.at_level("INFO", "fashion_flow"):
        assert in_bytes(saving.latest()) == in_bytes(progress(2))
    assert " ignores " in caplog.messages[0]
    assert said in caplog.messages[0]
    assert "continues after epoch 2" in caplog.messages[1]


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_if_all_checkpoints_are_damaged_the_training_starts_from_scratch(
    root: LocalPath, damage: Callable[[Path], Any], said: str
) -> None:
    saving = checkpoints_in(root)
    saving.save(progress(3))
    damage(on_disk(checkpoints(root)[0]))
    assert said
    assert saving.latest() is None


@settings(max_examples=60)
@given(st.data())
def test_no_byte_of_a_checkpoint_may_change(shared_folder: LocalPath, data: st.DataObject) -> None:
    remove_checkpoints(shared_folder, snapshots=True)
    saving = checkpoints_in(shared_folder)
    saving.save(progress(3))
    (path,) = map(on_disk, checkpoints(shared_folder))
    content = bytearray(path.read_bytes())
    assert content_fault(path, bytes(content)) is None
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert content_fault(path, bytes(content)) == "is damaged"
    path.write_bytes(content)
    assert saving.latest() is None


def test_a_checkpoint_of_another_lineage_is_ignored(root: LocalPath) -> None:
    with_two_states(root)
    other = checkpoints_in(root, lineage="2" * 64)
    assert other.latest() is None
    save_all(other, 1)
    assert left(root) == ["checkpoint 1"], "what another training left is of no use here"
    assert in_bytes(other.latest()) == in_bytes(progress(1))


def test_a_checkpoint_beyond_the_last_epoch_is_ignored(root: LocalPath) -> None:
    with_two_states(root)
    assert in_bytes(checkpoints_in(root, 3).latest()) == in_bytes(progress(3))
    assert in_bytes(checkpoints_in(root, 2).latest()) == in_bytes(progress(2))
    assert checkpoints_in(root, 1).latest() is None


# What others left


def test_a_training_begins_from_another_s_snapshot(
    root: LocalPath, caplog: pytest.LogCaptureFixture
) -> None:
    with_two_states(root / "overfitting" / "key")
    shorter = checkpoints_in(root / "shorter", 2, snapshot_folders=(root / "overfitting" / "key",))
    with caplog.at_level("INFO", "fashion_flow"):
        assert in_bytes(shorter.latest()) == in_bytes(progress(2))
    assert "continues after epoch 2 of overfitting" in caplog.text
    assert left(root / "overfitting" / "key") == ["checkpoint 3", "snapshot 2"]
    assert left(root / "shorter") == []


def test_the_state_after_the_most_epochs_counts_in_whichever_folder(root: LocalPath) -> None:
    folders = (root / "a" / "key", root / "b" / "key")
    for folder, epoch in zip(folders, (2, 4), strict=True):
        checkpoints_in(folder).save(progress(epoch))
    for own, other in (folders, folders[::-1]):
        beginning = checkpoints_in(own, snapshot_folders=(other,))
        assert in_bytes(beginning.latest()) == in_bytes(progress(4))
        assert in_bytes(replace(beginning, epochs=3).latest()) == in_bytes(progress(2))


def test_another_s_snapshot_of_another_lineage_is_ignored(root: LocalPath) -> None:
    checkpoints_in(root / "a" / "key", lineage="2" * 64).save(progress(3))
    own = checkpoints_in(root / "b" / "key", snapshot_folders=(root / "a" / "key",))
    assert own.latest() is None
    own.save(progress(1))
    assert in_bytes(own.latest()) == in_bytes(progress(1))


# What can't be trusted or written


def refuse() -> None:
    raise StageError("the code changed")


def test_a_check_that_fails_leaves_no_file(root: LocalPath) -> None:
    with pytest.raises(StageError, match="the code changed"):
        checkpoints_in(root, check=refuse).save(progress(1))
    assert list(root.iterdir()) == []
    checkpoints_in(root).save(progress(1))
    with pytest.raises(StageError, match="the code changed"):
        checkpoints_in(root, check=refuse).save(progress(2))
    assert left(root) == ["checkpoint 1"]


def test_a_full_disk_leaves_the_former_checkpoint() -> None:
    with small_disk(64) as disk:
        saving = checkpoints_in(LocalPath(disk / "key"))
        saving.save(progress(1))
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            saving.save(progress(2))
        assert [path.name[:17] for path in (disk / "key").iterdir()] == ["checkpoint-000001"]
        assert in_bytes(saving.latest()) == in_bytes(progress(1))
        (disk / "ballast").unlink()
        saving.save(progress(2))
        assert left(disk / "key") == ["checkpoint 2"]


# Kills itself at the given call of a function of `os`: when what is written is flushed, when it
# takes its name, when the former checkpoint goes.
DIE = """
import os, signal, sys
from tasks.storage.local_path import LocalPath
from tests.tasks.storage.test_checkpoints import checkpoints_in, progress
saving = checkpoints_in(LocalPath(sys.argv[1]))
saving.save(progress(1))
name, left = sys.argv[2], int(sys.argv[3])
real = getattr(os, name)
def dying(*arguments, **keywords):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **keywords)
setattr(os, name, dying)
saving.save(progress(2))
"""


@pytest.mark.parametrize(
    ("function", "call", "expected"),
    [
        ("fsync", 1, ["checkpoint 1"]),
        ("replace", 1, ["checkpoint 1"]),
        ("fsync", 2, ["checkpoint 1", "checkpoint 2"]),
        ("unlink", 1, ["checkpoint 1", "checkpoint 2"]),
        ("unlink", 2, ["checkpoint 1", "checkpoint 2"]),
    ],
)
def test_a_process_killed_while_it_writes_a_checkpoint_leaves_the_former_one(
    root: LocalPath, function: str, call: int, expected: list[str]
) -> None:
    command = [sys.executable, "-c", DIE, str(root), function, str(call)]
    done = subprocess.run(command, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert left(root) == expected
    saving = checkpoints_in(root)
    assert in_bytes(saving.latest()) == in_bytes(progress(len(expected)))
    saving.save(progress(3))
    assert left(root) == ["checkpoint 3"]


# Names


def test_names_tell_checkpoints_from_snapshots() -> None:
    good = f"000012-{'a' * 64}.npz"
    assert is_checkpoint(LocalPath(f"checkpoint-{good}"))
    assert not is_snapshot(LocalPath(f"checkpoint-{good}"))
    assert is_checkpoint(LocalPath(f"snapshot-{good}"))
    assert is_snapshot(LocalPath(f"snapshot-{good}"))
    for name in (good, f"model-{good}", f"snapshot-{good}.part", f"snapshot-1-{'a' * 64}.npz"):
        assert not is_checkpoint(LocalPath(name))
        assert not is_snapshot(LocalPath(name))


def test_checkpoints_are_removed_and_snapshots_on_request(root: LocalPath) -> None:
    with_two_states(root)
    remove_checkpoints(root, snapshots=False)
    assert left(root) == ["snapshot 2"]
    remove_checkpoints(root, snapshots=True)
    assert left(root) == []
    remove_checkpoints(root / "none", snapshots=True)


def packed(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        packed(x=np.zeros(3)),
        packed(**{"lineage": np.array(LINEAGE), "history/a": np.zeros(2), "history/b": np.ones(3)}),
        packed(**{"history/epoch": np.arange(3), "variables/000000": np.zeros(3)}),
        np.arange(3).tobytes(),
        b"PK\x03\x04 no archive",
        b"",
    ],
    ids=["other keys", "columns of other lengths", "no lineage", "no archive", "half", "empty"],
)
def test_a_checkpoint_of_another_layout_is_ignored(
    root: LocalPath, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    saving = checkpoints_in(root)
    saving.save(progress(2))
    name = f"checkpoint-000003-{content_digest(content)}.npz"
    (root / name).write_bytes(content)
    assert in_bytes(saving.latest()) == in_bytes(progress(2))
    (said,) = (text for text in caplog.messages if "ignores" in text)
    assert said.endswith(f"{name}, which has another format")
