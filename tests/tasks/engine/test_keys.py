"""A key covers everything that a stage's result depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import StageError
from tasks.core.names import FACTS
from tasks.core.records import Record, Skipped, Stage, StoredFile
from tasks.engine import keys
from tasks.engine.fingerprint import code_of
from tasks.engine.keys import basis_of, key_of, refuse_changes
from tests.support import spec_of

PROFILE = {"device": "cpu", "threads": 2}
STAGE = Stage("subset", spec_of("subset", seed=1, train=10), {"raw": ("train", FACTS)})
UPSTREAM = Record(
    "load",
    "load",
    "a" * 64,
    {"train": StoredFile("stages/load/a/train.npz", "1" * 64, 5, "npz", {})},
    {"images": 12},
    {},
)


def key(stage: Stage = STAGE, upstream: Record | Skipped = UPSTREAM, **profile: Any) -> str:
    return key_of(stage, {"raw": upstream}, PROFILE | profile)[0]


def test_equal_stages_and_inputs_have_equal_keys() -> None:
    assert key() == key(replace(STAGE), replace(UPSTREAM))
    assert len(key()) == 64


@pytest.mark.parametrize(
    "other",
    [
        replace(STAGE, name="subset_2"),
        replace(STAGE, spec=spec_of("preprocess", seed=1, train=10)),
        replace(STAGE, spec=spec_of("subset", seed=2, train=10)),
        replace(STAGE, spec=spec_of("subset", seed=1.0, train=10)),
        replace(STAGE, spec=spec_of("subset", seed=1)),
        replace(STAGE, spec=spec_of("subset", seed=1, train=10, more=None)),
        replace(STAGE, spec=spec_of("subset", arithmetic=Arithmetic.NETWORK, seed=1, train=10)),
    ],
    ids=["name", "kind", "value", "type", "one less", "one more", "network"],
)
def test_key_changes_with_the_stage(other: Stage) -> None:
    assert key(other) != key()


def test_key_changes_only_with_the_content_that_is_read() -> None:
    def with_file(**changes: Any) -> Record:
        return replace(UPSTREAM, files={"train": replace(UPSTREAM.files["train"], **changes)})

    assert key(upstream=with_file(sha256="2" * 64)) != key()
    assert key(upstream=replace(UPSTREAM, facts={"images": 13})) != key()
    assert key(upstream=with_file(path="stages/load/b/train.npz")) == key()
    unread = dict(UPSTREAM.files) | {"test": replace(UPSTREAM.files["train"], sha256="3" * 64)}
    assert key(upstream=replace(UPSTREAM, files=unread, key="b" * 64)) == key()


def test_a_skipped_input_enters_the_key_by_its_reason() -> None:
    given = (UPSTREAM, Skipped("load", "offline"), Skipped("load", "disk full"))
    assert len({key(upstream=outcome) for outcome in given}) == 3


def test_profile_is_part_of_the_key_of_numerical_stages_only() -> None:
    numerical = replace(
        STAGE, spec=spec_of("subset", arithmetic=Arithmetic.NETWORK, seed=1, train=10)
    )
    assert key(numerical, threads=1) != key(numerical)
    assert key(threads=1) == key()


def test_key_ignores_the_order_of_settings_and_roles() -> None:
    two = Stage("a", spec_of("subset", x=1, y={"p": 1, "q": 2}), {"m": (FACTS,), "n": ("train",)})
    swapped = replace(
        two, spec=spec_of("subset", y={"q": 2, "p": 1}, x=1), reads={"n": ("train",), "m": (FACTS,)}
    )
    inputs = {"m": UPSTREAM, "n": UPSTREAM}
    turned = dict(reversed(list(PROFILE.items())))
    assert key_of(two, inputs, PROFILE)[0] == key_of(swapped, inputs, turned)[0]
    crossed = replace(two, reads={"n": (FACTS,), "m": ("train",)})
    assert key_of(two, inputs, PROFILE)[0] != key_of(crossed, inputs, PROFILE)[0]


def test_outside_files_count_by_content_and_not_by_path(tmp_path: Path) -> None:
    def key_with(*contents: bytes, folder: str = "data") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        paths = [tmp_path / folder / f"{number}.npz" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return key(replace(STAGE, external=tuple(map(str, paths))))

    assert key_with(b"a", b"b") == key_with(b"a", b"b", folder="moved")
    assert len({key_with(b"a", b"b"), key_with(b"a", b"c"), key_with(b"b", b"a"), key_with()}) == 4
    loaded = Stage("load", spec_of("load"), external=(str(tmp_path / "data/0.npz"),))
    _, basis = key_of(loaded, {}, PROFILE)
    assert str(tmp_path) not in str(basis), "a record does not reveal the user's folders"


def test_key_changes_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def other_code(module: str) -> dict[str, str]:
        asked.append(module)
        return {module: "another digest"}

    before = key()
    monkeypatch.setattr(keys, "code_of", other_code)
    assert key() != before
    assert asked == ["tasks.stages.subset"]


def test_key_changes_with_the_format_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(keys, "FORMAT_VERSION", -1)
    assert key() != before


def test_an_input_of_which_no_file_is_read_is_not_part_of_the_key() -> None:
    begun = replace(STAGE, reads={**STAGE.reads, "beginning": ()})
    other = replace(UPSTREAM, key="b" * 64, facts={"epochs": 40})
    alone, basis = key_of(STAGE, {"raw": UPSTREAM}, PROFILE)
    assert key_of(begun, {"raw": UPSTREAM}, PROFILE) == (alone, basis)
    for beginning in (UPSTREAM, other, Skipped("load", "offline")):
        given = {"raw": UPSTREAM, "beginning": beginning}
        assert key_of(begun, given, PROFILE) == (alone, basis)
    assert list(basis["inputs"]) == ["raw"]


def test_snapshots_are_not_part_of_the_key() -> None:
    assert key(replace(STAGE, snapshots=(3, "lowest_validation_loss"))) == key()


def test_the_basis_leaves_out_inputs_that_are_not_known_yet() -> None:
    two = replace(STAGE, reads={"raw": ("train",), "other": (FACTS,)})
    known = basis_of(two, {"raw": UPSTREAM}, PROFILE)
    both = basis_of(two, {"raw": UPSTREAM, "other": UPSTREAM}, PROFILE)
    assert set(both["inputs"]) == {"raw", "other"}
    assert known == both | {"inputs": {"raw": both["inputs"]["raw"]}}


# Changes while a stage is computed


def reading(path: Path) -> tuple[Stage, dict[str, Any]]:
    """A stage that reads an outside file, and the basis of its key."""
    path.write_bytes(b"as it was when the key was made")
    stage = Stage("load", spec_of("load"), external=(str(path),))
    return stage, basis_of(stage, {}, PROFILE)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"something else"),
        flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes() + b"."),
        Path.unlink,
    ],
    ids=["replaced", "one bit", "longer", "removed"],
)
def test_a_result_of_an_outside_file_that_changed_is_refused(
    tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    stage, basis = reading(tmp_path / "weights.h5")
    change(tmp_path / "weights.h5")
    with pytest.raises(StageError, match=r"weights\.h5 changed while load read it.*start the run"):
        refuse_changes(stage, basis)


def test_an_outside_file_that_was_rewritten_with_the_same_content_has_not_changed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.h5"
    stage, basis = reading(path)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    refuse_changes(stage, basis)


def test_a_result_of_code_that_was_edited_is_refused() -> None:
    known = code_of("tasks.stages.subset")
    edited = {**known, "tasks.core.data.splitting": "0" * 64}
    assert edited != known
    with pytest.raises(
        StageError, match=r"tasks\.core\.data\.splitting changed while subset was computed"
    ):
        refuse_changes(STAGE, {"code": edited, "external": []})
    refuse_changes(STAGE, {"code": known, "external": []})
