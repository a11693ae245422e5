"""Images decoded into a temporary file and read back by rows."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.core.array_types import UInt8
from tasks.core.data.frame_choice import Traits
from tasks.core.data.photographs import Frame
from tasks.core.errors import StageError
from tasks.sources import decoded_images as module
from tasks.sources.collection import ArrayImages, Unusable
from tasks.sources.decoded_images import decoded_images

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
FRAME = Frame(4, 5, 3)


class Some:
    """The images, of which the third can't be decoded."""

    def traits(self) -> Iterator[Traits | Unusable]:
        raise AssertionError("not needed")

    def decoded(self, _frame: Frame) -> Iterator[UInt8 | Unusable]:
        for number, pixels in enumerate(PIXELS):
            yield Unusable("is damaged; leave it out.") if number == 2 else pixels


def test_rows_are_read_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2 * PIXELS[0].size)
    wanted = np.array([6, 0, 0, 3, 5])
    with decoded_images(Some(), FRAME) as found:
        rows = found.rows(wanted)
        assert rows.shape == (5, 4, 5, 3)
        assert rows.dtype == np.uint8
        blocks = list(rows.batches)
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert np.concatenate(blocks).tobytes() == PIXELS[wanted].tobytes()


def test_what_can_t_be_decoded_has_a_reason_and_no_digest() -> None:
    with decoded_images(Some(), FRAME) as found:
        assert found.unusable == {2: "is damaged; leave it out."}
        digests = [digest.tobytes() for digest in found.digests]
    assert digests[2] == bytes(16)
    assert digests[3] == hashlib.blake2b(PIXELS[3].tobytes(), digest_size=16).digest()


def test_arrays_of_another_size_are_framed() -> None:
    images = ArrayImages(lambda: [PIXELS[:4], PIXELS[4:]], 7, Traits(4, 5, 3))
    assert list(images.traits()) == [Traits(4, 5, 3)] * 7
    with decoded_images(images, Frame(8, 8, 1)) as found:
        (block,) = found.rows(np.arange(7)).batches
    assert block.shape == (7, 8, 8, 1)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with decoded_images(Some(), FRAME):
        pass
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named() -> None:
    class Full(Some):
        def decoded(self, _frame: Frame) -> Iterator[UInt8 | Unusable]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        pytest.raises(StageError, match=r"too little space for the decoded images .* set TMPDIR"),
        decoded_images(Full(), FRAME),
    ):
        pass
