"""Duplicates and near duplicates are all found, and the bounds never rule one out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from tasks.core.array_types import UInt8
from tasks.core.data.duplicates import (
    EXACT_PAIRS,
    NEIGHBOURS,
    SLACK,
    Pairs,
    Search,
    _new,
    find_duplicates,
    search_for,
)
from tasks.core.data.gradient_correlation import LEAST_OVERLAP
from tasks.core.data.image_descriptors import amplitudes, describe_images, principal_axes
from tasks.core.data.rows import Joined, RowReader
from tasks.core.data.synthetic import draw_dataset
from tasks.core.errors import UserError

GARMENTS = draw_dataset(120, 20, seed=0).train.images


def shifted(images: UInt8, down: int, right: int) -> UInt8:
    """Images shifted by whole pixels; new pixels are 0."""
    height, width = images.shape[1:3]
    margin = max(abs(down), abs(right))
    wide = framed(images, margin)
    rows = slice(margin - down, margin - down + height)
    columns = slice(margin - right, margin - right + width)
    return wide[:, rows, columns].copy()


def framed(images: UInt8, margin: int = 4) -> UInt8:
    """Images with an empty margin, so a shift loses nothing."""
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def found_by_search(
    first: RowReader,
    second: RowReader | None,
    least: float,
    shift: int,
    search: Search = "exact",
) -> Pairs:
    axes = None if search == "off" else principal_axes(first, shift)
    one = describe_images(first, axes, shift)
    return find_duplicates(
        one, None if second is None else describe_images(second, axes, shift), least, search
    )


def rows_of(pairs: Pairs) -> dict[tuple[int, int], tuple[float, bool]]:
    """The similarity of each pair, and whether it is exact."""
    places = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(
        zip(places, zip(pairs.similarity.tolist(), pairs.exact.tolist(), strict=True), strict=True)
    )


def found_pairs(first: UInt8, second: UInt8, least: float = 0.95, shift: int = 2) -> set[tuple]:
    pairs = found_by_search(first, second, least, shift)
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


OWN = {(index, index) for index in range(len(GARMENTS))}


def test_identical_images_are_exact_pairs() -> None:
    pairs = found_by_search(GARMENTS, GARMENTS[::-1].copy(), 0.95, 2)
    exact = {
        (int(i), int(j))
        for i, j in zip(pairs.first[pairs.exact], pairs.second[pairs.exact], strict=True)
    }
    assert exact == {(index, len(GARMENTS) - 1 - index) for index in range(len(GARMENTS))}
    assert (pairs.similarity[pairs.exact] == 1).all()
    assert pairs.exact[: len(exact)].all()


def test_images_that_are_read_by_rows_give_the_same_pairs() -> None:
    images = np.concatenate([framed(GARMENTS), shifted(framed(GARMENTS), 1, 0)[:50]])
    other = np.concatenate([images[:5], images[60:70] // 2])
    for second in (other, None):
        expected = found_by_search(images, second, 0.9, 2)
        found = found_by_search(
            Joined(np.split(images, [70])), None if second is None else Joined([second]), 0.9, 2
        )
        assert len(found) >= 10
        for column in ("first", "second", "similarity", "exact"):
            assert getattr(found, column).tobytes() == getattr(expected, column).tobytes()


@pytest.mark.parametrize("down", [-2, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 2])
def test_a_shifted_image_is_found(down: int, right: int) -> None:
    images = framed(GARMENTS)
    assert found_pairs(images, shifted(images, down, right), 0.999) >= OWN


def test_a_shift_beyond_the_largest_is_not_found() -> None:
    images = framed(GARMENTS)
    assert not found_pairs(images, shifted(images, 4, 0), 0.999, shift=2) & OWN


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_a_darker_image_is_found(factor: float) -> None:
    darker = np.rint(factor * GARMENTS).astype(np.uint8)
    assert found_pairs(GARMENTS, darker, 0.99) >= OWN


def test_an_image_on_a_lighter_background_is_found() -> None:
    half = GARMENTS // 2
    assert found_pairs(half, half + np.uint8(60), 0.999) >= OWN


def test_images_of_a_single_colour_are_duplicates_only_if_equal() -> None:
    flat = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (0, 7, 7, 200)])
    assert found_pairs(flat, flat[:3]) == {(0, 0), (1, 1), (1, 2)}


def test_large_images_are_compared_by_what_is_left_of_them_when_reduced() -> None:
    """Equal means equal pixels all the same."""
    large = GARMENTS[:12].repeat(4, axis=1).repeat(4, axis=2)
    other = large[:4].copy()
    other[1, 50, 50] ^= 1
    other[2] = np.roll(large[2], 3, axis=1)
    found = found_by_search(large, other, 0.95, 2)
    pairs = zip(found.first.tolist(), found.second.tolist(), found.exact.tolist(), strict=True)
    assert {(0, 0, True), (1, 1, False), (2, 2, False), (3, 3, True)} <= set(pairs)


def test_pairs_within_one_set_are_counted_once() -> None:
    images = np.concatenate([GARMENTS[:5], GARMENTS[:2], GARMENTS[:1]])
    pairs = found_by_search(images, None, 1.0, 2)
    exact = sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert [pair for pair in exact if pair[0] < 2] == [(0, 5), (0, 7), (1, 6)]


def test_pairs_are_sorted_by_similarity() -> None:
    pairs = found_by_search(GARMENTS, shifted(GARMENTS, 1, 0), 0.95, 2)
    assert (np.diff(pairs.similarity) <= 0).all()


@given(
    hnp.arrays(np.uint8, st.tuples(st.just(6), st.integers(3, 9), st.integers(3, 9), st.just(3))),
    st.integers(0, 3),
)
def test_the_product_of_amplitudes_bounds_the_correlation(images: UInt8, shift: int) -> None:
    """No pair's correlation, computed shift by shift, exceeds its bound."""
    values = amplitudes(images, shift)
    bound = values @ values.T
    for i, one in enumerate(images):
        for j, other in enumerate(images):
            assert correlation(one, other, shift, overlap=False) <= bound[i, j] + 1e-4


@given(st.data(), st.integers(0, 2), st.sampled_from([1, 3]), st.booleans())
def test_the_search_finds_the_same_pairs_as_comparing_all_with_all(
    data: st.DataObject, shift: int, channels: int, within: bool
) -> None:
    """Few pixels of few values: many near duplicates, many equal images, some of one colour."""
    shape = (7, 6, 5, channels)
    values = st.sampled_from([0, 0, 0, 9, 200])
    first = data.draw(hnp.arrays(np.uint8, shape, elements=values))
    other = first if within else data.draw(hnp.arrays(np.uint8, shape, elements=values))
    copied = data.draw(st.integers(0, 6))
    first[copied] = first[0]
    other[copied // 2] = first[copied]
    moved = np.roll(first[1:3], data.draw(st.integers(-1, 1)), axis=2)
    other[4:6] = moved
    least = data.draw(st.sampled_from([0.4, 0.8, 0.95, 1]))
    found = found_by_search(first, None if within else other, least, shift)
    bound = amplitudes(first, shift) @ amplitudes(other, shift).T
    pairs = dict(
        zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.exact, strict=True)
    )
    for i, one in enumerate(first):
        for j, its in enumerate(other):
            if within and i >= j:
                continue
            if (one == its).all():
                earliest = next(at for at, image in enumerate(first) if (image == its).all())
                assert pairs.get((i, j)) == (True if i == earliest else None)
                continue
            defined = correlation(one, its, shift)
            # Within float32 rounding, either result is right.
            if abs(defined - least) > 1e-4 and abs(bound[i, j] - (least - SLACK)) > 1e-4:
                counts = defined > least and bound[i, j] > least - SLACK
                assert pairs.get((i, j)) == (False if counts else None), (i, j, defined)
    assert len(pairs) == len(found)


def test_equal_images_cost_no_more_than_others() -> None:
    """1,500 images of two kinds: 1,498 pairs of equal images and no others."""
    images = np.zeros((1_500, 28, 28, 1), np.uint8)
    images[::2, 5:9, 5:9] = 200
    pairs = found_by_search(images, None, 0.95, 2)
    assert pairs.exact.all()
    assert len(pairs) == 1_498


def test_too_many_pairs_are_refused() -> None:
    images = np.zeros((2_100, 12, 12, 1), np.uint8)
    images[:1_050, 3:7, 3:7] = 200
    images[1_050:, 4:8, 4:8] = 200
    with pytest.raises(UserError, match=r"more than 1,000,000 pairs .* guard\.similarity higher"):
        found_by_search(images, None, 0.95, 2)


def correlation(one: UInt8, other: UInt8, shift: int, *, overlap: bool = True) -> float:
    """The highest normalised correlation of gradients, by the definition."""

    def gradient(image: np.ndarray) -> np.ndarray:
        values = image.astype(np.float64)
        return np.concatenate([np.diff(values, axis=axis).ravel() for axis in (1, 0)])

    # Squares of whole numbers are exact, also at exactly half of the energy.
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
def test_similarity_follows_its_definition(images: UInt8, shift: int) -> None:
    pairs = found_by_search(images, None, 0.3, shift)
    for i, j, similarity in zip(pairs.first, pairs.second, pairs.similarity, strict=True):
        if not (images[i] == images[j]).all():
            defined = min(1.0, correlation(images[i], images[j], shift))
            assert similarity == pytest.approx(defined, abs=2e-3)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -1), (-2, 0), (1, -1), (2, 2)])
def test_a_shift_that_cuts_off_a_part_is_found(down: int, right: int) -> None:
    """Garments that reach the edges of their images, so a shifted copy lacks a part of them."""
    height, width = GARMENTS.shape[1:3]
    tight = GARMENTS[:, 2 : height - 2, 2 : width - 2]
    moved = shifted(tight, down, right)
    own = {(index, index) for index in range(len(tight))}
    assert len(found_pairs(tight, moved) & own) >= 0.95 * len(own)


def test_the_search_follows_from_the_sizes_only_if_it_is_automatic() -> None:
    assert search_for(EXACT_PAIRS, 1, "auto") == "exact"
    assert search_for(EXACT_PAIRS, 2, "auto") == "index"
    assert search_for(10**6, 10**6, "exact") == "exact"
    assert search_for(1, 1, "off") == "off"


@given(st.data(), st.integers(0, 2), st.booleans())
def test_what_an_index_finds_the_exact_search_finds_with_the_same_similarity(
    data: st.DataObject, shift: int, within: bool
) -> None:
    """So few images that each is among the nearest of all others: nothing is lost."""
    elements = st.sampled_from([0, 0, 0, 9, 200])
    first = data.draw(hnp.arrays(np.uint8, (12, 6, 5, 1), elements=elements))
    second = None if within else data.draw(hnp.arrays(np.uint8, (9, 6, 5, 1), elements=elements))
    first[data.draw(st.integers(1, 11))] = first[0]
    least = data.draw(st.sampled_from([0.4, 0.8, 0.95, 1]))
    every, index = (
        rows_of(found_by_search(first, second, least, shift, search))
        for search in ("exact", "index")
    )
    assert index == every


@pytest.fixture(scope="module")
def many() -> UInt8:
    """So many garments that a query visits a fourth of the cells."""
    return draw_dataset(4_000, 1, seed=3).train.images


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 1), (2, -2)])
def test_an_index_finds_planted_copies(many: UInt8, down: int, right: int) -> None:
    """Shifted and darker copies of every fourth garment."""
    chosen = np.arange(0, len(many), 4)
    moved = shifted(many[chosen], down, right) // 4 * 3
    index, every = (
        rows_of(found_by_search(many, moved, 0.95, 2, search)) for search in ("index", "exact")
    )
    assert index.items() <= every.items()
    planted = {(int(at), number) for number, at in enumerate(chosen)} & every.keys()
    assert len(planted) > 0.98 * len(chosen)
    assert len(planted & index.keys()) >= 0.995 * len(planted)
    assert len(index) >= 0.995 * len(every)


@pytest.mark.parametrize("within", [False, True])
def test_an_index_is_asked_for_more_where_many_are_near_duplicates(
    many: UInt8, within: bool
) -> None:
    """Frames of one object: each has far more near duplicates than are asked for first."""
    frames = np.repeat(framed(GARMENTS[:1]), 2 * NEIGHBOURS, axis=0)
    noise = np.random.default_rng(0).integers(0, 6, frames.shape, dtype=np.uint8)
    frames = np.where(frames > 30, frames - noise, frames)
    first = np.concatenate([framed(many[:300]), frames])
    found = found_by_search(first, None if within else frames[:20], 0.95, 2, "index")
    every = found_by_search(first, None if within else frames[:20], 0.95, 2, "exact")
    assert len(every) > NEIGHBOURS * 30
    assert rows_of(found).items() <= rows_of(every).items()
    assert len(found) >= 0.995 * len(every)
    assert len(rows_of(found)) == len(found), "no pair is listed twice"


def test_an_index_gives_the_same_bytes_whatever_the_number_of_threads(many: UInt8) -> None:
    axes = principal_axes(many, 2)
    first, second = (describe_images(part, axes, 2) for part in (many[:2_000], many[:500] // 2))
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            np.random.seed(threads)
            pairs = find_duplicates(first, second, 0.9, "index")
            columns = (pairs.first, pairs.second, pairs.similarity, pairs.exact)
            found.append(b"".join(column.tobytes() for column in columns))
    assert len(pairs) > 100
    assert len(set(found)) == 1


def test_without_a_search_only_equal_images_are_found() -> None:
    images = np.concatenate([GARMENTS[:5], GARMENTS[:2], GARMENTS[:5] // 2])
    assert rows_of(found_by_search(images, GARMENTS[1:3], 0.8, 2, "off")) == {
        (1, 0): (1, True),
        (2, 1): (1, True),
    }
    assert set(rows_of(found_by_search(images, None, 0.8, 2, "off"))) == {(0, 5), (1, 6)}


def test_a_pair_proposed_from_both_sides_is_counted_once() -> None:
    i, j = np.array([0, 0, 2, 0]), np.array([1, 3, 3, 1])
    score = np.array([0.96, 0.97, 0.98, 0.96], np.float32)
    near, seen = _new((i, j, score), np.array([2 * 9 + 3]), 9)
    assert [column.tolist() for column in near[:2]] == [[0, 0], [1, 3]]
    assert near[2].tolist() == score[[0, 1]].tolist()
    assert seen.tolist() == [1, 3, 2 * 9 + 3]
