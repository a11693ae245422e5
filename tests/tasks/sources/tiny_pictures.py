"""Tiny pictures as files, for the tests of the readers of users' data sets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tasks.core.data.frame_choice import Traits
from tasks.sources.collection import Collection

WIDTH, HEIGHT = 5, 4
TRAITS = Traits(HEIGHT, WIDTH, 3)


def encoded(kind: str = "PNG", colour: Any = "red", **options: Any) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), colour).save(content, kind, **options)
    return content.getvalue()


def write_pictures(folder: Path, *names: str) -> Path:
    """Files of one picture each; names that end with `/` are empty folders."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded())
    return folder


def placed(found: Collection) -> dict[str, tuple[str, str | None]]:
    """Class and split by the names of the images."""
    return {entry.name: (entry.label, entry.split) for entry in found.entries}
