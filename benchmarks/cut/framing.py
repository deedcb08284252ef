"""Whether crops of YuNet's faces are framed as the published Haar crops: the constants of frame.py, fitted again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.cut.annotated import annotated, manifest_hash, read_photo
from faceforge.cut import frame
from faceforge.cut.detect import SURE_SCORE, YuNet, agree, find_yunet, make_detector, overlap
from faceforge.cut.frame import Box, Frame, Landmarks

SIZE = (480, 360)  # of the published crop
ROOM = 3.0  # sides of the square round a face, in its distances from eyes to mouth, that a photo must hold


@dataclass(frozen=True, slots=True)
class Pair:
    """A face that both detectors find: its photo and that one's (height, width), Haar's box, YuNet's landmarks."""

    photo: str
    size: tuple[int, int]
    box: Box
    landmarks: Landmarks

    @property
    def roomy(self) -> bool:
        """Whether the photo goes on round the face. Where it ends, it decides how large a Haar box can be."""
        eyes, mouth = (np.mean(self.landmarks[part], axis=0) for part in (slice(0, 2), slice(3, 5)))
        reach = ROOM / 2 * float(np.linalg.norm(mouth - eyes))
        x, y = eyes + 0.3 * (mouth - eyes)
        return min(x, y, self.size[1] - x, self.size[0] - y) >= reach


def pairs_of(folder: Path, names: Iterable[str]) -> list[Pair]:
    """Every upright face that both surely find."""
    haar, yunet = make_detector("haar", None), YuNet(find_yunet())
    pairs = []
    for name in names:
        pixels = read_photo(folder, name)
        size = (pixels.shape[0], pixels.shape[1])
        boxes = [face.box for face in haar(pixels)]
        faces = [face for face in yunet.upright(pixels) if (face.score or 0.0) >= SURE_SCORE]
        for box in boxes:
            agreeing = [face for face in faces if agree(box, face.box)]
            if agreeing and (marks := max(agreeing, key=lambda face: overlap(box, face.box)).landmarks):
                pairs.append(Pair(name, size, box, marks))
    return pairs


def fit(pairs: Sequence[Pair]) -> dict[str, float]:
    """The two constants of frame.py: the median width, and the centre that lies nearest on average."""
    marks, boxes = np.array([pair.landmarks for pair in pairs]), np.array([pair.box for pair in pairs])
    eyes, mouth = marks[:, :2].mean(axis=1), marks[:, 3:].mean(axis=1)
    down = np.linalg.norm(mouth - eyes, axis=1)
    across = np.linalg.norm(marks[:, 0] - marks[:, 1], axis=1)
    width = np.median(boxes[:, 2] / np.maximum(down, frame.MIN_HEIGHT * across))
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    ways = np.arange(0.1, 0.6, 0.001)
    places = eyes[None] + ways[:, None, None] * (mouth - eyes)[None]
    errors = (np.linalg.norm(places - centres[None], axis=2) / boxes[None, :, 2]).mean(axis=1)
    return {"HAAR_WIDTH": float(width), "HAAR_CENTRE": float(ways[errors.argmin()])}


def spread(pairs: Sequence[Pair], seed: int, times: int = 200) -> dict[str, list[float]]:
    """95 % intervals of the constants over redrawn photos."""
    by_photo: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_photo.setdefault(pair.photo, []).append(pair)
    groups = list(by_photo.values())
    random = np.random.default_rng([seed, 4])
    fits = []
    for _ in range(times):
        fits.append(fit([pair for g in random.integers(0, len(groups), len(groups)) for pair in groups[g]]))
    return {key: np.percentile([found[key] for found in fits], [2.5, 97.5]).tolist() for key in fits[0]}


def haar_again(folder: Path, names: Iterable[str], by: float = 1.1) -> dict[str, Any]:
    """How far the cascade differs from itself on the photo enlarged by half a step of its scale."""
    haar, pairs = make_detector("haar", None), []
    for name in names:
        pixels = read_photo(folder, name)
        larger = cv2.resize(pixels, None, fx=by, fy=by, interpolation=cv2.INTER_CUBIC)
        second = [(x / by, y / by, w / by, h / by) for x, y, w, h in (face.box for face in haar(larger))]
        for face in haar(pixels):
            agreeing = [box for box in second if agree(face.box, box)]
            if agreeing:
                best = max(agreeing, key=lambda box, own=face.box: overlap(own, box))
                pairs.append((best, face.box, (pixels.shape[0], pixels.shape[1])))
    return differences(pairs)


def errors(pairs: Iterable[Pair]) -> dict[str, Any]:
    """How far frame.py's box lies from the Haar box."""
    return differences([(frame.haar_box(pair.landmarks), pair.box, pair.size) for pair in pairs])


def differences(boxes: Sequence[tuple[Box, Box, tuple[int, int]]]) -> dict[str, Any]:
    """Of first boxes from second ones, in photos of (height, width).

    Centres in widths of the second, widths as ratios, and the overlap (IoU) of what is cut out in the end.
    """
    centre, width, common = [], [], []
    for told, box, (height, wide) in boxes:
        dx, dy = (told[i] + told[i + 2] / 2 - box[i] - box[i + 2] / 2 for i in (0, 1))
        centre.append(float(np.hypot(dx, dy)) / box[2])
        width.append(told[2] / box[2])
        common.append(overlap(*(_rectangle(frame.fit(frame.grow(b, SIZE), wide, height)) for b in (told, box))))
    off = np.abs(np.log(width))
    return {
        "faces": len(boxes),
        "centre": {"median": float(np.median(centre)), "p90": float(np.percentile(centre, 90))},
        "width": {
            "median": float(np.median(width)),
            "off_median": float(np.expm1(np.median(off))),
            "off_p90": float(np.expm1(np.percentile(off, 90))),
        },
        "iou": {"median": float(np.median(common)), "p10": float(np.percentile(common, 10))},
    }


def _rectangle(f: Frame) -> Box:
    return f.x - f.w / 2, f.y - f.h / 2, f.w, f.h


def measured(photos: Path, seed: int, few: int | None) -> dict[str, Any]:
    """Fit on the roomy faces of a random half of the photos that were not annotated; look at all others, too."""
    boxed = [photo.name for photo in annotated()]
    others = sorted(path.name for path in photos.iterdir() if path.name not in set(boxed))[:few]
    order = np.random.default_rng([seed, 3]).permutation(len(others))
    halves = [[others[i] for i in sorted(order[n::2])] for n in (0, 1)]
    first, second, own = (pairs_of(photos, names) for names in (*halves, boxed[:few]))
    fitted = [pair for pair in first if pair.roomy]
    found = fit(fitted)
    groups = {
        "fitted": fitted,
        "other half": [pair for pair in second if pair.roomy],
        "annotated photos": [pair for pair in own if pair.roomy],
        "all photos, the face at their edge": [pair for pair in first + second + own if not pair.roomy],
    }
    return {
        "seed": seed,
        "data": {"photos": len(others), "manifest": manifest_hash(photos, others)},
        "fit": found,
        "interval": spread(fitted, seed),
        "constants": {key: getattr(frame, key) for key in found},
        "errors": {name: errors(pairs) for name, pairs in groups.items()},
        "haar_again": haar_again(photos, halves[1]),
    }
