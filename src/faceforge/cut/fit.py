"""One framing for all faces, chosen where the asked one is too wide for many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from faceforge.cut.work import TOO_TIGHT, Settings, frame_of
from faceforge.io.manifest import Row

LOST = 1 / 3  # share of the faces that may be too tight before another framing is chosen
FITTING = 0.9  # share of the faces that the chosen framing must fit
CLOSEST = 3.0  # zoom
BETTER = 1.15  # a square is chosen if it shows so many times the area


@dataclass(frozen=True, slots=True)
class Fit:
    """When a framing is chosen, and whether it may be a square."""

    how: Literal["auto", "always", "never"] = "never"
    square: bool = False


def chosen(rows: Iterable[Row], settings: Settings, fit: Fit) -> Settings:
    """The settings with the widest framing that fits nine in ten of the otherwise good faces, or as they are.

    A framing fits a face if its frame lies inside the photo without shrinking.
    """
    faces = [row for row in rows if row.n and row.reason in ("", TOO_TIGHT)]
    tight = sum(row.reason == TOO_TIGHT for row in faces)
    if not faces or fit.how == "never" or (fit.how == "auto" and tight <= LOST * len(faces)):
        return settings
    asked = _closer(faces, settings)
    square = _closer(faces, replace(settings, height=settings.width)) if fit.square else asked
    best = square if _area(square) > BETTER * _area(asked) else asked
    return best if settings.zoom < best.zoom <= CLOSEST else settings


def _closer(faces: list[Row], settings: Settings) -> Settings:
    shrunk = [frame_of(row, settings).shrunk for row in faces]
    least = float(np.quantile(shrunk, 1 - FITTING, method="lower"))
    return replace(settings, zoom=math.ceil(100 * settings.zoom / least) / 100)


def _area(settings: Settings) -> float:
    return settings.width / settings.height / settings.zoom**2
