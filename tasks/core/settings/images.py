"""Settings of the images: which are drawn, which become the splits, what is looked for in them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Count, Seed, Spec


class SyntheticSettings(Spec):
    """How many images the program draws where `dataset` is `synthetic`."""

    train: Count = Field(60_000, description="Number of training images to draw.")
    test: Count = Field(10_000, description="Number of test images to draw.")
    seed: Seed = Field(0, description="Seed of the drawings.")


class SubsetSettings(Spec):
    """Which of the raw images become the training, validation and test split."""

    method: Literal["auto", "slices", "stratified", "everything"] = Field(
        "auto",
        description=(
            "auto: slices on Fashion-MNIST, stratified elsewhere. "
            "slices: the first `train` and the last `validation` training images and the first "
            "`test` test images, as in the notebook. stratified: seeded draws of those sizes with "
            "every class in its share. everything: all images; the last sixth of the training "
            "images is the validation split and the sizes are not used."
        ),
    )
    train: Count = Field(8_000, description="Images in the training split.")
    validation: Count = Field(2_000, description="Images in the validation split.")
    test: Count = Field(2_000, description="Images in the test split.")
    seed: Seed = Field(0, description="Seed of the stratified draw.")


class GuardSettings(Spec):
    """What is looked for before training: images that stand in more than one split."""

    exact: Literal["refuse", "allow"] = Field(
        "refuse", description="What to do where an image stands in two splits."
    )
    similarity: float = Field(
        0.95,
        ge=0.8,
        le=1,
        description=(
            "From which correlation of gradients on two images count as alike; 1 is the same but "
            "for a shift or a change of brightness."
        ),
    )
    shift: int = Field(2, strict=True, ge=0, le=8, description="Largest shift looked at, pixels.")
