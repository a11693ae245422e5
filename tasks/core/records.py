"""The values that tasks exchange: stages to run, and small records of their stored results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tasks.core.names import FACTS
from tasks.core.seal import Mark, MarkedFiles

if TYPE_CHECKING:
    from tasks.core.own_code import OwnCode
    from tasks.core.stage_spec import StageSpec

# Increase this when the meaning of stored files changes but the code of their stages does not.
FORMAT_VERSION = 1


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, as hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class Stage:
    """The description of a unit of cached work.

    Attributes:
        name: unique in a run, e.g. `iteration_5`.
        spec: the values that it receives; the class of the spec gives the kind of stage.
        reads: for each input's role, the files of its record that the stage may open;
            `facts` means the record's small values. An input without files is a training from
            whose snapshots this one may begin.
        external: paths outside the store whose content is part of the key.
        data_set: the path or address of the user's data set; its spec has the digest.
        optional: whether the stage and its dependents are skipped if its data are unavailable.
        snapshots: the epochs of this training that other trainings begin from.
        own_code: the code of the user's own network; its digests are part of the key.
    """

    name: str
    spec: StageSpec
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    data_set: str = ""
    optional: bool = False
    snapshots: tuple[int | str, ...] = ()
    own_code: OwnCode | None = None

    @property
    def kind(self) -> str:
        """The name of the function that computes it and of that function's module."""
        return self.spec.kind


@dataclass(frozen=True)
class StoredFile:
    """One file of a record: its path relative to the store, and its expected content."""

    path: str
    sha256: str
    size: int
    kind: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """The stored result of a stage: its files, its small values (`facts`) and its key.

    `basis` is what the key was computed from. `marks` are the seal's, for files that have any.
    """

    stage: str
    kind: str
    key: str
    files: Mapping[str, StoredFile]
    facts: Mapping[str, Any]
    basis: Mapping[str, Any]
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record with a digest of itself, which reveals any changed character."""
        body = asdict(self)
        return json.dumps(body | {"digest": digest_of(body)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is not a record, or its digest does not match its content.
        """
        try:
            body = json.loads(text)
            intact = isinstance(body, dict) and body.pop("digest", None) == digest_of(body)
        except RecursionError:
            # JSON that can be parsed may still be nested too deeply to be serialised.
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

    def with_marks(self, marks: MarkedFiles) -> Record:
        """The record with these marks on its files and facts."""
        names = [name for name in (*self.files, FACTS) if marks.of(name)]
        return replace(self, marks={name: tuple(sorted(marks.of(name))) for name in names})

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
    """Replaces the record of a skipped stage; `reason` says why, and what to do about it."""

    stage: str
    reason: str

    def digest(self, _names: tuple[str, ...]) -> str:
        """Digest of the reason."""
        return digest_of({"skipped": self.reason})


Outcome = Record | Skipped
