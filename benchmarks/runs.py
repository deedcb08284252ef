"""What runs leave: their last checkpoint, the faces they were trained on, the bits they end in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from faceforge import config
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint


def last(run: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    return checkpoint.read(run / "checkpoints" / "last.ckpt")


def faces(node: Mapping[str, Any], root: str | Path | None = None, **changes: Any) -> FaceData:
    """The faces of a run's configuration ``data``, prepared; read from ``root`` where they moved."""
    data: FaceData = config.build({**node, "root": str(root) if root else node["root"], **changes})
    data.prepare()
    return data


def not_finite(run: Path) -> list[str]:
    """The weights of the last checkpoint that hold NaN or infinity."""
    weights = last(run)["state_dict"].items()
    return [name for name, value in weights if value.is_floating_point() and not bool(value.isfinite().all())]


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf of dicts, lists and tuples by its path, such as /state_dict/layer.weight."""
    if not isinstance(node, dict | list | tuple):
        return {prefix: node}
    children = node.items() if isinstance(node, dict) else enumerate(node)
    return {path: leaf for key, child in children for path, leaf in flat(child, f"{prefix}/{key}").items()}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The names of what is not the same, bit by bit."""
    both = first.keys() & second.keys()
    unlike = {name for name in both if not _same(first[name], second[name])}
    return sorted((first.keys() ^ second.keys()) | unlike)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)
