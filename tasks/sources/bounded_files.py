"""Read whole files into memory, with a limit on their uncompressed size, and texts of them."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import first_line

# Far above any image data set that fits in memory.
MAX_UNCOMPRESSED_BYTES = 16 * 2**30
_CHUNK_BYTES = 2**20


def read_uncompressed(path: Path, origin: str, *, compressed: bool) -> bytes:
    """The uncompressed content of a file.

    Args:
        path: the file.
        origin: its name in error messages.
        compressed: whether it is a gzip file.

    Raises:
        UserError: it cannot be read, is a damaged gzip file, or exceeds the limit.
    """
    content = io.BytesIO()
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                if content.tell() + len(chunk) > MAX_UNCOMPRESSED_BYTES:
                    raise UserError(
                        f"{origin}: unpacks to more than {MAX_UNCOMPRESSED_BYTES} bytes; expected "
                        "a data set that fits in memory."
                    )
                content.write(chunk)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{origin}: expected a complete gzip file, but it is damaged ({first_line(error)}). "
            "Delete it and get it again."
        ) from error
    except OSError as error:
        raise UserError(
            f"{origin}: can't be read ({first_line(error)}); check it and its permissions."
        ) from error
    return content.getvalue()


def decoded_text(content: bytes, errors: str = "strict") -> str:
    """The text in UTF-8, or in UTF-16 with its mark, as Windows writes it.

    Raises:
        UnicodeDecodeError: it is neither, unless `errors` says what becomes of the wrong bytes.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors)
