"""`_review/index.html` and the contact sheets: what was cut, as pages that a person can scan in a browser.

They are written from the manifest alone, hold no time and no path outside DST, and need nothing but the pictures
beside them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from faceforge.cut import summary
from faceforge.cut.summary import MEASURES, Mean, Measure, Summary
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError, decode, write_png
from faceforge.io.manifest import NAME, NONE, VERDICTS, Row
from faceforge.report import markup
from faceforge.report.markup import Html, join, name_of, pairs, table, tag

PER_PAGE = 200
KINDS = (*VERDICTS, "without")
MADE = "faceforge cut"  # in each page's head: what lacks it is not ours to replace or remove
GROUPS, IN_GROUP = 24, 12  # shown of near duplicates and of people: groups, and faces of each
REASONS, COLOURS, LABELS = 40, 16, 60
MEAN_OF = 10_000  # faces of which the mean is made, evenly through the set
SIZE = (120, 90)  # of a thumbnail where none can be read
HEIGHT, WIDTH, FLOOR, TOP, EDGE = 150, 320, 132, 16, 12  # a histogram, where its bars stand and end, room beside
COLOURED = {"accepted": 2, "doubtful": 4, "rejected": 5, "photos": 0}  # in the order of VERDICTS
NAMES = {**{kind: kind for kind in VERDICTS}, "without": "without a face"}
KEYS = Html(
    '<p class="remark keys"><kbd>&larr;</kbd> <kbd>&rarr;</kbd> <kbd>&uarr;</kbd> <kbd>&darr;</kbd> go from face to '
    "face, <kbd>Enter</kbd> opens the crop, <kbd>n</kbd> and <kbd>p</kbd> turn the page.</p>"
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
    body = _summary(found, groups, mean.write(), attributes)
    return _write(review / "index.html", _page(title, _counts(found), body[0], body[1]))


def thumb(face: str) -> str:
    """The thumbnail of a face below ``_review``."""
    return f"thumbs/{face.removesuffix('.png')}.jpg"


def crop(row: Row) -> str:
    """The crop of a face as seen from ``_review``."""
    return f"../{row.face}" if row.verdict == "accepted" else f"{row.verdict}/{row.face}"


# ------------------------------------------------------------------------------------------------------ page


def _page(title: str, status: object, links: Html, body: object, wide: bool = False) -> str:
    style = Path(markup.__file__).with_name("page.css").read_text(encoding="utf-8")
    style += Path(__file__).with_name("pages.css").read_text(encoding="utf-8")
    script = Path(__file__).with_name("pages.js").read_text(encoding="utf-8")
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", name="generator", content=MADE),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
            tag("title", title),
            tag("link", rel="icon", href="data:,"),
            tag("style", Html(style)),
        ]
    )
    top = tag("header", tag("p", "faceforge cut", class_="kicker"), tag("h1", name_of(title)), status, links)
    end = tag("footer", tag("p", "Written by faceforge from ", tag("code", NAME), "."))
    inside = tag("body", top, tag("main", body), end, tag("script", Html(script)), class_="wide" if wide else None)
    return "<!doctype html>\n" + tag("html", tag("head", head), inside, lang="en") + "\n"


def _policy(style: str, script: str) -> str:
    """Pictures from beside the page, this style and this script: whatever else slipped in does nothing."""
    own = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return f"default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{own[0]}'; script-src 'sha256-{own[1]}'"


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
        return f'content="{MADE}"'.encode() in file.read(1000)


def _count(found: Summary, kind: str) -> int:
    return found.verdicts[NONE if kind == "without" else kind]


def _pages_of(found: Summary, kind: str) -> int:
    return max(1, -(-_count(found, kind) // PER_PAGE))


def _file(kind: str, number: int = 1) -> str:
    return f"{kind}-{number:04d}.html"


def _links(here: str, found: Summary) -> Html:
    places = [("index", "index.html", "summary")]
    places += [(kind, _file(kind), f"{NAMES[kind]} {_count(found, kind):,}") for kind in KINDS]
    links = [tag("a", label, href=to, aria_current="page" if kind == here else None) for kind, to, label in places]
    return tag("nav", *links, aria_label="All pages")


# ------------------------------------------------------------------------------------------------ contact sheets


class Sheets:
    """The contact sheets, filled row by row: a page is written as soon as it is full."""

    def __init__(self, review: Path, title: str, found: Summary) -> None:
        self.review, self.title, self.found = review, title, found
        self.cells: dict[str, list[Html]] = {kind: [] for kind in KINDS}
        self.pages = Counter[str]()
        self.written: list[str] = []
        self.size: tuple[int, int] | None = None  # all crops of a set have one size

    def add(self, row: Row) -> None:
        """A face, or a photo without one."""
        kind = "without" if row.verdict == NONE else row.verdict
        self.size = self.size or _size(self.review, row)
        self.cells[kind].append(_missing(row) if kind == "without" else face(row, self.size or SIZE))
        if len(self.cells[kind]) == PER_PAGE:
            self._write(kind)

    def close(self) -> None:
        """Write what is left; each kind has at least one page."""
        for kind in KINDS:
            if self.cells[kind] or not self.pages[kind]:
                self._write(kind)

    def _write(self, kind: str) -> None:
        self.pages[kind] += 1
        number, last = self.pages[kind], _pages_of(self.found, kind)
        cells, self.cells[kind] = self.cells[kind], []
        first, count = PER_PAGE * (number - 1) + 1, _count(self.found, kind)
        what = "photos without a face" if kind == "without" else f"{kind} faces"
        status = f"{first:,} to {first + len(cells) - 1:,} of {count:,} {what}" if cells else f"No {what}."
        turn = _turn(kind, number, last)
        inside = table(["Photo", "Why"], cells) if kind == "without" else tag("div", *cells, class_="faces")
        body = join([tag("p", status, class_="status"), turn, None if kind == "without" else KEYS, inside, turn])
        name = _file(kind, number)
        self.written.append(name)
        _write(self.review / name, _page(self.title, None, _links(kind, self.found), body, wide=True))


def _turn(kind: str, number: int, last: int) -> Html | None:
    """Links to the pages beside and to the first and last ones."""
    if last == 1:
        return None
    near = sorted({1, *range(max(1, number - 3), min(last, number + 3) + 1), last})
    pages = [
        tag("a", f"{n:,}", href=_file(kind, n), aria_label=f"page {n}", aria_current="page" if n == number else None)
        for n in near
    ]
    before = tag("a", "previous", href=_file(kind, number - 1), rel="prev") if number > 1 else None
    after = tag("a", "next", href=_file(kind, number + 1), rel="next") if number < last else None
    return tag("nav", before, *pages, after, aria_label=f"Pages of {kind}")


def face(row: Row, size: tuple[int, int]) -> Html:
    """A thumbnail that opens its crop, and what is known of it."""
    numbers = [
        None if row.score is None else tag("span", f"score {row.score:.2f}"),
        None if row.box_w is None else tag("span", f"{row.box_w:.0f} px"),
        None if row.sharpness is None else tag("span", f"sharp {row.sharpness:.0f}"),
    ]
    why = row.reason or (f"near duplicate of {row.same_as}" if row.same_as else "")
    return _figure(row, size, tag("div", *numbers), tag("p", name_of(why)) if why else None)


def _figure(row: Row, size: tuple[int, int], *said: object) -> Html:
    image = tag("img", src=_url(thumb(row.face)), alt=row.face, loading="lazy", width=size[1], height=size[0])
    caption = tag("figcaption", tag("b", name_of(row.face)), *said)
    return tag("figure", tag("a", image, href=_url(crop(row))), caption)


def _missing(row: Row) -> Any:
    return name_of(row.source), name_of(row.reason or "no face found")


def _size(review: Path, row: Row) -> tuple[int, int] | None:
    picture = _read_thumb(review, row) if row.face else None
    return None if picture is None else (picture.shape[0], picture.shape[1])


def _read_thumb(review: Path, row: Row) -> np.ndarray | None:
    try:
        return decode((review / thumb(row.face)).read_bytes())
    except (OSError, ValueError, ImageError):
        return None


def _url(path: str) -> str:
    return quote(path, errors="surrogateescape")


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

    def write(self) -> Html | None:
        """mean.png and deviation.png, and both as part of the page; None where there are no thumbnails."""
        if not self.mean.count:
            return None
        mean, deviation = self.mean.pictures()
        write_png(mean, self.review / "mean.png")
        write_png(np.minimum(np.rint(2 * deviation), 255).astype(np.uint8), self.review / "deviation.png")
        size = {"width": mean.shape[1], "height": mean.shape[0]}
        shown = [
            ("mean.png", f"Mean of {self.mean.count:,} accepted faces. What they share is sharp in it."),
            ("deviation.png", f"How they differ: standard deviation, {deviation.mean():.0f} of 127 on average; "
             "white is most. Dark areas are alike in all of them."),
        ]  # fmt: skip
        parts = [tag("figure", tag("img", src=at, alt=said, **size), tag("figcaption", said)) for at, said in shown]
        return tag("div", *parts, class_="pictures")


# ---------------------------------------------------------------------------------------------------- summary


def _counts(found: Summary) -> Html:
    photos = found.photos()
    linked = [(NAMES[kind], tag("a", f"{_count(found, kind):,}", href=_file(kind))) for kind in KINDS]
    return pairs([*linked, ("photos in all", f"{sum(photos):,}")], "counts")


def _summary(found: Summary, groups: Groups, mean: Html | None, attributes: Attributes | None) -> tuple[Html, Html]:
    """The links to the parts of the summary, and the parts."""
    told = list(summary.skews(found, attributes)) or ["No strong skew was found in what is measured here."]
    note = tag("p", "Each sentence names the limit from which it is told; it speaks of accepted faces unless it says "
               "otherwise.", class_="remark")  # fmt: skip
    front = [tag("div", tag("ul", *(tag("li", said) for said in told), class_="told"), note), mean]
    sections = [
        ("skews", "What stands out", tag("div", *front, class_="front")),
        ("reasons", "Verdicts and reasons", _reasons(found)),
        ("measures", "How the faces are", _measures(found)),
        ("colours", "Dominant colours", _colours(found)),
        ("labels", "Labels", _labels(found, attributes)),
        ("same", "Near duplicates", _groups(groups.same, found.same, "same_as")),
        ("people", "Repeated people", _groups(groups.people, found.people, "person")),
        ("next", "What next", _next()),
    ]
    parts = [(name, label, inside) for name, label, inside in sections if inside]
    links = tag("nav", *(tag("a", label, href=f"#{name}") for name, label, _ in parts), aria_label="Parts of this page")
    return links, join(tag("section", tag("h2", label), inside, id=name) for name, label, inside in parts)


def _reasons(found: Summary) -> Html | None:
    if not found.reasons:
        return None
    listed = sorted(found.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = [(name_of(reason), verdict, f"{n:,}") for (verdict, reason), n in listed[:REASONS]]
    rest = len(listed) - REASONS
    return join([table(["Reason", "Verdict", "Faces"], rows), tag("p", f"and {rest:,} more") if rest > 0 else None])


def _measures(found: Summary) -> Html:
    keys = [tag("li", tag("i", class_=f"key c{COLOURED[name]}"), name) for name in VERDICTS]
    legend = tag("ul", *keys, class_="legend")
    drawn = [histogram(measure, found.values[measure.name], found.verdict) for measure in MEASURES]
    photos = np.repeat(np.arange(len(found.photos()), dtype=np.float32), found.photos())
    per_photo = Measure("n", "Faces in a photo", "photos by how many faces were found in them", 0, whole=True)
    drawn.append(histogram(per_photo, photos, np.full(len(photos), len(VERDICTS), np.uint8)))
    note = "The words below speak of the accepted faces. The outermost bars hold all that lies beyond them."
    return join([legend, tag("p", note, class_="remark"), tag("div", *drawn, class_="charts three")])


def _colours(found: Summary) -> Html | None:
    cells = [cell for cell in found.colours.tolist() if cell[3]]
    total = sum(cell[3] for cell in cells)
    items = []
    for *sums, count in sorted(cells, key=lambda cell: -cell[3])[:COLOURS]:
        colour = "#" + "".join(f"{round(value / count):02x}" for value in sums)
        patch = tag("svg", tag("rect", width=1, height=1, fill=colour), viewBox="0 0 1 1", preserveAspectRatio="none",
                    role="img", aria_label=colour)  # fmt: skip
        items.append(tag("li", patch, f"{count / total:.1%}"))
    return tag("ul", *items, class_="colours") if items else None


def _labels(found: Summary, attributes: Attributes | None) -> Html | None:
    sets = [(name, count / found.sets().total()) for name, count in found.sets().items()]
    known = sorted([*sets, *summary.shares(found, attributes)], key=lambda pair: (-pair[1], pair[0]))
    items = [
        tag("li", tag("span", name_of(name.replace("_", " "))), tag("b", f"{share:.0%}"), _bar(share))
        for name, share in known[:LABELS]
    ]
    return tag("ul", *items, class_="attributes") if items else None


def _bar(share: float) -> Html:
    inner = tag("rect", width=f"{share:.4f}", height=1)
    return tag("svg", inner, viewBox="0 0 1 1", preserveAspectRatio="none", class_="share", aria_hidden="true")


def _groups(groups: dict[str, list[Row]], counts: Counter[str], column: str) -> Html | None:
    if not groups:
        return None
    parts = []
    for first, members in groups.items():
        head = tag("h3", f"{counts[first] + 1:,} faces")
        shown = tag("div", *(_figure(row, SIZE, tag("div", row.verdict)) for row in members), class_="faces")
        parts.append(tag("div", head, shown, class_="group"))
    more = len(counts) - len(groups)
    rest = tag("p", f"and {more:,} smaller groups: sort {NAME} by its column {column}.") if more else None
    return join([tag("div", *parts, class_="groups"), rest])


def _next() -> Html:
    steps = [
        ("Change the column verdict in manifest.csv to accepted, doubtful or rejected and run the same command again: "
         "only what changed is cut anew", "faceforge cut SRC DST"),
        ("See what the filters make of the crops", "faceforge filters DST"),
        ("Train on the accepted faces", "python train.py model=dcgan_conventional data=crops data.root=DST"),
    ]  # fmt: skip
    commands = [(tag("p", why), tag("pre", tag("code", what), class_="command", tabindex="0")) for why, what in steps]
    return tag("ul", *(tag("li", *parts) for parts in commands), class_="commands")


# -------------------------------------------------------------------------------------------------- histograms


def edges(values: np.ndarray, measure: Measure) -> np.ndarray:
    """The edges of about 20 bars of a round width over the measure's scale, or over what nearly all values span."""
    first, last = np.percentile(values, [1, 99])
    first = first if measure.low is None else measure.low
    last = values.max() + 1 if measure.whole else last if measure.high is None else measure.high
    if last - first < (room := 0.1 * max(1.0, abs(last))):  # all alike: one bar, with room beside it
        first, last = (first, first + room) if measure.high is None else (last - room, last)
    rough = max((last - first) / 20, float(measure.whole))
    size = 10.0 ** np.floor(np.log10(rough))
    width = next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= rough * 0.999)
    return np.arange(np.floor(first / width + 1e-6), np.ceil(last / width - 1e-6) + 1) * width


def histogram(measure: Measure, values: np.ndarray, verdict: np.ndarray) -> Html | None:
    """Values as bars, stacked by verdict, the outermost with all that lies beyond; None where nothing is known.

    ``verdict`` is each value's place in VERDICTS, or one more for what has none, like photos.
    """
    known = ~np.isnan(values)
    values, verdict = values[known].astype(float), verdict[known]
    if not len(values):
        return None
    at = edges(values, measure)
    width = at[1] - at[0]
    place = np.clip(np.floor((values - at[0]) / width + 1e-6).astype(int), 0, len(at) - 2)
    counts = np.stack([np.bincount(place[verdict == n], minlength=len(at) - 1) for n in range(len(COLOURED))])
    middle = values[verdict == 0] if (verdict == 0).any() else values
    digits = max(0, -int(np.floor(np.log10(width / 5))))
    quarters = [f"{value + 0.0:.{digits}f}" for value in np.percentile(middle, [25, 50, 75])]
    said = f"{measure.note}. Half lie between {quarters[0]} and {quarters[2]}, the middle is {quarters[1]}."
    drawn = tag("svg", *_bars(at, counts), *_ticks(at, measure.whole), viewBox=f"0 0 {WIDTH} {HEIGHT}",
                class_="bars", role="img", aria_label=f"{measure.title}: {said}")  # fmt: skip
    remark = tag("p", said[:1].upper() + said[1:], class_="remark")
    return tag("figure", tag("figcaption", measure.title), drawn, remark, class_="chart")


def _bars(at: np.ndarray, counts: np.ndarray) -> Iterator[Html]:
    step, top = (WIDTH - 2 * EDGE) / counts.shape[1], max(1, counts.sum(axis=0).max())
    for n in range(counts.shape[1]):
        base = float(FLOOR)
        bars, parts = [], []
        for (name, number), count in zip(COLOURED.items(), counts[:, n].tolist(), strict=True):
            if count:
                high = (FLOOR - TOP) * count / top
                base -= high
                shape = {"x": f"{EDGE + n * step + 0.5:.2f}", "width": f"{step - 1:.2f}", "y": f"{base:.2f}"}
                bars.append(tag("rect", **shape, height=f"{high:.2f}", class_=f"c{number}"))
                parts.append(f"{count:,} {name}")
        if bars:
            yield tag("g", tag("title", f"{at[n]:g} to {at[n + 1]:g}: {', '.join(parts)}"), *bars)
    most = int(counts.sum(axis=0).argmax())
    yield tag("text", f"{top:,}", x=f"{EDGE + (most + 0.5) * step:.2f}", y=TOP - 4, text_anchor="middle")
    yield tag("line", x1=EDGE, x2=WIDTH - EDGE, y1=FLOOR, y2=FLOOR)


def _ticks(at: np.ndarray, centred: bool) -> Iterator[Html]:
    """Numbers at every few edges, or below each few bars where a bar stands for a whole number."""
    step = (WIDTH - 2 * EDGE) / (len(at) - 1)
    every = next(k for k in (1, 2, 5, 10, 20, len(at)) if len(at) <= 7 * k)
    for n in range(-round(at[0] / (at[1] - at[0])) % every, len(at) - centred, every):
        x = EDGE + (n + centred / 2) * step
        yield tag("text", f"{at[n]:g}", x=f"{x:.2f}", y=FLOOR + 14, text_anchor="middle")
