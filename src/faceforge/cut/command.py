"""`faceforge cut`: checks its arguments, runs the cut and prints the report."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from faceforge import words
from faceforge.cut import identity_clusters
from faceforge.cut.detect import DetectorName, find_yunet
from faceforge.cut.fit import Fit
from faceforge.cut.job import Execution, Summary, run
from faceforge.cut.work import REVIEW, Job, Settings
from faceforge.errors import BadInput
from faceforge.io.archives import FileStore, Folder, image_names, open_store, pictures
from faceforge.io.engines import EngineName
from faceforge.io.kinds import told
from faceforge.io.manifest import NAME, VERDICTS
from faceforge.io.workers import cores

SIZES = {"published": (480, 360), "pix2pix": (320, 256)}  # height, width
MAX_SIDE = 4096
DEFAULT_BATCH = 64  # conf/data/base.yaml
KEEP = "--no-fit, into another folder, keeps the published frame"


@dataclass(frozen=True)
class Framing:
    """How crops are asked for; None is the default."""

    size: str | None = None
    align: bool = False
    zoom: float | None = None
    pad: bool = False
    fit: bool | None = None

    def settled(self) -> Fit:
        """Without a word a framing is chosen where the published one is too wide for many faces."""
        free = self.fit is None and self.zoom is None and not self.pad
        return Fit("always" if self.fit else "auto" if free else "never", square=self.size is None)

    def settings(self, detector: DetectorName, min_face: int) -> Settings:
        """The settings of a cut. Raises BadInput."""
        zoom = 1.0 if self.zoom is None else self.zoom
        if not 0.5 <= zoom <= 3.0:
            raise BadInput(f"--zoom {zoom}: must be from 0.5 to 3 (1 is the published frame)")
        if min_face < 1:
            raise BadInput(f"--min-face {min_face}: must be at least 1 pixel")
        return Settings(*parse_size(self.size or "published"), detector, self.align, zoom, min_face, self.pad)


def cut(
    source: Path,
    target: Path,
    frame: Framing,
    detector: DetectorName,
    min_face: int,
    labels: Path | None,
    engine: EngineName,
    processes: int | None,
    tell_people: bool = False,
    prune: bool = False,
    typed: str | None = None,
) -> None:
    """Check the arguments, cut, and print the report; ``typed`` is the command line as typed. Raises BadInput."""
    store, names, left_out = _photos(source)
    _check_target(source, target)
    settings = frame.settings(detector, min_face)
    if processes is not None and processes < 1:
        raise BadInput(f"--processes {processes}: must be at least 1")
    tell_people = identity_clusters.wanted(target.resolve(), tell_people)
    weights = None if detector == "haar" else find_yunet()
    job = Job(store, target.resolve(), settings, weights, os.getpid() if engine == "loky" else None)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        execution = Execution(engine, processes or cores())
        summary = run(job, names, execution, str(labels) if labels else None, tell_people, prune, frame.settled())
    except (KeyboardInterrupt, SystemExit):
        print("\nfaceforge: interrupted; run the same command again to continue", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    print("\n".join([_report(summary, settings, source, target, typed), *told(left_out)]))


def parse_size(size: str) -> tuple[int, int]:
    """(height, width) from `360x480` (width x height), one number for a square, or a name. Raises BadInput."""
    if size in SIZES:
        return SIZES[size]
    sides = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", size)
    if not sides:
        raise BadInput(f"--size {size}: must be WIDTHxHEIGHT, one number for a square, or {' or '.join(SIZES)}")
    width, height = int(sides[1]), int(sides[2] or sides[1])
    if not (8 <= width <= MAX_SIDE and 8 <= height <= MAX_SIDE):
        raise BadInput(f"--size {size}: each side must be from 8 to {MAX_SIDE} pixels")
    return height, width


def _photos(source: Path) -> tuple[FileStore, list[str], Counter[str]]:
    """The store of photos, the names of those that can be read, and how many others there are of each kind."""
    one = Folder(source.resolve().parent)
    if source.is_file() and pictures(one, [source.name]) != ([], Counter()):
        return one, image_names(one, [source.name]), Counter()
    try:
        store = open_store(source, None)
        listed = store.names()
        return store, image_names(store, listed), pictures(store, listed)[1]
    except BadInput as error:
        raise BadInput(str(error).replace("data.root=", "")) from None


def _check_target(source: Path, target: Path) -> None:
    photos, crops = source.resolve(), target.resolve()
    if crops == photos or photos in crops.parents:
        raise BadInput(f"{target}: is inside {source}, so crops would be read as photos; choose a folder outside it")
    if crops in photos.parents:
        raise BadInput(f"{target}: contains {source}, so photos would be read as crops; choose another folder")
    if crops.exists() and not crops.is_dir():
        raise BadInput(f"{target}: is a file; must be a folder")
    known = (crops / REVIEW / "settings.json").exists()
    if crops.is_dir() and not known and any(path.name != REVIEW for path in crops.iterdir()):
        raise BadInput(f"{target}: holds files that `faceforge cut` did not write; must be a new or empty folder")


def _report(summary: Summary, settings: Settings, source: Path, target: Path, typed: str | None) -> str:
    count, unread = summary.verdicts, summary.unread.total()
    faces = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS)
    lines = [
        f"{summary.photos} photos ({summary.looked_at} processed now), {faces}; "
        f"{count['none'] - unread} photos without a face" + _unread(summary.unread),
        f"faces      {target}/   (accepted faces; the others are under {REVIEW}/)",
        f"manifest   {target / NAME}   edit verdicts there, then run the same command again to apply them",
        f"review     {summary.page}",
    ]
    if summary.people:
        who = f"{len(set(summary.people.values()))} appear more than once, in {len(summary.people)} faces"
        labels = f"{REVIEW}/{identity_clusters.NAME}"
        lines.insert(1, f"people     {who}; check them, some may be wrong; remove {labels} to drop them")
    if summary.lost:
        lines.append(f"missing    crops of {summary.lost} photos, which were removed or changed since")
    if summary.gone:
        photos, faces = _number(summary.gone, "photo"), _number(summary.gone_faces, "face")
        again = typed or words.faceforge("cut", source, target)
        kept = "" if summary.pruned else f", still kept; to remove them: {again} --prune"
        name = "pruned" if summary.pruned else "gone  "
        lines.append(f"{name}     {photos} no longer in {source}, and {faces} of them{kept}")
    used = summary.settings or settings
    if used != settings:
        size = f"{used.width}x{used.height}"
        lines.insert(
            1, f"framing    zoom {used.zoom:g} at {size} for all faces, the widest that fits nine in ten; {KEEP}"
        )
    elif settings.height > settings.width and summary.tight > 0.2 * summary.photos:
        lines.append(
            f"hint       {summary.tight} photos are too tight for this frame; try the square --size {settings.width}"
        )
    if count["accepted"]:
        few = [f"data.batch_size={max(1, count['accepted'] // 2)}"] if count["accepted"] < 2 * DEFAULT_BATCH else []
        lines.append(f"train      {words.train('data=crops', words.word('data.root', target), *few)}")
    return "\n".join(lines)


def _unread(reasons: Counter[str]) -> str:
    """How many photos could not be read, and the most frequent reason."""
    return "".join(
        f", {reasons.total()} that could not be read ({reason}{', ...' * (len(reasons) > 1)})"
        for reason, _ in reasons.most_common(1)
    )


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
