"""The page of `look`: what it shows, and that it escapes it."""

from __future__ import annotations

from dataclasses import replace

from tasks.reporting.look_page import render_look
from tasks.reporting.look_view import LookView

EVIL = '<script>alert("x")</script>'
COSTS = [("Time of a run", "about 3 to 8 min"), ("Memory", "about 1.5 GiB")]
CLEAN = LookView(
    dataset="shoes",
    synthetic=False,
    class_names=("left", "right"),
    images=1_200,
    shape=(28, 30, 3),
    counts={"train": [700, 300], "validation": [80, 20], "test": [60, 40]},
    findings=(),
    copies=[{"split": "all", "other_split": "all", "same_label": 3, "other_label": 0}],
    near=[{"split": "train", "other_split": "test", "same_label": 5, "other_label": 1}],
    frames={"sampled": 256, "with_others": 1, "among": 1_000},
    chosen=[("Image size", "30 x 28, RGB")],
)
FINDING = {
    "kind": "blank",
    "level": "fault",
    "sentence": f"1 image of {EVIL} is blank.",
    "advice": "Remove it.",
    "images": 30,
    "names": [EVIL],
    "picture": None,
}


def test_clean_images_are_said_to_be_so() -> None:
    page = render_look(CLEAN, COSTS)
    assert "Nothing was found." in page
    assert "30 x 28 pixels" in page
    assert "about 3 to 8 min" in page
    assert "identical, in the data set" in page
    assert "1 has a near duplicate among\n1,000 images" in page
    assert "<td>780</td>" not in page
    assert "<td>840</td>" in page, "the images of a class together"
    assert "SYNTHETIC DATA" not in page
    assert "SYNTHETIC DATA" in render_look(replace(CLEAN, synthetic=True), COSTS)


def test_findings_are_escaped_and_say_how_many_images_they_are_about() -> None:
    page = render_look(replace(CLEAN, findings=[FINDING], class_names=(EVIL, "right")), COSTS)
    assert EVIL not in page
    assert "Nothing was found." not in page
    assert "and 29 more" in page
    assert '<dd class="missed">1' in page
