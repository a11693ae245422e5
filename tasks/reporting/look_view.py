"""What the stage `look` found, for the page of `fashion-flow look` and a section of the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.names import (
    AFFECTED,
    FINDINGS,
    INDEX,
    LOAD,
    LOOK,
    READING,
    SPLITS,
    SUBSET,
    finding_name,
)
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.storage.store import Store

DATASET_NAMES = {"fashion-mnist": "Fashion-MNIST", "synthetic": "synthetic garments"}
# Images that a finding names one by one.
MOST_NAMED = 20


@dataclass(frozen=True)
class LookView:
    """What is in a data set and what is wrong with it.

    Attributes:
        dataset: its name.
        synthetic: whether the program drew the images.
        class_names: the classes.
        images: how many images there are in all.
        shape: height, width and channels of an image.
        counts: images of each class by split of the run.
        findings: rows with `kind`, `level`, `sentence`, `advice`, `images` (how many it is about),
            `names` (the first of them, as people find them) and `picture` (its name, or None).
        copies: rows of equal images: `split`, `other_split`, `same_label` and `other_label`.
        near: rows of near duplicates, with the same fields.
        frames: what the sample of the training images showed.
        chosen: what was set or chosen for the images, as pairs of name and value.
        reading: what became of the user's own files, as in `ReportView`.
        figures: PNG bytes named `class_samples` and `finding_<k>`.
        sources: the path of a table by `<stage>/<name>` and of a figure by its name.
        legend: see `ReportView`.
        font_advice: see `ReportView`.
    """

    dataset: str
    synthetic: bool
    class_names: Sequence[str]
    images: int
    shape: Sequence[int]
    counts: Mapping[str, Sequence[int]]
    findings: Sequence[Mapping[str, Any]]
    copies: Sequence[Mapping[str, Any]]
    near: Sequence[Mapping[str, Any]]
    frames: Mapping[str, int]
    chosen: Sequence[tuple[str, str]]
    reading: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    legend: Sequence[str] = ()
    font_advice: str = ""

    @property
    def faults(self) -> int:
        """How many of the findings are faults."""
        return sum(row["level"] == "fault" for row in self.findings)


def gather_look(settings: Settings, store: Store, records: Mapping[str, Record]) -> LookView:
    """Collect what a run found in its images, from the records of its stages."""
    look, load, subset = records[LOOK], records[LOAD], records[SUBSET]
    names = subset.facts["class_names"]
    reading = reading_of(store, load)
    return LookView(
        dataset=dataset_name(settings),
        synthetic=settings.dataset == "synthetic",
        class_names=names,
        images=look.facts["images"],
        shape=load.facts["image_shape"],
        counts=images_per_class(store, subset),
        findings=_findings(store, look),
        copies=look.facts["copies"],
        near=look.facts["near"],
        frames=look.facts["frames"],
        chosen=_chosen(settings, load, subset, reading),
        reading=reading,
        figures={
            name: store.content(look, name)
            for name, file in look.files.items()
            if file.kind == "png"
        },
        sources={
            name if file.kind == "png" else f"{record.stage}/{name}": file.path
            for record in (load, look)
            for name, file in record.files.items()
        },
        legend=look.facts.get("legend", ()),
        font_advice=look.facts.get("font_advice", ""),
    )


def dataset_name(settings: Settings) -> str:
    """The data set as people call it.

    Only the folder's name: a model card is passed on to others, who should not see a local path.
    """
    return DATASET_NAMES.get(settings.dataset, Path(settings.dataset).name)


def reading_of(store: Store, load: Record | None) -> dict[str, Any]:
    """What became of the user's own files; empty for other data sets."""
    if load is None or READING not in load.files:
        return {}
    found: dict[str, Any] = json.loads(store.content(load, READING))
    return found


def images_per_class(store: Store, subset: Record) -> dict[str, list[int]]:
    """Count the images of each class in each split."""
    index = store.table(subset, INDEX).to_pydict()
    classes = range(len(subset.facts["class_names"]))
    found = Counter(zip(index["split"], index["label"], strict=True))
    return {split: [found[split, label] for label in classes] for split in SPLITS}


def _findings(store: Store, look: Record) -> list[dict[str, Any]]:
    places: dict[int, list[str]] = {}
    for row in store.table(look, AFFECTED).to_pylist():
        place = row["name"] or f"{row['split']} image {row['position']}"
        places.setdefault(row["finding"], []).append(place)
    return [
        row
        | {
            "images": len(places.get(number, ())),
            "names": places.get(number, [])[:MOST_NAMED],
            "picture": finding_name(number) if finding_name(number) in look.files else None,
        }
        for number, row in enumerate(store.table(look, FINDINGS).to_pylist(), 1)
    ]


def _chosen(
    settings: Settings, load: Record, subset: Record, reading: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What was set, or chosen where nothing was."""
    height, width, channels = load.facts["image_shape"]
    found = [("Image size", f"{width} x {height}, {'grey' if channels == 1 else 'RGB'}")]
    if reading:
        sizes, given = reading["sizes"], settings.images
        found += [
            ("Chosen by", "images.side" if given.side else "default, from the sizes of the images"),
            ("Size before", _before(sizes)),
            ("Colour", f"{given.colour}: {sizes['grey']:,} are grey, {sizes['rgb']:,} RGB"),
        ]
        if sizes["different"] > 1 or given.side:
            found.append(("Other proportions", f"images.fit={load.facts['fit']}"))
        found.append(("Splits", _splits(load.facts)))
    method = subset.basis["settings"].get("subset", {}).get("method", "")
    sizes = subset.facts["sizes"]
    taken = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
    found.append(("Images taken", f"{taken} (subset.method={method})"))
    return found


def _before(sizes: Mapping[str, Any]) -> str:
    def size(name: str) -> str:
        return "{1} x {0}".format(*sizes[name])

    if sizes["different"] == 1:
        return f"all {size('smallest')}"
    return (
        f"{sizes['different']:,} sizes, from {size('smallest')} over {size('median')} (median) to "
        f"{size('largest')}"
    )


def _splits(facts: Mapping[str, Any]) -> str:
    drawn = [
        name
        for name, is_drawn in (
            ("validation", not facts["validation"]),
            ("test", facts["test_drawn"]),
        )
        if is_drawn
    ]
    if not drawn:
        return "as the data set defines them"
    return f"{' and '.join(drawn)} drawn, as the data set defines none"
