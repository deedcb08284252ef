"""Models that left their run: one .safetensors file, or a folder with one and a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def is_one(path: Path) -> bool:
    return False


def open_exported(path: Path, trusted: Sequence[str]) -> Any:
    raise NotImplementedError
