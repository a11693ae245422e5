"""Predictions as a table and as a page: complete, escaped, and limited in size."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import UserError
from tasks.models.classifier import PictureOutcome, Prediction
from tasks.models.model_lookup import TrainedModel
from tasks.models.prediction_files import MOST_ON_PAGE, check_target, render_page, write_parquet
from tasks.models.usage_file import Usage
from tasks.sources.pictures import Shown, Unreadable

EVIL = '<script>alert("x")</script>'
PNG = b"\x89PNG\r\n\x1a\n...not really a picture"
TRAINED = TrainedModel(
    "final of run r1",
    Path("/store/model.keras"),
    "0" * 64,
    Usage.model_validate(
        {
            "dataset": "shoes",
            "class_names": ["left", "right", "both"],
            "image": {"shape": [28, 28, 1], "ground": 0.0},
            "input": {"shape": ["n", 28, 28, 1], "method": "scaled"},
        }
    ),
)


def prediction(source: str, *, inverted: bool = False, unlike: bool = False) -> Prediction:
    probabilities = np.array([0.2, 0.7, 0.1], np.float32)
    return Prediction(source, probabilities, inverted, unlike, Shown(PNG, PNG))


def page_of(*outcomes: PictureOutcome, trained: TrainedModel = TRAINED) -> str:
    return render_page(outcomes, trained)


class WellFormed(HTMLParser):
    """Collects tags and attributes, and checks that every tag is closed."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> WellFormed:
    parser = WellFormed()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_shows_pictures_bars_marks_and_errors() -> None:
    page = page_of(
        prediction("a.png", inverted=True),
        Unreadable("b.png", "is empty."),
        prediction("c.png", unlike=True),
    )
    parser = parsed(page)
    pictures = [attributes for tag, attributes in parser.found if tag == "img"]
    assert len(pictures) == 4
    assert all((picture["src"] or "").startswith("data:image/png;base64,") for picture in pictures)
    assert [picture["alt"] for picture in pictures] == [
        "a.png as given",
        "a.png as the model sees it: 28 x 28 pixels, grey, inverted",
        "c.png as given",
        "c.png as the model sees it: 28 x 28 pixels, grey",
    ]
    assert "--share: 70.0%" in page
    assert page.count(">inverted</span>") == 1
    assert ">light background</span>" in page
    assert "<strong>b.png</strong>: is empty." in page
    assert "Predictions for 2 images" in page
    assert "SYNTHETIC" not in page


def test_the_page_makes_no_requests() -> None:
    parser = parsed(page_of(prediction("a.png")))
    assert "script" not in {tag for tag, _ in parser.found}
    (policy,) = (
        attributes["content"]
        for tag, attributes in parser.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_names_are_escaped() -> None:
    usage = TRAINED.usage.model_copy(update={"class_names": (EVIL, EVIL, EVIL), "dataset": EVIL})
    trained = replace(TRAINED, title=EVIL, usage=usage)
    page = page_of(prediction(f'"{EVIL}'), Unreadable(EVIL, EVIL), trained=trained)
    assert "<script" not in page
    parsed(page)


def test_synthetic_training_data_are_announced() -> None:
    usage = TRAINED.usage.model_copy(update={"dataset": "synthetic"})
    assert "SYNTHETIC DATA" in page_of(prediction("a"), trained=replace(TRAINED, usage=usage))


def test_thousands_of_pictures_are_counted_but_not_shown() -> None:
    many = [prediction(f"{number}.png") for number in range(3000)]
    bad = [Unreadable(f"bad {number}", "is empty.") for number in range(500)]
    page = page_of(*many, *bad)
    assert page.count("<img") == 2 * MOST_ON_PAGE
    assert f"the first {MOST_ON_PAGE} of 3,000 images" in page
    assert "Predictions for 3,000 images" in page
    assert "500 pictures could not be read" in page
    assert "and 300 more" in page


def test_the_table_has_a_row_for_each_image(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_parquet(path, [prediction("a", inverted=True), Unreadable("b", "is empty.")], TRAINED)
    table = pq.read_table(path)
    assert table.column_names == [
        "source", "class", "probability", "p_0", "p_1", "p_2", "inverted", "error",
    ]  # fmt: skip
    first, second = table.to_pylist()
    assert (first["source"], first["class"], first["inverted"]) == ("a", "right", True)
    assert first["probability"] == first["p_1"] == np.float32(0.7)
    assert first["error"] is None
    assert second == dict.fromkeys(table.column_names) | {"source": "b", "error": "is empty."}
    metadata = table.schema.metadata
    assert metadata[b"model"] == b"/store/model.keras"
    assert metadata[b"model_sha256"] == b"0" * 64
    assert json.loads(metadata[b"class_names"]) == ["left", "right", "both"]
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_must_not_be_overwritten_are_refused(tmp_path: Path) -> None:
    folder, given = tmp_path / "folder", tmp_path / "given.parquet"
    folder.mkdir()
    given.write_bytes(b"mine")
    check_target(tmp_path / "new.parquet", "--out", [given])
    for path, message in (
        (folder, "is a folder"),
        (Path("/dev/null"), "is not a regular file"),
        (folder / ".." / "given.parquet", "one of the files to be read"),
        (tmp_path / "nowhere" / "new.parquet", "there is no folder"),
    ):
        with pytest.raises(UserError, match=message):
            check_target(path, "--out", [given])
