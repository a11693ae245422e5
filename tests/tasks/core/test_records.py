"""A record survives JSON unchanged, and no changed character in it goes unnoticed."""

from __future__ import annotations

import json
import math
import string
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.names import FACTS
from tasks.core.records import Record, Skipped, StoredFile, canonical_json, digest_of

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(), values, max_size=4)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
files = st.builds(
    StoredFile,
    path=st.text(max_size=20),
    sha256=digests,
    size=st.integers(min_value=0),
    kind=st.sampled_from(["npz", "parquet", "keras"]),
    schema=mappings,
)
records = st.builds(
    Record,
    stage=st.text(max_size=10),
    kind=st.text(max_size=10),
    key=digests,
    files=st.dictionaries(st.text(max_size=10), files, max_size=3),
    facts=mappings,
    basis=mappings,
)

STORED = StoredFile("stages/load/0/train.npz", "0" * 64, 12, "npz", {"x": "float32 [3]"})
RECORD = Record("load", "load", "1" * 64, {"train": STORED}, {"images": 60000}, {"seed": 7})


@settings(max_examples=60)
@given(records)
def test_json_round_trip(record: Record) -> None:
    text = record.to_json()
    assert Record.from_json(text) == record
    assert Record.from_json(text).to_json() == text


@settings(max_examples=60)
@given(records, st.data())
def test_no_changed_character_goes_unnoticed(record: Record, data: st.DataObject) -> None:
    text = record.to_json()
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.printable).filter(lambda c: c != text[position]))
    try:
        read = Record.from_json(text[:position] + other + text[position + 1 :])
    except ValueError:
        return
    # Only the layout, or another way to write the same value, may change without notice.
    assert read.to_json() == text


def test_every_flipped_digit_is_noticed() -> None:
    text = RECORD.to_json()
    for position in (index for index, character in enumerate(text) if character.isdigit()):
        other = str((int(text[position]) + 1) % 10)
        with pytest.raises(ValueError, match=r"digest|fields"):
            Record.from_json(text[:position] + other + text[position + 1 :])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '"a"', RECORD.to_json()[:-3]])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"digest|Expecting"):
        Record.from_json(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [*range(150, 1000, 17), *range(980, 1010), 100_000])
def test_what_is_nested_too_deeply_is_no_record(opening: str, depth: int) -> None:
    """However deep: neither reading it nor taking its digest ends in another error."""
    closing = "]" if opening == "[" else "}"
    for text in (opening * depth, opening * depth + "1" + closing * depth):
        with pytest.raises(ValueError, match=r"digest|Expecting|nested too deeply"):
            Record.from_json(text)


def signed(body: dict[str, Any]) -> str:
    return json.dumps(body | {"digest": digest_of(body)})


@pytest.mark.parametrize(
    "body",
    [
        {"stage": "load"},
        asdict(RECORD) | {"more": 1},
        asdict(RECORD) | {"files": {"train": {"path": "a"}}},
        asdict(RECORD) | {"files": ["train"]},
    ],
    ids=["a field is missing", "one too many", "file without digest", "files as a list"],
)
def test_other_fields_are_refused_though_the_digest_is_right(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not have the expected fields"):
        Record.from_json(signed(body))


def test_infinite_and_missing_numbers_are_refused() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            replace(RECORD, facts={"loss": value}).to_json()


@settings(max_examples=60)
@given(mappings)
def test_key_order_changes_no_digest(value: dict[str, Any]) -> None:
    assert digest_of(dict(reversed(list(value.items())))) == digest_of(value)


def test_values_that_compare_equal_have_digests_of_their_own() -> None:
    alike = [1, 1.0, True, "1", [1], None, 0, False, -0.0, "", [], {}]
    assert len({digest_of(value) for value in alike}) == len(alike)
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'


def test_a_record_s_digest_is_of_the_named_contents_alone() -> None:
    other = replace(STORED, sha256="2" * 64)
    both = replace(RECORD, files={"train": STORED, "test": other})
    assert both.digest(("train", "test")) == both.digest(("test", "train"))
    assert both.digest(("train",)) == RECORD.digest(("train",))
    assert both.digest(("train",)) != both.digest(("test",))
    assert both.digest(("train",)) != both.digest(("train", FACTS))
    moved = replace(RECORD, key="9" * 64, files={"train": replace(STORED, path="elsewhere.npz")})
    assert moved.digest(("train",)) == RECORD.digest(("train",))
    changed = replace(RECORD, facts={"images": 1})
    assert changed.digest(("train",)) == RECORD.digest(("train",))
    assert changed.digest((FACTS,)) != RECORD.digest((FACTS,))
    with pytest.raises(KeyError):
        RECORD.digest(("no such file",))


def test_a_skipped_stage_s_digest_is_of_its_reason() -> None:
    assert Skipped("a", "offline").digest(("x",)) == Skipped("b", "offline").digest(())
    assert Skipped("a", "offline").digest(()) != Skipped("a", "no weights").digest(())
