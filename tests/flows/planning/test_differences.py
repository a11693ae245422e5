"""Each difference between two keys is named, and the nearest record is compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.planning.differences import LONGEST_VALUE, changes, closest, flat
from tasks.core.records import Record
from tests.support import basis

MAKERS = {"arrays": "preprocess", "start": "vgg16_frozen"}


def record(key: str, **values: Any) -> Record:
    return Record("model", "train", key * 64, {}, {}, basis(**values))


def said(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return changes(basis(**before), basis(**now), MAKERS)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"training": {"epochs": 3}}, {"training": {"epochs": 2}}, "training.epochs 3 → 2"),
        ({"seed": 0}, {"seed": 1}, "seed 0 → 1"),
        ({"padding": "same"}, {"padding": "valid"}, "padding same → valid"),
        ({"dense": [128, 64]}, {"dense": [64]}, "dense [128, 64] → [64]"),
        ({"note": None}, {"note": "drawn"}, "note null → drawn"),
        ({"batch_norm": False}, {"batch_norm": True}, "batch_norm false → true"),
        ({}, {"seed": 1}, "seed unset → 1"),
        ({"seed": 1}, {}, "seed 1 → unset"),
        ({"x": "a" * 40}, {"x": "b" * 41}, f"x {'a' * 40} → {'b' * 37}..."),
    ],
)
def test_a_setting_is_shown_before_and_after(
    before: dict[str, Any], now: dict[str, Any], expected: str
) -> None:
    assert said({"settings": before}, {"settings": now}) == [expected]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (
            {"tasks.stages.train": "1"},
            {"tasks.stages.train": "2"},
            ["code of tasks.stages.train changed"],
        ),
        ({}, {"tasks.models.fit": "1"}, ["code of tasks.models.fit was added"]),
        ({"tasks.models.fit": "1"}, {}, ["code of tasks.models.fit was removed"]),
        (
            {"tasks.b": "1", "tasks.a": "1", "tasks.c": "1"},
            {"tasks.b": "2", "tasks.d": "1", "tasks.c": "1"},
            ["code of tasks.a was removed", "code of tasks.b changed", "code of tasks.d was added"],
        ),
    ],
)
def test_each_module_that_changed_is_named(
    before: dict[str, str], now: dict[str, str], expected: list[str]
) -> None:
    assert said({"code": before}, {"code": now}) == expected


def test_libraries_and_profile_are_shown_before_and_after() -> None:
    before = {"libraries": {"numpy": "2.4.6"}, "profile": {"threads": 2, "device": "cpu"}}
    now = {"libraries": {"numpy": "2.5.0"}, "profile": {"threads": 1, "device": "cpu"}}
    assert said(before, now) == ["numpy 2.4.6 → 2.5.0", "threads 1 instead of 2"]


def test_a_font_with_some_of_the_missing_characters_is_said() -> None:
    before = {"fonts": {"class_names": {}}, "in_no_font": "更衣🙂"}
    now = {"fonts": {"class_names": {}}, "in_no_font": "🙂"}
    assert said(before, now) == ["other characters of names are in no font"]
    assert said(before, before) == []


def test_another_processor_is_said_in_words() -> None:
    before = {"profile": {"instruction_set": "AVX-512", "blas": "openblas SkylakeX"}}
    now = {"profile": {"instruction_set": "AVX2", "blas": "openblas Haswell"}}
    assert said(before, now) == [
        "blas openblas Haswell instead of openblas SkylakeX",
        "instruction set AVX2 instead of AVX-512",
    ]


def test_a_record_from_before_libraries_were_kept_apart_is_said_to_be_old() -> None:
    old = {name: value for name, value in basis().items() if name != "libraries"}
    now = basis(libraries={"numpy": "2.4.6"}, profile={"threads": 2})
    assert changes(old, now, {}) == ["recorded by an earlier version of the program"]


def test_an_input_is_named_by_the_stage_that_makes_it() -> None:
    before = {"inputs": {"arrays": "1", "start": "1"}}
    assert said(before, {"inputs": {"arrays": "2", "start": "1"}}) == ["preprocess changed"]
    assert said(before, {"inputs": {"arrays": "2", "start": "2"}}) == [
        "preprocess changed",
        "vgg16_frozen changed",
    ]
    assert said({}, {"inputs": {"start": "2"}}) == ["vgg16_frozen changed"]


def test_an_input_that_is_not_known_yet_is_no_difference() -> None:
    assert said({"inputs": {"arrays": "1"}}, {}) == []


def test_a_change_of_an_outside_file_or_of_the_format_is_named() -> None:
    assert said({"external": ["1"]}, {"external": ["2"]}) == ["an external file changed"]
    assert said({}, {"external": ["2"]}) == ["an external file changed"]
    assert said({"format": 1}, {"format": 2}) == ["store format 1 → 2"]


def test_differences_have_a_fixed_order() -> None:
    before = {"settings": {"b": 1, "a": 1}, "code": {"tasks.x": "1"}, "profile": {"threads": 1}}
    now = {
        "format": 2,
        "settings": {"a": 2, "b": 2},
        "inputs": {"arrays": "1"},
        "external": ["1"],
        "code": {"tasks.x": "2"},
        "profile": {"threads": 2},
    }
    assert said(before, now) == [
        "store format 1 → 2",
        "a 1 → 2",
        "b 1 → 2",
        "preprocess changed",
        "an external file changed",
        "code of tasks.x changed",
        "threads 2 instead of 1",
    ]


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=60) | st.lists(st.integers())
names = st.text("abc", min_size=1, max_size=2)
nested = st.dictionaries(names, plain | st.dictionaries(names, plain, min_size=1), max_size=4)


@given(nested)
def test_equal_settings_have_no_changes(values: dict[str, Any]) -> None:
    assert said({"settings": values}, {"settings": dict(reversed(values.items()))}) == []


@given(nested, names, st.integers())
def test_one_setting_more_is_one_change(values: dict[str, Any], name: str, value: int) -> None:
    more = {**values, f"more {name}": value}
    (gained,) = said({"settings": values}, {"settings": more})
    (lost,) = said({"settings": more}, {"settings": values})
    assert gained == f"more {name} unset → {value}"[: len(gained)]
    assert lost.endswith(" → unset")


@given(st.text(), st.text())
def test_long_values_are_cut(before: str, now: str) -> None:
    for phrase in said({"settings": {"x": before}}, {"settings": {"x": now}}):
        assert len(phrase) <= len("x  → ") + 2 * LONGEST_VALUE


@given(nested)
def test_flat_names_lead_to_the_values(values: dict[str, Any]) -> None:
    def at(path: list[str], found: Any) -> Any:
        return at(path[1:], found[path[0]]) if path else found

    for name, value in flat(values).items():
        assert at(name.split("."), values) == value


# The nearest record


def test_the_record_with_the_fewest_differences_is_the_closest() -> None:
    far = record("a", settings={"seed": 1, "epochs": 9}, code={"tasks.stages.train": "1"})
    near = record("b", settings={"seed": 0, "epochs": 9}, code={"tasks.stages.train": "1"})
    wanted = basis(settings={"seed": 0, "epochs": 3}, code={"tasks.stages.train": "1"})
    for records in ([far, near], [near, far]):
        assert closest(records, wanted, MAKERS) == (near, ["epochs 9 → 3"])


def test_among_equally_close_records_the_first_is_taken() -> None:
    one, two = record("a", settings={"epochs": 1}), record("b", settings={"epochs": 2})
    assert closest([one, two], basis(settings={"epochs": 3}), MAKERS) == (one, ["epochs 1 → 3"])


def test_there_is_no_record_to_compare_with() -> None:
    assert closest([], basis(), MAKERS) == (None, [])


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"Noto Sans CJK SC": "1"}, ["font Noto Sans CJK SC instead of none"]),
        ({"Noto Sans CJK SC": "1"}, {}, ["font none instead of Noto Sans CJK SC"]),
        ({"A": "1", "B": "1"}, {"A": "2", "B": "1"}, ["font A has another digest"]),
        ({"A": "1"}, {"A": "1"}, []),
    ],
)
def test_another_font_is_named(
    before: dict[str, str], now: dict[str, str], expected: list[str]
) -> None:
    bases = ({"fonts": {"class_names": found}} for found in (before, now))
    assert said(*bases) == expected


def test_fonts_are_unknown_until_the_class_names_are() -> None:
    before = {"inputs": {"raw": "1"}, "fonts": {"class_names": {"A": "1"}}}
    assert said(before, {"inputs": {}}) == []
