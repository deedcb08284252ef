"""`_review/index.html` and the contact sheets: what was cut, as pages that a person can scan in a browser.

They are written from the manifest alone, hold no time and no path outside DST, and need nothing but the pictures
beside them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np

from faceforge import words
from faceforge.cut import summary
from faceforge.cut.summary import MEASURES, Mean, Measure, Summary
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError, decode, write_png
from faceforge.io.manifest import NO_FACE, NONE, VERDICTS, Row
from faceforge.report.html import Pages, Share

if TYPE_CHECKING:
    from faceforge.cut.histograms import Histogram

PER_PAGE = 200
KINDS = (*VERDICTS, "without")
GROUPS, IN_GROUP = 24, 12  # shown of near duplicates and of people: groups, and faces of each
MEAN_OF = 10_000  # faces of which the mean is made, evenly through the set
SIZE = (120, 90)  # of a thumbnail where none can be read


def thumb(face: str) -> str:
    """The thumbnail of a face below ``_review``."""
    return f"thumbs/{face.removesuffix('.png')}.jpg"


def crop(row: Row) -> str:
    """The crop of a face as seen from ``_review``."""
    return f"../{row.face}" if row.verdict == "accepted" else f"{row.verdict}/{row.face}"


def _url(path: str) -> str:
    return quote(path, errors="surrogateescape")


PAGES = Pages(
    Path(__file__).parent / "templates",
    "pages.js",
    "'self' file: data:",
    "faceforge cut",
    crop=lambda row: _url(crop(row)),
    train=lambda overrides: words.train(*overrides.split()),
    thumb=lambda row: _url(thumb(row.face)),
)
Rows = Callable[[], Iterable[Row]]


def write_pages(dst: Path, rows: Rows, title: str, attributes: Attributes | None = None) -> Path:
    """Write the pages of a manifest into ``dst/_review``, each in one step; returns index.html.

    ``rows`` is called twice and read as a stream. ``attributes`` are names and values (N, A) of the manifest's
    faces in its order, nan where unknown. Pages of an earlier time that are no longer needed are removed. Raises
    BadInput where a file of somebody else is in the way, or the disk does not take them.
    """
    review = dst / "_review"
    try:
        return _write_all(review, rows, title, attributes)
    except OSError as error:
        raise BadInput(f"{error.filename or review}: cannot be written ({error.strerror})") from error


def _write_all(review: Path, rows: Rows, title: str, attributes: Attributes | None) -> Path:
    found = summary.summarise(rows())
    sheets = Sheets(review, title, found)
    groups = Groups(found)
    mean = MeanFace(review, found.verdicts["accepted"])
    for row in rows():
        sheets.add(row)
        groups.add(row)
        mean.add(row)
    sheets.close()
    _remove_old(review, set(sheets.written))
    index = Index(title, found, groups, mean.write(), attributes)
    return _write(review / "index.html", PAGES.render("index.html.j2", index))


# ------------------------------------------------------------------------------------------------------ files


def _write(path: Path, page: str) -> Path:
    if path.exists() and not _ours(path):
        raise BadInput(f"{path}: was not written by faceforge cut; move it elsewhere")
    with atomic_path(path) as beside:
        beside.write_text(page, encoding="utf-8", newline="\n")
    return path


def _remove_old(review: Path, written: set[str]) -> None:
    """Remove pages beyond those just written, if this command made them."""
    for path in review.glob("*-*.html"):
        if re.fullmatch(rf"({'|'.join(KINDS)})-\d{{4,}}\.html", path.name) and path.name not in written and _ours(path):
            path.unlink()


def _ours(path: Path) -> bool:
    with path.open("rb") as file:
        return b'content="faceforge cut"' in file.read(1000)


# ------------------------------------------------------------------------------------------------ contact sheets


@dataclass(frozen=True)
class Sheet:
    """The n-th page of faces of one kind, or of photos without a face."""

    title: str
    found: Summary
    kind: str
    count: int  # of this kind, on all pages
    number: int
    rows: list[Row]
    size: tuple[int, int]
    full = PER_PAGE

    @property
    def photos(self) -> list[tuple[str, str]]:
        """Photos without a face, each with the reason."""
        return [(row.source, row.reason or NO_FACE) for row in self.rows]


class Sheets:
    """The contact sheets, filled row by row: a page is written as soon as it is full."""

    def __init__(self, review: Path, title: str, found: Summary) -> None:
        self.review, self.title, self.found = review, title, found
        self.rows: dict[str, list[Row]] = {kind: [] for kind in KINDS}
        self.pages = Counter[str]()
        self.written: list[str] = []
        self.size: tuple[int, int] | None = None  # all crops of a set have one size

    def add(self, row: Row) -> None:
        """A face, or a photo without one."""
        kind = "without" if row.verdict == NONE else row.verdict
        self.size = self.size or _size(self.review, row)
        self.rows[kind].append(row)
        if len(self.rows[kind]) == PER_PAGE:
            self._write(kind)

    def close(self) -> None:
        """Write what is left; each kind has at least one page."""
        for kind in KINDS:
            if self.rows[kind] or not self.pages[kind]:
                self._write(kind)

    def _write(self, kind: str) -> None:
        self.pages[kind] += 1
        rows, self.rows[kind] = self.rows[kind], []
        count = self.found.verdicts[NONE if kind == "without" else kind]
        sheet = Sheet(self.title, self.found, kind, count, self.pages[kind], rows, self.size or SIZE)
        self.written.append(f"{kind}-{sheet.number:04d}.html")
        _write(self.review / self.written[-1], PAGES.render("sheet.html.j2", sheet))


def _size(review: Path, row: Row) -> tuple[int, int] | None:
    picture = _read_thumb(review, row) if row.face else None
    return None if picture is None else (picture.shape[0], picture.shape[1])


def _read_thumb(review: Path, row: Row) -> np.ndarray | None:
    try:
        return decode((review / thumb(row.face)).read_bytes())
    except (OSError, ValueError, ImageError):
        return None


# ------------------------------------------------------------------------------------------------ groups and mean


class Groups:
    """The largest groups of near duplicates and of people, with their first faces."""

    def __init__(self, found: Summary) -> None:
        self.same, self.people = _largest(found.same), _largest(found.people)

    def add(self, row: Row) -> None:
        """A face: kept where it belongs to one of the groups that are shown."""
        for groups, first in ((self.same, row.same_as), (self.people, row.person)):
            members = groups.get(first or row.face)
            if members is not None and len(members) < IN_GROUP:
                members.append(row)


def _largest(counts: Counter[str]) -> dict[str, list[Row]]:
    return {first: [] for first, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:GROUPS]}


class MeanFace:
    """The mean of accepted crops and its deviation, from their thumbnails, evenly through the set."""

    def __init__(self, review: Path, accepted: int) -> None:
        self.review, self.step, self.seen, self.mean = review, -(-accepted // MEAN_OF) or 1, 0, Mean()

    def add(self, row: Row) -> None:
        """A face, if it is accepted and its turn."""
        if row.verdict != "accepted":
            return
        if self.seen % self.step == 0 and (picture := _read_thumb(self.review, row)) is not None:
            self.mean.add(picture)
        self.seen += 1

    def write(self) -> MeanPictures | None:
        """mean.png and deviation.png; None where there are no thumbnails."""
        if not self.mean.count:
            return None
        mean, deviation = self.mean.pictures()
        write_png(mean, self.review / "mean.png")
        write_png(np.minimum(np.rint(2 * deviation), 255).astype(np.uint8), self.review / "deviation.png")
        return MeanPictures(self.mean.count, float(deviation.mean()), mean.shape[1], mean.shape[0])


class MeanPictures(NamedTuple):
    """Of how many faces mean.png is, how much they deviate on average (0 to 127), and the pictures' size."""

    faces: int
    deviation: float
    width: int
    height: int


# ---------------------------------------------------------------------------------------------------- summary


@dataclass(frozen=True)
class Index:
    """The summary page; empty parts are left out there."""

    title: str
    found: Summary
    groups: Groups
    mean: MeanPictures | None
    attributes: Attributes | None
    size = SIZE

    @property
    def told(self) -> list[str]:
        """What stands out."""
        return list(summary.skews(self.found, self.attributes)) or ["No strong skew was found in these measurements."]

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """Reasons, the verdict of each and how often it was given; the most frequent first."""
        listed = sorted(self.found.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(reason, verdict, f"{n:,}") for (verdict, reason), n in listed]

    @property
    def histograms(self) -> list[Histogram]:
        """Of everything that is measured."""
        from faceforge.cut.histograms import histogram  # matplotlib takes a second to load

        photos = self.found.photos()
        faces = np.repeat(np.arange(len(photos), dtype=np.float32), photos)
        per_photo = Measure("n", "Faces in a photo", "photos by the number of faces found in them", 0, whole=True)
        drawn = [histogram(measure, self.found.values[measure.name], self.found.verdict) for measure in MEASURES]
        drawn.append(histogram(per_photo, faces, np.full(len(faces), len(VERDICTS), np.uint8)))
        return [one for one in drawn if one is not None]

    @property
    def colours(self) -> list[tuple[str, float]]:
        """The dominant colours, each with its share; the most frequent first."""
        cells = sorted((cell for cell in self.found.colours.tolist() if cell[3]), key=lambda cell: -cell[3])
        total = sum(cell[3] for cell in cells)
        return [
            ("#" + "".join(f"{round(value / count):02x}" for value in sums), count / total) for *sums, count in cells
        ]

    @property
    def labels(self) -> list[Share]:
        """Sub-folders and labels, each with its share of the accepted faces; the most frequent first."""
        sets = self.found.sets()
        known = [(name, count / sets.total()) for name, count in sets.items()]
        known = sorted([*known, *summary.shares(self.found, self.attributes)], key=lambda pair: (-pair[1], pair[0]))
        return [Share(name.replace("_", " "), f"{share:.0%}", share) for name, share in known]
