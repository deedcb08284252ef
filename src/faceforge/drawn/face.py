"""The skin of the head: ears, forms, nose, wrinkles, blood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceforge.drawn.canvas import Bump, Mask
from faceforge.drawn.colours import Array, mix, rgb
from faceforge.drawn.lines import Points, both, curve, hump, moved, ovals, ribbon
from faceforge.drawn.scene import Scene

GOLD = (214, 176, 92)
BLUSH = (232, 96, 92)


def ears(s: Scene) -> None:
    """Both ears with their hollow, and earrings."""
    f, h, c = s.factors, s.head, s.canvas
    size, w = f["ear_size"], h.width
    shape = [(0.90, -0.10), (1.05, -0.13), (1.16, -0.07), (1.16, 0.05), (1.09, 0.17), (1.00, 0.23), (0.92, 0.20)]
    outer = np.array(shape) * (w, size)
    inner = (outer - (w * 1.05, 0.02)) * (0.55, 0.62) + (w * 1.055, 0.02)
    light = c.field(0.46) + np.clip(s.u, -0.6, 0.6) * np.float32(0.45 * s.contrast * s.light[0])
    s.soft(light, h.place(curve(both(inner), closed=True), flat=True), -0.17, 0.016)
    c.shade(c.mask(h.place(curve(both(outer), closed=True), flat=True)), light, s.skin_ramp)
    if f["earrings"] > 0.5:
        lobes = h.place(both([(1.06 * w, 0.235 * size)])[:, 0], flat=True)
        c.paint(c.mask(ovals(lobes, 0.028, 0.033)), rgb(GOLD))
        c.paint(c.mask(ovals(lobes - 0.008, 0.010, 0.010)), rgb((255, 246, 214)))


def face(s: Scene, shadows: Sequence[tuple[Points, float]]) -> None:
    """The skin of the head with all its forms; shadows are shapes above it (hair, hat) that darken it."""
    f, h, c = s.factors, s.head, s.canvas
    light = np.float32(0.525) + np.float32(0.44 * s.contrast) * s.form(h.width * 1.10, 0.88)
    for outlines, amount in shadows:
        s.soft(light, moved(outlines, -0.03 * f["light_x"], 0.045), amount, 0.035)
    c.bumps(light, [*sockets(s), *nose_bumps(s), *cheeks(s)])
    nose(s, light)
    wrinkles(s, light)
    skin = c.mask(h.place(h.outline(), flat=True))
    c.shade(skin, light, s.skin_ramp)
    flush(s, skin)


def sockets(s: Scene) -> list[Bump]:
    """Soft hollows around the eyes, the lit forehead, the temples."""
    x, temple = s.head.spacing, 0.98 * s.head.width
    rows = [s.bump(0.10 * s.factors["light_x"], -0.34, (0.24, 0.13), 0.07)]
    for side in (-1, 1):
        rows.append(s.bump(side * 0.86 * x, -0.07, (0.15, 0.075), -0.09))
        rows.append(s.bump(side * 0.52 * x, -0.01, (0.05, 0.08), -0.07))
        rows.append(s.bump(side * 0.95 * x, 0.11, (0.10, 0.035), -0.04 - 0.07 * s.old))
        rows.append(Bump(s.head.spot(side * temple, -0.22, flat=True), (0.07, 0.20), -0.06))
    return rows


def cheeks(s: Scene) -> list[Bump]:
    """Cheek apples that rise with a smile, the hollows under the cheekbones and the lip, the chin."""
    f, h, cheer = s.factors, s.head, s.cheer
    rows = [
        s.bump(0.0, h.mouth_y + 0.105 + h.drop, (0.085, 0.028), -0.12),
        s.bump(0.0, 0.9 * h.chin_y, (0.09, 0.05), 0.06),
        Bump(h.spot(0.0, h.chin_y + 0.02, flat=True), (0.30, 0.06), -0.12),
    ]
    for side in (-1, 1):
        lit = (0.04 + 0.07 * cheer) * (1 + 0.8 * side * f["light_x"])
        rows.append(s.bump(side * (0.285 + 0.01 * cheer), 0.225 - 0.03 * cheer, (0.11, 0.085), lit))
        rows.append(s.bump(side * 0.36, 0.43 * h.length, (0.09, 0.13), -0.07 * (1.2 - f["cheek"])))
    return rows


def nose_bumps(s: Scene) -> list[Bump]:
    """The ball of the tip and its wings."""
    wide, base, tip = 0.098 * s.factors["nose_width"], s.head.nose_y, s.factors["nose_tip"]
    rows = [s.bump(0.0, base - 0.065, (0.058 - 0.02 * tip, 0.05 - 0.014 * tip), 0.16, lift=0.16)]
    return rows + [s.bump(side * wide * 0.80, base - 0.045, (0.032, 0.032), 0.06, lift=0.07) for side in (-1, 1)]


def nose(s: Scene, light: Array) -> None:
    """Only shading: flanks, a lit ridge, the creases of the wings, the underside, the folds down to the mouth."""
    f, h = s.factors, s.head
    wide, base, tip, bridge = 0.098 * f["nose_width"], h.nose_y, f["nose_tip"], 0.034 * f["nose_bridge"]
    flanks = curve(both([(bridge + 0.045, -0.09), (bridge + 0.018, 0.06), (wide * 0.72, base - 0.04)]))
    flanks = h.place(ribbon(flanks, np.linspace(0.035, 0.075, 13)), 0.04)
    left, right = (-0.085 - 0.05 * s.contrast * side * f["light_x"] for side in (1, -1))
    s.canvas.relief(light, 0.020, (flanks[0], left), (flanks[1], right))
    wings = [(wide * 0.86, base - 0.085), (wide * 1.16, base - 0.035), (wide * 0.95, base + 0.008)]
    wings = h.place(ribbon(curve(both(wings)), 0.022), 0.02)
    ridge = ribbon(
        curve([(0.0, -0.10), (0.004, 0.05), (0.0, base - 0.08)]), np.linspace(0.022, 0.05, 13) * f["nose_bridge"]
    )
    dip = base - 0.028 + 0.02 * tip
    under = [(-wide, base - 0.01), (-wide * 0.4, dip), (0, dip + 0.014 + 0.012 * tip), (wide * 0.4, dip)]
    under = h.place(curve([*under, (wide, base - 0.01), (0, base + 0.045)], closed=True), 0.06)
    folds = curve(both([(0.125, base - 0.02), (0.20, h.mouth_y - 0.07), (0.225, h.mouth_y + 0.01)]))
    folds = h.place(ribbon(folds, [*np.linspace(0.012, 0.03, 12), 0.005]))
    depth = -0.02 - 0.11 * s.cheer - 0.10 * s.old
    under = (moved(under, -0.012 * f["light_x"], 0.0), -0.22)
    s.canvas.relief(light, 0.013, (folds, depth), (h.place(ridge, 0.13), 0.13), under, (wings, -0.20))


def nostrils(s: Scene) -> None:
    """Two dark openings, seen from a little below."""
    wide = 0.098 * s.factors["nose_width"]
    hole = np.array([(0.30, 0.0), (0.52, -0.017), (0.74, -0.006), (0.55, 0.010)])
    holes = s.head.place(curve(both(moved(hole * (wide, 1.0), 0, s.head.nose_y - 0.004)), closed=True), 0.07)
    s.canvas.paint(s.canvas.mask(holes, blur=0.005), s.skin_ramp[:, 20], 0.70)


def wrinkles(s: Scene, light: Array) -> None:
    """Lines across the forehead and beside the eyes come with age; a frown folds the glabella at any age."""
    f, h, shapes = s.factors, s.head, []
    crease = both([(0.038, -0.19), (0.030, -0.14), (0.036, -0.10)])
    if max(f["frown"], s.old) > 0.05:
        shapes.append((h.place(ribbon(crease, [0.006, 0.018, 0.006])), -0.20 * max(f["frown"], 0.4 * s.old)))
    if s.old > 0.15:
        depth = -s.old * (0.6 + 0.4 * f["male"])
        heights = np.array([-0.30, -0.355, -0.41])[:, None, None] * (0, 1)
        lines = curve(np.array([(-0.22, 0.015), (-0.08, -0.006), (0.09, -0.004), (0.22, 0.018)]) + heights)
        lines = ribbon(lines, 0.013 * hump(np.linspace(-1, 1, lines.shape[1])))
        x, turns = h.spacing + 0.155, (-0.05, 0.0, 0.05)
        feet = [both([(x, 0.005 + t * 0.4), (x + 0.035, 0.005 + t), (x + 0.06, 0.005 + 2 * t)]) for t in turns]
        feet = h.place(ribbon(np.concatenate(feet), [0.010, 0.012, 0.004]))
        depth *= 1.3 * s.canvas.thin(0.012)
        shapes += [(h.place(lines), 0.15 * depth), (feet, (0.07 + 0.1 * s.cheer) * depth)]
    if shapes:
        s.canvas.relief(light, 0.007, *shapes)


def flush(s: Scene, skin: Mask) -> None:
    """Red where blood is near (cheeks, nose tip), make-up blush, freckles; clipped to the face."""
    f, h, c = s.factors, s.head, s.canvas
    red, strength = c.field(0.0), 0.08 + 0.40 * f["blush"]
    spots = [s.bump(side * 0.315, 0.215, (0.125, 0.085), strength) for side in (-1, 1)]
    c.bumps(red, [*spots, s.bump(0.0, h.nose_y - 0.06, (0.07, 0.05), 0.12, lift=0.14)])
    c.paint(Mask(skin.alpha * red[skin.box], skin.box), mix(s.skin * 0.9, BLUSH, 0.62))
    if f["freckles"] > 0.5:
        x, y, size = (s.noise("freckles", 46, 3) * (0.40, 0.09, 0.004)).T
        spots = ovals(h.place(np.stack([x, 0.16 + y + 0.25 * x * x], axis=1)), 0.009 + size, 0.008 + size, 8)
        c.paint(c.mask(spots), s.skin * rgb((0.72, 0.58, 0.50)), 0.5)
