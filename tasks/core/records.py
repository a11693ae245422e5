"""What tasks exchange: stages to run, and small records of what they left in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.core.names import FACTS
from tasks.core.seal import Mark, MarkedFiles
from tasks.core.stage_specs import StageSpec

# Raised by hand when the meaning of stored files changes though no stage's own code does.
FORMAT_VERSION = 1


def canonical_json(value: Any) -> str:
    """One text for each value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, as hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Stage:
    """A unit of cached work, described without doing it.

    Attributes:
        name: unique in a run, e.g. `iteration_5`.
        spec: the values that it receives; their class is its kind.
        reads: for each input's role, the files of its record that the stage may open;
            `facts` stands for the record's small values. An input of which nothing is read is one
            whose snapshots a training may begin from.
        external: paths outside the store whose content is part of the key.
        optional: whether the stage, and what depends on it, is skipped if it is unavailable.
        snapshots: the epochs of this training that other trainings begin from.
    """

    name: str
    spec: StageSpec
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    optional: bool = False
    snapshots: tuple[int | str, ...] = ()

    @property
    def kind(self) -> str:
        """The function that computes it, in the module of that name in `tasks/stages`."""
        return self.spec.kind


@dataclass(frozen=True)
class StoredFile:
    """One file of a record: where it is (relative to the store) and what must be in it."""

    path: str
    sha256: str
    size: int
    kind: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a stage left in the store: its files, its small values, and what its key stands for.

    `marks` are the seal's, for files that have any.
    """

    stage: str
    kind: str
    key: str
    files: Mapping[str, StoredFile]
    facts: Mapping[str, Any]
    basis: Mapping[str, Any]
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record with a digest of itself, so that a changed character in it is noticed."""
        body = asdict(self)
        return json.dumps(body | {"digest": digest_of(body)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is no record, or its digest is not that of its content.
        """
        try:
            body = json.loads(text)
            intact = isinstance(body, dict) and body.pop("digest", None) == digest_of(body)
        except RecursionError:
            # What can be read may still be too deep to be written.
            raise ValueError("the record is nested too deeply") from None
        if not intact:
            raise ValueError("the record's digest does not match its content")
        try:
            files = {name: StoredFile(**entry) for name, entry in body.pop("files").items()}
            # Records of earlier versions have no marks.
            marks = {
                name: tuple(Mark(mark) for mark in found)
                for name, found in body.pop("marks", {}).items()
            }
            return cls(files=files, marks=marks, **body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the record does not have the expected fields: {error}") from None

    @property
    def marked(self) -> MarkedFiles:
        """The seal's marks on its files and facts."""
        return MarkedFiles({name: frozenset(marks) for name, marks in self.marks.items()})

    def digest(self, names: tuple[str, ...]) -> str:
        """Digest of the named files' contents (and of the facts, where `facts` is among them)."""
        return digest_of(
            {
                name: self.facts if name == FACTS else self.files[name].sha256
                for name in sorted(names)
            }
        )


@dataclass(frozen=True)
class Skipped:
    """Stands for the record of a stage that could not be had; `reason` says what to do."""

    stage: str
    reason: str

    def digest(self, _names: tuple[str, ...]) -> str:
        """Digest of the reason."""
        return digest_of({"skipped": self.reason})


Outcome = Record | Skipped
