"""Leases: locks in a bucket, where no lock like `flock` ends with its process.

A lease is an object that its holder rewrites every few seconds, on the condition that no other
process has. After `LEASE_S` without a rewrite, others may take it over. Only the server's clock
measures its age, so machines whose clocks differ agree.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tasks.core.errors import StorageError
from tasks.storage.store_path import ConflictError

# Seconds without renewal after which a lease is lost. It is renewed three times as often.
LEASE_S = 30.0


@dataclass(frozen=True)
class AgedContent:
    """The bytes of an object, its version, and its age in seconds by the server's clock."""

    content: bytes
    version: str
    age_s: float


class LeaseObject(Protocol):
    """The object in a bucket that a lease is written to."""

    @property
    def name(self) -> str:
        """The last part of its key."""

    def read_aged(self) -> AgedContent:
        """Content, version and age; raises `FileNotFoundError`."""

    def write_if(self, content: bytes, version: str | None) -> str:
        """Write over that version only; return the new one. Raises `ConflictError`."""


class Lease:
    """A lease that this process holds; a thread renews it until it is released or lost."""

    def __init__(self, path: LeaseObject, holder: str, version: str, asked: float) -> None:
        self._path = path
        self._holder = holder
        self._version = version
        self._renewals = 0
        # Counted from before the request: others count from when the server received it.
        self._renewed = asked
        self._lost = False
        self._writing = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._renew, name=f"lease {path.name}", daemon=True).start()

    @classmethod
    def take(cls, path: LeaseObject) -> Lease | None:
        """The lease, if it is free or was not renewed in time; None if another has it."""
        found = _lease_at(path)
        if found is not None and found.held:
            return None
        holder, asked = secrets.token_hex(16), time.monotonic()
        try:
            version = path.write_if(_packed(holder, 0), found.version if found else None)
        except ConflictError:
            return None
        return cls(path, holder, version, asked)

    @property
    def held(self) -> bool:
        """Whether no other process can have taken it yet."""
        return not self._lost and time.monotonic() - self._renewed < LEASE_S

    def confirm(self) -> bool:
        """Renew it now and return whether it is held.

        `held` alone may be wrong after a suspension, during which the clock may have stopped.
        """
        with self._writing:
            if not self._lost:
                self._renew_once()
        return self.held

    def release(self) -> None:
        """Give it back, if it is still held."""
        self._ended.set()
        with self._writing, suppress(ConflictError, OSError, StorageError):
            if self.held:
                self._path.write_if(_packed(None, self._renewals + 1), self._version)
            self._lost = True

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / 3):
            with self._writing:
                if self._ended.is_set() or self._lost:
                    return
                # A failed renewal is repeated after the next wait; `held` limits for how long.
                with suppress(OSError, StorageError):
                    self._renew_once()

    def _renew_once(self) -> None:
        asked = time.monotonic()
        self._renewals += 1
        try:
            self._version = self._path.write_if(
                _packed(self._holder, self._renewals), self._version
            )
        except ConflictError:
            found = _lease_at(self._path)
            # A request whose answer was lost may have renewed it.
            if found is None or found.holder != self._holder:
                self._lost = True
                return
            self._version = found.version
            self._renewed = max(self._renewed, asked - found.age_s)
            return
        self._renewed = asked


def is_leased(path: LeaseObject) -> bool:
    """Whether a process holds the lease at `path`; found without writing."""
    found = _lease_at(path)
    return found is not None and found.held


@dataclass(frozen=True)
class _Found:
    holder: str | None
    version: str
    age_s: float

    @property
    def held(self) -> bool:
        return self.holder is not None and self.age_s <= LEASE_S


def _packed(holder: str | None, renewals: int) -> bytes:
    # The number and the nonce make each renewal another version: equal bytes have the same ETag.
    return json.dumps(
        {"holder": holder, "renewals": renewals, "nonce": secrets.token_hex(4)}
    ).encode()


def _lease_at(path: LeaseObject) -> _Found | None:
    """The lease at `path`, held or not; None if there is no object."""
    try:
        found = path.read_aged()
    except FileNotFoundError:
        return None
    try:
        holder = json.loads(found.content)["holder"]
    except (ValueError, KeyError, TypeError):
        # A holder writes nothing else, so nobody holds it.
        holder = None
    return _Found(holder, found.version, found.age_s)
