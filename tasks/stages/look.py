"""Look at all images: what is in them, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.array_types import Int64
from tasks.core.data import findings
from tasks.core.data.findings import WHOLE, Finding, LabelledSurvey
from tasks.core.data.frames import Frames, find_frames
from tasks.core.data.image_survey import joined, survey
from tasks.core.data.rows import Joined, RowReader
from tasks.core.drawing import mosaics
from tasks.core.drawing.lettering import Lettering, lettering_of
from tasks.core.names import (
    AFFECTED,
    CLASS_SAMPLES,
    DUPLICATES,
    FINDINGS,
    INDEX,
    ORIGINS,
    PAIRS,
    RAW,
    READING,
    SPLIT,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    finding_name,
)
from tasks.core.stage_specs import LookSpec
from tasks.core.tables.arrow import from_columns, from_rows
from tasks.core.tables.images import AFFECTED_IMAGES, FOUND
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task

# Images drawn: of a class, and of a finding. More classes than these would make a long picture.
SAMPLES, MOST_CLASSES, SHOWN = 10, 40, 10


@stage_task(LookSpec)
def look(spec: LookSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store findings about the images, the images that they are about, and pictures of them.

    Positions count the raw training images, then the raw test images.
    """
    raw = [inputs.by_rows(RAW, name) for name in (TRAIN, TEST)]
    images = Joined([split["images"] for split in raw])
    facts = inputs.facts(RAW)
    own = facts["dataset"] == "own"
    origins = inputs.table(RAW, ORIGINS) if own else None
    data = _surveyed(raw, facts, origins)
    first = len(raw[0]["labels"])
    places = _places(inputs.table(SPLIT, INDEX), first)
    pairs = inputs.table(DUPLICATES, PAIRS)
    train = inputs.by_rows(SPLIT, TRAIN)
    groups = train["groups"][:] if "groups" in train else None
    guard = spec.guard
    frames = find_frames(train["images"], groups, guard.similarity, guard.shift, guard.search)
    counts = {
        name: np.bincount(data.labels[at], minlength=len(data.class_names)).tolist()
        for name, at in places.items()
    }
    found = [
        *_findings(data, places, counts, pairs, frames, dropped=guard.exact == "drop"),
        *findings.find_unreadable(_reading(inputs) if own else {}),
    ]
    outputs.table(FINDINGS, from_rows(FOUND, [vars(one) for one in found]))
    names = origins["name"].to_pylist() if origins is not None else [""] * len(data.labels)
    outputs.table(AFFECTED, _affected(found, data, first, names))
    _draw(images, data, found, spec.note, lettering_of(outputs.basis), first, outputs)
    return {
        "images": len(data.labels),
        "counts": counts,
        "copies": findings.copies_within(data),
        "near": _near(pairs),
        "frames": {
            "sampled": len(frames.sampled),
            "with_others": int((frames.others > 0).sum()),
            "among": 0 if guard.search == "off" else frames.among,
        },
    }


def _reading(inputs: Inputs) -> Mapping[str, Any]:
    reading: Mapping[str, Any] = json.loads(inputs.content(RAW, READING))
    return reading


def _surveyed(
    raw: Sequence[Mapping[str, RowReader]], facts: Mapping[str, Any], origins: pa.Table | None
) -> LabelledSurvey:
    labels = np.concatenate([split["labels"][:] for split in raw])
    first, count = len(raw[0]["labels"]), len(labels)
    # Those of a validation split that the data set defines are the last training images.
    trained = first - facts.get("validation", 0)
    parts = {
        TRAIN: np.arange(trained),
        VALIDATION: np.arange(trained, first),
        TEST: np.arange(first, count),
    }
    if facts.get("test_drawn"):
        parts[TRAIN] = np.append(parts[TRAIN], parts.pop(TEST))
    parts = {name: at for name, at in parts.items() if len(at)}
    rows = None if origins is None else origins["row"]
    return LabelledSurvey(
        joined(*(survey(split["images"]) for split in raw)),
        labels,
        parts if len(parts) > 1 else {WHOLE: np.arange(count)},
        np.arange(count) if rows is None else None if rows.null_count else rows.to_numpy(),
        facts["class_names"],
    )


def _places(index: pa.Table, first: int) -> dict[str, Int64]:
    """The positions of the images of the run's splits; `first` is the number of training images."""
    split, source = index["split"].to_numpy(), index["source_position"].to_numpy()
    return {name: source[split == name] + (first if name == TEST else 0) for name in SPLITS}


def _findings(
    data: LabelledSurvey,
    places: Mapping[str, Int64],
    counts: Mapping[str, Sequence[int]],
    pairs: pa.Table,
    frames: Frames,
    *,
    dropped: bool,
) -> list[Finding]:
    """All findings, faults first."""
    found = chain(
        findings.find_two_labels(data),
        findings.find_unlike_parts(data),
        findings.find_many_frames(frames, places[TRAIN]),
        _near_across(places, pairs),
        findings.find_two_splits(data, dropped=dropped),
        findings.find_blank(data),
        findings.find_few(counts, data.class_names),
        findings.find_imbalance(counts[TRAIN], data.class_names),
        findings.find_sorted(data),
    )
    return sorted(found, key=lambda one: one.level)


def _near_across(places: Mapping[str, Int64], pairs: pa.Table) -> Sequence[Finding]:
    """The finding about near duplicates of test images, if there are many."""
    rows = pairs.to_pydict()
    across = [
        (places[one][at], places[other][other_at], other_at)
        for one, at, other, other_at, exact in zip(
            rows["split"],
            rows["position"],
            rows["other_split"],
            rows["other_position"],
            rows["exact"],
            strict=True,
        )
        if other == TEST and one != TEST and not exact
    ]
    near = np.unique(np.array([other_at for *_, other_at in across], np.int64))
    shown = [position for pair in across[: SHOWN // 2] for position in pair[:2]]
    return [*findings.find_near_across(near, len(places[TEST]), np.array(shown, np.int64))]


def _near(pairs: pa.Table) -> list[dict[str, Any]]:
    """Near duplicates by two splits: pairs of one class, and of different classes."""
    counts: dict[tuple[str, str], list[int]] = {}
    for row in pairs.to_pylist():
        if not row["exact"]:
            found = counts.setdefault((row["split"], row["other_split"]), [0, 0])
            found[row["label"] != row["other_label"]] += 1
    return [
        {"split": one, "other_split": other, "same_label": same, "other_label": differ}
        for (one, other), (same, differ) in sorted(counts.items())
    ]


def _affected(
    found: Sequence[Finding], data: LabelledSurvey, first: int, names: Sequence[str]
) -> pa.Table:
    at = np.concatenate([np.empty(0, np.int64), *(one.images for one in found)])
    places = [_raw_split(position, first) for position in at.tolist()]
    return from_columns(
        AFFECTED_IMAGES,
        {
            "finding": np.repeat(np.arange(len(found)) + 1, [len(one.images) for one in found]),
            "split": [split for split, _ in places],
            "position": [position for _, position in places],
            "class": [data.class_names[label] for label in data.labels[at]],
            "name": [names[position] for position in at],
        },
    )


def _raw_split(position: int, first: int) -> tuple[str, int]:
    """The raw split of an image, and its position there."""
    return (TRAIN, position) if position < first else (TEST, position - first)


def _draw(
    images: RowReader,
    data: LabelledSurvey,
    found: Sequence[Finding],
    note: str,
    lettering: Lettering,
    first: int,
    outputs: Outputs,
) -> None:
    """Draw samples of each class, and the first images of each finding that is about some."""
    labels, families = lettering.labels(data.class_names), lettering.families
    rows = []
    for label, name in enumerate(labels[:MOST_CLASSES]):
        at = np.flatnonzero(data.labels == label)
        chosen = at[np.arange(min(SAMPLES, len(at))) * len(at) // min(SAMPLES, len(at))]
        rows.append((name, images[chosen]))
    outputs.blob(CLASS_SAMPLES, "png", mosaics.class_samples(rows, note, families))
    for number, one in enumerate(found, 1):
        shown = one.images[:SHOWN]
        if len(shown):
            captions = [f"{labels[data.labels[at]]} ({_raw_split(at, first)[0]})" for at in shown]
            picture = mosaics.finding_images(images[shown], captions, note, families)
            outputs.blob(finding_name(number), "png", picture)
