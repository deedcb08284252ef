"""Tables as other people's programs write them: encoding, separator, quotes, index column; names of images matched."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import BinaryIO

from faceforge.errors import BadInput

CHUNK = 2**16  # bytes
SEPARATORS = "\t;,|"  # the first wins a tie; without any of them cells are separated by spaces
ENDING = re.compile(r"\.(jpe?g|jpe|jfif|jpg_large|png|webp|bmp|tiff?|gif|p[bgnp]m|avif|hei[cf])$")
TRUE = {"true", "yes", "wahr", "vrai", "verdadero", "vero"}  # spreadsheets translate true and false
FALSE = {"false", "no", "falsch", "faux", "falso"}
UNKNOWN = {"", "nan", "na", "n/a", "null", "#n/a", "<na>", "nat"}  # in any column
NO_NUMBER = UNKNOWN | {"none", "missing", "unknown", "undefined", "nil", "n.a.", "n/d", "n.d.", "k.a.", "#nv"}
MARKS = re.compile(r"[-\u2013\u2014.?*]+|#[\w/]+[!?]")  # in a column of numbers: dashes, and errors of spreadsheets
MARK = r"[\s'\u2019]"  # of thousands

Line = tuple[int, list[str]]  # the number of a line, from 1, and its cells


class NoText(BadInput):
    """A file that is not text."""


def encoding_of(file: BinaryIO) -> str:
    """The encoding of a text file, read in chunks and rewound: UTF-8 or UTF-16 with or without BOM, else cp1252.

    UTF-32 has a BOM.

    Raises NoText.
    """
    head = file.read(CHUNK)
    encoding = _unicode_of(head)
    if encoding == "utf-8-sig":
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for chunk in chain([head], iter(lambda: file.read(CHUNK), b"")):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            encoding = "cp1252"
        if b"\0" in head:
            raise NoText("has zero bytes; must be text")
    file.seek(0)
    return encoding


def first_rows(file: BinaryIO, count: int = 5) -> list[list[str]]:
    """The cells of each of the first lines of a table, which is rewound; none if it is not text.

    A line without a separator other than spaces is one cell.
    """
    try:
        encoding = encoding_of(file)
        lines = io.TextIOWrapper(io.BytesIO(file.read(CHUNK)), encoding, errors="replace").read().splitlines()
        given = ((line, separator_of(line).replace(" ", "\t")) for line in lines[:count])
        return [cells for line, separator in given for cells in csv.reader([line], delimiter=separator)]
    except (NoText, UnicodeError, csv.Error):
        return []
    finally:
        file.seek(0)


def _unicode_of(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = len(head) // 2
    if pairs > 3 and head[1::2].count(0) > 0.4 * pairs and 0 not in head[::2]:
        return "utf-16-le"
    if pairs > 3 and head[::2].count(0) > 0.4 * pairs and 0 not in head[1::2]:
        return "utf-16-be"
    return "utf-8-sig"


def lines_of(text: Iterable[str]) -> Iterator[Line]:
    """The rows of a CSV or a table separated by spaces, as a stream; blank lines are left out. Raises csv.Error.

    The separator is the most frequent one of the header, the first line that is no comment (#) and more than a number,
    or the one that a spreadsheet names in a line ``sep=;``.
    """
    stream, seen = iter(text), [""]
    named = None
    for line in stream:
        named = named or re.fullmatch(r"sep=(.)", line.strip(' \r\n"'))
        seen.append("" if named and named[0] in line and len(seen) == 1 else line)
        if seen[-1].strip() and not line.startswith("#") and not re.fullmatch(r"[\d\s;,\t|\"]+", line):
            break
    separator = named[1] if named else separator_of(seen[-1])
    every: Iterable[str] = chain(seen[1:], stream)
    if separator == " ":
        every = (" ".join(line.split()) for line in every)
    reader = csv.reader(every, delimiter=separator, skipinitialspace=separator == " ", strict=True)
    for cells in reader:
        if any(map(str.strip, cells)):
            yield reader.line_num, cells


def separator_of(header: str) -> str:
    """The most frequent separator of a line outside its quotes."""
    counts = Counter(re.sub(r'"[^"]*"', "", header))
    best = max(SEPARATORS, key=counts.__getitem__)
    return best if counts[best] else " "


def read(data: bytes, where: str) -> list[Line]:
    """All rows of a table with trimmed cells, without a leading count of rows and without the index column of pandas.

    Raises BadInput naming ``where``.
    """
    file = io.BytesIO(data)
    try:
        text = io.TextIOWrapper(file, encoding_of(file), newline="", errors="replace")
        trimmed = _Trimmed()
        rows = [(line, [trimmed[cell] for cell in cells]) for line, cells in lines_of(text)]
    except (UnicodeError, csv.Error, NoText) as error:
        raise BadInput(f"{where}: cannot be read as CSV ({error})") from error
    if rows and rows[0][1][0].isdigit() and not any(rows[0][1][1:]) and len(rows) > 1 and len(rows[1][1]) > 1:
        rows = rows[1:]
    rows = [(line, cells[1:]) for line, cells in rows] if _has_index(rows) else rows
    return _without_empty_columns(rows)


def _without_empty_columns(rows: list[Line]) -> list[Line]:
    """The rows without the columns that separators at the ends of lines, or doubled ones, make."""
    if len({len(cells) for _, cells in rows}) != 1 or all(rows[0][1]):
        return rows
    kept = [n for n in range(len(rows[0][1])) if n == 0 or any(cells[n] for _, cells in rows)]
    return [(line, [cells[n] for n in kept]) for line, cells in rows]


class _Trimmed(dict[str, str]):
    """Cells without spaces around them; equal ones share their memory."""

    def __missing__(self, cell: str) -> str:
        self[cell] = text = sys.intern(cell.strip())
        return text


def _has_index(rows: Sequence[Line]) -> bool:
    """Whether the first column counts the rows under no name, as pandas writes it."""
    if len(rows) < 2 or not re.fullmatch(r"(unnamed: ?\d+|index|)", rows[0][1][0].lower()) or len(rows[0][1]) < 3:
        return False
    first = [cells[0] for _, cells in rows[1:]]
    return first[0].isdigit() and first == [str(int(first[0]) + n) for n in range(len(first))]


def number(text: str) -> float | None:
    """As decimal(), and true or false as 1 or 0; nan if unknown or infinite."""
    word = text.strip().lower()
    if word in NO_NUMBER or MARKS.fullmatch(word):
        return float("nan")
    value = float(word in TRUE) if word in TRUE or word in FALSE else decimal(word)
    return value if value is None or math.isfinite(value) else float("nan")


def decimal(text: str) -> float | None:
    """A number with a decimal point or comma and any marks of thousands, None if it is none."""
    word = text.strip().lower().replace("\u2212", "-")
    if re.fullmatch(rf"[+-]?\d{{1,3}}({MARK}\d{{3}})+([.,]\d+)?", word):
        word = re.sub(MARK, "", word)
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+\.\d+", word):
        word = word.replace(",", "")
    elif re.fullmatch(r"[+-]?[\d.]*,\d+(e[+-]?\d+)?", word):
        word = word.replace(".", "").replace(",", ".")
    try:
        return None if "_" in word else float(word)
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------- names of images


def plain(name: str) -> str:
    """A path in the form in which names are compared: composed Unicode, slashes, no case, no ending."""
    parts = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").casefold().split("/")
    return ENDING.sub("", "/".join(part for part in parts if part not in ("", ".")))


def shown(cell: str) -> str:
    """The start of a cell on one line, for messages."""
    return " ".join(cell.split())[:80]


@dataclass(frozen=True)
class Match:
    """For each name of a table the place of its image, -1 if there is none."""

    names: Sequence[str]
    ids: Sequence[str]
    places: Sequence[int]

    def told(self, table: str) -> str:
        """One line with an example of what found no partner on either side."""
        taken = set(self.places) - {-1}
        said = f"{table}: {len(taken):,} of {len(self.ids):,} images matched"
        alone = next((face for n, face in enumerate(self.ids) if n not in taken), None)
        extra = next((name for name, place in zip(self.names, self.places, strict=True) if place < 0), None)
        said += f"; no row for {alone}" if alone is not None else ""
        rows = sum(place < 0 for place in self.places)
        return said + (f"; {rows:,} rows without an image, such as {shown(extra)}" if extra is not None else "")


class Images:
    """The ids of images, to be found by the names that a table gives them."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self._exact = {face: n for n, face in enumerate(ids)}

    @cached_property
    def _whole(self) -> dict[str, int]:
        return _places((n, plain(face)) for n, face in enumerate(self.ids))

    @cached_property
    def _tails(self) -> dict[str, int]:
        paths = ((n, plain(face).split("/")) for n, face in enumerate(self.ids))
        return _places((n, "/".join(parts[first:])) for n, parts in paths for first in range(len(parts)))

    def find(self, name: str) -> int:
        """The image with this id, else the only one whose path ends as this one does; -1 if there is none."""
        if name in self._exact:
            return self._exact[name]
        parts = plain(name).split("/")
        if self._whole.get("/".join(parts), -1) >= 0:
            return self._whole["/".join(parts)]
        tails = ("/".join(parts[first:]) for first in range(len(parts)))
        return next((self._tails[tail] for tail in tails if tail in self._tails), -1)

    def match(self, names: Sequence[str], where: str, rows: Sequence[object] | None = None) -> Match:
        """Find all names of a table.

        Raises BadInput if none is found, or if two rows name one image; rows that are equal may.
        """
        places = [self.find(name) for name in names]
        known: dict[int, int] = {}
        for n, place in enumerate(places):
            first = known.setdefault(place, n)
            same = rows is not None and (names[first], rows[first]) == (names[n], rows[n])
            if place >= 0 and first != n and not same:
                raise BadInput(f"{where}: {self.ids[place]} has {places.count(place)} rows; must be one")
        if self.ids and not known.keys() - {-1}:
            example = f"{shown(names[0])}, {self.ids[0]}" if names else "it has no rows"
            raise BadInput(f"{where}: no row names an image of the dataset ({example})")
        return Match(names, self.ids, places)


def _places(names: Iterable[tuple[int, str]]) -> dict[str, int]:
    """The place of each name, -1 for one that is not alone."""
    found: dict[str, int] = {}
    for n, name in names:
        found[name] = -1 if name in found else n
    return found
