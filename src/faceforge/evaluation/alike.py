"""Whether the faces of two sets are alike in framing, colour and sharpness, and the crop that frames one as the other.

Scores of faces that were framed otherwise, enlarged, or made grey say more about that than about a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from faceforge.cut.frame import Frame, fit
from faceforge.cut.framing import MEASURED_HEIGHT, Framing, measure
from faceforge.data.framing import Box, crop_box, frame
from faceforge.data.sources.base import Source
from faceforge.io.images import ImageError, from_uint8

LOOKED_AT = 64  # pictures of a set
MOVED = 0.03  # of a side: by how much centres of faces may differ
SCALED = 1.06  # by what factor their widths may differ, or their stretching
ROUNDS = 3  # of fitting a box
ENLARGED = 1.25  # by what factor pictures may be enlarged more than those of training

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Sample:
    """Some pictures of a set, uint8 (H, W, 3) or (H, W), evenly spaced over it."""

    pictures: Sequence[np.ndarray]

    @classmethod
    def of(cls, source: Source, size: Size) -> Sample:
        """From a source, for faces of the aspect of ``size``; what cannot be read is left out."""
        size = _large(size)
        return cls([pixels for n in looked_at(len(source.faces)) if (pixels := _read(source, n, size)) is not None])

    @property
    def sizes(self) -> Counter[Size]:
        """How many pictures have each size."""
        return Counter((picture.shape[0], picture.shape[1]) for picture in self.pictures)

    @property
    def grey(self) -> bool:
        """Whether all of them are grey."""
        return all(p.ndim == 2 or bool((p == p[..., :1]).all()) for p in self.pictures)

    def takes(self, crop: str, size: Size) -> bool:
        """Whether the crop lies inside all of them."""
        try:
            return all(crop_box(crop, *picture, size) for picture in self.sizes)
        except ImageError:
            return False


def looked_at(total: int) -> list[int]:
    """Which of ``total`` pictures are looked at: `LOOKED_AT` of them, evenly spaced."""
    return np.unique(np.linspace(0, total - 1, min(LOOKED_AT, total)).astype(int)).tolist()


def _large(size: Size) -> Size:
    """The size with this aspect at which faces are looked for, and drawn."""
    return MEASURED_HEIGHT, max(1, round(MEASURED_HEIGHT * size[1] / size[0]))


def _read(source: Source, index: int, size: Size) -> np.ndarray | None:
    try:
        return source.read(index, size)
    except ImageError:
        return None


@dataclass(frozen=True)
class Look:
    """How the faces of a set look after their crop and resize to ``size``."""

    place: Framing | None  # of frontal faces; None if too few are found
    grey: bool
    enlarged: float  # how many pixels a side a pixel of a picture becomes; below 1 pictures are reduced
    stretched: float  # how much wider than tall a square of a picture becomes

    @classmethod
    def of(cls, sample: Sample, crop: str, size: Size) -> Look:
        """Of a set's sample under a crop that lies inside its pictures."""
        boxes = [crop_box(crop, picture.shape[0], picture.shape[1], size) for picture in sample.pictures]
        tall = float(np.median([size[0] / (bottom - top) for _, top, _, bottom in boxes]))
        wide = float(np.median([size[1] / (right - left) for left, _, right, _ in boxes]))
        faces = np.stack([frame(picture, crop, _large(size), 3) for picture in sample.pictures])
        return cls(measure(from_uint8(torch.from_numpy(faces))), sample.grey, max(tall, wide), wide / tall)


# ------------------------------------------------------------------------------------------------- what differs


def differences(trained: Look, other: Look, channels: int) -> list[str]:
    """One sentence for everything in which the faces of another set differ from those that a run learned from."""
    found = [framed_otherwise(trained.place, other.place, "its faces", "those of training")]
    if channels == 3 and trained.grey != other.grey:
        found.append("its pictures are grey and" if other.grey else "its pictures are in colour and")
        found[-1] += " those of training in colour" if other.grey else " those of training grey"
    if other.enlarged > ENLARGED * max(1.0, trained.enlarged):
        ours = f"{trained.enlarged:.1f} times" if trained.enlarged > 1 else "not at all"
        found.append(f"its pictures are enlarged {other.enlarged:.1f} times, those of training {ours}")
    if not 1 / SCALED <= other.stretched / trained.stretched <= SCALED:
        how = f"{other.stretched:.2f} in width over height, those of training {trained.stretched:.2f}"
        found.append(f"its faces are stretched by {how}")
    return [line for line in found if line]


def framed_otherwise(standard: Framing | None, other: Framing | None, its: str, standards: str) -> str:
    """How the faces called ``its`` lie otherwise than the standard's; "" if they do not."""
    if standard is None or other is None:
        return (
            f"too few frontal faces are found in {its if other is None else standards} to compare how they are framed"
        )
    return "" if _is_near(standard, other) else f"{its} are {_placed(other)}, {standards} {_placed(standard)}"


def _is_near(a: Framing, b: Framing) -> bool:
    moved = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
    return moved <= MOVED and 1 / SCALED <= a[2] / b[2] <= SCALED


def _placed(place: Framing) -> str:
    x, y, width = place
    return f"{width:.0%} of the height wide with the centre at {x:.0%} across, {y:.0%} down"


# -------------------------------------------------------------------------------------------------- the crop


def choose_crop(sample: Sample, trained: Look, size: Size, published: Sequence[str], boxes: bool) -> tuple[str, Look]:
    """The crop of a set that frames its faces as those of training, and how they look then.

    The first of the ``published`` crops that does, else a fixed box (where ``boxes`` may be used and pictures have one
    size), else the one that comes nearest. Crops that do not lie inside the pictures are passed over.
    """
    looks = {crop: Look.of(sample, crop, size) for crop in dict.fromkeys(published) if sample.takes(crop, size)}
    if boxes and not any(_alike(trained, look) for look in looks.values()):
        looks |= _boxes(sample, trained, size)
    chosen = next((crop for crop, look in looks.items() if _alike(trained, look)), None)
    chosen = chosen or min(looks, key=lambda crop: _distance(trained.place, looks[crop].place))
    return chosen, looks[chosen]


def _alike(one: Look, other: Look) -> bool:
    return one.place is not None and other.place is not None and _is_near(one.place, other.place)


def _distance(a: Framing | None, b: Framing | None) -> float:
    return float("inf") if a is None or b is None else max(abs(a[0] - b[0]), abs(a[1] - b[1]), abs(np.log(a[2] / b[2])))


def _boxes(sample: Sample, trained: Look, size: Size) -> dict[str, Look]:
    """Fixed boxes, each a better fit than the one before: what the cascade finds depends a little on the crop.

    None for pictures of several sizes, or if no faces are found in them.
    """
    found: dict[str, Look] = {}
    if len(sample.sizes) != 1 or trained.place is None:
        return found
    (picture,) = sample.sizes
    box, look = (0, 0, picture[1], picture[0]), Look.of(sample, "none", picture)
    for _ in range(ROUNDS):
        if look.place is None:
            break
        box = mapped(_in_whole(look.place, box, picture), picture, trained.place, size, trained.stretched)
        crop = "box-" + "-".join(map(str, box))
        look = found[crop] = Look.of(sample, crop, size)
        if _alike(trained, look):
            break
    return found


def _in_whole(place: Framing, box: Box, picture: Size) -> Framing:
    """A framing within a box as one within the whole picture."""
    left, top, right, bottom = box
    x, y = left + place[0] * (right - left), top + place[1] * (bottom - top)
    return x / picture[1], y / picture[0], place[2] * (bottom - top) / picture[0]


def mapped(place: Framing, picture: Size, wanted: Framing, size: Size, stretched: float = 1.0) -> Box:
    """(left, top, right, bottom) of the box in pictures of one size whose crop, at ``size``, has faces at ``wanted``.

    ``place`` is where faces lie in the whole pictures, whose pixels the crop makes ``stretched`` times as wide as tall.
    A box that would leave the picture is shrunk, then moved, as little as needed, as `faceforge cut` does.
    """
    height, width = picture
    face = place[2] * height  # of the Haar box, in pixels
    tall = face / wanted[2]
    wide = tall * size[1] / size[0] / stretched
    x, y = place[0] * width + (0.5 - wanted[0]) * wide, place[1] * height + (0.5 - wanted[1]) * tall
    inside = fit(Frame(x, y, wide, tall), width, height)
    wide, tall = min(width, max(1, round(inside.w))), min(height, max(1, round(inside.h)))
    left, top = (_start(at, long, most) for at, long, most in ((inside.x, wide, width), (inside.y, tall, height)))
    return left, top, left + wide, top + tall


def _start(middle: float, length: int, most: int) -> int:
    return min(max(0, round(middle - length / 2)), most - length)
