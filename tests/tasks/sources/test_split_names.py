"""Names of splits as people write them."""

from __future__ import annotations

import pytest

from tasks.sources.split_names import SYNONYMS, split_in, split_of


@pytest.mark.parametrize("split", SYNONYMS)
def test_every_synonym_in_any_case(split: str) -> None:
    for name in SYNONYMS[split]:
        for written in (
            name,
            name.upper(),
            f" {name.title()}_set",
            f"{name}2017",
            f"{name}-images",
        ):
            assert split_of(written) == split
            assert split_in(written) == split


def test_the_words_of_a_message_are_synonyms() -> None:
    assert len({name for names in SYNONYMS.values() for name in names}) == sum(
        len(names) for names in SYNONYMS.values()
    ), "no name means two splits"


@pytest.mark.parametrize(
    "name", ["", "trains", "test tube", "crash_test", "contest", "1", "images"]
)
def test_what_is_no_split(name: str) -> None:
    assert split_of(name) is None


def test_names_that_speak_of_a_split() -> None:
    assert split_in("train-00000-of-00002") == "train"
    assert split_in("seg_test") == "test"
    assert split_in("train_and_test") is None
    assert split_in("of-00002") is None
