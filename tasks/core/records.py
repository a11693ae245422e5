"""What tasks exchange: stages to run, and small records of what they left in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.core.errors import SealedError

# Raised by hand when the meaning of stored files changes though no stage's own code does.
FORMAT_VERSION = 1

# The kinds of stage that may see the test split. None of them trains, tunes or decides.
MAY_READ_TEST = frozenset({"explore", "subset", "guard", "preprocess", "evaluate", "quality"})
# The kinds that may see what came of it: inputs and files named `test_...`.
MAY_READ_SCORES = MAY_READ_TEST | {"results", "success", "figures"}

FACTS = "facts"


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
        kind: the module in `tasks` that computes it, e.g. `train`.
        settings: the part of the settings that it reads, as JSON.
        reads: for each input's role, the files of its record that this stage may open;
            `facts` stands for the record's small values. An input of which nothing is read is one
            whose snapshots a training may begin from.
        numerical: whether the execution profile is part of the key.
        external: paths outside the store whose content is part of the key.
        optional: whether the stage, and what depends on it, is skipped where it is unavailable.
        tolerant: whether skipped inputs are handed to the stage instead of skipping it too.
        snapshots: the epochs of this training that other trainings begin from.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    numerical: bool = False
    external: tuple[str, ...] = ()
    optional: bool = False
    tolerant: bool = False
    snapshots: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a stage that asks for the sealed test split.

        Raises:
            SealedError: the stage trains, tunes or decides, and reads the test split or scores
                on it.
        """
        names = [name for role, files in self.reads.items() for name in (role, *files)]
        sealed = "test" in names and self.kind not in MAY_READ_TEST
        scored = any(name.startswith("test_") for name in names)
        scores = scored and self.kind not in MAY_READ_SCORES
        if sealed or scores:
            allowed = ", ".join(sorted(MAY_READ_TEST if sealed else MAY_READ_SCORES))
            raise SealedError(
                f"stage {self.name!r} of kind {self.kind!r} asks for the test split or what came "
                f"of it, which only {allowed} may read; decide on validation data instead."
            )


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
    """What a stage left in the store: its files, its small values, and what its key stands for."""

    stage: str
    kind: str
    key: str
    files: Mapping[str, StoredFile]
    facts: Mapping[str, Any]
    basis: Mapping[str, Any]

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
            return cls(files=files, **body)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the record does not have the expected fields: {error}") from None

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
