"""Classes are sorted as people count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.data.class_order import in_natural_order


def test_numbers_count_and_case_does_not() -> None:
    names = ["10", "2", "-1", "b10", "B2", "a", "cat", "Cat", "007", "7"]
    expected = ["-1", "2", "007", "7", "10", "a", "B2", "b10", "Cat", "cat"]
    assert in_natural_order(names) == expected


@given(st.lists(st.text("aB19-é", max_size=5)))
def test_the_order_is_one_and_the_same_for_any_order_given(names: list[str]) -> None:
    found = in_natural_order(names)
    assert found == in_natural_order(reversed(names))
    assert set(found) == set(names)


@given(st.sets(st.integers(-99, 999)))
def test_whole_numbers_are_sorted_by_value(numbers: set[int]) -> None:
    assert in_natural_order(map(str, numbers)) == [str(number) for number in sorted(numbers)]
