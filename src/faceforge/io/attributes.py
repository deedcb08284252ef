"""Labels of faces from any CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from faceforge.errors import BadInput

MAX_TEXTS = 50  # a text column with more different values is not a label
WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}

Attributes = tuple[list[str], np.ndarray]


def read_attributes(file: str, ids: Sequence[str]) -> Attributes:
    """Names and float32 (N, A) values for the faces ``ids`` from a CSV whose first column names the image.

    A row belongs to the face with that id, or else with that file name if it is unique. Numbers are kept, -1 and 1
    become 0 and 1, as do false and true; a text column becomes one 0/1 column ``name=value`` per value; empty or
    missing values are nan. Raises BadInput.
    """
    header, rows = _read(file)
    places = _match(file, [row[0] for row in rows], ids)
    names: list[str] = []
    columns: list[np.ndarray] = []
    for n, name in enumerate(header[1:], start=1):
        for label, values in _column(file, name, [row[n].strip() for row in rows]):
            column = np.full(len(ids), np.nan, dtype=np.float32)
            column[[place for place in places if place >= 0]] = values[[p >= 0 for p in places]]
            names.append(label)
            columns.append(column)
    return names, np.stack(columns, axis=1)


def merge(own: Attributes | None, added: Attributes | None) -> Attributes | None:
    """A dataset's own attributes and added ones; an added one replaces one of the same name."""
    if own is None or added is None:
        return own or added
    kept = [n for n, name in enumerate(own[0]) if name not in added[0]]
    return [*(own[0][n] for n in kept), *added[0]], np.concatenate([own[1][:, kept], added[1]], axis=1)


def _read(file: str) -> tuple[list[str], list[list[str]]]:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"data.attributes={file}: cannot be read as CSV ({reason})") from error
    if len(rows) < 2 or len(rows[0]) < 2:
        raise BadInput(f"data.attributes={file}: must have a header, a column of file names and one of labels")
    for n, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise BadInput(f"data.attributes={file}: row {n} has {len(row)} values, the header {len(rows[0])}")
    return rows[0], rows[1:]


def _match(file: str, pictures: Sequence[str], ids: Sequence[str]) -> list[int]:
    """The face of each row, -1 if there is none."""
    by_id = {face: n for n, face in enumerate(ids)}
    short = [PurePosixPath(face).name for face in ids]
    alone = Counter(short)
    by_name = {name: n for n, name in enumerate(short) if alone[name] == 1}
    paths = [PurePosixPath(picture.strip().replace("\\", "/")) for picture in pictures]
    places = [by_id.get(str(path), by_name.get(path.name, -1)) for path in paths]
    place, rows = Counter(place for place in places if place >= 0).most_common(1)[0] if max(places) >= 0 else (0, 0)
    if rows > 1:
        raise BadInput(f"data.attributes={file}: {ids[place]} has {rows} rows; must be one")
    if max(places) < 0:
        raise BadInput(f"data.attributes={file}: no row names an image of the dataset ({pictures[0]}, {ids[0]})")
    return places


def _column(file: str, name: str, texts: list[str]) -> list[tuple[str, np.ndarray]]:
    numbers = _numbers(texts)
    if numbers is not None:
        known = set(numbers[~np.isnan(numbers)].tolist())
        return [(name, np.where(numbers == -1, 0, numbers) if known <= {-1.0, 1.0} else numbers)]
    values = sorted(set(texts) - {""})
    if len(values) > MAX_TEXTS:
        raise BadInput(f"data.attributes={file}: column {name} has {len(values)} different text values; remove it")
    blank = np.array([text == "" for text in texts])
    return [
        (f"{name}={value}", np.where(blank, np.nan, np.array([text == value for text in texts], float)))
        for value in values
    ]


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    try:
        return np.array([WORDS.get(text.lower(), text or "nan") for text in texts]).astype(np.float32)
    except ValueError:
        return None
