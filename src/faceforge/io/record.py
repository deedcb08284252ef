"""JSON files that others may have written or damaged: whatever is missing or of another kind is empty."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

LARGEST = 2**63  # no count or size is larger


class Record(dict[str, Any]):
    """A mapping of a file; what is missing or of another kind is empty."""

    @classmethod
    def read(cls, path: Path) -> Record:
        """From JSON."""
        try:
            return cls.of(json.loads(text_of(path)))
        except (ValueError, RecursionError):
            return cls()

    @classmethod
    def of(cls, value: object) -> Record:
        """The value, if it is a mapping."""
        return cls(value) if isinstance(value, dict) else cls()

    def at(self, dotted: str) -> Any:
        """The value at a dotted key, None where it is missing."""
        value: Any = self
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def part(self, dotted: str) -> Record:
        """The mapping at a dotted key."""
        return Record.of(self.at(dotted))

    def listed(self, key: str) -> list[Any]:
        """The list at a key."""
        return value if isinstance(value := self.get(key), list) else []

    def number(self, key: str) -> float | None:
        """The finite number at a key, None where there is none."""
        value = self.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > LARGEST:
            return None
        return value if math.isfinite(value) else None

    def numbers(self) -> dict[str, float]:
        """All finite numbers from 0, largest first."""
        found = {name: value for name in self if (value := self.number(name)) is not None and value >= 0}
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def text_of(path: Path) -> str:
    """The text of a file, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
