"""Command lines: words as typed become words of Hydra's grammar, and printed commands can be typed again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

PATHS = ("run_dir", "resume", "init_from", "data.root", "data.attributes", "data.cache")
PATH_LISTS = ("hydra.searchpath",)
QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
FUNCTION = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\s*\(.*\)", re.DOTALL)
LONG_FLAGS = ("cfg", "package", "config-path", "config-name", "config-dir", "experimental-rerun", "info")
CHECKOUT = Path(__file__).parents[2]


# ------------------------------------------------------------------------------------------------------------- typed


def override(word: str, multirun: bool = False) -> str:
    """A word as typed, in Hydra's grammar. The value of a path key is taken literally, unless it is null or quoted.

    Commas sweep under ``multirun``. In other values only what is not ASCII is quoted, which Hydra cannot parse.
    """
    name, equals, value = word.partition("=")
    key = name.lstrip("+")
    if not equals or name.startswith("~"):
        return word
    if key in PATH_LISTS:
        return f"{name}=[{','.join(_path(at_home(part)) for part in _items(value))}]"
    if key not in PATHS or (multirun and FUNCTION.fullmatch(value)):
        return f"{name}={_quote_foreign(value)}"
    return f"{name}={','.join(map(_path, _split(value) if multirun else [value]))}"


def _path(value: str) -> str:
    plain = re.fullmatch(r"[\w./-][\w./:-]*", value, re.ASCII) and not _is_number(value)
    return value if plain or _is_special(value) else quoted(value)


def _is_special(value: str) -> bool:
    """Whether a path key does not take the value literally."""
    return value.lower() in ("", "null") or re.fullmatch(QUOTED, value, re.DOTALL) is not None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value.lower() in ("true", "false")
    return True


def _split(text: str) -> list[str]:
    """The parts between commas that are not in quotes."""
    parts = re.findall(rf"((?:{QUOTED}|[^,])*)(?:,|\Z)", text, re.DOTALL)
    return [part.strip() for part in parts[: _commas(text) + 1]]


def _commas(text: str) -> int:
    """The number of commas that are not in quotes."""
    return re.sub(QUOTED, "", text, flags=re.DOTALL).count(",")


def _items(value: str) -> list[str]:
    listed = value.strip()
    return _split(listed[1:-1]) if listed[:1] + listed[-1:] == "[]" else [listed]


def _quote_foreign(value: str) -> str:
    def one(found: re.Match[str]) -> str:
        return found[0] if found[0].isascii() or found[0][0] in "'\"" else quoted(found[0].strip())

    return re.sub(rf"{QUOTED}|(?:\$\{{[^}}]*\}}|[^,\[\]{{}}():=])+", one, value)


def quoted(text: str) -> str:
    """A text in Hydra's quotes. Backslashes are doubled before a quote only, as its grammar wants."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"


def from_flag(word: str) -> str:
    """``--key=value``, as W&B's agent types an override, without the dashes; other words unchanged."""
    found = re.fullmatch(r"--([A-Za-z_][\w./@+-]*)=.*", word, re.DOTALL)
    return word[2:] if found and found[1] not in LONG_FLAGS else word


def expanded(arguments: Iterable[str]) -> list[str]:
    """Arguments with the home for the tilde in ``--flag=~/x``, which shells leave."""
    return [re.sub(r"(?<=\A--)([\w-]+=)(~.*)", _flag_at_home, word, count=1, flags=re.DOTALL) for word in arguments]


def _flag_at_home(found: re.Match[str]) -> str:
    return found[1] + at_home(found[2])


def at_home(path: str) -> str:
    """A path with the home for a leading tilde; unchanged if there is none, or no such user."""
    return os.path.expanduser(path)  # noqa: PTH111  (Path raises without a home, and shortens file://)


# ----------------------------------------------------------------------------------------------------------- printed


def word(key: str, value: str | Path, multirun: bool = False) -> str:
    """The override that gives a path key this path, literally."""
    text = os.path.join(".", value) if str(value).startswith("~") else str(value)  # noqa: PTH118
    sweeps = multirun and (FUNCTION.fullmatch(text) or _commas(text) or text != text.strip())
    return f"{key}={quoted(text) if _is_special(text) or sweeps else text}"


def shown(key: str, path: str | Path) -> str:
    """The override that gives a path key this path, quoted for the shell."""
    return shlex.quote(word(key, path))


def relative(path: Path) -> str:
    """A path as seen from the working directory; unchanged if it is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:  # Windows
        return str(path)


def argument(path: str | Path) -> str:
    """A path as an argument that is not taken for a flag or a home."""
    return os.path.join(".", path) if str(path).startswith(("-", "~")) else str(path)  # noqa: PTH118


def train(*words: str) -> str:
    """The command that trains with some overrides, quoted for the shell."""
    entry = ["python", "train.py"] if (CHECKOUT / "train.py").is_file() else ["faceforge", "train"]
    return shlex.join([*entry, *words])


def typed(argv: Sequence[str]) -> str:
    """The command of this process."""
    return train(*argv[1:]) if argv[0] == "faceforge train" else shlex.join(["python", *argv])


def faceforge(*arguments: str | Path) -> str:
    """A command of ``faceforge``, quoted for the shell; paths must be given as Path."""
    return shlex.join(["faceforge", *(argument(a) if isinstance(a, Path) else a for a in arguments)])
