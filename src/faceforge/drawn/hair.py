"""Hair styles, as the locks behind the neck and those in front of the face."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from faceforge.drawn.lines import between, both, curve, moved, ovals, resample, segments
from faceforge.drawn.locks import Lock, cap, combed, crown, hairline, tufts
from faceforge.drawn.scene import Scene

Locks = tuple[list[Lock], list[Lock]]  # behind the neck, in front of the face


def bald(s: Scene) -> Locks:
    """A wreath above the ears, or nothing."""
    if s.factors["hair_length"] < 0.45:
        return [], []
    patch = [(1.0, 0.03), (0.93, -0.02), (0.905, -0.14), (0.93, -0.27), (0.975, -0.33), (1.03, -0.23)]
    patch += [(1.055, -0.10), (1.04, 0.01)]
    sides = s.head.place(curve(both(np.array(patch) * (s.head.width, 1)), closed=True), flat=True)
    roots = sides.reshape(-1, 2)[::4]
    return [], [Lock([sides], segments(roots, moved(roots, 0.0, 0.08), 4))]


def crop(s: Scene) -> Locks:
    """Cropped hair that follows the skull."""
    return [], [cap(s, 0.012 + 0.05 * s.factors["hair_length"], hairline(s))]


def side_part(s: Scene) -> Locks:
    """Short hair from a parting, the longer side lifted."""
    side = 1 if s.factors["part_side"] > 0 else -1
    volume = 0.05 + 0.06 * s.factors["hair_length"]
    return [], [cap(s, volume, hairline(s, -0.01, side * -0.45), part=(side * 0.26, -0.55))]


def quiff(s: Scene) -> Locks:
    """Cropped sides and a swept-up front of overlapping tufts."""
    w, tall = s.head.width, 0.10 + 0.13 * s.factors["hair_length"]
    lean = 0.12 if s.factors["part_side"] > 0 else -0.12
    locks = []
    for x, chance in zip((-0.74, 0.74, -0.5, 0.5, -0.25, 0.25, 0.0), s.noise("tufts", 7)[:, 0], strict=True):
        high, base = -0.70 - tall * (1.0 - 0.55 * x * x) + 0.02 * chance, -0.50 + 0.14 * x * x
        tip = (x * w * 0.95 + lean, high)
        left = [(x * w - 0.11, base), (x * w - 0.13 + 0.5 * lean, base - 0.17), tip]
        right = [(x * w + 0.11, base), (x * w + 0.13 + 0.6 * lean, base - 0.15), tip]
        locks.append(combed(s, curve(left), curve(right), 6))
    return [], [cap(s, 0.025, hairline(s)), tufts(locks[:4]), tufts(locks[4:])]


def curtains(s: Scene, bottom: float, volume: float, tuck: float) -> Locks:
    """Hair parted on top that falls beside the face to `bottom`; tuck < 0 turns the ends in."""
    w, shift = s.head.width, 0.12 * s.factors["part_side"]
    half = crown(s, volume, 0.0)
    half = half[half[:, 0] >= 0]
    fall = [(w + volume + 0.04, 0.30), (w + volume + 0.04 + tuck, bottom - 0.08), (w * 0.86 + tuck, bottom)]
    right = np.concatenate([half, curve([half[-1], *fall])[1:]])
    back = combed(s, right, right * (0.15, 1.0), 10)
    left = combed(s, right * (-1, 1), right * (-0.15, 1.0), 10)
    front = []
    for side in (-1, 1):
        inner = [
            (shift, -0.60),
            (side * 0.60 * w + shift * 0.3, -0.40),
            (side * 0.90 * w, -0.12),
            (side * 0.94 * w, 0.14),
        ]
        inner += [(side * 0.96 * w, min(0.36, bottom - 0.12)), (side * (0.90 * w + tuck * 0.8), bottom)]
        outer = [(shift, -0.70 - 1.32 * volume), (side * 0.40 * (w + volume), -0.675 - 1.2 * volume)]
        outer += [(side * 0.78 * (w + volume), -0.50 - 0.9 * volume), (side * (w + volume), -0.20)]
        outer += [(side * (w + volume + 0.04), 0.16), (side * (w + volume + 0.04), min(0.40, bottom - 0.1))]
        outer += [(side * (w + volume * 0.9 + 0.05 + tuck), bottom)]
        front.append(combed(s, curve(inner), curve(outer), 20))
    whole = s.head.place(np.concatenate([right, right[::-1] * (-1, 1)]), flat=True)
    return [Lock([whole], np.concatenate([back.strands, left.strands]))], [tufts(front)]


def bob(s: Scene) -> Locks:
    """Down to the jaw or a little below."""
    return curtains(s, 0.42 + 0.22 * s.factors["hair_length"], 0.09, -0.06)


def long_hair(s: Scene) -> Locks:
    """Over the shoulders."""
    return curtains(s, 1.25 + 0.5 * s.factors["hair_length"], 0.085, 0.06)


def bun(s: Scene) -> Locks:
    """Hair pulled back into a knot above the crown."""
    centre = np.array([0.10 * s.factors["part_side"], -0.78 - 0.05 * s.factors["hair_length"]])
    size = 0.17 + 0.05 * s.factors["hair_length"]
    knot = s.head.place(ovals(centre, size * 1.15, size), flat=True)
    turns = np.linspace(0.25, 0.95, 8) * size
    coils = s.head.place(ovals(np.repeat([moved(centre, 0.02, 0)], 8, axis=0), turns * 1.15, turns)[:, 2:19], flat=True)
    return [Lock([knot], coils)], [cap(s, 0.045, hairline(s))]


def curls(s: Scene) -> Locks:
    """A cloud of round tufts around the skull, smaller ones along the hairline."""
    length, chance = s.factors["hair_length"], s.noise("curls", 150, 3)
    rim = resample(crown(s, 0.05 + 0.16 * length, 0.06 + 0.3 * length), 22)
    edge = resample(hairline(s, -0.005), 18)
    big, small = 0.085 + 0.02 * chance[:22, 2], 0.045 + 0.012 * chance[22:40, 2]
    outlines = [
        s.head.place(between(edge, rim), flat=True),
        s.head.place(ovals(rim + 0.02 * chance[:22, :2], big, big, 16), flat=True),
        s.head.place(ovals(moved(edge, 0, -0.015), small, small, 12)),
    ]
    i = np.arange(100)
    at = edge[i % 18] + (rim[(i * 7) % 22] - edge[i % 18]) * (0.5 + 0.5 * chance[50:, :1])
    turn = 2 * np.pi * chance[50:, 1:2] + np.linspace(0, 3.4, 7)
    arcs = at[:, None, :] + np.stack([0.036 * np.cos(turn), 0.031 * np.sin(turn)], axis=-1)
    return [], [Lock(outlines, s.head.place(arcs, flat=True))]


HAIR_STYLES: dict[str, Callable[[Scene], Locks]] = {
    "bald": bald,
    "crop": crop,
    "part": side_part,
    "quiff": quiff,
    "curls": curls,
    "bob": bob,
    "long": long_hair,
    "bun": bun,
}


def fringe(s: Scene) -> list[Lock]:
    """Bangs: tufts that fall from the crown over the forehead."""
    w, low = s.head.width, -0.215 + 0.03 * s.factors["hair_length"]
    sweep = 0.10 * s.factors["part_side"]
    locks = []
    for x, chance in zip(np.linspace(-0.80, 0.80, 7), s.noise("bangs", 7)[:, 0], strict=True):
        end, top = low + 0.07 * x * x + 0.018 * chance, -0.665 + 0.12 * x * x
        left = [(x * w * 0.62 - 0.06, top), (x * w * 0.95 - 0.085, -0.42), (x * w + sweep - 0.075, end - 0.02)]
        right = [(x * w * 0.62 + 0.06, top), (x * w * 0.95 + 0.085, -0.42), (x * w + sweep + 0.065, end)]
        locks.append(combed(s, curve(left), curve(right), 7, flat=False))
    return [tufts(locks[::2]), tufts(locks[1::2])]


def hair(s: Scene) -> Locks:
    """What lies behind the neck and what in front of the face."""
    behind, front = list(HAIR_STYLES.values())[int(s.factors["hair_style"])](s)
    return behind, front + fringe(s) if s.factors["fringe"] > 0.5 else front
