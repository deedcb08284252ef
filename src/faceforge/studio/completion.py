"""What a shell completes for the `faceforge` command: runs, and overrides of a training.

Bash ends a word at `=`. There, the key and the `=` are words before, and candidates leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from faceforge.errors import BadInput

if TYPE_CHECKING:
    from faceforge.config.composing import Library

RUNS = Path("runs")
TAKES_RUN = ("run_dir", "resume", "init_from")
USABLE = (".ckpt", ".safetensors", ".onnx")
PLAIN = re.compile(r"[\w./,:\[\]=+-]+", re.ASCII)  # what a shell takes as it is


def runs(incomplete: str) -> list[str]:
    """Runs below runs/, models that ship, and folders and weights by their paths."""
    from faceforge.studio.shipped import files

    found = dict.fromkeys([*_trained(), *files(), *_paths(incomplete)])
    return [name for name in found if name.startswith(incomplete)]


def _trained() -> list[str]:
    from faceforge.runs.found import find

    try:
        return [str(entry.path) for entry in find(RUNS).entries]
    except BadInput:  # no such folder yet
        return []


def _paths(incomplete: str) -> Iterator[str]:
    """Folders and files of weights whose paths begin so."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        below = sorted(folder.expanduser().iterdir()) if incomplete else []
    except OSError:
        return
    for path in below:
        if path.suffix in USABLE or path.is_dir():
            yield str(folder / path.name)


def overrides(context: typer.Context, incomplete: str) -> list[str]:
    """``group=choice`` and ``key=default`` under the choices that were typed before."""
    return words(list(context.params.get("overrides") or ()), incomplete)


def words(typed: list[str], incomplete: str) -> list[str]:
    """The same for the overrides ``typed`` before."""
    key = _key_before(typed, incomplete)
    if key is None:
        return _candidates(typed, incomplete)
    return [word.removeprefix(f"{key}=") for word in _candidates(typed, f"{key}={incomplete}")]


def _key_before(typed: list[str], incomplete: str) -> str | None:
    """The key to which the value belongs, where they came as words of their own. Alone, a key is no override."""
    if typed[-1:] == ["="] and len(typed) > 1:
        return typed[-2]
    alone = typed and not incomplete and "=" not in typed[-1] and not typed[-1].startswith("-")
    return typed[-1] if alone else None


def _candidates(typed: Iterable[str], begun: str) -> list[str]:
    from faceforge.config import composing

    key, equals, value = begun.partition("=")
    if equals and key in TAKES_RUN:
        return [f"{key}={run}" for run in runs(value)]
    library = composing.Library()
    chosen = [f"{group}={name}" for group in library.groups() for name in library.names(group)]
    if "." in key or (equals and not library.is_group(key)):
        chosen = list(_defaults(library, [word for word in typed if word in chosen]))
    return [word for word in chosen if word.startswith(begun) and PLAIN.fullmatch(word)]


def _defaults(library: Library, choices: list[str]) -> Iterator[str]:
    """Every key with its value under these choices."""
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(library.compose(choices), resolve=False)
    assert isinstance(config, dict)
    config.pop("hydra", None)
    yield from _leaves(config, "")


def _leaves(node: Mapping[Any, object], above: str) -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif not str(name).startswith("_"):
            yield f"{above}{name}={_text(value)}"


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace(" ", "")
