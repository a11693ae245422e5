"""Settings of the images: the synthetic data set, the splits, the search for duplicates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.settings.base import Count, Fraction, Seed, Share, Spec


class SyntheticSettings(Spec):
    """The images that the program draws if `dataset` is `synthetic`."""

    train: Count = Field(60_000, description="Number of training images to draw.")
    test: Count = Field(10_000, description="Number of test images to draw.")
    seed: Seed = Field(0, description="Seed of the drawn images.")


class ImageSettings(Spec):
    """How pictures of the user's own become images of one size; unused for other data sets."""

    side: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        None,
        description=(
            "Height and width of the images, in pixels. By default, images of one size of at most "
            "128 pixels keep it. Others become squares of 64, 48, 40 or 32 pixels, the more images "
            "the smaller, but not larger than the median of their shorter sides."
        ),
    )
    fit: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description=(
            "pad: fill the rest of the square with the picture's background. crop: cut off what is "
            "outside the square. stretch: change the proportions."
        ),
    )
    colour: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="auto: grey if all pictures are grey, else rgb."
    )
    splits: Literal["auto", "draw"] = Field(
        "auto",
        description=(
            "auto: keep the splits that the data set defines, and draw those that it lacks. draw: "
            "put all images together and draw all splits."
        ),
    )
    unreadable: Fraction = Field(
        0.05, description="The run stops if more than this share of the pictures can't be read."
    )


class OwnImages(Spec):
    """What the stage that reads a user's own images is given.

    `content` is the digest of the data set; `test` and `seed` are for a test split that is drawn.
    """

    content: str
    images: ImageSettings
    test: Count | Share | None
    seed: int


class SubsetSettings(Spec):
    """The raw images that form the training, validation and test split.

    A size is a number of images or, between 0 and 1, a share of those that there are. Of your own
    data, a number is a limit; a split that is drawn gets at most a third.
    """

    method: Literal["auto", "slices", "stratified", "everything"] = Field(
        "auto",
        description=(
            "auto: slices for Fashion-MNIST, stratified for synthetic images; for your own, "
            "everything, or stratified if a size is given. slices: the first `train` and the last "
            "`validation` training images and the first `test` test images, as in the notebook. "
            "stratified: seeded random samples that keep the proportions of the classes. "
            "everything: all images; a sixth of the training images is the validation split (of "
            "Fashion-MNIST the last sixth, else a stratified sample), unless the data set defines "
            "one; the sizes are ignored."
        ),
    )
    train: Count | Share | None = Field(
        None, description="Training images; by default 8,000, of your own data all that remain."
    )
    validation: Count | Share | None = Field(
        None, description="Validation images; by default 2,000, of your own data a sixth."
    )
    test: Count | Share | None = Field(
        None,
        description=(
            "Test images; by default 2,000, of your own data all, or a sixth if no test split is "
            "defined."
        ),
    )
    seed: Seed = Field(0, description="Seed of the stratified samples.")


class GuardSettings(Spec):
    """The search for duplicates across splits, before training."""

    exact: Literal["drop", "refuse", "allow"] = Field(
        "drop",
        description=(
            "What happens to an image that appears in two splits. drop: it stays in the test split "
            "rather than in validation, and there rather than in training. refuse: the run stops. "
            "allow: it stays in both."
        ),
    )
    similarity: float = Field(
        0.95,
        ge=0.8,
        le=1,
        description=(
            "Two images whose gradients have at least this correlation are near duplicates; at 1 "
            "they differ only by a shift or in brightness."
        ),
    )
    search: Literal["auto", "exact", "index", "off"] = Field(
        "auto",
        description=(
            "How near duplicates are looked for. exact: every pair of images is compared. index: "
            "an index of the images proposes the pairs to compare, which is faster for many images "
            "and misses a few. auto: exact up to 200 million pairs, else index. off: only "
            "identical images are looked for."
        ),
    )
    shift: int = Field(
        2,
        strict=True,
        ge=0,
        le=8,
        description="Largest shift considered, in pixels of images of at most 48 pixels a side.",
    )
