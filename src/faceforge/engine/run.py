"""A run's folder: self-contained, owned by one process at a time, never half written."""

from __future__ import annotations

import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import faceforge
from faceforge import words
from faceforge.errors import BadInput
from faceforge.io.files import atomic_path
from faceforge.io.portable import Held, locked
from faceforge.report import write_report
from faceforge.types import Json

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
    "albumentations",
    "wandb",
)


class Run:
    """One run folder. ``record`` is run.json."""

    def __init__(self, folder: Path, record: Json) -> None:
        self.folder, self.record = folder, record

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any], command: str) -> Run:
        """Start a run in a folder from ``make_folder``, locked by ``lock_run``. Raises BadInput if it already holds a
        run: another process may have trained there meanwhile.
        """
        if holds_run(folder):
            raise BadInput(f"run_dir: {folder}: another process has trained here meanwhile; type the command again")
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "samples").mkdir(exist_ok=True)
        run = cls(folder, {**_new_record(config, command), "folder": words.relative(folder)})
        run.write_config(config)
        run.save()
        return run

    @classmethod
    def reopen(cls, folder: Path) -> Run:
        """Open an existing run folder. Raises BadInput if it is none."""
        try:
            record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise BadInput(f"resume: {folder} has no readable run.json; name a run folder") from None
        return cls(folder, record)

    @property
    def starts(self) -> list[Path]:
        """The folders to which relative paths may refer: where the run was started, first as moved with the run."""
        folder, inside = self.folder.resolve(), Path(self.record.get("folder", "..")).parts
        moved = ".." not in inside and folder.parts[-len(inside) :] == inside
        known = [Path(self.record["started_in"])] if "started_in" in self.record else []
        return [folder.parents[len(inside) - 1], *known] if moved else known

    def update(self, **values: object) -> None:
        """Update run.json atomically."""
        self.record.update(values)
        self.save()

    def save(self) -> None:
        """Write run.json."""
        write_atomic(self.folder / "run.json", json.dumps(self.record, indent=1, default=str))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml."""
        write_atomic(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))

    def write_skipped(self, skipped: Iterable[tuple[str, str]]) -> None:
        """Write skipped.csv: files that could not be used, and why."""
        lines = ["id,reason", *(f"{_cell(i)},{_cell(reason)}" for i, reason in skipped)]
        write_atomic(self.folder / "skipped.csv", "\n".join(lines) + "\n")

    def cut_after(self, images: int) -> None:
        """Remove the grids, and the averages, after the clock's position."""
        for path in [*self.folder.glob("samples/*.png"), *self.folder.glob("averages/*.safetensors")]:
            if path.stem.isdigit() and int(path.stem) > images:
                path.unlink()


def make_folder(config: Mapping[str, Any]) -> Path:
    """Create the folder of a new run with a resolved configuration. Raises BadInput."""
    named = config["run_dir"]
    try:
        if not named:
            return _make_unused(_default_folder(config))
        Path(named).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"run_dir: {named or 'runs'} cannot be made ({error.strerror})") from None
    return Path(named)


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run with a checkpoint."""
    return (folder / "config.yaml").exists() and any((folder / "checkpoints").glob("*.ckpt"))


def write_atomic(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _default_folder(config: Mapping[str, Any]) -> Path:
    names = [str(config["choices"][group]).replace("/", "-") for group in ("model", "task", "data")]
    return Path("runs") / "-".join([time.strftime("%Y%m%d-%H%M%S"), *names])


def _make_unused(folder: Path) -> Path:
    for name in itertools.chain([folder.name], (f"{folder.name}-{number}" for number in itertools.count(2))):
        with suppress(FileExistsError):
            folder.with_name(name).mkdir(parents=True)
            return folder.with_name(name)
    raise AssertionError


def lock_run(folder: Path) -> ExitStack:
    """Lock a run folder until the returned object is closed. Raises BadInput if another process holds the lock."""
    lock = ExitStack()
    try:
        lock.enter_context(locked(folder / ".lock"))
    except Held as held:
        raise BadInput(
            f"{folder}: another process is training in this folder; wait for it or name another run_dir{held.hint}"
        ) from None
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from None
    return lock


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text


def _new_record(config: Mapping[str, Any], command: str) -> Json:
    return {
        "faceforge": faceforge.__version__,
        "status": "running",
        "created": now(),
        "finished": None,
        "command": command,
        "started_in": str(Path.cwd()),
        **sources_commit(),
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(terse=True),
        "seed": config["seed"],
        "images": 0,
        "seconds": 0.0,
        "best": None,
        "wandb": None,
        "resumed": [],
    }


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


PROGRAM = ("src", "conf", "benchmarks", "train.py", "pyproject.toml")  # what decides the outcome of a run


def sources_commit() -> Json:
    """The commit of the sources, if they are in a repository of their own; dirty: some of ``PROGRAM`` differs."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        words = ["git", "status", "--porcelain", "--", *PROGRAM]
        status = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def write_end(folder: Path, status: str) -> Exception | None:
    """Write the final status into run.json and the report; an error here must not hide why the run ended."""
    try:
        Run.reopen(folder).update(status=status, finished=now())
        write_report(folder)
    except (OSError, BadInput) as error:
        return error
    return None
