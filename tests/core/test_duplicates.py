"""Near duplicates: found where they are, and the quick bound never misses one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.core.data import UInt8
from tasks.core.duplicates import LEAST_OVERLAP, alike_pairs, gradients
from tasks.core.synthetic import draw_dataset

GARMENTS = draw_dataset(120, 20, seed=0).train.images


def shifted(images: UInt8, down: int, right: int) -> UInt8:
    """Images moved by whole pixels; what leaves is lost, what enters is 0."""
    height, width = images.shape[1:3]
    margin = max(abs(down), abs(right))
    wide = framed(images, margin)
    rows = slice(margin - down, margin - down + height)
    columns = slice(margin - right, margin - right + width)
    return wide[:, rows, columns].copy()


def framed(images: UInt8, margin: int = 4) -> UInt8:
    """Images with an empty margin, so that a shift loses nothing."""
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def found_pairs(first: UInt8, second: UInt8, least: float = 0.95, shift: int = 2) -> set[tuple]:
    pairs = alike_pairs(first, second, least, shift)
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


OWN = {(index, index) for index in range(len(GARMENTS))}


def test_identical_images_are_exact_pairs() -> None:
    pairs = alike_pairs(GARMENTS, GARMENTS[::-1].copy(), 0.95, 2)
    exact = {
        (int(i), int(j))
        for i, j in zip(pairs.first[pairs.exact], pairs.second[pairs.exact], strict=True)
    }
    assert exact == {(index, len(GARMENTS) - 1 - index) for index in range(len(GARMENTS))}
    assert (pairs.similarity[pairs.exact] == 1).all()
    assert pairs.exact[: len(exact)].all()


@pytest.mark.parametrize("down", [-2, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 2])
def test_a_shifted_image_is_found(down: int, right: int) -> None:
    images = framed(GARMENTS)
    assert found_pairs(images, shifted(images, down, right), 0.999) >= OWN


def test_a_larger_shift_than_looked_for_is_not() -> None:
    images = framed(GARMENTS)
    assert not found_pairs(images, shifted(images, 4, 0), 0.999, shift=2) & OWN


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_a_darker_image_is_found(factor: float) -> None:
    darker = np.rint(factor * GARMENTS).astype(np.uint8)
    assert found_pairs(GARMENTS, darker, 0.99) >= OWN


def test_an_image_on_a_lighter_ground_is_found() -> None:
    half = GARMENTS // 2
    assert found_pairs(half, half + np.uint8(60), 0.999) >= OWN


def test_images_of_one_colour_are_alike_only_where_they_are_equal() -> None:
    flat = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (0, 7, 7, 200)])
    assert found_pairs(flat, flat[:3]) == {(0, 0), (1, 1), (1, 2)}


def test_pairs_among_one_set_are_counted_once() -> None:
    images = np.concatenate([GARMENTS[:5], GARMENTS[:2], GARMENTS[:1]])
    pairs = alike_pairs(images, None, 1.0, 2)
    exact = sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert [pair for pair in exact if pair[0] < 2] == [(0, 5), (0, 7), (1, 6)]


def test_the_most_alike_come_first() -> None:
    pairs = alike_pairs(GARMENTS, shifted(GARMENTS, 1, 0), 0.95, 2)
    assert (np.diff(pairs.similarity) <= 0).all()


@given(
    hnp.arrays(np.uint8, st.tuples(st.just(6), st.integers(3, 9), st.integers(3, 9), st.just(3))),
    st.integers(0, 3),
)
def test_the_bound_by_amplitudes_misses_no_pair(images: UInt8, shift: int) -> None:
    """Every pair's correlation, computed shift by shift, is at most the bound that lets it pass."""
    values = gradients(images, shift).amplitudes
    bound = values @ values.T
    for i, one in enumerate(images):
        for j, other in enumerate(images):
            assert correlation(one, other, shift, overlap=False) <= bound[i, j] + 1e-4


def correlation(one: UInt8, other: UInt8, shift: int, *, overlap: bool = True) -> float:
    """The highest normalised correlation of gradients, by the definition."""

    def gradient(image: np.ndarray) -> np.ndarray:
        values = image.astype(np.float64)
        return np.concatenate([np.diff(values, axis=axis).ravel() for axis in (1, 0)])

    # Squares of whole numbers, so that nothing is rounded where half of the energy is left.
    whole = [float(gradient(image) @ gradient(image)) for image in (one, other)]
    height, width = one.shape[:2]
    best = 0.0
    for down in range(-shift, shift + 1):
        for right in range(-shift, shift + 1):
            if abs(down) >= height or abs(right) >= width:
                continue
            mine = one[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            its = other[
                max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
            ]
            here, there = gradient(mine), gradient(its)
            energies = [float(part @ part) for part in (here, there)]
            enough = all(
                part > 0 and part >= LEAST_OVERLAP * full
                for part, full in zip(energies, whole, strict=True)
            )
            if enough or not overlap:
                one_of, other_of = energies if overlap else whole
                best = max(best, float(here @ there) / (np.sqrt(one_of * other_of) or 1))
    return best


@given(
    hnp.arrays(np.uint8, st.tuples(st.just(5), st.integers(5, 8), st.integers(5, 8), st.just(1))),
    st.integers(0, 2),
)
def test_similarity_is_what_its_definition_says(images: UInt8, shift: int) -> None:
    pairs = alike_pairs(images, None, 0.3, shift)
    for i, j, similarity in zip(pairs.first, pairs.second, pairs.similarity, strict=True):
        if not (images[i] == images[j]).all():
            defined = min(1.0, correlation(images[i], images[j], shift))
            assert similarity == pytest.approx(defined, abs=2e-3)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -1), (-2, 0), (1, -1), (2, 2)])
def test_a_shift_that_cuts_something_off_is_found(down: int, right: int) -> None:
    """Garments that reach the edges of their images, so that a copy lacks a part of them."""
    height, width = GARMENTS.shape[1:3]
    tight = GARMENTS[:, 2 : height - 2, 2 : width - 2]
    moved = shifted(tight, down, right)
    own = {(index, index) for index in range(len(tight))}
    assert len(found_pairs(tight, moved) & own) >= 0.95 * len(own)
