"""HTML that is escaped unless it says that it is markup already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

# what no HTML document may hold: control characters and halves of surrogate pairs (from undecodable file names)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_VOID = {"img", "input", "link", "meta"}


class Html(str):
    """Markup: goes into a page as it is."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything, as text: escaped, with a visible mark for what cannot be shown."""
    return Html(value) if isinstance(value, Html) else Html(escape(_UNPRINTABLE.sub("\ufffd", str(value))))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element; None among the children is left out. `class_` is class, `aria_label` is aria-label."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    inside = "".join(f' {key}="{text(value)}"' for key, value in given.items())
    if name in _VOID:
        return Html(f"<{name}{inside}>")
    return Html(f"<{name}{inside}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after another; None is left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> Html:
    """A table whose first column heads its rows, in a frame that scrolls where the page is narrow."""
    top = tag("tr", *(tag("th", name, scope="col") for name in header))
    body = []
    for first, *rest in rows:
        body.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)))
    inner = tag("table", tag("thead", top), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label="table")


def pairs(items: Iterable[tuple[object, object]], kind: str = "pairs") -> Html:
    """Names with values, as a description list."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items]
    return tag("dl", *rows, class_=kind)


def times(sizes: Iterable[object]) -> str:
    """Sizes with multiplication signs between them."""
    return " \u00d7 ".join(map(str, sizes))


def name_of(value: object) -> Html:
    """A name from outside (a file, a person), kept from turning the direction of the words around it."""
    return tag("bdi", value)


def duration(seconds: float) -> str:
    """A time a person reads at a glance: 42 s, 3 min 05 s, 2 h 07 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
