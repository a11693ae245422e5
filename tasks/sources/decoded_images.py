"""The images of a collection, decoded once into one temporary file and read from it by rows."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Int64, UInt8
from tasks.core.data.photographs import Frame
from tasks.core.errors import StageError
from tasks.core.messages import first_line
from tasks.sources.collection import Images, Unusable
from tasks.storage.npz import Rows

# Bytes of images that are read together.
_BLOCK = 2**24
# The digest of an image that can't be decoded.
_NONE = bytes(16)


@dataclass(frozen=True)
class DecodedImages:
    """Images of one shape in a temporary file, in the order of their collection.

    Attributes:
        file: the pixels.
        shape: height, width and channels.
        digests: `(n,)` 16 bytes for each image, equal for equal pixels.
        unusable: why images can't be decoded, by position.
    """

    file: IO[bytes]
    shape: tuple[int, int, int]
    digests: NDArray[np.void]
    unusable: Mapping[int, str]

    def rows(self, positions: Int64) -> Rows:
        """The images at these positions, in this order."""
        return Rows((len(positions), *self.shape), np.dtype(np.uint8), self._blocks(positions))

    def _blocks(self, positions: Int64) -> Iterator[UInt8]:
        size = prod(self.shape)
        step = max(1, _BLOCK // size)
        for start in range(0, len(positions), step):
            some = positions[start : start + step]
            block = np.empty((len(some), *self.shape), np.uint8)
            for place, position in enumerate(some):
                self.file.seek(int(position) * size)
                block[place] = np.frombuffer(self.file.read(size), np.uint8).reshape(self.shape)
            yield block


@contextmanager
def decoded_images(images: Images, frame: Frame) -> Iterator[DecodedImages]:
    """Decode all images into a frame; they are there within the context.

    Raises:
        StageError: the folder of temporary files has too little space.
    """
    shape = (frame.height, frame.width, frame.channels)
    nothing = np.zeros(shape, np.uint8)
    digests, unusable = bytearray(), {}
    with tempfile.TemporaryFile(prefix="fashion-flow-") as file:
        try:
            for position, image in enumerate(images.decoded(frame)):
                if isinstance(image, Unusable):
                    unusable[position] = image.reason
                    digests += _NONE
                    file.write(nothing.tobytes())
                else:
                    digests += hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                    file.write(image.tobytes())
            file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StageError(
                f"{tempfile.gettempdir()} has too little space for the decoded images "
                f"({first_line(error)}); free some, or set TMPDIR to another folder."
            ) from None
        yield DecodedImages(file, shape, np.frombuffer(bytes(digests), "V16"), unusable)
