"""`faceforge doctor`: what this machine offers, what is wrong with it, and the one command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from faceforge import words
from faceforge.errors import BadInput
from faceforge.io.network import reachable
from faceforge.io.storage import cache_root

State = Literal["ok", "note", "wrong"]
PYTHONS = ((3, 10), (3, 14))  # from, to but not with
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
LOW = 5e9  # bytes free below which a note is given: a packed CelebA has 2.5
LATE = 2.0  # seconds that the clock of a file system may differ
ONE_OPENCV = (
    "pip uninstall -y " + " ".join(OPENCV) + " && pip install --force-reinstall --no-deps 'opencv-python-headless<5'"
)


@dataclass(frozen=True)
class Finding:
    """One line. ``state`` wrong: something will fail; note: something is missing that can be done without.

    ``mend`` is the command that mends it.
    """

    what: str
    state: State
    said: str
    mend: str = ""


def findings() -> Iterator[Finding]:
    """All checks, one after the other; one that fails itself is a finding."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:  # whatever is broken must not hide the rest
            line = " ".join(str(error).split())[:160]
            yield Finding(name, "wrong", f"cannot be checked: {type(error).__name__}: {line}")


def report() -> tuple[list[str], int]:
    """The lines to print, and the exit code: 1 if anything is wrong."""
    marks: Mapping[State, str] = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}
    lines, wrong = [], 0
    for found in findings():
        lines.append(f"{marks[found.state]}  {found.what:<12} {found.said}")
        if found.mend:
            lines.append(f"{'':20}mend: {found.mend}")
        wrong += found.state == "wrong"
    ends = {0: f"Nothing is wrong. To train: {words.train()}", 1: "One thing is wrong."}
    return [*lines, ends.get(wrong, f"{wrong} things are wrong.")], int(wrong > 0)


# -------------------------------------------------------------------------------------------------------------- checks


def _python() -> Iterator[Finding]:
    first, last = PYTHONS
    right = first <= sys.version_info[:2] < last
    versions = f"{first[0]}.{first[1]} to {last[0]}.{last[1] - 1}"
    said = f"{platform.python_version()} at {sys.executable}" + ("" if right else f"; must be {versions}")
    yield Finding("Python", "ok" if right else "wrong", said)


def _torch() -> Iterator[Finding]:
    import torch

    from faceforge.engine import devices

    packages = ("torch", "torchvision", "pytorch-lightning", "hydra-core")
    yield Finding("packages", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in packages))
    number = devices.count()
    named = devices.name(number)
    if not number:
        cuda = shutil.which("nvidia-smi")
        said = f"{named}; no accelerator that torch can use"
        if cuda and torch.version.cuda is None:
            index = "https://download.pytorch.org/whl/cu128"
            mend = f"pip install --force-reinstall torch torchvision --index-url {index}"
            yield Finding("accelerator", "wrong", f"{said}: this torch was built without CUDA", mend)
        else:
            yield Finding("accelerator", "ok", said)
        return
    about = getattr(getattr(torch, devices.best().type), "get_device_properties", None)
    memory = f", {about(0).total_memory / 2**30:.0f} GiB" if about else ""
    yield Finding(
        "accelerator", "ok", f"{named}{memory}; trainer.precision=auto is {devices.precision('auto', number)}"
    )


def _opencv() -> Iterator[Finding]:
    installed = [name for name in OPENCV if _version(name)]
    if len(installed) > 1:
        yield Finding("OpenCV", "wrong", f"{' and '.join(installed)} share one folder and break each other", ONE_OPENCV)
        return
    import cv2

    cascades = all(getattr(cv2, name, None) is not None for name in ("CascadeClassifier", "FaceDetectorYN"))
    said = f"{installed[0] if installed else 'of the system'} {cv2.__version__}"
    if cascades:
        yield Finding("OpenCV", "ok", said)
    else:
        yield Finding("OpenCV", "wrong", f"{said}: lacks the face detectors; must be 4.x", ONE_OPENCV)


def _ffmpeg() -> Iterator[Finding]:
    import imageio_ffmpeg

    try:
        path = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        mend = "pip install --force-reinstall imageio-ffmpeg"
        yield Finding("ffmpeg", "note", "none: no films are read or written", mend)
        return
    yield Finding("ffmpeg", "ok", f"{imageio_ffmpeg.get_ffmpeg_version()} at {path}")


def _wandb() -> Iterator[Finding]:
    import wandb

    from faceforge.engine.loggers.wandb_logger import find_login

    settings = wandb.setup().settings
    if find_login(settings) is None:
        yield Finding("W&B", "note", "no login: runs are logged offline", "wandb login")
    elif not reachable(settings.base_url):
        yield Finding(
            "W&B", "note", f"{urlsplit(settings.base_url).hostname} cannot be reached: runs are logged offline"
        )
    else:
        yield Finding("W&B", "ok", f"logged in at {urlsplit(settings.base_url).hostname}")


def _cache() -> Iterator[Finding]:
    root = cache_root()
    held = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    yield Finding("cache", "ok", f"{root}: {_size(held)}; packed faces and weights, which are made again if removed")


def _disk() -> Iterator[Finding]:
    for name, folder in (("cache disk", cache_root()), ("disk here", Path.cwd())):
        free = shutil.disk_usage(folder).free
        low = free < LOW
        yield Finding(
            name, "note" if low else "ok", f"{_size(free)} free" + f" in {folder}, little for packed faces" * low
        )


def _yunet() -> Iterator[Finding]:
    from faceforge.cut.detect import YUNET, checked

    own = os.environ.get("FACEFORGE_WEIGHTS")
    folders = [*([Path(own).expanduser()] if own else []), cache_root() / "weights"]
    found = [(folder / weights.name, weights) for folder in folders for weights in YUNET]
    for path, weights in found:
        if path.is_file():
            try:
                yield Finding("YuNet", "ok", f"weights at {checked(path, weights)}")
            except BadInput as error:
                yield Finding("YuNet", "wrong", str(error), f"rm {path}")
            return
    said = f"no weights yet ({YUNET[0].name}): faceforge cut downloads them at first use; --detector haar needs none"
    yield Finding("YuNet", "note", said)


def _network() -> Iterator[Finding]:
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if reachable(host.geturl()):
        yield Finding("network", "ok", f"{host.hostname} can be reached")
    else:
        yield Finding("network", "note", f"{host.hostname} cannot be reached: data and weights must be on this machine")


def _clocks() -> Iterator[Finding]:
    """A file system whose clock differs makes new files look old, and a cache stale."""
    probe = cache_root() / f".clock-{os.getpid()}"
    try:
        probe.touch()
        late = probe.stat().st_mtime - time.time()
    finally:
        probe.unlink(missing_ok=True)
    if abs(late) > LATE:
        said = f"that of {cache_root()} differs by {late:+.0f} s; the clocks of both machines must agree"
        yield Finding("clocks", "wrong", said)
    else:
        yield Finding("clocks", "ok", "those of the machine and of the cache's file system agree")


CHECKS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "Python": _python,
    "torch": _torch,
    "OpenCV": _opencv,
    "ffmpeg": _ffmpeg,
    "W&B": _wandb,
    "cache": _cache,
    "disk": _disk,
    "YuNet": _yunet,
    "network": _network,
    "clocks": _clocks,
}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
