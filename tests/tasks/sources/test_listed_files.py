"""The files that a table names are found, whatever else lies in its folder."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.sources.listed_files import ListedFiles
from tests.tasks.sources.tiny_pictures import write_pictures


def test_links_that_lead_in_a_circle_are_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png", "below/b.png")
    os.symlink("one", tmp_path / "two")
    os.symlink("two", tmp_path / "one")
    os.symlink("circle.png", tmp_path / "below" / "circle.png")
    files = ListedFiles(tmp_path)
    assert files.find("a", None, "row 1") == "a.png"
    assert files.find("b.png", None, "row 2") == "below/b.png"
    assert files.find("circle.png", None, "row 3") is None
    assert files.find("one", None, "row 4") is None
