"""What a manifest says about its faces as a set: counts, columns of numbers, skews in words, and their mean.

It is read row by row; only numbers are kept of each, so a hundred thousand faces take some megabytes.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from faceforge.data.sources.crops import PEOPLE_FROM
from faceforge.io.attributes import Attributes
from faceforge.io.manifest import NO_FACE, NONE, VERDICTS, Row

FEW = 20  # accepted faces below which nothing is said of them
AHEAD = 0.15  # of yaw: an angle of some ten degrees
LABELS_TOLD = 8
SETS = 50  # so many sub-folders are told apart


class Measure(NamedTuple):
    """A column as a histogram: its scale, or None where the values decide; whole numbers have a bar each."""

    name: str
    title: str
    note: str
    low: float | None = None
    high: float | None = None
    whole: bool = False


MEASURES = (
    Measure("yaw", "Head turn", "0 looks straight ahead, -1 and 1 are profiles", -1, 1),
    Measure("roll", "Head tilt", "degrees clockwise in the photo"),
    Measure("brightness", "Brightness", "mean luma of the crop, 0 to 255", 0, 255),
    Measure("contrast", "Contrast", "standard deviation of the crop's luma", 0, 100),
    Measure("sharpness", "Sharpness", "variance of the Laplacian at 128 pixels", 0),
    Measure("box_w", "Size in the photo", "width of the detected box in pixels", 0),
    Measure("scale", "Enlargement", "crop pixels per photo pixel; above 1 the crop is enlarged", 0),
    Measure("score", "Score", "confidence of the detector"),
    Measure("moved", "Frame shift", "how far the frame moved to stay inside the photo, in frame widths", 0),
    Measure("shrunk", "Frame size kept", "share of its size that the frame kept to fit into the photo", None, 1),
)


@dataclass
class Summary:
    """The set in numbers. ``verdict`` and each of ``values`` hold one entry a face, in the manifest's order."""

    verdicts: Counter[str] = field(default_factory=Counter)  # NONE counts photos without a face
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (verdict, reason without its numbers)
    numbers: Counter[int] = field(default_factory=Counter)  # how many faces are a photo's n-th
    folders: Counter[str] = field(default_factory=Counter)  # accepted faces by the first sub-folder
    same: Counter[str] = field(default_factory=Counter)  # near duplicates by the first face of each group
    people: Counter[str] = field(default_factory=Counter)  # further faces of a person by the first
    colours: NDArray[np.int64] = field(default_factory=lambda: np.zeros((64, 4), np.int64))  # R, G, B sums and count
    verdict: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))  # the place in VERDICTS
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # nan where unknown

    @property
    def unread(self) -> int:
        """How many photos could not be read, so that nobody knows whether they show a face."""
        return sum(n for (verdict, reason), n in self.reasons.items() if verdict == NONE and reason != NO_FACE)

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Which faces are accepted."""
        return self.verdict == VERDICTS.index("accepted")

    def photos(self) -> list[int]:
        """How many photos hold 0, 1, 2, ... faces."""
        most = max((n for n in self.numbers if n), default=0)
        full = [max(0, self.numbers[n] - self.numbers[n + 1]) for n in range(1, most + 1)]
        return [self.numbers[0], *full]

    def known(self, name: str) -> NDArray[np.float32]:
        """The measured values of the accepted faces."""
        values = self.values[name][self.accepted]
        return values[~np.isnan(values)]

    def sets(self) -> Counter[str]:
        """Accepted faces by sub-folder where folders are sets of pictures; none where they are people."""
        return self.folders if 2 <= len(self.folders) < PEOPLE_FROM and "" not in self.folders else Counter()


def summarise(rows: Iterable[Row]) -> Summary:
    """Read a manifest's rows once."""
    found = Summary()
    verdict, values = array("B"), {measure.name: array("f") for measure in MEASURES}
    for row in rows:
        found.verdicts[row.verdict] += 1
        found.numbers[row.n] += 1
        for reason in _kinds(row):
            found.reasons[row.verdict, reason] += 1
        if row.verdict == NONE:
            continue
        verdict.append(VERDICTS.index(row.verdict))
        for name, column in values.items():
            value = getattr(row, name)
            column.append(float("nan") if value is None else value)
        _count_words(found, row)
    found.verdict = np.array(verdict, np.uint8)
    found.values = {name: np.array(column, np.float32) for name, column in values.items()}
    return found


def _kinds(row: Row) -> set[str]:
    """The reasons of a row without the numbers and names that differ from face to face."""
    reason = row.reason.replace(row.same_as, "another") if row.same_as else row.reason
    return {re.sub(r"\d+(\.\d+)?", "…", part) for part in reason.split("; ") if part}


def _count_words(found: Summary, row: Row) -> None:
    if row.same_as and row.same_as != row.face:
        found.same[row.same_as] += 1
    if row.person and row.person != row.face:
        found.people[row.person] += 1
    if row.verdict != "accepted":
        return
    folder = row.face.split("/")[0] if "/" in row.face else ""
    if folder in found.folders or len(found.folders) < SETS:
        found.folders[folder] += 1
    if re.fullmatch("#[0-9a-f]{6}", row.dominant_colour):
        r, g, b = bytes.fromhex(row.dominant_colour[1:])
        found.colours[(r >> 6) * 16 + (g >> 6) * 4 + (b >> 6)] += (r, g, b, 1)


# ---------------------------------------------------------------------------------------------- skews in words


def skews(found: Summary, attributes: Attributes | None = None) -> Iterator[str]:
    """One sentence for each strong skew, with the limit that makes it one.

    ``attributes`` are names and values (N, A) of the manifest's faces in its order, nan where unknown.
    """
    yield from _losses(found)
    count = found.verdicts["accepted"]
    if count < FEW:
        yield f"Only {count} faces are accepted: too few to say what they have in common."
        return
    yield from _pose(found)
    yield from _light(found)
    yield from _detail(found)
    yield from _repeats(found)
    yield from _labels(found, attributes)


def _losses(found: Summary) -> Iterator[str]:
    faces, photos = sum(found.verdicts[name] for name in VERDICTS), found.photos()
    lost = faces - found.verdicts["accepted"]
    if lost >= 0.3 * faces > 0:
        reasons = Counter({reason: n for (verdict, reason), n in found.reasons.items() if verdict in VERDICTS[1:]})
        why = "".join(f" The most frequent reason ({n:,}): {reason}." for reason, n in reasons.most_common(1))
        yield f"{of(lost / faces)} are not accepted (limit 30%).{why}"
    if found.unread:
        yield f"{found.unread:,} photos could not be read; the list of photos without a face tells why."
    without = photos[0] - found.unread
    if without >= 0.2 * sum(photos) > 0:
        yield f"{of(without / sum(photos), 'photos')} show no face (limit 20%)."
    if sum(photos[2:]) >= 0.3 * sum(photos) > 0:
        yield f"{of(sum(photos[2:]) / sum(photos), 'photos')} show several faces (limit 30%). Some are bystanders."


def _pose(found: Summary) -> Iterator[str]:
    yaw, roll = found.known("yaw"), found.known("roll")
    if len(yaw) >= FEW:
        ahead = float((abs(yaw) < AHEAD).mean())
        if ahead >= 0.8:
            yield f"{of(ahead)} look straight ahead (turned by less than {AHEAD}; limit 80%). There are few profiles."
        side = yaw[abs(yaw) >= AHEAD]
        left = float((side < 0).mean()) if len(side) >= FEW else 0.5
        if max(left, 1 - left) >= 0.7:
            share, where = of(max(left, 1 - left), "faces that are turned"), "left" if left > 0.5 else "right"
            yield f"{share} look to the {where} (limit 70%)."
    if len(roll) >= FEW and abs(middle := float(np.median(roll))) >= 4:
        way = "clockwise" if middle > 0 else "counterclockwise"
        yield f"Half of the faces are tilted {way} by more than {abs(middle):.0f} degrees (limit 4)."


def _light(found: Summary) -> Iterator[str]:
    light = found.known("brightness")
    if len(light) >= FEW:
        low, high = np.percentile(light, [25, 75])
        if low < 70:
            yield f"A quarter of the faces is darker than {low:.0f} of 255 (limit 70)."
        if high > 180:
            yield f"A quarter of the faces is brighter than {high:.0f} of 255 (limit 180)."
        if high - low < 20:
            yield f"Half of the faces have similar brightness, {low:.0f} to {high:.0f} (limit: 20 apart)."


def _detail(found: Summary) -> Iterator[str]:
    rules = (
        ("contrast", lambda v: v < 30, "are pale: their contrast is below 30"),
        ("box_w", lambda v: v < 64, "were narrower than 64 pixels in their photo"),
        ("scale", lambda v: v > 1.5, "are enlarged more than 1.5 times and show less detail than their size suggests"),
        ("sharpness", lambda v: v < 30, "are soft: their sharpness is below 30"),
        ("moved", lambda v: v > 0.1, "are off-centre: their frame was moved by more than a tenth of its width"),
        ("shrunk", lambda v: v < 0.9, "look larger than the rest: their frame was reduced below 0.9 of its size"),
    )
    for name, test, words in rules:
        values = found.known(name)
        if len(values) >= FEW and (share := float(test(values).mean())) >= 0.2:
            yield f"{of(share)} {words} (limit 20%)."


def _repeats(found: Summary) -> Iterator[str]:
    faces = sum(found.verdicts[name] for name in VERDICTS)
    same, again = sum(found.same.values()), sum(found.people.values())
    if same >= 0.05 * faces:
        yield f"{of(same / faces)} are near duplicates of another face (limit 5%)."
    if again >= 0.3 * faces:
        yield f"{of(again / faces)} repeat a person (limit 30%)."
    most = max(found.people.values(), default=0) + 1
    if most > max(1, 0.1 * faces):
        yield f"One person has {most:,} of the {faces:,} faces (limit 10%)."


def _labels(found: Summary, attributes: Attributes | None) -> Iterator[str]:
    sets = found.sets()
    for name, most in sets.most_common(1):
        if most >= 0.65 * sets.total():
            yield f"{of(most / sets.total())} are in the folder \u2068{name}\u2069 (limit 65%)."
    known = sorted(shares(found, attributes), key=lambda pair: (pair[1], pair[0]))
    for name, share in [pair for pair in reversed(known) if pair[1] >= 0.8][:LABELS_TOLD]:
        yield f"{of(share)} have the label \u2068{name}\u2069 (limit 80%)."
    rare = [f"\u2068{name}\u2069 {share:.1%}" for name, share in known if share < 0.1]
    if rare:
        more = f" and {len(rare) - LABELS_TOLD} more" if len(rare) > LABELS_TOLD else ""
        yield f"Rare labels (below 10%): {', '.join(rare[:LABELS_TOLD])}{more}."


def shares(found: Summary, attributes: Attributes | None) -> list[tuple[str, float]]:
    """Which share of the accepted faces has each label whose values are 0 and 1, of those where it is known."""
    names, values = attributes if attributes is not None else ([], np.zeros((len(found.verdict), 0)))
    result = []
    for name, column in zip(names, values[found.accepted].T, strict=True):
        column = column[~np.isnan(column)]
        if len(column) and np.isin(column, (0, 1)).all():
            result.append((name, float(column.mean())))
    return result


def of(share: float, noun: str = "faces") -> str:
    """A share as one says it: "9 of 10 faces (88%)", towards the ends "2.5% of the faces"."""
    tenths = round(10 * share)
    if 1 <= tenths <= 9:
        return f"{tenths} of 10 {noun} ({share:.0%})"
    return f"{'None' if share == 0 else 'All' if share == 1 else f'{share:.1%}'} of the {noun}"


# --------------------------------------------------------------------------------------------------- mean face


class Mean:
    """Mean and standard deviation of pictures, exact whatever their order: sums of whole numbers."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._squares = np.zeros((1, 1, 3), np.int64)

    def add(self, picture: np.ndarray) -> None:
        """One more uint8 (H, W, 3) or (H, W); it is brought to the size of the first."""
        picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
        if not self.count:
            self._sum, self._squares = (np.zeros(picture.shape, np.int64) for _ in range(2))
        height, width = len(self._sum), len(self._sum[0])
        if picture.shape[:2] != (height, width):
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        values = picture.astype(np.int64)
        self._sum += values
        self._squares += values * values
        self.count += 1

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean as uint8 (H, W, 3), and the deviation as float64 (H, W): root of the channels' mean variance.

        Raises ZeroDivisionError where nothing was added.
        """
        mean = self._sum / self.count
        variance = np.maximum(self._squares / self.count - mean**2, 0).mean(axis=2)
        return np.rint(mean).astype(np.uint8), np.sqrt(variance)
