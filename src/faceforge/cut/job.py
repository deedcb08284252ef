"""A whole cut: photos spread over processes or machines, what is done remembered, verdicts obeyed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from faceforge.cut import identity_clusters, near_duplicates, prune
from faceforge.cut.edits import FRAME, Edits, Ledger, applied
from faceforge.cut.engine import EngineName, spread
from faceforge.cut.journal import Memory
from faceforge.cut.pages import write_pages
from faceforge.cut.work import REVIEW, TIGHT, Job, Photo, Settings, Task, place, thumb
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.archives import FileStore
from faceforge.io.attributes import read_attributes
from faceforge.io.files import atomic_path
from faceforge.io.manifest import VERDICTS, Row
from faceforge.io.portable import Held, locked


@dataclass
class Summary:
    """What a cut came to: photos and faces by verdict, photos looked at this time, the page to open."""

    target: Path
    photos: int = 0
    looked_at: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # photos that are gone or have changed, and whose crops were to be cut again
    tight: int = 0  # faces whose photo is too tight for the frame
    gone: int = 0  # known photos that SRC does not hold any more,
    gone_faces: int = 0  # the faces found in them,
    pruned: bool = False  # and whether all that was kept of them was removed now
    same: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)  # faces of people who appear again, with their first
    page: Path | None = None


@dataclass(frozen=True)
class How:
    """In what way the work is done; nothing of it changes a result."""

    engine: EngineName = "loky"
    processes: int = 1
    progress: bool = True


def run(
    job: Job,
    names: Sequence[str],
    how: How,
    labels: str | None = None,
    tell_people: bool = False,
    prune_gone: bool = False,
) -> Summary:
    """Cut every photo, obey the edited manifest, write manifest and pages.

    ``labels`` is a CSV of attributes of the photos, shown in the pages. With ``tell_people`` the manifest says whose
    face is whose (identity_clusters.py). With ``prune_gone`` all that was kept of photos that have gone is removed
    (prune.py). Raises BadInput.
    """
    review = job.target / REVIEW
    with _told(job.target), _held(job.target):
        _settle_settings(job)
        prune.sweep(job.target)
        ledger, memory = Ledger(job.target), Memory(review / "photos.jsonl")
        edits = ledger.collect(job.settings)
        (review / ".tmp").mkdir(exist_ok=True)
        try:
            summary = _missed(job, memory, names, prune_gone)
            summary.looked_at = _look(job, memory, names, how)
            _settle_crops(job, memory, edits, how, summary)
            if tell_people:
                summary.people = _tell_people(job, _rows(memory, summary, edits, job.settings), how)
            ledger.write(_rows(memory, summary, edits, job.settings))
            summary.page = _pages(job, ledger.manifest, labels)
        finally:
            memory.close()
        shutil.rmtree(review / ".tmp", ignore_errors=True)
    return summary


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """What the disk refuses is one line; everything that was done is kept."""
    try:
        yield
    except OSError as error:
        again = "nothing is lost: make room or take another folder, and type the same again"
        raise BadInput(f"{target}: cannot be written ({error.strerror or error}); {again}") from error


@contextmanager
def _held(target: Path) -> Iterator[None]:
    (target / REVIEW).mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(target / REVIEW / ".lock"))
        except Held as held:
            busy = f"{target}: another cut is at work here; wait for it or name another folder"
            raise BadInput(f"{busy}{held.hint}") from None
        shutil.rmtree(target / REVIEW / ".tmp", ignore_errors=True)
        yield


def _settle_settings(job: Job) -> None:
    """A folder holds crops of one source, cut in one way."""
    path = job.target / REVIEW / "settings.json"
    mine = {"source": str(job.store.root.resolve()), **asdict(job.settings)}
    known = json.loads(path.read_text()) if path.exists() else mine
    for name, value in mine.items():
        was = known.get(name)
        if was == value or (name == "source" and not Path(str(was)).exists()):
            continue
        raise BadInput(f"{job.target}: was cut with {name}={was}, not {value}; name another folder")
    with atomic_path(path) as beside:
        beside.write_text(json.dumps(mine, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------- photos


def _missed(job: Job, memory: Memory, names: Sequence[str], remove: bool) -> Summary:
    """A summary that names the photos that have gone, whose crops are removed if that is asked for."""
    gone = prune.find(job.store, names, memory)
    summary = Summary(job.target, gone=len(gone.names), gone_faces=prune.count_faces(memory, gone.names), pruned=remove)
    if remove:
        prune.require_whole(job.store, gone, memory)
        if gone.names:
            prune.remove(job.target, memory, gone.names)
    return summary


def _look(job: Job, memory: Memory, names: Sequence[str], how: How) -> int:
    """Look at the photos that are new or have changed; how many there were."""
    stamps = ((name, _stamp(job.store, name)) for name in names)
    tasks = [
        Task(name, stamp, memory.photo(name).sha256 if memory.stamp(name) else "")
        for name, stamp in stamps
        if stamp != memory.stamp(name)
    ]
    faces = 0
    with _bar("cutting faces", len(names), len(names) - len(tasks), how) as bar:
        for photos in spread(job, tasks, how.engine, how.processes):
            for photo in photos:
                if photo.rows:
                    _forget_old(job.target, memory, photo)
                    memory.add(photo)
                else:
                    memory.keep(photo.name, photo.stamp)
                faces += sum(row.n > 0 for row in photo.rows)
            bar.update(len(photos))
            bar.set_postfix_str(f"{faces} faces", refresh=False)
    return len(tasks)


def _bar(what: str, total: int, done: int, how: How, unit: str = " photos") -> tqdm:
    silent = None if how.progress and total else True
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=silent)


def _stamp(store: FileStore, name: str) -> str:
    try:
        status = store.status(name)
    except OSError:
        return "gone"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _forget_old(target: Path, memory: Memory, photo: Photo) -> None:
    """Crops of what the photo showed before it changed: ours, and no longer true."""
    if memory.stamp(photo.name) is None:
        return
    new = {row.face: row.verdict for row in photo.rows}
    for row in memory.photo(photo.name).rows:
        for verdict in VERDICTS if row.n else ():
            if new.get(row.face) != verdict:
                place(target, row.face, verdict).unlink(missing_ok=True)
        if row.n and row.face not in new:
            thumb(target, row.face).unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------- verdicts


def _settle_crops(job: Job, memory: Memory, edits: Edits, how: How, summary: Summary) -> None:
    """Give every face its last verdict, and set every crop to the place of that verdict."""
    found = (row for photo in memory for row in photo.rows if "frame_h" not in edits.get(row.face, {}))
    summary.same = near_duplicates.near_duplicates(near_duplicates.gather(found), job.target)
    recut = _Recut(job.target / REVIEW / "recut.json")
    todo: list[Task] = []
    for photo in memory:
        summary.photos += 1
        rows = [_final(row, summary, edits, job.settings) for row in photo.rows]
        summary.verdicts.update(row.verdict for row in rows)
        summary.tight += sum(TIGHT in row.reason for row in rows)
        missing = [r for r, was in zip(rows, photo.rows, strict=True) if r.n and not _settled(job, recut, r, was)]
        if missing:
            todo.append(Task(photo.name, photo.stamp, photo.sha256, tuple(missing)))
    with _bar("cutting again", len(todo), 0, how) as bar:
        for photos in spread(job, todo, how.engine, how.processes):
            for photo in photos:
                recut.note(photo.rows, memory.photo(photo.name).rows)
                summary.lost += not photo.rows
            bar.update(len(photos))
    recut.write()
    memory.settle()


def _tell_people(job: Job, rows: Iterator[Row], how: How) -> dict[str, str]:
    with closing(identity_clusters.Descriptions(job.target / REVIEW / identity_clusters.NAME)) as known:
        todo = known.missing(job, rows)
        with _bar("telling people apart", len(todo), 0, how, " faces") as bar:
            for found in spread(job, todo, how.engine, how.processes, identity_clusters.describe):
                known.add(found)
                bar.update(len(found))
        return known.settle()


def _pages(job: Job, written: Path, labels: str | None) -> Path:
    def rows() -> Iterator[Row]:
        return manifest.read(written)

    attributes = None
    if labels:
        photos = [row.source for row in rows() if row.n]
        distinct = sorted(set(photos))
        names, values = read_attributes(labels, distinct)
        place_of = {photo: n for n, photo in enumerate(distinct)}
        attributes = names, values[[place_of[photo] for photo in photos]]
    return write_pages(job.target, rows, f"Faces of {job.store.root.name}", attributes)


def _rows(memory: Memory, summary: Summary, edits: Edits, settings: Settings) -> Iterator[Row]:
    return (_final(row, summary, edits, settings) for photo in memory for row in photo.rows)


def _final(row: Row, summary: Summary, edits: Edits, settings: Settings) -> Row:
    kept = summary.same.get(row.face) if row.n else None
    if kept:
        reasons = "; ".join(filter(None, [row.reason, f"looks like {kept}"]))
        row = replace(row, same_as=kept, verdict="doubtful", reason=reasons)
    person = summary.people.get(row.face) if row.n else None
    return applied(replace(row, person=person) if person else row, edits, settings)


class _Recut:
    """Which faces were cut by another frame than the one that was found first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}

    def current(self, found: Row) -> list[float]:
        """The frame of the crop that lies on the disk."""
        return self._frames.get(found.face) or [getattr(found, name) for name in FRAME]

    def note(self, rows: Sequence[Row], found: Sequence[Row]) -> None:
        """These were cut just now, these were found first."""
        first = {row.face: [getattr(row, name) for name in FRAME] for row in found}
        for row in rows:
            self._frames[row.face] = [getattr(row, name) for name in FRAME]
            if self._frames[row.face] == first[row.face]:
                del self._frames[row.face]

    def write(self) -> None:
        """Make it durable."""
        if self._frames or self.path.exists():
            with atomic_path(self.path) as beside:
                beside.write_text(json.dumps(self._frames, indent=0, sort_keys=True))


def _settled(job: Job, recut: _Recut, row: Row, found: Row) -> bool:
    """Whether the crop lies where it belongs, moved there if it lay elsewhere; else it is to be cut."""
    right = [getattr(row, name) for name in FRAME] == recut.current(found)
    want = place(job.target, row.face, row.verdict)
    others = [place(job.target, row.face, verdict) for verdict in VERDICTS if verdict != row.verdict]
    there = [path for path in others if path.is_file()]
    if right and there and not want.is_file():
        want.parent.mkdir(parents=True, exist_ok=True)
        there.pop().replace(want)
    for path in there:
        path.unlink()
    return right and _holds(want) and _holds(thumb(job.target, row.face))


def _holds(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size > 0
    return False
