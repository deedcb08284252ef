"""`faceforge compare`: runs beside one another, as a table and as a page. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faceforge import words
from faceforge.errors import BadInput
from faceforge.evaluation.compare import runs as reading
from faceforge.evaluation.compare import text
from faceforge.evaluation.compare.comparison import Comparison, Options
from faceforge.evaluation.compare.making import compare


@dataclass(frozen=True)
class Request:
    """The command's arguments."""

    runs: Sequence[Path]
    html: Path | None
    overwrite: bool
    split: str | None
    options: Options


def run(asked: Request) -> Comparison:
    """Compare runs, print the result, and write the page. Raises BadInput."""
    if asked.html is not None:
        require_free(asked.html, asked.overwrite)
    found = compare(reading.read(asked.runs, asked.split), asked.options)
    print("\n".join(text.lines(found)))
    if asked.html is not None:
        from faceforge.evaluation.compare import page

        print(f"\n  page  {page.write(found, asked.html)}")
        print(f"To see who is served worse:  {words.faceforge('audit', asked.runs[0])}")
    else:
        again = words.faceforge("compare", *asked.runs, "--html", "compared.html")
        print(f"\nTo see curves and pictures:  {again}")
    return found


def require_free(path: Path, overwrite: bool) -> None:
    """Refuse a page's path that is taken, or no HTML file. Raises BadInput."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise BadInput(f"--html {path}: must be a .html file")
    if path.exists() and not overwrite:
        raise BadInput(f"{path}: already exists; use --overwrite to replace it")
