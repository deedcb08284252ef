"""Runs filtered, sorted, and as the lines of a table that fits a terminal."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.runs.found import Entry, Found, Value

COLUMNS = ("name", "model", "data", "task", "images", "best", "state", "age", "size")
RIGHT = ("images", "age", "size")
LEFT_OUT = ("task", "data", "model", "images")  # in this order where a terminal is narrow: names often have them
LEAST_NAME = 16
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
COMPARISON = re.compile(r"([\w.@/]+?)(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
HOW: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


# ------------------------------------------------------------------------------------------------- filters and order


def filtered(entries: Iterable[Entry], filters: Iterable[str]) -> list[Entry]:
    """The runs for which every filter holds, such as ``state=finished``, ``best<0.1``, ``age>2d``. Raises BadInput."""
    tests = [_test(text) for text in filters]
    return [entry for entry in entries if all(test(entry) for test in tests)]


def _test(text: str) -> Callable[[Entry], bool]:
    parts = COMPARISON.fullmatch(text)
    if not parts:
        raise BadInput(f"--filter {text}: must be KEY=VALUE, or with != < <= > >= between them")
    key, sign, wanted = parts.groups()
    if "." not in key and key not in COLUMNS:
        raise BadInput(f"--filter {text}: {key} must be {', '.join(COLUMNS)}, or a dotted key of the config")
    number = amount(wanted, key)
    if number is None and sign not in ("=", "!="):
        raise BadInput(f"--filter {text}: {wanted!r} must be a number{_units(key)}")
    return lambda entry: _holds(entry.value(key), sign, wanted, number)


def _holds(value: Value, sign: str, wanted: str, number: float | None) -> bool:
    """A missing value is neither equal to anything nor smaller nor larger; words may have * and ?, and commas: or."""
    if isinstance(value, float | int) and not isinstance(value, bool) and number is not None:
        return HOW[sign](value, number)
    if sign not in ("=", "!="):
        return False
    text = "" if value is None else str(value)
    return any(fnmatchcase(text.lower(), word.strip().lower()) for word in wanted.split(",")) == (sign == "=")


def amount(text: str, key: str) -> float | None:
    """A number, for an age with a unit such as 30d, for a size with one such as 2GB; None if it is none."""
    found = re.fullmatch(r"([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([a-z]*)", text.strip().lower())
    units = {"": 1, **{"age": SECONDS, "size": BYTES}.get(key, {})}
    if not found or found[2] not in units:
        return None
    try:
        return float(found[1]) * units[found[2]]
    except ValueError:
        return None


def _units(key: str) -> str:
    return {"age": " with s, m, h, d, w or y", "size": " with kB, MB, GB or TB"}.get(key, "")


def ordered(entries: Iterable[Entry], key: str, reverse: bool) -> list[Entry]:
    """Runs by a column: newest, largest, most images and best scores first, names and words from a to z. A run without
    a value is last. Raises BadInput.
    """
    if key not in COLUMNS:
        raise BadInput(f"--sort {key}: must be one of {', '.join(COLUMNS)}")
    entries = sorted(entries, key=lambda entry: entry.name)
    known = [entry for entry in entries if entry.value(key) is not None]
    known.sort(key=lambda entry: _rank(entry, key), reverse=reverse)
    return known + [entry for entry in entries if entry.value(key) is None]


def _rank(entry: Entry, key: str) -> tuple[str, float]:
    value = entry.value(key)
    if key == "best":  # scores of different metrics are not comparable
        sign = -1 if entry.best.get("mode") == "max" else 1
        return str(entry.best.get("metric")), sign * (entry.best.number("value") or 0.0)
    if isinstance(value, str):
        return value, 0.0
    return "", float(value or 0.0) * (-1 if key in ("images", "size") else 1)


# ------------------------------------------------------------------------------------------------------- the table


def lines(entries: Sequence[Entry], width: int | None) -> list[str]:
    """A header and a line for each run, at most ``width`` wide if there is one: long names lose their middle, then
    columns are left out, which a last line names.
    """
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(cells, entries)]
    shown = list(COLUMNS)
    widths = {column: max(len(row[column]) for row in rows) for column in COLUMNS}
    if width is not None:
        for column in LEFT_OUT:
            if _total(shown, {**widths, "name": min(widths["name"], LEAST_NAME)}) > width:
                shown.remove(column)
        room = width - _total(shown, {**widths, "name": 0})
        widths["name"] = min(widths["name"], max(room, LEAST_NAME))
    made = ["  ".join(_cell(row[column], column, widths[column]) for column in shown).rstrip() for row in rows]
    missing = [column for column in COLUMNS if column not in shown]
    return [*made, f"(too narrow for {', '.join(missing)})"] if missing else made


def _total(shown: Sequence[str], widths: dict[str, int]) -> int:
    return sum(widths[column] for column in shown) + 2 * (len(shown) - 1)


def _cell(text: str, column: str, width: int) -> str:
    if len(text) > width:
        tail = (width - 1) // 2
        text = f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
    return text.rjust(width) if column in RIGHT else text.ljust(width)


def cells(entry: Entry) -> dict[str, str]:
    """What the table shows of a run."""
    images, best = entry.record.number("images"), entry.best
    return {
        "name": printable(entry.name),
        **{group: printable(entry.choice(group) or "-") for group in ("model", "data", "task")},
        "images": "-" if images is None else f"{images:,.0f}",
        "best": f"{printable(str(best['metric'])).removeprefix('val/')} {best['value']:.4g}" if best else "-",
        "state": printable(entry.state),
        "age": "-" if entry.age is None else duration(entry.age),
        "size": in_bytes(entry.size),
    }


def printable(text: str) -> str:
    """Names of folders and what files say may hold anything, also what moves the cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def duration(seconds: float) -> str:
    """Such as 5 min or 3 d."""
    for unit, size in (("y", SECONDS["y"]), ("d", SECONDS["d"]), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds < 1e3 * size else f"{seconds / size:.2g} {unit}"
    return f"{max(0.0, math.floor(seconds)):.0f} s"


def remarks(found: Found) -> list[str]:
    """Lines about folders that are not in the table."""
    said = []
    if found.broken:
        named = ", ".join(f"{printable(name)} ({why})" for name, why in sorted(found.broken.items()))
        said.append(f"{_counted(len(found.broken), 'folder')} cannot be read: {named}")
    if found.foreign:
        named = ", ".join(map(printable, sorted(found.foreign)))
        said.append(f"{_counted(len(found.foreign), 'folder')} without a run: {named}")
    return said


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
