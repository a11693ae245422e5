"""The ten kinds of garments: each function gives an outline and its brightness around 1.

Outlines are signed distances, as in `tasks.core.data.garment_shapes`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.core.data.garment_shapes import (
    Dice,
    Field,
    Scalar,
    band,
    ellipse,
    ink,
    limb,
    profile,
    wave,
)

Garment = tuple[Field, Field]


def _top(
    x: Field, y: Field, dice: Dice, long: Scalar, neck: tuple[float, float], hem: Field
) -> Garment:
    """The body and sleeves of tops; `long` is 1 for long sleeves and 0 for short ones.

    `neck` bounds the half-width of the neckline; `hem` is the y coordinate of the lower edge.
    """
    side = np.abs(x)
    shoulder, neck_width = dice(0.40, 0.52), dice(*neck)
    waist, flare = shoulder * dice(0.78, 1.05), dice(-0.02, 0.1)
    width = profile(
        y,
        (-0.9, neck_width + 0.04),
        (dice(-0.78, -0.68), shoulder),
        (dice(-0.1, 0.2), waist),
        (hem, waist + flare),
    )
    body = np.maximum(side - width, band(y, -0.9, hem))
    body = np.maximum(body, -ellipse(x, y + 0.92, neck_width, dice(0.08, 0.24)))

    wrist_x = shoulder + dice(0.12, 0.3) + long * dice(-0.12, 0.04)
    wrist_y = dice(-0.38, -0.1) + long * dice(0.6, 0.85)
    cuff = dice(0.13, 0.19) - long * 0.04
    sleeve = limb(side, y, (shoulder - 0.1, -0.62), (wrist_x, wrist_y), (dice(0.14, 0.19), cuff))
    armhole = np.maximum(np.abs(side - width + 0.02) - 0.03, band(y, -0.6, 0.7))
    tone = 1 - dice(0.1, 0.6) * ink(np.maximum(armhole, sleeve))
    return np.minimum(body, sleeve), tone


def _tee(x: Field, y: Field, dice: Dice) -> Garment:
    outline, tone = _top(x, y, dice, 0.0, (0.16, 0.3), dice(0.72, 0.92))
    print_ = ellipse(x, y - dice(-0.3, 0.0), dice(0.1, 0.3), dice(0.08, 0.3))
    return outline, tone + dice.chance(0.5) * dice(-0.6, 0.5) * ink(print_)


def _trouser(x: Field, y: Field, dice: Dice) -> Garment:
    hip, ankle, crotch = dice(0.26, 0.4), dice(0.1, 0.17), dice(-0.55, -0.2)
    stance, hem = dice(0.14, 0.3), dice(0.8, 0.95)
    side = np.abs(x)
    outer = profile(y, (-0.95, hip * dice(0.75, 0.95)), (crotch, hip), (hem, stance + ankle))
    inner = profile(y, (crotch, 0.0), (crotch + 0.12, 0.04), (hem, stance - ankle))
    legs = np.maximum(side - outer, np.where(y > crotch, inner - side, -1))
    waistband = band(y, -0.95, -0.83)
    fly = np.maximum(side - 0.02, band(y, -0.85, crotch))
    tone = 1 + dice(-0.5, 0.3) * ink(waistband) - dice(0, 0.5) * ink(fly)
    crease = np.abs(side - 0.5 * (outer + inner)) - 0.03
    return np.maximum(legs, band(y, -0.95, hem)), tone + dice(-0.1, 0.3) * ink(crease)


def _pullover(x: Field, y: Field, dice: Dice) -> Garment:
    hem = dice(0.65, 0.92)
    outline, tone = _top(x, y, dice, 1.0, (0.12, 0.24), hem)
    ribs = np.minimum(band(y, hem - 0.14, hem), ellipse(x, y + 0.9, 0.3, 0.25))
    yoke = band(y, -0.4, dice(-0.35, 0.1))
    tone = tone + dice(-0.4, 0.3) * ink(ribs)
    return outline, tone + dice.chance(0.35) * dice(-0.5, 0.4) * ink(yoke)


def _dress(x: Field, y: Field, dice: Dice) -> Garment:
    side, waist_y, hem = np.abs(x), dice(-0.35, 0.0), dice(0.82, 0.96)
    bust, waist = dice(0.22, 0.34), dice(0.17, 0.28)
    width = profile(
        y, (-0.95, bust * 0.75), (-0.6, bust), (waist_y, waist), (hem, waist + dice(0.05, 0.4))
    )
    body = np.maximum(side - width, band(y, -0.95, hem))
    body = np.maximum(body, -ellipse(x, y + 0.97, bust * dice(0.4, 0.62), dice(0.12, 0.4)))
    reach = dice(0.05, 0.3)
    sleeve = limb(
        side,
        y,
        (bust - 0.05, -0.72),
        (bust + 0.5 * reach, -0.7 + 2 * reach),
        (0.12, dice(0.07, 0.12)),
    )
    sleeved = dice.chance(0.45)
    belt = np.abs(y - waist_y) - 0.05
    folds = dice(0.0, 0.25) * wave(dice(2.0, 3.5) * x / width) * (y > waist_y)
    outline = np.where(sleeved > 0, np.minimum(body, sleeve), body)
    return outline, 1 + folds + dice(-0.6, 0.3) * ink(belt)


def _coat(x: Field, y: Field, dice: Dice) -> Garment:
    hem, middle = dice(0.84, 0.97), dice(-0.06, 0.06)
    outline, tone = _top(x, y, dice, 1.0, (0.1, 0.22), hem)
    side = np.abs(x - middle)
    opening = np.maximum(side - dice(0.01, 0.06) * (1.2 + y), -0.8 - y)
    button_y = dice(-0.4, 0.1)
    lapel_edge = dice(0.16, 0.3) * (button_y - y) / (button_y + 0.9)
    lapels = np.maximum(np.abs(side - lapel_edge) - 0.03, band(y, -0.9, button_y))
    pockets = np.maximum(np.abs(y - dice(0.25, 0.45)) - 0.04, band(side, 0.14, 0.34))
    tone = tone - dice(0.3, 0.95) * ink(opening) - dice(0.0, 0.6) * ink(lapels)
    return outline, tone - dice.chance(0.5) * dice(0.2, 0.6) * ink(pockets)


def _shirt(x: Field, y: Field, dice: Dice) -> Garment:
    hem = dice(0.74, 0.94) - dice(0.0, 0.3) * x * x
    outline, tone = _top(x, y, dice, dice.chance(0.65), (0.12, 0.24), hem)
    side, collar_reach = np.abs(x), dice(0.16, 0.26)
    collar = limb(side, y, (0.04, -0.66), (collar_reach, -0.88), (0.05, 0.08))
    placket = np.maximum(side - dice(0.03, 0.07), band(y, -0.75, hem))
    per_unit = dice(2.2, 3.2)
    button = (y * per_unit - np.rint(y * per_unit)) / per_unit
    buttons = np.maximum(np.sqrt(x * x + button * button) - 0.045, -0.7 - y)
    tone = tone + dice(-0.25, 0.35) * ink(placket) - dice(0.1, 0.8) * ink(buttons)
    return np.minimum(outline, collar), tone + dice(0.0, 0.5) * ink(collar)


def _sandal(x: Field, y: Field, dice: Dice) -> Garment:
    ground, thick, thin = dice(0.4, 0.62), dice(0.06, 0.14), dice(0.03, 0.065)
    wedge = dice.chance(0.65) * dice(0.1, 0.55)
    top = ground - thick - profile(x, (-0.45, 0.0), (0.6, wedge))
    hollow = (dice.chance(0.6) > 0) & (x < dice(0.55, 0.7))
    under = np.where(hollow, top + thick + 0.02, ground)
    sole = np.maximum(band(y, top, under), np.abs(x) - 0.92)

    toe, heel_top = dice(-0.6, -0.4), ground - thick - wedge
    ankle_y = heel_top - dice(0.2, 0.5)
    hoop = np.abs(ellipse(x - toe, y - ground + thick, dice(0.18, 0.3), dice(0.25, 0.45))) - thin
    toe_strap = np.maximum(hoop, y - ground)
    instep = limb(x, y, (toe + 0.3, ground - thick), (0.42, ankle_y), (thin, thin))
    crossed = limb(x, y, (dice(-0.1, 0.3), ankle_y), (0.4, heel_top), (thin, thin))
    ankle = np.abs(ellipse(x - 0.63, y - ankle_y, 0.24, 0.1)) - thin
    back = limb(x, y, (0.86, heel_top), (0.86, ankle_y), (thin, thin))
    parts = (toe_strap, instep, ankle, back, np.where(dice.chance(0.4) > 0, crossed, 1.0))
    straps = np.minimum.reduce(np.broadcast_arrays(*parts))
    return np.minimum(sole, straps), 1 + dice(-0.5, 0.3) * ink(sole)


def _sneaker(x: Field, y: Field, dice: Dice) -> Garment:
    ground, thick, tall = dice(0.36, 0.56), dice(0.1, 0.2), dice(0.58, 0.86)
    toe, tongue = dice(0.26, 0.36), dice(-0.05, 0.2)
    rise = profile(
        x,
        (-0.95, 0.1),
        (-0.84, toe),
        (-0.5, toe + 0.07),
        (tongue, tall),
        (tongue + 0.12, tall * dice(0.76, 0.95)),
        (0.72, tall * dice(0.72, 0.9)),
        (0.88, tall * dice(0.85, 1.25)),
    )
    upper = np.maximum(band(y, ground - rise, ground), band(x, -0.94, 0.92))
    sole, height = ground - thick - y, ground - y
    laces = np.maximum(wave(dice(4, 5) * x) * 0.06, band(rise - height, 0.03, 0.2))
    laces = np.maximum(laces, band(x, tongue - 0.5, tongue))
    stripe = np.abs(x + dice(-0.6, 0.6) * y - dice(0.05, 0.4)) - dice(0.03, 0.09)
    stripe = np.maximum(stripe, band(height, thick, rise - 0.12))
    toe_cap = np.maximum(np.abs(x + 0.58) - 0.02, -sole)
    tone = 1 + dice(-0.6, 0.6) * ink(sole) + dice(-0.7, 0.4) * ink(stripe)
    return upper, tone - dice(0.1, 0.8) * ink(laces) - dice(0.0, 0.5) * ink(toe_cap)


def _bag(x: Field, y: Field, dice: Dice) -> Garment:
    top, bottom, wide = dice(-0.35, 0.05), dice(0.6, 0.88), dice(0.6, 0.9)
    width = profile(y, (top, wide * dice(0.75, 1.02)), (bottom, wide))
    body = np.maximum(np.abs(x) - width, band(y, top, bottom))
    loop = ellipse(x, y - top, wide * dice(0.35, 0.8), dice(0.3, 0.58))
    handle = np.maximum(np.abs(loop) - dice(0.035, 0.075), y - top)
    flap = top + (bottom - top) * dice(0.25, 0.6)
    seam = np.maximum(np.abs(y - flap + dice(0.0, 0.15) * x * x) - 0.03, np.abs(x) - width)
    clasp = np.maximum(np.abs(x), np.abs(y - flap)) - dice(0.05, 0.1)
    tone = 1 - dice(0.0, 0.7) * ink(seam) + dice(-0.7, 0.6) * ink(clasp)
    return np.minimum(body, handle), tone


def _ankle_boot(x: Field, y: Field, dice: Dice) -> Garment:
    ground, thick, shaft = dice(0.5, 0.85), dice(0.07, 0.17), dice(-0.9, -0.2)
    front, toe = dice(-0.12, 0.14), dice(0.24, 0.34)
    top = profile(
        x,
        (-0.93, ground - 0.1),
        (-0.82, ground - toe),
        (-0.5, ground - toe - 0.1),
        (front - 0.1, ground - dice(0.55, 0.75)),
        (front, shaft),
        (0.8, shaft + dice(-0.1, 0.1)),
    )
    heel = profile(y, (shaft, dice(0.66, 0.86)), (0.2, dice(0.66, 0.8)), (0.5, 0.84))
    boot = np.maximum(band(y, top, ground), band(x, -0.94, heel))
    sole = ground - thick - y
    arch = np.maximum(band(x, -0.2, dice(0.2, 0.48)), sole)
    zip_ = np.maximum(np.abs(x - front - dice(0.2, 0.45)) - 0.03, band(y, shaft, ground - 0.3))
    cuff = np.abs(y - shaft - dice(0.1, 0.3)) - 0.04
    tone = 1 + dice(-0.5, 0.5) * ink(sole) - dice(0.0, 0.7) * ink(zip_)
    outline = np.where(dice.chance(0.55) > 0, np.maximum(boot, -arch), boot)
    return outline, tone + dice.chance(0.5) * dice(-0.5, 0.3) * ink(cuff)


# Each kind and the highest contrast of its cloth's pattern, in the order of FASHION_MNIST_CLASSES.
GARMENTS: tuple[tuple[Callable[[Field, Field, Dice], Garment], float], ...] = (
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
