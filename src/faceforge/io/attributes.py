"""Labels of faces from any CSV file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from faceforge.errors import BadInput
from faceforge.io import tables
from faceforge.io.tables import Line

MAX_TEXTS = 50  # a text column with more different values is not a label

Attributes = tuple[list[str], np.ndarray]


def read_attributes(file: str, ids: Sequence[str], told: list[str] | None = None) -> Attributes:
    """Names and float32 (N, A) values for the faces ``ids`` from a table whose first column names the image.

    A row belongs to the face with that id, or else with that file name if it is unique. Numbers are kept, -1 and 1
    become 0 and 1, as do false and true; a text column becomes one 0/1 column ``name=value`` per value; empty or
    missing values are nan. ``told`` receives how many faces were matched. Raises BadInput, also for a word in a
    column of numbers.
    """
    where = f"data.attributes={file}"
    header, rows = _read(file, where)
    images = tables.Images(ids)
    if images.find(header[0]) >= 0:
        raise BadInput(f"{where}: begins with {tables.shown(header[0])}; must have a header")
    match = images.match([cells[0] for _, cells in rows], where)
    found = [n for n, place in enumerate(match.places) if place >= 0]
    columns: dict[str, np.ndarray] = {}
    for n, name in enumerate(header[1:], start=1):
        for label, values in _column(where, name, [cells[n] for _, cells in rows], found):
            columns[label] = np.full(len(ids), np.nan, dtype=np.float32)
            columns[label][[match.places[row] for row in found]] = values[found]
    if all(np.isnan(column).all() for column in columns.values()):
        raise BadInput(f"{where}: every value of the matched rows is empty; must have values")
    if told is not None:
        told.append(match.told(where))
    return list(columns), np.stack(list(columns.values()), axis=1)


def labels_of(where: str, columns: Mapping[str, Sequence[str]]) -> Attributes | None:
    """The columns that are labels: numbers that are 0, 1 or -1, or at most ``MAX_TEXTS`` different texts; else None.

    Values are as in ``read_attributes``; numbers of any other kind (sizes, row numbers) are no labels.
    """
    labels: dict[str, np.ndarray] = {}
    for name, texts in columns.items():
        with suppress(BadInput):
            for label, values in _column(where, name, list(texts), list(range(len(texts)))):
                if set(values[~np.isnan(values)].tolist()) <= {-1.0, 0.0, 1.0}:
                    labels[label] = values.astype(np.float32)
    return (list(labels), np.stack(list(labels.values()), axis=1)) if labels else None


def read_dataset_json(data: bytes, names: Sequence[str], where: str) -> Attributes | None:
    """The labels of a StyleGAN2-ADA ``dataset.json``: {"labels": [[NAME, LABEL], ...]}, for the images ``names``.

    A class becomes one 0/1 column ``label=CLASS`` for each, a list of numbers one column for each number. None where
    there are no labels, nor such a table. Raises BadInput.
    """
    try:
        rows = dict(json.loads(data)["labels"] or ())
    except (ValueError, TypeError, KeyError):
        return None
    given = [rows.get(name) for name in names]
    if all(label is None for label in given):
        return None
    if all(label is None or isinstance(label, int) for label in given):
        classes = sorted({label for label in given if label is not None})
        if len(classes) > MAX_TEXTS:
            raise BadInput(f"{where}: {len(classes)} classes; must be at most {MAX_TEXTS}")
        columns = [[np.nan if label is None else label == one for label in given] for one in classes]
        return [f"label={one}" for one in classes], np.array(columns, dtype=np.float32).T
    width = max(len(label) for label in given if isinstance(label, list))
    if any(not isinstance(label, list) or len(label) != width for label in given if label is not None):
        raise BadInput(f"{where}: labels of several lengths; must be one number or as many for each image")
    unknown = [np.nan] * width
    return [f"label_{n}" for n in range(width)], np.array([label or unknown for label in given], dtype=np.float32)


def merge(own: Attributes | None, added: Attributes | None) -> Attributes | None:
    """A dataset's own attributes and added ones; an added one replaces one of the same name."""
    if own is None or added is None:
        return own or added
    kept = [n for n, name in enumerate(own[0]) if name not in added[0]]
    return [*(own[0][n] for n in kept), *added[0]], np.concatenate([own[1][:, kept], added[1]], axis=1)


def _read(file: str, where: str) -> tuple[list[str], list[Line]]:
    try:
        rows = tables.read(Path(file).expanduser().read_bytes(), where)
    except OSError as error:
        raise BadInput(f"{where}: cannot be read as CSV ({error.strerror})") from error
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise BadInput(f"{where}: must have a header, a column of file names and one of labels")
    header = rows[0][1]
    for n, (_, cells) in enumerate(rows, start=1):
        if len(cells) != len(header):
            raise BadInput(f"{where}: row {n} has {len(cells)} values, the header {len(header)}")
    twice = next((name for name in header[1:] if header.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{where}: two columns {tables.shown(twice)!r}; rename one")
    return header, rows[1:]


def _column(where: str, name: str, texts: list[str], found: list[int]) -> list[tuple[str, np.ndarray]]:
    """The columns of a label: itself if its cells, or those of the rows ``found``, are numbers; else one per text."""
    parsed = [tables.number(text) for text in texts]
    numbers = np.array([np.nan if value is None else value for value in parsed], dtype=np.float32)
    if None not in parsed or None not in [parsed[row] for row in found]:
        known = set(numbers[~np.isnan(numbers)].tolist())
        return [(name, np.where(numbers == -1, 0, numbers) if known <= {-1.0, 1.0} else numbers)]
    words = [row for row in found if parsed[row] is None]
    if len(words) < sum(tables.decimal(texts[row]) is not None and not np.isnan(numbers[row]) for row in found):
        row, word = words[0] + 2, tables.shown(texts[words[0]])
        raise BadInput(f"{where}: row {row}: {tables.shown(name)} is {word!r}; must be a number or empty, as most are")
    values = sorted({text for text in texts if text.lower() not in tables.UNKNOWN})
    if len(values) > MAX_TEXTS:
        raise BadInput(f"{where}: column {tables.shown(name)} has {len(values)} different text values; remove it")
    blank = np.array([text.lower() in tables.UNKNOWN for text in texts])
    return [
        (f"{name}={value}", np.where(blank, np.nan, np.array([text == value for text in texts], float)))
        for value in values
    ]
