"""Drawn garments in the format of Fashion-MNIST, for runs without a download and for tests.

A garment is a shape, given by signed distances (negative inside) on a grid from -1 (left, top) to
1 (right, bottom), and a map of tones; cloth, light and noise are the same for all kinds. Nothing
but `+ - * /`, `sqrt` and rounding is used on pixels, so a seed gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from tasks.core.data.labelled import FASHION_MNIST_CLASSES, Dataset, Float32, Split, UInt8
from tasks.core.errors import UserError

SIZE = 28
_PIXEL = 2 / SIZE
_DRAWS = 48
# Images drawn in one go, about a tenth of them of each kind: few enough that the arrays on the way
# stay in the processor's cache, and that memory does not grow with the number of images.
_BLOCK = 1280

# One number an image, `(n, 1, 1)`, or one a pixel, `(n, 28, 28)`; both float32.
Field = Float32
Scalar = Field | float


def draw_dataset(train_count: int, test_count: int, seed: int) -> Dataset:
    """Draw ten kinds of garments, bright on black, named `FASHION_MNIST_CLASSES`.

    Images are `(count, 28, 28, 1)` uint8, labels `(count,)` uint8 in random order, with counts that
    differ by at most one between classes. Image i of a split depends on the seed, the split and i
    alone: asking for more images extends what fewer gave.

    Raises:
        UserError: a count below 1 or a negative seed.
    """
    for name, value, least in (
        ("train_count", train_count, 1),
        ("test_count", test_count, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"synthetic data: {name} is {value}; expected {least} or more.")
    train, test = np.random.SeedSequence(seed).spawn(2)
    return Dataset(
        _draw_split(train_count, train), _draw_split(test_count, test), FASHION_MNIST_CLASSES
    )


def _draw_split(count: int, seed: np.random.SeedSequence) -> Split:
    for_labels, for_shapes, for_noise = map(np.random.default_rng, seed.spawn(3))
    labels = _balanced_labels(count, for_labels)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    for start in range(0, count, _BLOCK):
        block = labels[start : start + _BLOCK]
        draws = for_shapes.random((len(block), _DRAWS), dtype=np.float32)
        noise = for_noise.random((len(block), SIZE, SIZE), dtype=np.float32) - np.float32(0.5)
        for label in range(len(_GARMENTS)):
            kind = np.flatnonzero(block == label)
            images[start + kind] = _draw_images(label, draws[kind], noise[kind])
    return Split(images[..., np.newaxis], labels)


def _balanced_labels(count: int, rng: np.random.Generator) -> UInt8:
    """`(count,)` labels: every ten in a row are the ten classes in some order."""
    classes = len(_GARMENTS)
    blocks = rng.random((-(-count // classes), classes))
    return np.argsort(blocks, axis=1).astype(np.uint8).ravel()[:count]


class _Dice:
    """Hands out one column after the other of each image's uniform draws, `(n, 1, 1)` each."""

    def __init__(self, draws: Float32) -> None:
        self._columns: Iterator[Field] = iter(draws.T[:, :, np.newaxis, np.newaxis])

    def __call__(self, low: float, high: float) -> Field:
        """A number from [low, high) for each image."""
        return np.float32(low) + np.float32(high - low) * next(self._columns)

    def chance(self, probability: float) -> Field:
        """1 for an image with that probability, else 0."""
        return (next(self._columns) < probability).astype(np.float32)


def _draw_images(label: int, draws: Float32, noise: Float32) -> UInt8:
    """`(n, 28, 28)` images of one class, of `(n, _DRAWS)` uniform draws and noise in +-1/2."""
    dice = _Dice(draws)
    x, y = _placed_grid(dice)
    draw, patterned = _GARMENTS[label]
    outline, tone = draw(x, y, dice)
    light = dice(0.25, 1.0) * (1 + dice(-0.25, 0.25) * x + dice(-0.2, 0.2) * y)
    cloth = light * (tone * _weave(x, y, dice, patterned) + dice(0.02, 0.35) * noise)
    # Cloth is never black, or dark garments would have holes in the shape of their texture.
    image: Field = 255 * _ink(outline) * np.clip(cloth, 0.06, 1)
    return np.rint(image).astype(np.uint8)


def _placed_grid(dice: _Dice) -> tuple[Field, Field]:
    """Each pixel's place in the garment's own coordinates: moved, turned, scaled, mirrored."""
    ticks = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * _PIXEL - 1
    slope = dice(-0.16, 0.16)
    cosine = 1 / np.sqrt(1 + slope * slope)
    x, y = ticks[np.newaxis, np.newaxis, :], ticks[np.newaxis, :, np.newaxis]
    across = cosine * (x + slope * y) - dice(-0.14, 0.14)
    down = cosine * (y - slope * x) - dice(-0.12, 0.12)
    facing = 1 - 2 * dice.chance(0.5)
    return facing * across * dice(0.92, 1.22), down * dice(0.92, 1.22)


# ---- shapes: signed distances, negative inside --------------------------------------------------


def _ink(distance: Field) -> Field:
    """How much of a pixel lies inside, in [0, 1]: the edge is one pixel wide."""
    share: Field = np.clip(0.5 - distance / _PIXEL, 0, 1)
    return share


def _profile(along: Field, *knots: tuple[Scalar, Scalar]) -> Field:
    """The broken line through `(place, height)` knots, level outside the first and the last."""
    height = np.zeros_like(along) + knots[0][1]
    for (start, low), (end, high) in pairwise(knots):
        height += (high - low) * np.clip((along - start) / (end - start), 0, 1)
    return height


def _band(along: Field, start: Scalar, end: Scalar) -> Field:
    distance: Field = np.maximum(start - along, along - end)
    return distance


def _ellipse(x: Field, y: Field, wide: Scalar, tall: Scalar) -> Field:
    return (np.sqrt((x / wide) ** 2 + (y / tall) ** 2) - 1) * np.minimum(
        wide, tall, dtype=np.float32
    )


def _limb(
    x: Field,
    y: Field,
    start: tuple[Scalar, Scalar],
    end: tuple[Scalar, Scalar],
    radii: tuple[Scalar, Scalar],
) -> Field:
    """A straight sleeve or strap from `start` to `end` that goes from one radius to the other."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    away = np.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
    distance: Field = away - (1 - along) * radii[0] - along * radii[1]
    return distance


# ---- cloth --------------------------------------------------------------------------------------

# How strongly cloth is striped upright and across: thrice plain, upright, across, check, knit.
_WEAVES: Float32 = np.array(
    [[0, 0], [0, 0], [0, 0], [1, 0], [0, 1], [0.6, 0.6], [0.3, 0.6]], dtype=np.float32
)
_KNIT = len(_WEAVES) - 1


def _weave(x: Field, y: Field, dice: _Dice, strength: float) -> Field:
    """The pattern of the cloth as a factor around 1; `strength` is its largest contrast."""
    kind = dice(0, len(_WEAVES)).astype(np.intp)
    per_unit = np.where(kind == _KNIT, dice(5.0, 6.5), dice(1.5, 4.5))
    upright, across = _WEAVES[kind, 0], _WEAVES[kind, 1]
    pattern: Field = upright * _wave(per_unit * x + dice(0, 1))
    pattern = pattern + across * _wave(per_unit * y + dice(0, 1))
    return 1 + strength * dice(0.2, 1.0) * pattern


def _wave(turns: Field) -> Field:
    """A triangle wave in [-1, 1] with one period a unit."""
    wave: Field = 4 * np.abs(turns - np.rint(turns)) - 1
    return wave


# ---- garments: each gives its outline and its tones around 1 -------------------------------------

Garment = tuple[Field, Field]


def _top(
    x: Field, y: Field, dice: _Dice, long: Scalar, neck: tuple[float, float], hem: Field
) -> Garment:
    """What all garments with sleeves share; `long` is 1 for long sleeves and 0 for short ones.

    `neck` bounds the half-width of the neckline, `hem` is where the garment ends below.
    """
    side = np.abs(x)
    shoulder, neck_width = dice(0.40, 0.52), dice(*neck)
    waist, flare = shoulder * dice(0.78, 1.05), dice(-0.02, 0.1)
    width = _profile(
        y,
        (-0.9, neck_width + 0.04),
        (dice(-0.78, -0.68), shoulder),
        (dice(-0.1, 0.2), waist),
        (hem, waist + flare),
    )
    body = np.maximum(side - width, _band(y, -0.9, hem))
    body = np.maximum(body, -_ellipse(x, y + 0.92, neck_width, dice(0.08, 0.24)))

    wrist_x = shoulder + dice(0.12, 0.3) + long * dice(-0.12, 0.04)
    wrist_y = dice(-0.38, -0.1) + long * dice(0.6, 0.85)
    cuff = dice(0.13, 0.19) - long * 0.04
    sleeve = _limb(side, y, (shoulder - 0.1, -0.62), (wrist_x, wrist_y), (dice(0.14, 0.19), cuff))
    armhole = np.maximum(np.abs(side - width + 0.02) - 0.03, _band(y, -0.6, 0.7))
    tone = 1 - dice(0.1, 0.6) * _ink(np.maximum(armhole, sleeve))
    return np.minimum(body, sleeve), tone


def _tee(x: Field, y: Field, dice: _Dice) -> Garment:
    outline, tone = _top(x, y, dice, 0.0, (0.16, 0.3), dice(0.72, 0.92))
    print_ = _ellipse(x, y - dice(-0.3, 0.0), dice(0.1, 0.3), dice(0.08, 0.3))
    return outline, tone + dice.chance(0.5) * dice(-0.6, 0.5) * _ink(print_)


def _trouser(x: Field, y: Field, dice: _Dice) -> Garment:
    hip, ankle, crotch = dice(0.26, 0.4), dice(0.1, 0.17), dice(-0.55, -0.2)
    stance, hem = dice(0.14, 0.3), dice(0.8, 0.95)
    side = np.abs(x)
    outer = _profile(y, (-0.95, hip * dice(0.75, 0.95)), (crotch, hip), (hem, stance + ankle))
    inner = _profile(y, (crotch, 0.0), (crotch + 0.12, 0.04), (hem, stance - ankle))
    legs = np.maximum(side - outer, np.where(y > crotch, inner - side, -1))
    waistband = _band(y, -0.95, -0.83)
    fly = np.maximum(side - 0.02, _band(y, -0.85, crotch))
    tone = 1 + dice(-0.5, 0.3) * _ink(waistband) - dice(0, 0.5) * _ink(fly)
    crease = np.abs(side - 0.5 * (outer + inner)) - 0.03
    return np.maximum(legs, _band(y, -0.95, hem)), tone + dice(-0.1, 0.3) * _ink(crease)


def _pullover(x: Field, y: Field, dice: _Dice) -> Garment:
    hem = dice(0.65, 0.92)
    outline, tone = _top(x, y, dice, 1.0, (0.12, 0.24), hem)
    ribs = np.minimum(_band(y, hem - 0.14, hem), _ellipse(x, y + 0.9, 0.3, 0.25))
    yoke = _band(y, -0.4, dice(-0.35, 0.1))
    tone = tone + dice(-0.4, 0.3) * _ink(ribs)
    return outline, tone + dice.chance(0.35) * dice(-0.5, 0.4) * _ink(yoke)


def _dress(x: Field, y: Field, dice: _Dice) -> Garment:
    side, waist_y, hem = np.abs(x), dice(-0.35, 0.0), dice(0.82, 0.96)
    bust, waist = dice(0.22, 0.34), dice(0.17, 0.28)
    width = _profile(
        y, (-0.95, bust * 0.75), (-0.6, bust), (waist_y, waist), (hem, waist + dice(0.05, 0.4))
    )
    body = np.maximum(side - width, _band(y, -0.95, hem))
    body = np.maximum(body, -_ellipse(x, y + 0.97, bust * dice(0.4, 0.62), dice(0.12, 0.4)))
    reach = dice(0.05, 0.3)
    sleeve = _limb(
        side,
        y,
        (bust - 0.05, -0.72),
        (bust + 0.5 * reach, -0.7 + 2 * reach),
        (0.12, dice(0.07, 0.12)),
    )
    sleeved = dice.chance(0.45)
    belt = np.abs(y - waist_y) - 0.05
    folds = dice(0.0, 0.25) * _wave(dice(2.0, 3.5) * x / width) * (y > waist_y)
    outline = np.where(sleeved > 0, np.minimum(body, sleeve), body)
    return outline, 1 + folds + dice(-0.6, 0.3) * _ink(belt)


def _coat(x: Field, y: Field, dice: _Dice) -> Garment:
    hem, middle = dice(0.84, 0.97), dice(-0.06, 0.06)
    outline, tone = _top(x, y, dice, 1.0, (0.1, 0.22), hem)
    side = np.abs(x - middle)
    opening = np.maximum(side - dice(0.01, 0.06) * (1.2 + y), -0.8 - y)
    button_y = dice(-0.4, 0.1)
    lapel_edge = dice(0.16, 0.3) * (button_y - y) / (button_y + 0.9)
    lapels = np.maximum(np.abs(side - lapel_edge) - 0.03, _band(y, -0.9, button_y))
    pockets = np.maximum(np.abs(y - dice(0.25, 0.45)) - 0.04, _band(side, 0.14, 0.34))
    tone = tone - dice(0.3, 0.95) * _ink(opening) - dice(0.0, 0.6) * _ink(lapels)
    return outline, tone - dice.chance(0.5) * dice(0.2, 0.6) * _ink(pockets)


def _shirt(x: Field, y: Field, dice: _Dice) -> Garment:
    hem = dice(0.74, 0.94) - dice(0.0, 0.3) * x * x
    outline, tone = _top(x, y, dice, dice.chance(0.65), (0.12, 0.24), hem)
    side, collar_reach = np.abs(x), dice(0.16, 0.26)
    collar = _limb(side, y, (0.04, -0.66), (collar_reach, -0.88), (0.05, 0.08))
    placket = np.maximum(side - dice(0.03, 0.07), _band(y, -0.75, hem))
    per_unit = dice(2.2, 3.2)
    button = (y * per_unit - np.rint(y * per_unit)) / per_unit
    buttons = np.maximum(np.sqrt(x * x + button * button) - 0.045, -0.7 - y)
    tone = tone + dice(-0.25, 0.35) * _ink(placket) - dice(0.1, 0.8) * _ink(buttons)
    return np.minimum(outline, collar), tone + dice(0.0, 0.5) * _ink(collar)


def _sandal(x: Field, y: Field, dice: _Dice) -> Garment:
    ground, thick, thin = dice(0.4, 0.62), dice(0.06, 0.14), dice(0.03, 0.065)
    wedge = dice.chance(0.65) * dice(0.1, 0.55)
    top = ground - thick - _profile(x, (-0.45, 0.0), (0.6, wedge))
    hollow = (dice.chance(0.6) > 0) & (x < dice(0.55, 0.7))
    under = np.where(hollow, top + thick + 0.02, ground)
    sole = np.maximum(_band(y, top, under), np.abs(x) - 0.92)

    toe, heel_top = dice(-0.6, -0.4), ground - thick - wedge
    ankle_y = heel_top - dice(0.2, 0.5)
    hoop = np.abs(_ellipse(x - toe, y - ground + thick, dice(0.18, 0.3), dice(0.25, 0.45))) - thin
    toe_strap = np.maximum(hoop, y - ground)
    instep = _limb(x, y, (toe + 0.3, ground - thick), (0.42, ankle_y), (thin, thin))
    crossed = _limb(x, y, (dice(-0.1, 0.3), ankle_y), (0.4, heel_top), (thin, thin))
    ankle = np.abs(_ellipse(x - 0.63, y - ankle_y, 0.24, 0.1)) - thin
    back = _limb(x, y, (0.86, heel_top), (0.86, ankle_y), (thin, thin))
    parts = (toe_strap, instep, ankle, back, np.where(dice.chance(0.4) > 0, crossed, 1.0))
    straps = np.minimum.reduce(np.broadcast_arrays(*parts))
    return np.minimum(sole, straps), 1 + dice(-0.5, 0.3) * _ink(sole)


def _sneaker(x: Field, y: Field, dice: _Dice) -> Garment:
    ground, thick, tall = dice(0.36, 0.56), dice(0.1, 0.2), dice(0.58, 0.86)
    toe, tongue = dice(0.26, 0.36), dice(-0.05, 0.2)
    rise = _profile(
        x,
        (-0.95, 0.1),
        (-0.84, toe),
        (-0.5, toe + 0.07),
        (tongue, tall),
        (tongue + 0.12, tall * dice(0.76, 0.95)),
        (0.72, tall * dice(0.72, 0.9)),
        (0.88, tall * dice(0.85, 1.25)),
    )
    upper = np.maximum(_band(y, ground - rise, ground), _band(x, -0.94, 0.92))
    sole, height = ground - thick - y, ground - y
    laces = np.maximum(_wave(dice(4, 5) * x) * 0.06, _band(rise - height, 0.03, 0.2))
    laces = np.maximum(laces, _band(x, tongue - 0.5, tongue))
    stripe = np.abs(x + dice(-0.6, 0.6) * y - dice(0.05, 0.4)) - dice(0.03, 0.09)
    stripe = np.maximum(stripe, _band(height, thick, rise - 0.12))
    toe_cap = np.maximum(np.abs(x + 0.58) - 0.02, -sole)
    tone = 1 + dice(-0.6, 0.6) * _ink(sole) + dice(-0.7, 0.4) * _ink(stripe)
    return upper, tone - dice(0.1, 0.8) * _ink(laces) - dice(0.0, 0.5) * _ink(toe_cap)


def _bag(x: Field, y: Field, dice: _Dice) -> Garment:
    top, bottom, wide = dice(-0.35, 0.05), dice(0.6, 0.88), dice(0.6, 0.9)
    width = _profile(y, (top, wide * dice(0.75, 1.02)), (bottom, wide))
    body = np.maximum(np.abs(x) - width, _band(y, top, bottom))
    loop = _ellipse(x, y - top, wide * dice(0.35, 0.8), dice(0.3, 0.58))
    handle = np.maximum(np.abs(loop) - dice(0.035, 0.075), y - top)
    flap = top + (bottom - top) * dice(0.25, 0.6)
    seam = np.maximum(np.abs(y - flap + dice(0.0, 0.15) * x * x) - 0.03, np.abs(x) - width)
    clasp = np.maximum(np.abs(x), np.abs(y - flap)) - dice(0.05, 0.1)
    tone = 1 - dice(0.0, 0.7) * _ink(seam) + dice(-0.7, 0.6) * _ink(clasp)
    return np.minimum(body, handle), tone


def _ankle_boot(x: Field, y: Field, dice: _Dice) -> Garment:
    ground, thick, shaft = dice(0.5, 0.85), dice(0.07, 0.17), dice(-0.9, -0.2)
    front, toe = dice(-0.12, 0.14), dice(0.24, 0.34)
    top = _profile(
        x,
        (-0.93, ground - 0.1),
        (-0.82, ground - toe),
        (-0.5, ground - toe - 0.1),
        (front - 0.1, ground - dice(0.55, 0.75)),
        (front, shaft),
        (0.8, shaft + dice(-0.1, 0.1)),
    )
    heel = _profile(y, (shaft, dice(0.66, 0.86)), (0.2, dice(0.66, 0.8)), (0.5, 0.84))
    boot = np.maximum(_band(y, top, ground), _band(x, -0.94, heel))
    sole = ground - thick - y
    arch = np.maximum(_band(x, -0.2, dice(0.2, 0.48)), sole)
    zip_ = np.maximum(np.abs(x - front - dice(0.2, 0.45)) - 0.03, _band(y, shaft, ground - 0.3))
    cuff = np.abs(y - shaft - dice(0.1, 0.3)) - 0.04
    tone = 1 + dice(-0.5, 0.5) * _ink(sole) - dice(0.0, 0.7) * _ink(zip_)
    outline = np.where(dice.chance(0.55) > 0, np.maximum(boot, -arch), boot)
    return outline, tone + dice.chance(0.5) * dice(-0.5, 0.3) * _ink(cuff)


# Each kind with the largest contrast of its cloth's pattern, in the order of FASHION_MNIST_CLASSES.
_GARMENTS: tuple[tuple[Callable[[Field, Field, _Dice], Garment], float], ...] = (
    (_tee, 0.5),
    (_trouser, 0.2),
    (_pullover, 0.5),
    (_dress, 0.4),
    (_coat, 0.3),
    (_sandal, 0.2),
    (_shirt, 0.5),
    (_sneaker, 0.2),
    (_bag, 0.3),
    (_ankle_boot, 0.2),
)
