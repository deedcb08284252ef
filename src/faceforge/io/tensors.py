"""Files of plain arrays with a description, as safetensors: they cannot execute code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faceforge.io.files import atomic_path
from faceforge.types import Json

ABOUT = "about"


class Unreadable(ValueError):
    """A file that holds no arrays, or whose description is none."""


def write(path: Path, about: Mapping[str, object], tensors: Mapping[str, Tensor], **texts: str) -> None:
    """Write arrays, a description that JSON can hold, and further texts, atomically."""
    with atomic_path(path) as beside:
        beside.write_bytes(save(dict(tensors), {ABOUT: json.dumps(about), **texts}))


def read(path: Path) -> tuple[Json, dict[str, Tensor]]:
    """Description and arrays. Raises FileNotFoundError, or Unreadable for anything but such a file."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    if not isinstance(about, dict):
        raise Unreadable("its description is no mapping")
    return about, tensors
