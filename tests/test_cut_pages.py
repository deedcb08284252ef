"""Pages of a cut as a browser's parser reads them, the numbers behind them against plain computations."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceforge.cut.manifest import Row
from faceforge.cut.pages import crop, thumb
from faceforge.data.drawn import Drawn

REASONS = {"accepted": "", "doubtful": "soft: sharpness 21.5", "rejected": "smaller than 40 pixels"}


def make_rows(count: int, faces: Drawn | None = None, seed: int = 0) -> list[Row]:
    """Rows of drawn faces, some of every verdict, a tenth without a face, with values as a job measures them."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        if n % 10 == 9:
            rows.append(Row("", f"trip/{n:06d}.jpg", 0, "none", "no face found"))
            continue
        verdict = ("accepted", "accepted", "accepted", "doubtful", "accepted", "rejected")[n % 6]
        width = float(random.lognormal(5, 0.5))
        factors = faces.factors(n) if faces else {"yaw": random.normal(0, 6), "roll": random.normal(0, 3)}
        row = Row(f"trip/{n:06d}-1.png", f"trip/{n:06d}.jpg", 1, verdict, REASONS[verdict], "yunet")
        row.score, row.box_w, row.box_h = float(random.uniform(0.7, 0.95)), width, width * 1.3
        row.yaw, row.roll = float(np.sin(np.radians(factors["yaw"]))), float(factors["roll"])
        row.scale, row.moved, row.shrunk = 240 / width, float(abs(random.normal(0, 0.05))), 1.0
        row.sharpness, row.brightness = float(random.lognormal(5, 1)), float(random.normal(120, 30))
        row.contrast, row.dominant_colour = float(random.normal(55, 12)), f"#{int(random.integers(0, 2**24)):06x}"
        row.same_as = rows[n - 1].face if n % 25 == 6 else ""
        row.person = f"trip/{n // 30 * 30:06d}-1.png" if n % 3 == 0 else ""
        rows.append(row)
    return rows


def make_cut(dst: Path, count: int, size: tuple[int, int] = (120, 90)) -> list[Row]:
    """A folder as the cut leaves it, of drawn faces."""
    faces = Drawn(count=count)
    rows = make_rows(count, faces)
    for n, row in enumerate(rows):
        if row.verdict == "none":
            continue
        picture = faces.read(n, size)
        for path in (dst / "_review" / thumb(row.face), dst / "_review" / crop(row)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        row.brightness, row.contrast = float(luma.mean()), float(luma.std())
    return rows
