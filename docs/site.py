"""Hooks of `make docs` (mkdocs.yml): pages that are made from the code, and links that lead out of docs/."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONF = ROOT / "conf"
EXAMPLES = ROOT / "examples"
NOTEBOOKS = ROOT / "notebooks"
RECORDS = DOCS / "results" / "records"
ELSEWHERE = {  # pages of the site that are files outside docs/
    "index.md": "README.md",
    "architecture.md": "ARCHITECTURE.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that no file under docs/ holds."""
    pages = {name: (ROOT / place).read_text(encoding="utf-8") for name, place in ELSEWHERE.items()}
    pages |= {"reference/commands.md": commands(), "reference/configuration.md": configuration()}
    pages |= {f"tutorials/{path.stem}.md": tutorial(path) for path in NOTEBOOKS.glob("*.ipynb")}
    pages |= {"examples.md": examples(), "records.md": records()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their pages."""
    name = page.file.src_uri
    written = ROOT / ELSEWHERE[name] if name in ELSEWHERE else DOCS / name
    return outside_code(markdown, lambda text: LINK.sub(lambda link: moved(link, written, name), text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The page with ``change`` made to all of it but its blocks of code."""
    blocks = FENCE.findall(markdown)
    texts = [change(text) for text in FENCE.split(markdown)]
    return "".join(text + block for text, block in zip(texts, [*blocks, ""], strict=True))


def moved(link: re.Match[str], written: Path, name: str) -> str:
    """A link as its page on the site must have it."""
    target, _, anchor = link[2].partition("#")
    if not target or "://" in target:
        return link[0]
    place = Path(os.path.normpath(written.parent / target))
    page = site_page(place)
    if page is None:
        return link[0]
    if place.is_relative_to(EXAMPLES):
        anchor = slug(place)
    found = os.path.relpath(page, Path(name).parent)
    return link[1] + found + (f"#{anchor}" if anchor else "") + link[3]


def site_page(place: Path) -> str | None:
    """The page of the site that shows a file of the repository."""
    for page, source in ELSEWHERE.items():
        if place == ROOT / source:
            return page
    if place == RECORDS:
        return "records.md"
    if place.is_relative_to(EXAMPLES):
        return "examples.md"
    return place.relative_to(DOCS).as_posix() if place.is_relative_to(DOCS) else None


def slug(place: Path) -> str:
    """The anchor of an example file on its page."""
    return re.sub(r"[^a-z0-9]+", "-", place.relative_to(EXAMPLES).as_posix().lower())


def tutorial(path: Path) -> str:
    """A notebook as a page: its text and its cells, without the one that installs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif "%pip install" not in text:
            parts.append(f"```python\n{text}\n```")
    told = f"`notebooks/{path.name}` is this page as a notebook; a test runs all of its cells."
    return "\n\n".join([parts[0], told, *parts[1:]])


def examples() -> str:
    """Every file under examples/, whole."""
    lines = [
        "# Example files",
        "",
        "Files under `examples/`. Tests run those for SLURM and Kubernetes, and apply the diffs; no image was built.",
        "",
    ]
    for place in sorted(path for path in EXAMPLES.rglob("*") if path.is_file()):
        lines += [f"## {place.relative_to(EXAMPLES).as_posix()} {{ #{slug(place)} }}", ""]
        lines += [
            "```" + place.suffix.removeprefix(".").replace("sbatch", "bash"),
            place.read_text().rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def records() -> str:
    """A link to every record of a measurement."""
    names = sorted(path.relative_to(DOCS).as_posix() for path in RECORDS.rglob("*.json"))
    told = (
        "What was measured, by which command, on which commit, machine and data. Pages of results are made from these."
    )
    return "\n".join(["# Records", "", told, "", *(f"- [{name}]({name})" for name in names), ""])


def commands() -> str:
    """What each command says of itself by --help."""
    from faceforge.cli import app

    lines = ["# Commands", "", "What `faceforge COMMAND --help` prints. `faceforge train` takes the overrides of"]
    lines += ["`python train.py`: see [configuration](configuration.md).", ""]
    for name, told in helps(typer.main.get_command(app), "faceforge"):
        lines += [f"## {name}", "", "```text", told, "```", ""]
    return "\n".join(lines)


def helps(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """The name and the help of a command, or of those below it."""
    context = command.context_class(command, info_name=name)
    below = getattr(command, "commands", {})
    for word in sorted(below):
        yield from helps(below[word], f"{name} {word}")
    if not below and not name.endswith(" train"):
        yield name, command.get_help(context).rstrip()


def configuration() -> str:
    """Every yaml file that `python train.py` composes, by group."""
    lines = [
        "# Configuration",
        "",
        "`python train.py GROUP=NAME KEY=VALUE ...` composes these files; `--cfg job` prints",
    ]
    lines += ["the result. A key is overridden by its dotted path, such as `data.size=128`.", "", "## train.yaml", ""]
    lines += ["```yaml", (CONF / "train.yaml").read_text().rstrip(), "```", ""]
    groups = sorted({path.parent for path in CONF.rglob("*.yaml")} - {CONF})
    for group in groups:
        name = group.relative_to(CONF).as_posix()
        lines += [f"## {name}", ""]
        for path in sorted(group.glob("*.yaml")):
            lines += [f"### {name}={path.stem}", "", "```yaml", path.read_text().rstrip(), "```", ""]
    return "\n".join(lines)
