"""Records of measurements: where they lie, what each says of its making, shares and tables of them."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT, module
from faceforge.engine import devices
from faceforge.engine.run import PROGRAM

RESULTS = ROOT / "docs" / "results"
RECORDS = RESULTS / "records"
GRIDS = RESULTS / "grids"
PACKAGES = ("torch", "pytorch-lightning", "timm", "numpy")


def portable(words: Iterable[str]) -> list[str]:
    """Words of a command without the folders of this machine: a path outside the working folder keeps its last part."""
    kept = []
    for word in words:
        key, equals, value = word.rpartition("=")
        kept.append(f"{key}{equals}{Path(value).name if value.startswith(('/', '../', '~')) else value}")
    return kept


def provenance(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """How and where a record was made."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    device = devices.name(0)
    return {
        "command": shlex.join(["python", "-m", module(), *portable(sys.argv[1:])]),
        "commit": git("rev-parse", "HEAD") or None,
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no", "--", *PROGRAM)),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"processor": device.removeprefix("CPU, ").rpartition(", ")[0], "device": device}
        | {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def read(name: str) -> dict[str, Any]:
    """A record written before; empty where there is none."""
    path = RECORDS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str | Path, record: Mapping[str, Any]) -> Path:
    """Write a record under its name, or into a file; the path."""
    path = RECORDS / f"{name}.json" if isinstance(name, str) else name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def keep(name: str | Path, found: Mapping[str, Any]) -> Path:
    """Write what was found into a record that also says how and where; the path."""
    return write(name, {**provenance(), **found})


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 where nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, square = hits / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: int, total: int) -> dict[str, Any]:
    """A share with its interval, as records hold it."""
    low, high = wilson(hits, total)
    return {"hits": hits, "total": total, "share": hits / total if total else None, "low": low, "high": high}


def table(head: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A markdown table, all columns but the first ``left`` to the right."""
    rule = f"|{' --- |' * left}{' ---: |' * (len(head) - left)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
