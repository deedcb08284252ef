"""A complete cut: photos distributed over workers, finished work recorded, edited verdicts applied."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from faceforge.cut import fit as fit_framing
from faceforge.cut import identity_clusters, near_duplicates, prune
from faceforge.cut.edits import FRAME, Edits, Ledger, applied
from faceforge.cut.fit import Fit
from faceforge.cut.journal import Journal
from faceforge.cut.pages import write_pages
from faceforge.cut.work import REVIEW, TOO_TIGHT, Job, Photo, Settings, Task, place, reframe, thumb, work
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.archives import FileStore
from faceforge.io.attributes import read_attributes
from faceforge.io.engines import EngineName, spread
from faceforge.io.files import atomic_path
from faceforge.io.manifest import VERDICTS, Row
from faceforge.io.portable import Held, locked


@dataclass
class Summary:
    """The result of a cut: counts of photos and of faces by verdict, and the page to open."""

    target: Path
    photos: int = 0
    looked_at: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # photos that had to be cut again but are gone or have changed
    tight: int = 0  # faces whose photo is too tight for the frame
    gone: int = 0  # recorded photos that are no longer in SRC
    gone_faces: int = 0  # the faces in them
    pruned: bool = False  # whether everything kept of them was removed
    same: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)  # for each face of a repeated person, the first face
    page: Path | None = None
    unread: Counter[str] = field(default_factory=Counter)  # photos that could not be read, by the reason
    settings: Settings | None = None  # with the framing that was chosen


@dataclass(frozen=True)
class Execution:
    """How the work is executed; it does not change the result."""

    engine: EngineName = "loky"
    processes: int = 1
    progress: bool = True


def run(
    job: Job,
    names: Sequence[str],
    execution: Execution,
    labels: str | None = None,
    tell_people: bool = False,
    prune_gone: bool = False,
    fit: Fit | None = None,
) -> Summary:
    """Cut every photo, apply the edits of the manifest, write manifest and pages.

    ``labels`` is a CSV of attributes of the photos, shown in the pages. ``tell_people`` clusters the faces by identity
    (identity_clusters.py). ``prune_gone`` removes everything kept of photos that are gone (prune.py). ``fit`` may
    choose another framing at the first cut, which later ones keep. Raises BadInput.
    """
    review = job.target / REVIEW
    with _one_line_errors(job.target), _locked_folder(job.target):
        job, fit = _settle_settings(job, fit or Fit())
        prune.sweep(job.target)
        ledger, journal = Ledger(job.target), Journal(review / "photos.jsonl")
        edits = ledger.collect(job.settings)
        (review / ".tmp").mkdir(exist_ok=True)
        try:
            summary = _find_gone(job, journal, names, prune_gone)
            summary.looked_at = _process(job, journal, names, execution)
            job = _settle_framing(job, journal, fit, execution)
            summary.settings = job.settings
            _settle_crops(job, journal, edits, execution, summary)
            if tell_people:
                summary.people = _cluster_people(job, _rows(journal, summary, edits, job.settings), execution)
            ledger.write(_rows(journal, summary, edits, job.settings))
            summary.page = _pages(job, ledger.manifest, labels)
        finally:
            journal.close()
        shutil.rmtree(review / ".tmp", ignore_errors=True)
    return summary


@contextmanager
def _one_line_errors(target: Path) -> Iterator[None]:
    """Turn an OSError into one line; finished work is kept."""
    try:
        yield
    except OSError as error:
        again = "nothing is lost: free some space or choose another folder, then run the same command again"
        raise BadInput(f"{target}: cannot be written ({error.strerror or error}); {again}") from error


@contextmanager
def _locked_folder(target: Path) -> Iterator[None]:
    (target / REVIEW).mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(target / REVIEW / ".lock"))
        except Held as held:
            busy = f"{target}: another cut is writing to this folder; wait for it or choose another folder"
            raise BadInput(f"{busy}{held.hint}") from None
        shutil.rmtree(target / REVIEW / ".tmp", ignore_errors=True)
        yield


def _settle_settings(job: Job, fit: Fit) -> tuple[Job, Fit]:
    """Store the settings; returns the job with the framing chosen before, and what is still to be chosen.

    Raises BadInput if the folder holds crops of another source or of other settings.
    """
    path = job.target / REVIEW / "settings.json"
    mine = {"source": str(job.store.root.resolve()), **asdict(job.settings), "fit": fit.how}
    known = json.loads(path.read_text()) if path.exists() else mine
    for name, value in mine.items():
        was = known.get(name, {"pad": False}.get(name, value))
        if was == value or (name, value) == ("fit", "auto") or (name == "source" and not Path(str(was)).exists()):
            continue
        raise BadInput(f"{job.target}: was cut with {name}={was}, not {value}; choose another folder")
    if "fit" not in known:  # cut by an earlier version: keeps its framing
        fit = Fit()
    elif framing := known.get("framing"):
        job, fit = replace(job, settings=replace(job.settings, **framing)), Fit()
    else:
        fit = replace(fit, how=known["fit"])
    _store_settings(job, {**mine, "fit": known.get("fit", "never")}, known.get("framing"))
    return job, fit


def _store_settings(job: Job, asked: dict[str, Any], framing: dict[str, Any] | None) -> None:
    with atomic_path(job.target / REVIEW / "settings.json") as beside:
        beside.write_text(json.dumps({**asked, **({"framing": framing} if framing else {})}, indent=1) + "\n")


def _settle_framing(job: Job, journal: Journal, fit: Fit, execution: Execution) -> Job:
    """Choose the framing of all faces if that is still to be done; frames that differ from it are made anew."""
    if fit.how != "never" and any(row.n for photo in journal for row in photo.rows):
        settings = fit_framing.chosen((row for photo in journal for row in photo.rows), job.settings, fit)
        framing = {"height": settings.height, "width": settings.width, "zoom": settings.zoom}
        asked = json.loads((job.target / REVIEW / "settings.json").read_text())
        job = replace(job, settings=settings)
        _store_settings(job, asked, framing)
    todo = [
        Task(photo.name, photo.stamp, photo.sha256, tuple(photo.rows))
        for photo in journal
        if any(row.zoom not in (None, job.settings.zoom) for row in photo.rows)
    ]
    with _bar("framing anew", len(todo), 0, execution) as bar:
        for photos in spread(partial(reframe, job), todo, execution.engine, execution.processes):
            for photo in photos:
                _forget_old(job.target, journal, photo)
                journal.add(photo) if photo.rows else None
            bar.update(len(photos))
    return job


# ---------------------------------------------------------------------------------------------------------- photos


def _find_gone(job: Job, journal: Journal, names: Sequence[str], remove: bool) -> Summary:
    """A summary that counts the photos that are gone; with ``remove`` everything kept of them is removed."""
    gone = prune.find(job.store, names, journal)
    summary = Summary(
        job.target, gone=len(gone.names), gone_faces=prune.count_faces(journal, gone.names), pruned=remove
    )
    if remove:
        prune.require_whole(job.store, gone, journal)
        if gone.names:
            prune.remove(job.target, journal, gone.names)
    return summary


def _process(job: Job, journal: Journal, names: Sequence[str], execution: Execution) -> int:
    """Process the photos that are new or have changed; returns their number."""
    stamps = ((name, _stamp(job.store, name)) for name in names)
    tasks = [
        Task(name, stamp, journal.photo(name).sha256 if journal.stamp(name) else "")
        for name, stamp in stamps
        if stamp != journal.stamp(name)
    ]
    faces = 0
    with _bar("cutting faces", len(names), len(names) - len(tasks), execution) as bar:
        for photos in spread(partial(work, job), tasks, execution.engine, execution.processes):
            for photo in photos:
                if photo.rows:
                    _forget_old(job.target, journal, photo)
                    journal.add(photo)
                else:
                    journal.keep(photo.name, photo.stamp)
                faces += sum(row.n > 0 for row in photo.rows)
            bar.update(len(photos))
            bar.set_postfix_str(f"{faces} faces", refresh=False)
    return len(tasks)


def _bar(what: str, total: int, done: int, execution: Execution, unit: str = " photos") -> tqdm:
    silent = None if execution.progress and total else True
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=silent)


def _stamp(store: FileStore, name: str) -> str:
    try:
        status = store.status(name)
    except OSError:
        return "gone"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _forget_old(target: Path, journal: Journal, photo: Photo) -> None:
    """Remove the crops of a photo from before it changed."""
    if journal.stamp(photo.name) is None:
        return
    new = {row.face: row.verdict for row in photo.rows}
    for row in journal.photo(photo.name).rows:
        for verdict in VERDICTS if row.n else ():
            if new.get(row.face) != verdict:
                place(target, row.face, verdict).unlink(missing_ok=True)
        if row.n and row.face not in new:
            thumb(target, row.face).unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------- verdicts


def _settle_crops(job: Job, journal: Journal, edits: Edits, execution: Execution, summary: Summary) -> None:
    """Give every face its final verdict, and move or recut its crop to match."""
    unframed = (row for photo in journal for row in photo.rows if "frame_h" not in edits.get(row.face, {}))
    summary.same = near_duplicates.near_duplicates(near_duplicates.gather(unframed), job.target)
    recut = _Recut(job.target / REVIEW / "recut.json")
    todo: list[Task] = []
    for photo in journal:
        summary.photos += 1
        rows = [_final(row, summary, edits, job.settings) for row in photo.rows]
        summary.verdicts.update(row.verdict for row in rows)
        summary.unread.update(row.reason for row in rows if row.unread)
        summary.tight += sum(TOO_TIGHT in row.reason for row in rows)
        missing = [r for r, was in zip(rows, photo.rows, strict=True) if r.n and not _settled(job, recut, r, was)]
        if missing:
            todo.append(Task(photo.name, photo.stamp, photo.sha256, tuple(missing)))
    with _bar("cutting again", len(todo), 0, execution) as bar:
        for photos in spread(partial(work, job), todo, execution.engine, execution.processes):
            for photo in photos:
                recut.note(photo.rows, journal.photo(photo.name).rows)
                summary.lost += not photo.rows
            bar.update(len(photos))
    recut.write()
    journal.settle()


def _cluster_people(job: Job, rows: Iterator[Row], execution: Execution) -> dict[str, str]:
    with closing(identity_clusters.Descriptions(job.target / REVIEW / identity_clusters.NAME)) as known:
        todo = known.missing(job, rows)
        describe = partial(identity_clusters.describe, job)
        with _bar("telling people apart", len(todo), 0, execution, " faces") as bar:
            for descriptions in spread(describe, todo, execution.engine, execution.processes):
                known.add(descriptions)
                bar.update(len(descriptions))
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


def _rows(journal: Journal, summary: Summary, edits: Edits, settings: Settings) -> Iterator[Row]:
    return (_final(row, summary, edits, settings) for photo in journal for row in photo.rows)


def _final(row: Row, summary: Summary, edits: Edits, settings: Settings) -> Row:
    kept = summary.same.get(row.face) if row.n else None
    if kept:
        reasons = "; ".join(filter(None, [row.reason, f"looks like {kept}"]))
        row = replace(row, same_as=kept, verdict="doubtful", reason=reasons)
    person = summary.people.get(row.face) if row.n else None
    return applied(replace(row, person=person) if person else row, edits, settings)


class _Recut:
    """The faces whose crop has another frame than the detected one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}

    def current(self, first: Row) -> list[float]:
        """The frame of the crop on disk."""
        return self._frames.get(first.face) or [getattr(first, name) for name in FRAME]

    def note(self, rows: Sequence[Row], first_rows: Sequence[Row]) -> None:
        """Record that ``rows`` were cut; ``first_rows`` are the rows as detected."""
        first = {row.face: [getattr(row, name) for name in FRAME] for row in first_rows}
        for row in rows:
            self._frames[row.face] = [getattr(row, name) for name in FRAME]
            if self._frames[row.face] == first[row.face]:
                del self._frames[row.face]

    def write(self) -> None:
        """Save to disk."""
        if self._frames or self.path.exists():
            with atomic_path(self.path) as beside:
                beside.write_text(json.dumps(self._frames, indent=0, sort_keys=True))


def _settled(job: Job, recut: _Recut, row: Row, first: Row) -> bool:
    """Whether the crop is in place, after moving it there from another verdict; if not, it has to be cut again."""
    same_frame = [getattr(row, name) for name in FRAME] == recut.current(first)
    wanted = place(job.target, row.face, row.verdict)
    others = [place(job.target, row.face, verdict) for verdict in VERDICTS if verdict != row.verdict]
    misplaced = [path for path in others if path.is_file()]
    if same_frame and misplaced and not wanted.is_file():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        misplaced.pop().replace(wanted)
    for path in misplaced:
        path.unlink()
    return same_frame and _holds(wanted) and _holds(thumb(job.target, row.face))


def _holds(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size > 0
    return False
