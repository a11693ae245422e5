"""Settings of the images: the synthetic data set, the splits, the search for duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Count, Seed, Spec


class SyntheticSettings(Spec):
    """The images that the program draws if `dataset` is `synthetic`."""

    train: Count = Field(60_000, description="Number of training images to draw.")
    test: Count = Field(10_000, description="Number of test images to draw.")
    seed: Seed = Field(0, description="Seed of the drawn images.")


class SubsetSettings(Spec):
    """The raw images that form the training, validation and test split."""

    method: Literal["auto", "slices", "stratified", "everything"] = Field(
        "auto",
        description=(
            "auto: slices for Fashion-MNIST, stratified for other data. "
            "slices: the first `train` and the last `validation` training images and the first "
            "`test` test images, as in the notebook. stratified: seeded random samples of these "
            "sizes that keep the proportions of the classes. everything: all images; the last "
            "sixth of the training images is the validation split, and the sizes are ignored."
        ),
    )
    train: Count = Field(8_000, description="Images in the training split.")
    validation: Count = Field(2_000, description="Images in the validation split.")
    test: Count = Field(2_000, description="Images in the test split.")
    seed: Seed = Field(0, description="Seed of the stratified sample.")


class GuardSettings(Spec):
    """The search for duplicates across splits, before training."""

    exact: Literal["refuse", "allow"] = Field(
        "refuse",
        description="refuse: stop the run if an image appears in two splits. allow: continue.",
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
    shift: int = Field(
        2, strict=True, ge=0, le=8, description="Largest shift considered, in pixels."
    )
