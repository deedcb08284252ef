"""Types of plain data: JSON, yaml and checkpoint contents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class JobRow:
    """A job of a sweep: its number, the name of its folder in the sweep's (or a whole path), what was swept, how it
    went in words, and its exit code; while it trains, its process and host.
    """

    number: int
    folder: str
    swept: dict[str, str] = field(default_factory=dict)
    outcome: str = ""
    code: int = 0
    process: int = 0
    host: str = ""

    @property
    def words(self) -> str:
        """The swept overrides."""
        return " ".join(f"{key}={value}" for key, value in self.swept.items())
