"""`faceforge cut`: what it is given, checked, and what it says at the end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from pathlib import Path

from faceforge.cut import identity_clusters
from faceforge.cut.detect import DetectorName, find_yunet
from faceforge.cut.engine import EngineName
from faceforge.cut.job import How, Summary, run
from faceforge.cut.work import REVIEW, Job, Settings
from faceforge.errors import BadInput
from faceforge.io.archives import IMAGES, FileStore, Folder, image_names, open_store
from faceforge.io.manifest import NAME, VERDICTS
from faceforge.io.workers import cores

SIZES = {"published": (480, 360), "pix2pix": (320, 256)}  # height, width
LARGEST = 4096


def cut(
    source: Path,
    target: Path,
    size: str,
    detector: DetectorName,
    align: bool,
    zoom: float,
    min_face: int,
    labels: Path | None,
    engine: EngineName,
    processes: int | None,
    tell_people: bool = False,
    prune: bool = False,
    typed: str | None = None,
) -> None:
    """Check everything, cut, and tell what came of it; ``typed`` is the command as it was typed. Raises BadInput."""
    store, names = _photos(source)
    _check_target(source, target)
    if not 0.5 <= zoom <= 3.0:
        raise BadInput(f"--zoom {zoom}: must be from 0.5 to 3; 1 is the published frame")
    if processes is not None and processes < 1:
        raise BadInput(f"--processes {processes}: must be at least 1")
    if min_face < 1:
        raise BadInput(f"--min-face {min_face}: must be at least 1 pixel")
    height, width = parse_size(size)
    settings = Settings(height, width, detector, align, zoom, min_face)
    tell_people = identity_clusters.wanted(target.resolve(), tell_people)
    weights = None if detector == "haar" else find_yunet()
    job = Job(store, target.resolve(), settings, weights, os.getpid() if engine == "loky" else None)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        how = How(engine, processes or cores())
        summary = run(job, names, how, str(labels) if labels else None, tell_people, prune)
    except (KeyboardInterrupt, SystemExit):
        print("\nfaceforge: interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    print(_report(summary, settings, source, target, typed))


def parse_size(size: str) -> tuple[int, int]:
    """(height, width) from `360x480` (width x height), one number for a square, or a name. Raises BadInput."""
    if size in SIZES:
        return SIZES[size]
    sides = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", size)
    if not sides:
        raise BadInput(f"--size {size}: WIDTHxHEIGHT, one number for a square, or {' or '.join(SIZES)}")
    width, height = int(sides[1]), int(sides[2] or sides[1])
    if not (8 <= width <= LARGEST and 8 <= height <= LARGEST):
        raise BadInput(f"--size {size}: must be from 8 to {LARGEST} pixels a side")
    return height, width


def _photos(source: Path) -> tuple[FileStore, list[str]]:
    """The store of photos, and the names of the pictures in it; one picture is a folder with one name."""
    if source.is_file() and source.name.lower().endswith(IMAGES):
        return Folder(source.resolve().parent), [source.name]
    try:
        store = open_store(source, None)
        return store, image_names(store.names(), store.root)
    except BadInput as error:
        raise BadInput(str(error).replace("data.root=", "")) from None


def _check_target(source: Path, target: Path) -> None:
    photos, crops = source.resolve(), target.resolve()
    if crops == photos or photos in crops.parents:
        raise BadInput(f"{target}: lies inside {source}, so crops would become photos; name a folder beside it")
    if crops in photos.parents:
        raise BadInput(f"{target}: holds {source}, so photos would be taken for crops; name a folder beside it")
    if crops.exists() and not crops.is_dir():
        raise BadInput(f"{target}: is a file; name a folder")
    known = (crops / REVIEW / "settings.json").exists()
    if crops.is_dir() and not known and any(path.name != REVIEW for path in crops.iterdir()):
        raise BadInput(f"{target}: holds files that no cut made; name a new or empty folder")


def _report(summary: Summary, settings: Settings, source: Path, target: Path, typed: str | None) -> str:
    count = summary.verdicts
    faces = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS)
    folder = shlex.quote(str(target))
    lines = [
        f"{summary.photos} photos ({summary.looked_at} looked at now), {faces}; {count['none']} photos without a face",
        f"faces      {target}/   (accepted; the others under {REVIEW}/)",
        f"manifest   {target / NAME}   change verdicts there, type the same again: crops follow",
        f"look       {summary.page}",
    ]
    if summary.people:
        who = f"{len(set(summary.people.values()))} appear more than once, in {len(summary.people)} faces"
        lines.insert(
            1, f"people     {who}; mostly right, look at them; remove {REVIEW}/{identity_clusters.NAME} to forget them"
        )
    if summary.lost:
        lines.append(f"missing    crops of {summary.lost} photos, which are gone or have changed since")
    if summary.gone:
        photos, faces = _number(summary.gone, "photo"), _number(summary.gone_faces, "face")
        again = typed or shlex.join(["faceforge", "cut", str(source), str(target)])
        kept = "" if summary.pruned else f", still kept; remove: {again} --prune"
        name = "pruned" if summary.pruned else "gone  "
        lines.append(f"{name}     {photos} no longer in {source}, and {faces} of them{kept}")
    if settings.height > settings.width and summary.tight > 0.2 * summary.photos:
        lines.append(
            f"hint       {summary.tight} photos are too tight for this frame; --size {settings.width} is square"
        )
    if count["accepted"]:
        lines.append(f"train      python train.py data=crops data.root={folder}")
    return "\n".join(lines)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
