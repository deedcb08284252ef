"""Crash-safe checkpoints: how they are written, read, and turned back into a module.

A checkpoint is a plain dict (weights-only loadable) with at least ``state_dict config version clock optimizers``.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from faceforge import config as configuration
from faceforge import words
from faceforge.engine.migration import VERSION, migrate
from faceforge.errors import BadInput
from faceforge.io.files import atomic_path, sweep, temporary
from faceforge.schemes.base import Scheme
from faceforge.types import Json

HASHES = "hashes.txt"
LISTED = 50  # hashes kept before those of deleted files are dropped
KINDS = {"state_dict": Mapping, "config": Mapping, "version": int, "clock": Mapping, "optimizers": list}


class AtomicCheckpointIO(CheckpointIO):
    """Writes ``last.ckpt`` so that the folder holds a valid checkpoint at every instant; keeps the previous one.

    Temporary file next to the target, fsync, hash recorded, replace, fsync of the folder. Lightning's own saver moves
    files out of the system's temporary folder, which can lose the old checkpoint together with the new one.
    ``previous.ckpt`` is replaced only after the new file is in place: the old ``last.ckpt`` may have been damaged.
    """

    def save_checkpoint(self, checkpoint: Json, path: str | Path, storage_options: object = None) -> None:
        """Write one checkpoint; the existing one at ``path`` becomes ``previous.ckpt``. Raises OSError."""
        path = Path(path)
        if "optimizer_states" not in checkpoint:  # Lightning passes weights from a finished rank to its parent
            torch.save(checkpoint, path)
            return
        checkpoint["optimizers"] = checkpoint.pop("optimizer_states")
        checkpoint["version"] = VERSION
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        _require_space(path.parent, len(content))
        before = temporary(path.with_name("previous.ckpt"))
        try:
            with atomic_path(path) as beside:
                beside.write_bytes(content)
                _record(path.parent, hashlib.sha256(content).hexdigest())
                if path.exists():
                    _name_twice(path, before)
            if before.exists():
                before.replace(path.with_name("previous.ckpt"))
        finally:
            before.unlink(missing_ok=True)

    def load_checkpoint(self, path: str | Path, map_location: object = None, weights_only: bool | None = None) -> Json:
        """Read weights-only, always, under the names that Lightning expects."""
        if Path(path).suffix != ".ckpt" or Path(path).name.startswith("."):
            return torch.load(path, map_location, weights_only=True)  # type: ignore[arg-type]
        checkpoint = read(path)
        checkpoint["optimizer_states"] = checkpoint.pop("optimizers")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a file; Lightning calls it for weights passed by a rank."""
        Path(path).unlink(missing_ok=True)


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size * 1.1:
        raise OSError(f"{folder}: {free / 1e6:.0f} MB free, a checkpoint needs {size / 1e6:.0f} MB; free some space")


def _record(folder: Path, new: str) -> None:
    # Written before the replace: a file whose hash is not listed was never finished.
    lines = (folder / HASHES).read_text().split() if (folder / HASHES).exists() else []
    if len(lines) > LISTED:  # `best` may be older than any of the kept hashes
        standing = {digest(path) for path in folder.glob("*.ckpt")}
        lines = [line for line in lines if line in standing]
    with atomic_path(folder / HASHES) as beside:
        beside.write_text("\n".join([*lines, new, ""]))


def write_beside(checkpoint: Json, path: Path) -> None:
    """Write the dict of another checkpoint of this folder, changed, as ``path``, atomically. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    _require_space(path.parent, buffer.getbuffer().nbytes)
    with atomic_path(path) as beside:
        beside.write_bytes(buffer.getvalue())
        _record(path.parent, hashlib.sha256(buffer.getvalue()).hexdigest())


def link(source: Path, target: Path) -> None:
    """Give ``source`` a second name atomically (a copy if the file system has no links)."""
    beside = temporary(target)
    _name_twice(source, beside)
    beside.replace(target)
    beside.unlink(missing_ok=True)  # replacing one name of a file by another name of it does nothing (POSIX)


def _name_twice(source: Path, other: Path) -> None:
    other.unlink(missing_ok=True)
    try:
        os.link(source, other)
    except (OSError, AttributeError):  # not available on every system
        shutil.copy2(source, other)


def sweep_orphans(folder: Path) -> None:
    """Remove temporary files of a killed run in its ``checkpoints`` folder, the run folder and ``samples``."""
    for place in (folder, folder.parent, folder.parent / "samples"):
        sweep(place)


def digest(path: Path) -> str:
    """SHA-256 (hex) of a checkpoint file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find(run: str | Path, name: str = "last") -> Path:
    """The checkpoint file behind a run folder or a .ckpt path. Raises BadInput."""
    path = Path(run)
    if path.is_file():
        return path
    if not path.exists():
        raise BadInput(f"{path}: no such run folder or checkpoint")
    for candidate in (name, "last", "previous"):
        if (path / "checkpoints" / f"{candidate}.ckpt").is_file():
            return path / "checkpoints" / f"{candidate}.ckpt"
    if (path / "checkpoints" / "best.ckpt").is_file():
        new = f"{words.shown('init_from', path)} starts a new run from its best weights"
        raise BadInput(f"{path}: holds only checkpoints/best.ckpt and cannot be continued; {new}")
    begun = (path / "config.yaml").is_file()
    again = f"training had not started; start it again with {words.shown('run_dir', path)}"
    raise BadInput(f"{path}: holds no checkpoints/last.ckpt; {again if begun else 'name a run folder or a .ckpt file'}")


def best(folder: Path) -> tuple[Mapping[str, torch.Tensor], str]:
    """The weights of a run's best checkpoint, and its digest."""
    path = find(folder, "best")
    return read(path)["state_dict"], digest(path)


def read(path: str | Path) -> Json:
    """The plain dict in a checkpoint file. If ``last.ckpt`` is damaged, falls back to ``previous.ckpt``, then
    ``best.ckpt``, with a warning. Raises BadInput.
    """
    path = Path(path)
    try:
        return _read_one(path)
    except BadInput as error:
        if path.name != "last.ckpt":
            raise
        for name in ("previous.ckpt", "best.ckpt"):
            other = path.with_name(name)
            try:
                checkpoint = _read_one(other)
            except BadInput:
                continue
            warnings.warn(f"{error}; using {other} instead", stacklevel=2)
            return checkpoint
        raise


def _read_one(path: Path) -> Json:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    hashes = path.with_name(HASHES)
    if hashes.is_file() and hashlib.sha256(content).hexdigest() not in hashes.read_text().split():
        raise BadInput(f"{path}: damaged file (its hash does not match)")
    try:
        _require_stored(content)
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
        checkpoint = None
    if not isinstance(checkpoint, dict):
        raise BadInput(f"{path}: not a faceforge checkpoint (a plain dict of tensors and numbers)")
    missing = KINDS.keys() - set(checkpoint)
    if missing:
        raise BadInput(f"{path}: not a faceforge checkpoint; it lacks {', '.join(sorted(missing))}")
    wrong = [name for name, kind in KINDS.items() if not isinstance(checkpoint[name], kind)]
    wrong += [key for key, value in checkpoint["state_dict"].items() if not _plain_tensor(value)] if not wrong else []
    if wrong:
        raise BadInput(f"{path}: not a faceforge checkpoint; {configuration.shorten(str(wrong[0]))} has the wrong type")
    if checkpoint["version"] > VERSION:
        raise BadInput(
            f"{path}: written by a newer faceforge (version {checkpoint['version']}, this one reads {VERSION})"
        )
    try:
        return migrate(checkpoint)
    except RecursionError:
        raise BadInput(f"{path}: not a faceforge checkpoint; its config is nested too deeply") from None


def _require_stored(content: bytes) -> None:
    """Raises ValueError if a file is damaged or compressed: torch.save does not compress."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > len(content):
            raise ValueError("compressed")
        if archive.testzip() is not None:  # torch does not verify the checksums
            raise ValueError("damaged")


def _plain_tensor(value: object) -> bool:
    """Whether a weight has all its numbers in the file: a view can claim far more."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def load(run: str | Path, trusted: Iterable[str] = (), name: str = "best") -> Scheme:
    """The trained module of a run, in eval mode on the CPU; everything that uses a run loads it here.

    The configuration in the file is untrusted input: its targets pass the same allow-list, and your own packages must
    be listed in ``trusted`` again. Raises BadInput.
    """
    path = find(run, name)
    checkpoint = read(path)
    with torch.random.fork_rng(devices=[]):
        module: Scheme = configuration.build_from(path, checkpoint["config"].get("model"), trusted)
    try:
        module.load_state_dict(checkpoint["state_dict"])
        module.config, module.framing = checkpoint["config"], checkpoint.get("framing")
        module.clock.load_state_dict(checkpoint["clock"])
    except (RuntimeError, AttributeError, TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path}: its weights do not fit its own configuration ({reason})") from None
    return module.eval().requires_grad_(False)


def initialise(module: Scheme, run: str | Path) -> str:
    """Copy the weights of a run that match by name and shape into ``module``; returns a summary of what matched.

    Raises BadInput if nothing matches.
    """
    path = find(run, "best")
    source, target = module.fitting(read(path)["state_dict"]), module.state_dict()
    matched = {k: v for k, v in source.items() if k in target and v.shape == target[k].shape}
    if not matched:
        raise BadInput(f"init_from: no weight of {path} fits this model; is it another architecture?")
    module.load_state_dict(matched, strict=False)
    parts = "; ".join(_matched_in(part, target, matched) for part in sorted({k.split(".")[0] for k in target}))
    return f"init_from {path}: {len(matched)} of {len(target)} tensors matched ({parts})"


def _matched_in(part: str, target: Mapping[str, Any], matched: Mapping[str, Any]) -> str:
    names = [k for k in target if k.split(".")[0] == part]
    missing = [k for k in names if k not in matched]
    text = f"{part} {len(names) - len(missing)}/{len(names)}"
    return text + (f", new: {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}" if missing else "")
