"""The location of packed data, and fingerprints of files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from faceforge.errors import BadInput
from faceforge.io.portable import warn_once

LIBRARIES = {"MPLCONFIGDIR": "matplotlib", "WANDB_CACHE_DIR": "wandb", "WANDB_CONFIG_DIR": "wandb-config"}


def cache_root(cache: str | None = None) -> Path:
    """The folder for packed data: data.cache, else $FACEFORGE_CACHE, else ~/.cache/faceforge.

    A folder that can only be read serves with what it holds. If the home is not writable, a private temporary folder
    is used. Raises BadInput if a requested folder is neither there nor can be made.
    """
    for asked, source in ((cache, "data.cache"), (os.environ.get("FACEFORGE_CACHE"), "FACEFORGE_CACHE")):
        if asked:
            folder = Path(asked).expanduser()
            if not (is_writable(folder) or (os.access(folder, os.R_OK | os.X_OK) and folder.is_dir())):
                raise BadInput(f"{source}={asked}: not writable; name another folder")
            return folder
    return _own_root()


def _own_root() -> Path:
    home = Path(os.path.expanduser("~")) / ".cache" / "faceforge"  # noqa: PTH111  (Path.home raises without one)
    if is_writable(home):
        return home
    folder = _temporary_root()
    warn_once(folder, f"{home}: not writable; packed data goes to {folder}; name a folder with data.cache=FOLDER")
    return folder


def places_for_notes(cache: Path) -> list[Path]:
    """Where notes on a data set may lie: the cache and, if it can only be read, the user's own."""
    return [cache] if is_writable(cache) else [cache, _own_root()]


def lend_home() -> None:
    """Give libraries that keep files in the home a temporary folder, if the home is not writable."""
    if not os.access(os.path.expanduser("~"), os.W_OK | os.X_OK):  # noqa: PTH111
        for variable, name in LIBRARIES.items():
            os.environ.setdefault(variable, str(_temporary_root() / name))


def is_writable(folder: Path) -> bool:
    """Whether a folder, made if missing, can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _temporary_root() -> Path:
    user = getattr(os, "getuid", lambda: 0)()  # the temporary folder of Windows is the user's own, as st_uid 0
    folder = Path(tempfile.gettempdir()) / f"faceforge-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    mine = folder.stat().st_uid == user and not folder.is_symlink()
    return folder if mine else Path(tempfile.mkdtemp(prefix="faceforge-"))


def fingerprint(path: Path) -> str:
    """A short fingerprint of a file's state: it changes with path, size and times."""
    status = path.stat()
    text = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
