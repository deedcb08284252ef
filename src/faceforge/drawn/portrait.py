"""Paints one portrait from a row of factors: every part is one function that paints over what came before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from faceforge.drawn.background import background
from faceforge.drawn.beard import beard, moustache
from faceforge.drawn.clothes import body
from faceforge.drawn.eyes import brows, eyes
from faceforge.drawn.face import ears, face, nostrils
from faceforge.drawn.glasses import glasses
from faceforge.drawn.hair import hair
from faceforge.drawn.hats import dome, hat, rim
from faceforge.drawn.lines import Points, between
from faceforge.drawn.locks import Lock, paint_hair
from faceforge.drawn.mouth import mouth
from faceforge.drawn.scene import Scene


def overhangs(s: Scene, front: Sequence[Lock]) -> list[tuple[Points, float]]:
    """What throws a shadow on the face."""
    shadows = [(lock.outlines[0], -0.10) for lock in front[-1:]]
    if s.factors["hat"] > 0.5:
        shadows.append((between(rim(s, 0.03), dome(s, -0.9)), -0.22))
    return shadows


def paint(factors: Mapping[str, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The portrait that a row of factors describes: uint8 (height, width, 3), RGB."""
    s = Scene(factors, size)
    behind, front = hair(s)
    background(s)
    paint_hair(s, behind, dim=0.14)
    body(s)
    ears(s)
    face(s, overhangs(s, front))
    nostrils(s)
    eyes(s)
    brows(s)
    beard(s)
    mouth(s)
    moustache(s)
    glasses(s)
    paint_hair(s, front)
    hat(s)
    return s.canvas.finish()
