"""Read the pictures in files and folders, one at a time, and prepare them for a model."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from tasks.core.data.photographs import FILTER, ImageFormat, Invert, Prepared, prepared
from tasks.core.data.picture_modes import eight_bits, upright
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.sources.collection import as_picture
from tasks.sources.picture_decoding import THUMBNAIL, TOO_LARGE, Undecoded, decoded
from tasks.sources.picture_tables import in_npz, in_parquet

# In folders, only files with these suffixes are read. A file that the user names may have any.
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".npz", ".parquet")
)

_UNKNOWN = (
    "is not a picture that can be read (PNG, JPEG, WebP, BMP, TIFF or GIF), or is damaged; convert "
    "it to PNG."
)


@dataclass(frozen=True)
class Shown:
    """Two thumbnails as PNG: the picture as given, and as the model sees it."""

    given: bytes
    seen: bytes


@dataclass(frozen=True)
class Picture:
    """A picture that could be read; `shown` is None unless thumbnails were requested."""

    source: str
    prepared: Prepared
    shown: Shown | None


@dataclass(frozen=True)
class Unreadable:
    """A file, a folder or a picture in a file that could not be read, and what to do about it."""

    source: str
    reason: str


def read_pictures(
    paths: Iterable[Path],
    like: ImageFormat,
    invert: Invert = "auto",
    *,
    show: int = 0,
    exclude: Collection[Path] = (),
) -> Iterator[Picture | Unreadable]:
    """Read every picture in the paths, one at a time, and prepare it for a model.

    Args:
        paths: files and folders. In a folder and its subfolders, all files with one of `SUFFIXES`
            are read in the order of their names. `.npz` and `.parquet` files contain many
            pictures, any other file one.
        like: the format of the images on which the model was trained.
        invert: see `tasks.core.data.photographs.prepared`.
        show: how many pictures get thumbnails, counted from the first.
        exclude: files in folders that are not read, since the caller is about to write them.
    """
    resolved = {os.path.realpath(path) for path in exclude}
    for found in chain.from_iterable(_in_path(path, like, resolved) for path in paths):
        item = _read(found, like, invert, show=show > 0) if isinstance(found, Undecoded) else found
        if isinstance(item, Picture):
            show -= 1
        yield item


def printable(path: Path | str) -> str:
    """The text with its unprintable characters escaped, so that it can be printed and stored."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(path)
    )


def _read(
    found: Undecoded, like: ImageFormat, invert: Invert, *, show: bool
) -> Picture | Unreadable:
    with warnings.catch_warnings():
        # Pillow warns about odd metadata, which are irrelevant here, and about too many pixels.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = found.decode()
            image = prepared(picture, like, invert)
            return Picture(found.source, image, _shown(picture, image) if show else None)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            reason = TOO_LARGE
        except UnidentifiedImageError:
            reason = _UNKNOWN
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = _os_reason(error)
        except Exception as error:
            # Decoders raise all kinds of exceptions for damaged bytes.
            reason = _damaged(error)
    return Unreadable(found.source, printable(reason))


def _os_reason(error: OSError) -> str:
    if not error.strerror:
        return _damaged(error)
    return f"can't be read: {error.strerror}; check the path and its permissions."


def _damaged(error: Exception) -> str:
    return f"is damaged ({first_line(error)}); get another copy, or leave it out."


def _shown(picture: Image.Image, image: Prepared) -> Shown:
    given = eight_bits(upright(picture)).copy()
    # Drop the metadata, which may tell where and when the picture was taken.
    given.info.clear()
    given.thumbnail((THUMBNAIL, THUMBNAIL), FILTER)
    return Shown(_png(given), _png(as_picture(image.pixels)))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _in_path(
    path: Path, like: ImageFormat, exclude: Collection[str]
) -> Iterator[Undecoded | Unreadable]:
    if not os.path.isdir(path):
        yield from _in_file(path, like)
        return
    unlisted: list[OSError] = []
    empty = True
    for folder, folders, files in os.walk(path, onerror=unlisted.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(folder, name) for name in sorted(files)):
            wanted = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            if wanted and os.path.realpath(file) not in exclude:
                empty = False
                yield from _in_file(file, like)
    for error in unlisted:
        yield Unreadable(printable(error.filename), _os_reason(error))
    if empty and not unlisted:
        reason = (
            f"contains no pictures; expected files that end with {', '.join(sorted(SUFFIXES))}."
        )
        yield Unreadable(printable(path), reason)


def _in_file(path: Path, like: ImageFormat) -> Iterator[Undecoded | Unreadable]:
    source = printable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError("is neither a file nor a folder; give one that is.")
        if status.st_size == 0:
            raise UserError("is empty (0 bytes); get another copy, or leave it out.")
        match path.suffix.lower():
            case ".npz":
                yield from in_npz(path, source, like)
            case ".parquet":
                yield from in_parquet(path, source, like)
            case _:
                yield Undecoded(source, partial(_from_file, path, like))
    except UserError as error:
        yield Unreadable(source, printable(str(error)))
    except OSError as error:
        yield Unreadable(source, printable(_os_reason(error)))
    except Exception as error:
        # zipfile, NumPy and Arrow raise all kinds of exceptions for damaged files.
        yield Unreadable(source, printable(_damaged(error)))


def _from_file(path: Path, like: ImageFormat) -> Image.Image:
    with path.open("rb") as file:
        return decoded(file, like)
