"""The seal of the test split: what a stage may read follows from what the data derive from.

Two marks travel with the data. `test images` is on everything that derives from images of the test
split, `test scores` on everything computed from a model's output on them. A stage that trains,
tunes or decides may read neither. Images are split, checked for duplicates and preprocessed by
data stages. These say for each of their files what it derives from, so that training images stay
unmarked although test images were read beside them; they never see scores.

This guards against mistakes, not against adversaries: what a data stage declares is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tasks.core.errors import SealedError
from tasks.core.messages import listed, quoted


class Mark(StrEnum):
    """The kinds of sealed data, by what they derive from."""

    TEST_IMAGES = "test images"
    TEST_SCORES = "test scores"


class Purpose(StrEnum):
    """What a kind of stage does, which decides what it may read.

    DATA: makes or checks data sets. It must not read test scores, and declares what each file
        derives from.
    LEARN: trains, tunes or decides. It must not read anything with a mark.
    REPORT: scores, describes or draws. It may read everything; its files get every mark it reads.
    """

    DATA = "data"
    LEARN = "learn"
    REPORT = "report"


@dataclass(frozen=True)
class Origin:
    """What a file derives from.

    Attributes:
        reads: inputs as `role/file`.
        marks: further marks, e.g. on files that contain test images.
    """

    reads: tuple[str, ...] = ()
    marks: frozenset[Mark] = frozenset()


Marks = frozenset[Mark]
NONE: Marks = frozenset()


@dataclass(frozen=True)
class MarkedFiles:
    """The marks on the files of one stage; `others` are those of files without an entry."""

    by_file: Mapping[str, Marks] = field(default_factory=dict)
    others: Marks = NONE

    def of(self, file: str) -> Marks:
        """The marks on a file."""
        return self.by_file.get(file, self.others)


UNMARKED = MarkedFiles()


@dataclass(frozen=True)
class SealRule:
    """How a kind of stage takes part in the seal.

    Attributes:
        purpose: what it does.
        origins: for a data stage, what each of its files derives from. A file without an entry
            derives from everything that the stage reads, and every file derives from what the
            stage reads but no entry names.
        adds: marks that every file gets, whatever the stage reads.
    """

    purpose: Purpose
    origins: Mapping[str, Origin] = field(default_factory=dict)
    adds: Marks = NONE


def check_seal(
    stage: str,
    rule: SealRule,
    reads: Mapping[str, tuple[str, ...]],
    inputs: Mapping[str, MarkedFiles],
) -> MarkedFiles:
    """Return the marks on what a stage will store, from the marks on what it reads.

    Args:
        stage: the stage's name, for the message.
        rule: that of its kind.
        reads: for each input's role, the files that it may open.
        inputs: the marks on each input's files, by role. An input that is missing has no marks.

    Raises:
        SealedError: the stage reads data that it must not see.
    """
    found = {
        f"{role}/{file}": inputs[role].of(file)
        for role, files in reads.items()
        if role in inputs
        for file in files
    }
    banned = _BANNED[rule.purpose]
    sealed = sorted(name for name, marks in found.items() if marks & banned)
    if sealed:
        marks = sorted({mark for name in sealed for mark in found[name] & banned})
        raise SealedError(
            f"stage {quoted(stage)} reads {listed(sealed, 60)}, which derives from "
            f"{listed(marks, 60, separator=' and ')}. Only stages that score or report may read "
            "it: train, tune and decide on training and validation data."
        )
    everything = rule.adds.union(*found.values())
    if rule.purpose is not Purpose.DATA:
        return MarkedFiles(others=everything)
    declared = {name for origin in rule.origins.values() for name in origin.reads}
    unexplained = rule.adds.union(*(found[name] for name in found.keys() - declared))
    by_file = {
        file: unexplained.union(origin.marks, *(found.get(name, NONE) for name in origin.reads))
        for file, origin in rule.origins.items()
    }
    return MarkedFiles(by_file, everything)


_BANNED = {
    Purpose.DATA: frozenset({Mark.TEST_SCORES}),
    Purpose.LEARN: frozenset(Mark),
    Purpose.REPORT: NONE,
}
