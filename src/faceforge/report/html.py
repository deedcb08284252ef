"""Pages from Jinja templates: all that goes in is escaped, and a page loads nothing but what it carries."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

SHARED = Path(__file__).parent / "templates"
# what no HTML document may hold: control characters and halves of surrogate pairs (from undecodable file names)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Share(NamedTuple):
    """A name, the words beside it, and a bar as long as the share (0 to 1)."""

    name: str
    words: str
    share: float


class Pages:
    """The templates of ``folder`` and those that all pages share.

    Style and script stand in every page. Its policy admits them by their hashes and ``pictures`` from the named
    sources: even markup that slipped through could load or run nothing.
    """

    def __init__(
        self, folder: Path, script: str, pictures: str, generator: str, **filters: Callable[..., object]
    ) -> None:
        loader = FileSystemLoader([folder, SHARED])
        self._templates = Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
        )
        style, code = (loader.get_source(self._templates, name)[0] for name in ("page.css", script))
        policy = f"default-src 'none'; img-src {pictures}; style-src {_hash(style)}; script-src {_hash(code)}"
        shared = {"style": Markup(style), "script": Markup(code), "policy": policy, "generator": generator}
        self._templates.globals.update(shared)
        self._templates.filters.update(grouped=grouped, short=short, duration=duration, plain=plain, **filters)

    def render(self, template: str, page: object) -> str:
        """The whole page; the template knows the data as ``page``."""
        return _UNPRINTABLE.sub("\ufffd", self._templates.get_template(template).render(page=page))


def _hash(part: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


def grouped(count: object) -> str:
    """A count with commas between thousands."""
    return f"{count:,}" if isinstance(count, int) else "not known"


def short(number: float) -> str:
    """A count as on an axis: 950, 12k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def plain(value: object) -> str:
    """A value in one line: names before values, multiplication signs between sizes."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    return " \u00d7 ".join(map(str, value)) if isinstance(value, list) else str(value)


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
