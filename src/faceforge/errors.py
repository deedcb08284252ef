"""Errors shown to users: one line and an exit code."""

from __future__ import annotations


class BadInput(Exception):
    """One line that names the file or dotted key, what was found and what it must be. Exit code 2."""

    exit_code = 2


def to_install(extra: str) -> str:
    """How to install an extra; `faceforge` on the package index is another project."""
    return f"in faceforge's checkout: pip install -e '.[{extra}]'"


class GuardStop(Exception):
    """The guard ended the run (NaN or infinite weights or losses). Exit code 3."""

    exit_code = 3
