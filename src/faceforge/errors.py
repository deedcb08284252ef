"""What a person is told when something cannot go on: one line, then an exit code."""

from __future__ import annotations


class BadInput(Exception):
    """One line that names the file or dotted key, what was found and what would be right. Exit code 2."""

    exit_code = 2


def to_install(extra: str) -> str:
    """How to get the packages of an extra; what the package index holds under the name faceforge is another project."""
    return f"in faceforge's checkout: pip install -e '.[{extra}]'"


class GuardStop(Exception):
    """A guard ended the run (weights or losses no longer finite). Exit code 3."""

    exit_code = 3
