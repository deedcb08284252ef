"""People and labels of samples that bring a row of values along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faceforge.data.layout import PEOPLE_FROM
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes, labels_of

PEOPLE = ("identity", "person", "person_id", "identity_id", "celeb_id", "subject", "subject_id")  # names of a column
Row = Mapping[str, object]


def flat(values: Row) -> dict[str, str]:
    """A row as texts; the values of a mapping in it belong to the row, lists and other things are left out."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value)
        elif value is None or isinstance(value, str | bool | int | float):
            found[name] = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    return found


def people_and_labels(
    where: str, rows: Sequence[Mapping[str, str]], person: str | None, classes: str | None = None
) -> tuple[list[str | None], Attributes | None]:
    """Each row's person, None where unknown, and the labels of all.

    ``person`` names the column of people; without it, it is one of PEOPLE, or the ``classes`` where there are at least
    eight of them. Raises BadInput naming ``where`` if no row has the column.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    if person is not None and person not in columns:
        has = ", ".join(names[:8]) or "none"
        raise BadInput(f"data.source.person={person}: no sample of {where} has it; must be one of {has}")
    by = person or next((name for name in PEOPLE if name in columns), None)
    if by is None and classes in columns and len(set(columns[classes]) - {""}) >= PEOPLE_FROM:
        by = classes
    people: list[str | None] = [name or None for name in columns[by]] if by else [None] * len(rows)
    return people, labels_of(where, {name: column for name, column in columns.items() if name != by})
