"""Find the files that a table names, in its folder or a subfolder, perhaps without their suffix."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.messages import listed, quoted
from tasks.sources.folder_listing import is_junk
from tasks.sources.picture_decoding import suffixes
from tasks.sources.split_names import split_in


@dataclass
class ListedFiles:
    """The files in the folder of a table; each folder is listed once."""

    folder: Path
    _listed: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _below: list[str] | None = None

    def find(self, text: str, split: str | None, place: str) -> str | None:
        """The file that a cell names, relative to the folder, with `/`; None if it is missing.

        Args:
            text: a path relative to the folder or, if no such file exists, to one of its
                subfolders. Signs from Windows are understood.
            split: if files in several subfolders fit, those in folders of this split are meant.
            place: the row, for messages.

        Raises:
            UserError: there is no path, it leads out of the folder, or several files fit.
        """
        wanted = self._inside(text, place)
        found = self._named(wanted)
        if not found:
            found = [
                f"{folder}/{name}"
                for folder in self._subfolders()
                for name in self._named(wanted, folder)
            ]
            meant = [name for name in found if split and split_in(name.split("/")[0]) == split]
            found = meant or found
        if len(found) > 1:
            raise UserError(
                f"{place} names {quoted(text)}, which may be {listed(found)}; write the whole "
                "path with its suffix."
            )
        return found[0] if found else None

    def unnamed(self, named: set[Path]) -> int:
        """How many pictures stand beside those that are named, and are not named themselves."""
        wanted = suffixes()
        folders = {path.parent for path in named if self.folder in path.parents}
        found = {
            folder / name
            for folder in folders
            for names in self._names(str(folder.relative_to(self.folder))).values()
            for name in names
            if os.path.splitext(name)[1].lower() in wanted and not is_junk(name)
        }
        return len(found - named)

    def _inside(self, text: str, place: str) -> str:
        plain = text.strip().replace("\\", "/")
        if not plain:
            raise UserError(f"{place} names no file; write its path, or delete the row.")
        whole = os.path.abspath(self.folder)
        if plain.startswith(f"{whole}/"):
            plain = plain[len(whole) + 1 :]
        plain = posixpath.normpath(plain)
        if plain.startswith("/") or plain.split("/")[0] == ".." or re.match("[A-Za-z]:/", plain):
            raise UserError(
                f"{place} names {quoted(text)}, outside of the table's folder; write paths "
                "relative to the table, and move it or the pictures if needed."
            )
        return plain

    def _named(self, wanted: str, folder: str = "") -> list[str]:
        """The paths below a subfolder that are what is wanted, or that and a suffix."""
        part, name = posixpath.split(wanted)
        names = self._names(posixpath.join(folder, part))
        if name in names.get(name, ()):
            return [wanted]
        return [posixpath.join(part, whole) for whole in names.get(name, ())]

    def _names(self, part: str) -> dict[str, list[str]]:
        """The files in a subfolder by name, and pictures by name without suffix."""
        if part not in self._listed:
            names: dict[str, list[str]] = {}
            pictures = suffixes()
            for entry in _entries(os.path.join(self.folder, part)):
                stem, suffix = os.path.splitext(entry.name)
                # Unlike the methods of entries, these answer False for links that lead in a circle.
                if os.path.isfile(entry.path):
                    names.setdefault(entry.name, []).append(entry.name)
                    if suffix.lower() in pictures:
                        names.setdefault(stem, []).append(entry.name)
            self._listed[part] = names
        return self._listed[part]

    def _subfolders(self) -> list[str]:
        if self._below is None:
            entries = _entries(str(self.folder))
            self._below = [
                entry.name
                for entry in entries
                if not is_junk(entry.name) and os.path.isdir(entry.path)
            ]
        return self._below


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (OSError, ValueError):
        # No such folder, or a name that no folder can have.
        return []
