"""Tables of images: labels, class counts, splits, duplicates, folds."""

from __future__ import annotations

from tasks.core.names import (
    AFFECTED,
    CLASS_COUNTS,
    FINDINGS,
    FOLDS,
    INDEX,
    LABEL_ERROR_COUNTS,
    LABEL_ERRORS,
    ORIGINS,
    PAIRS,
)
from tasks.core.tables.schema import Column, Table

LABELS = Table(
    "<split>_labels",
    "each image of the raw split, in order",
    (
        Column("position", "int64", "position in the split, from 0"),
        Column("label", "int32", "index of the class"),
        Column("class", "string", "name of the class"),
    ),
)

IMAGE_ORIGINS = Table(
    ORIGINS,
    "each of the user's own images, in the order of the raw training split, then of the test split",
    (
        Column("split", "string", "the raw split: `train` or `test`"),
        Column("position", "int64", "position in that split, from 0"),
        Column("name", "string", "the file, or the place in a file"),
        Column(
            "row",
            "int64",
            "place among all images of the data set, from 0; null where files have no order",
        ),
    ),
)

COUNTS = Table(
    CLASS_COUNTS,
    "each class",
    (
        Column("class", "string", "name of the class"),
        Column("train", "int64", "number of raw training images"),
        Column("test", "int64", "number of raw test images"),
    ),
)

SPLIT_INDEX = Table(
    INDEX,
    "each image of the three splits, in order",
    (
        Column("split", "string", "`train`, `validation` or `test`"),
        Column("source_position", "int64", "position in the raw training or test images, from 0"),
        Column("label", "int32", "index of the class"),
        Column("class", "string", "name of the class"),
    ),
)

DUPLICATE_PAIRS = Table(
    PAIRS,
    "each pair of similar images, identical ones first, then by similarity",
    (
        Column("split", "string", "split of the first image"),
        Column("position", "int64", "position in that split, from 0"),
        Column("label", "int64", "index of the first image's class"),
        Column("other_split", "string", "split of the second image"),
        Column("other_position", "int64", "position in that split, from 0"),
        Column("other_label", "int64", "index of the second image's class"),
        Column("similarity", "float32", "correlation of the images' gradients, at most 1"),
        Column("exact", "bool", "whether all pixels are equal"),
    ),
)

FOUND = Table(
    FINDINGS,
    "each thing that is wrong with the images, or worth knowing, faults first",
    (
        Column("kind", "string", "what it is, in a word"),
        Column("level", "string", "`fault`: scores mislead unless it is mended; or `note`"),
        Column("sentence", "string", "what it is"),
        Column("advice", "string", "what to do about it"),
    ),
)

AFFECTED_IMAGES = Table(
    AFFECTED,
    "each image that shows a finding, those that belong together next to each other",
    (
        Column("finding", "int64", "the finding's row in `findings`, from 1"),
        Column("split", "string", "raw split: `train` or `test`"),
        Column("position", "int64", "position in that split, from 0"),
        Column("class", "string", "name of the class"),
        Column("name", "string", "of own images the file, or the place in a file; else empty"),
    ),
)

FOLD_OF_IMAGE = Table(
    FOLDS,
    "each training image, in order, then each validation image",
    (
        Column("fold", "int64", "the fold that holds the image out, from 1"),
        Column("label", "int32", "index of the class"),
    ),
)

SUSPECTS = Table(
    LABEL_ERRORS,
    "each image whose label is probably wrong, the most suspicious first",
    (
        Column("rank", "int64", "1 for the most suspicious image"),
        Column("split", "string", "`train` or `validation`"),
        Column("position", "int64", "position in that split, from 0"),
        Column("source_position", "int64", "position in the raw training images, from 0"),
        Column("origin", "string", "the file, or the place in a file; null unless it is known"),
        Column("given", "string", "name of the class that the image is labelled with"),
        Column("suggested", "string", "name of the most probable other class"),
        Column("self_confidence", "float64", "probability of the given class"),
        Column("suggested_probability", "float64", "probability of the suggested class"),
    ),
)

ERRORS_BY_PAIR = Table(
    LABEL_ERROR_COUNTS,
    "each pair of a given and another class with an estimate above 0, the highest first",
    (
        Column("given", "string", "name of the class that the images are labelled with"),
        Column("true", "string", "name of the class that they probably belong to"),
        Column("images", "float64", "estimated number of such images"),
    ),
)
