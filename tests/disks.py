"""Small real disks that tests can fill without affecting anything else."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size_kib: int) -> Iterator[Path]:
    """A file system in memory of that size; skips the test if none can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk requires root")
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Make a disk of `small_disk` read-only for a while."""
    _remount(disk, "ro")
    try:
        yield
    finally:
        _remount(disk, "rw")


def resize(disk: Path, size_kib: int) -> None:
    """Change the size of a disk of `small_disk`."""
    _remount(disk, f"size={size_kib}k")


def fill(disk: Path, *, spare: int = 0) -> Path:
    """Fill a disk with one file, except for `spare` bytes; return the file."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as handle:
        try:
            while handle.write(b"\0" * 4096):
                pass
        except OSError:
            handle.truncate(max(0, path.stat().st_size - spare))
    return path


def _remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)
