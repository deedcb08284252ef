"""Drawings of matplotlib inside a page: its SVG, with colours and letters left to the page's style."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = ("#0b6bcb", "#c4520a", "#0a7d5a", "#8a4fbf", "#8c6d00", "#b3316b")
RULE = "#dfe3e8"  # of grids and axes
STEPS = [1, 2, 2.5, 5, 10]  # between ticks
_CLASSES = {colour: f"c{n}" for n, colour in enumerate(COLOURS)} | {RULE: "rule"}
_KEPT = (
    "fill",
    "opacity",
    "stroke",
    "stroke-opacity",
    "stroke-width",
    "stroke-linejoin",
    "stroke-linecap",
    "text-anchor",
)
_DIGITS = re.compile(r"\d+\.\d{2,}")
_BARE = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def figure(width: float, height: float) -> Figure:
    """An empty figure whose units in SVG are those of ``width`` and ``height``; letters are 11 of them high."""
    return Figure(figsize=(width / 72, height / 72), facecolor="none")


def inline(drawing: Figure, name: str, told: str, titles: Mapping[str, str] | None = None) -> Markup:
    """The figure as an ``<svg>`` that may stand in a page beside others, the same bytes every time.

    ``name`` and ``told`` say what it shows to those who do not see it; ``name`` must be another for each figure of a
    page. An artist's gid becomes its class, and ``titles`` by gid are shown under the pointer. Colours of COLOURS and
    RULE become classes, so that the page may darken them.
    """
    file = BytesIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "path.simplify": False}):
        drawing.savefig(file, format="svg", metadata=_BARE)
    found = ElementTree.fromstring(file.getvalue())
    root = ElementTree.Element("svg", {"viewBox": found.attrib["viewBox"], "role": "img", "aria-label": name})
    ElementTree.SubElement(root, "desc").text = told
    root.extend(_plain(part, titles or {}) for part in found if not part.tag.endswith(("}metadata", "}style")))
    return Markup(ElementTree.tostring(root, "unicode"))


def _plain(found: ElementTree.Element, titles: Mapping[str, str]) -> ElementTree.Element:
    """A copy without namespaces, styles, generated ids and digits that nobody sees."""
    tag = found.tag.rpartition("}")[2]
    made = ElementTree.Element(tag, _attributes(tag, found.attrib))
    made.text = found.text if tag == "text" else None
    if made.get("class") in titles:
        ElementTree.SubElement(made, "title").text = titles[made.attrib.pop("class")]
    made.extend(_plain(part, titles) for part in found if not part.tag.endswith("}style"))
    return made


def _attributes(tag: str, found: Mapping[str, str]) -> dict[str, str]:
    made = {key.rpartition("}")[2]: _DIGITS.sub(_rounded, " ".join(value.split())) for key, value in found.items()}
    for declared in filter(None, made.pop("style", "").split(";")):
        key, _, value = (part.strip() for part in declared.partition(":"))
        if key in _KEPT:
            made[key] = "currentColor" if value in _CLASSES else value
            made |= {"class": _CLASSES[value]} if value in _CLASSES else {}
    if tag in ("g", "svg", "text") and (name := made.pop("id", "_")) and "_" not in name:
        made["class"] = name
    return made


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}"
