"""How an odd file, table or layout is fed to faceforge, and how what came of it is judged.

Faces are known by their pixels: a drawn face n is found again whatever its file is called, and people, labels and
splits are expected of n. Nothing expected is computed by the package.
"""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from faceforge import config
from faceforge.data.datamodule import FaceData
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io.images import ImageError, decode

READ, REFUSED, WRONG, SILENT = "read right", "refused rightly", "read WRONG", "silently left out"
MOST = 64  # drawn faces of a set
SIDE = 32  # of the faces of tables and layouts
SPLITS = ("train", "val", "test")
Pixels = np.ndarray


class Verdict(NamedTuple):
    """What became of a case, and why."""

    kind: str
    said: str = ""


@dataclass(frozen=True)
class Case:
    """A case of a family; ``feed`` gives it to faceforge, with an empty folder of its own."""

    family: str
    name: str
    feed: Callable[[Path], Verdict]


@lru_cache(maxsize=512)
def face(seed: int, n: int, height: int = SIDE, width: int = SIDE) -> Pixels:
    """Drawn face n of a seed, uint8 (height, width, 3); do not change it."""
    return Drawn(None, count=n + 1, seed=seed).read(n, (height, width))


def encoded(pixels: Pixels | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A picture file; a JPEG of quality 95 without subsampling unless told otherwise."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    fine = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    image.save(buffer, kind, **{**fine, **options})
    return buffer.getvalue()


def put(files: Mapping[str, bytes], folder: Path, form: str = "folder") -> Path:
    """Files as a folder, or as an archive (zip, tar or tgz) beside it; the path."""
    if form == "folder":
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder
    path = folder.with_name(f"{folder.name}.{form}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if form == "tgz" else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


# ----------------------------------------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Picture:
    """A file and its right pixels, the pattern of the reason by which it may be refused, or either."""

    name: str
    file: str
    data: bytes
    pixels: Pixels | None = None
    refusal: str | None = None
    tolerance: float = 3.0  # mean levels of 255; four times as much in any 16x16 block
    mentioned: str = ""  # how the check may call it where it is left out; "" is the file's name or the refusal


def unlike(found: Pixels, right: Pixels, tolerance: float) -> str:
    """How pixels differ from the right ones; "" where they do not."""
    one, other = (p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in (found, right))
    if one.shape != other.shape:
        return f"{found.shape} pixels, {right.shape} are right"
    off = np.abs(one.astype(np.int16) - other).mean(axis=2)
    height, width = off.shape
    block = max(off[y : y + 16, x : x + 16].mean() for y in range(0, height, 16) for x in range(0, width, 16))
    if off.mean() <= tolerance and block <= 4 * tolerance:
        return ""
    return f"{off.mean():.1f} of 255 from the right pixels, {block:.1f} in a block"


def feed_bytes(given: Picture) -> Verdict:
    """Through decode()."""
    try:
        found = decode(given.data, given.file)
    except ImageError as error:
        return _refused(str(error), given.refusal)
    except Exception as error:
        return Verdict(WRONG, f"{type(error).__name__}: {error}")
    return _read(found, given)


def _read(found: Pixels, given: Picture) -> Verdict:
    if given.pixels is None:
        return Verdict(WRONG, f"read, and must be refused ({given.refusal})")
    wrong = unlike(found, given.pixels, given.tolerance)
    return Verdict(WRONG, wrong) if wrong else Verdict(READ)


def _refused(said: str, pattern: str | None) -> Verdict:
    if "\n" in said.strip():
        return Verdict(WRONG, f"several lines: {said!r}")
    if pattern is None:
        return Verdict(WRONG, f"refused: {said}")
    right = re.search(pattern, said, re.IGNORECASE)
    return Verdict(REFUSED, said) if right else Verdict(WRONG, f"the reason is {said!r}; must match {pattern!r}")


def feed_among(given: Picture, folder: Path, form: str, seed: int) -> Verdict:
    """Within a set of sound pictures: it must be one of its faces, or `data check` must say what it is."""
    sound = {f"sound_{n}.png": encoded(face(seed, 900 + n), "PNG") for n in range(8)}
    root = put({**sound, given.file: given.data}, folder / "set", form)
    try:
        source = Crops(str(root), cache=str(folder / "cache"))
        said = str(check(root))
    except Exception as error:
        return Verdict(WRONG, f"the whole set is refused: {type(error).__name__}: {error}")
    lost = set(sound) - {name.rpartition("/")[2] for name in source.names}
    if lost:
        return Verdict(SILENT, f"{len(lost)} sound pictures beside it are left out")
    odd = [n for n, name in enumerate(source.names) if name not in sound]
    if not odd:
        return _left_out(given, said)
    try:
        return _read(source.read(odd[0], (SIDE, SIDE)), given)
    except ImageError as error:
        named = _mentions(said, given.file)
        return _refused(str(error), given.refusal) if named else Verdict(SILENT, "the check does not name it")


def _left_out(given: Picture, said: str) -> Verdict:
    """A file that is no face of its set: right where the check tells of it, by name, kind or ending."""
    words = [given.mentioned or given.refusal or "", re.escape(Path(given.file).suffix) if "." in given.file else ""]
    lines = [line for line in said.splitlines() if "left out" in line]
    told = any(word and re.search(word, line, re.IGNORECASE) for word in words for line in lines)
    if not told and not (lines and _mentions("\n".join(lines), given.file)):
        return Verdict(SILENT, "neither a face nor in the report of the check")
    if given.refusal is None:
        return Verdict(WRONG, f"left out: {' '.join(lines)[:150]}")
    return Verdict(REFUSED, " ".join(lines))


def _mentions(said: str, name: str) -> bool:
    """Whether a report names a file, whatever it does with characters that a terminal cannot show."""
    start = re.match(r"[ -\[\]-~]*", unicodedata.normalize("NFC", name).rpartition("/")[2])
    return bool(start and start[0].strip() and start[0].strip()[:40] in said)


def picture_case(given: Picture, n: int, seed: int) -> Case:
    """Both doors; the set is a folder, a zip and a tgz in turns."""
    form = ("folder", "zip", "tgz")[n % 3]

    def feed(folder: Path) -> Verdict:
        alone = feed_bytes(given)
        if alone.kind in (WRONG, SILENT):
            return Verdict(alone.kind, f"decode: {alone.said}")
        among = feed_among(given, folder, form, seed)
        return Verdict(among.kind, f"in a {form}: {among.said}") if among.kind in (WRONG, SILENT) else alone

    return Case("pictures", given.name, feed)


# ------------------------------------------------------------------------------------------------- sets of faces


@dataclass(frozen=True)
class Expected:
    """What must be known of the faces of a set, by their numbers; None where it is not looked at."""

    faces: Iterable[int]
    people: Mapping[int, object] | None = None  # equal values: one person; None or missing: unknown
    splits: Mapping[int, str] | None = None  # None: by person, from the seed
    labels: Mapping[str, Mapping[int, float]] | None = None  # by label, then face; missing: unknown
    refusal: str | None = None  # the pattern of the line by which the set may be refused instead
    must_say: str = ""  # a pattern that the report of the check must have where the set is read
    read: bool = True  # False: only a refusal is right
    unread: int = 0  # files that must be skipped and counted


@dataclass(frozen=True)
class Known:
    """What faceforge found: by the number of the face."""

    people: dict[int, str | None] = field(default_factory=dict)
    splits: dict[int, str] = field(default_factory=dict)
    labels: dict[str, dict[int, float]] = field(default_factory=dict)
    skipped: int = 0


@lru_cache(maxsize=8)
def _composed(source: str) -> dict[str, Any]:
    words = [f"data={source}", "data.root=x", f"data.size={SIDE}", "data.crop=center", "data.batch_size=1"]
    return config.compose(words)["data"]


def loaded(source: str, root: Path, cache: Path, **changes: Any) -> FaceData:
    """The prepared faces of a set. Raises BadInput."""
    node = {**_composed(source), "root": str(root), "cache": str(cache), **changes}
    own = {"cache": str(cache), **node.pop("source_changes", {})}
    node["source"] = {**node["source"], **own}
    data: FaceData = config.build(node)
    data.prepare(progress=False)
    return data


def known(data: FaceData, seed: int) -> Known:
    """Who is who, by pixels. Raises ValueError where a face is none of the drawn ones, or is there twice."""
    drawn = np.stack([face(seed, n) for n in range(MOST)]).astype(np.int16)
    found = Known(skipped=len(data.skipped))
    names, values = data.attributes or ([], np.zeros((0, 0)))
    for split in SPLITS:
        pictures = np.rint((data.images(split).numpy().transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.int16)
        for row, picture in zip(data.rows[split], pictures, strict=True):
            off = np.abs(drawn - picture).mean(axis=(1, 2, 3))
            n = int(off.argmin())
            if off[n] > 4 or n in found.splits:
                raise ValueError(f"a picture is {'there twice' if off[n] <= 4 else 'none of the drawn faces'}")
            found.splits[n] = split
            found.people[n] = data.people[row]
            for name, value in zip(names, values[row] if len(values) else [], strict=True):
                found.labels.setdefault(name, {})[n] = float(value)
    return found


def differences(found: Known, right: Expected) -> list[Verdict]:
    """Everything that is wrong."""
    faces, wrong = set(right.faces), []
    missing, extra = faces - set(found.splits), set(found.splits) - faces
    if missing:
        wrong.append(Verdict(SILENT, f"{len(missing)} of {len(faces)} faces are not there"))
    if extra:
        wrong.append(Verdict(WRONG, f"{len(extra)} pictures are faces that must be none"))
    if found.skipped != right.unread:
        wrong.append(Verdict(WRONG, f"{found.skipped} skipped, {right.unread} are unreadable"))
    both = sorted(faces & set(found.splits))
    wrong += [Verdict(WRONG, said) for said in _people(found, right, both) + _splits(found, right, both)]
    return wrong + [Verdict(WRONG, said) for said in _labels(found, right, both)]


def _people(found: Known, right: Expected, faces: list[int]) -> list[str]:
    if right.people is None:
        return []
    pairs = {n: (found.people[n], right.people.get(n)) for n in faces}
    lost = [n for n, (got, must) in pairs.items() if (got is None) != (must is None)]
    if lost:
        got, must = pairs[lost[0]]
        return [f"the person of face {lost[0]} is {got!r}, must be {must!r} ({len(lost)} such)"]
    named = {pair for pair in pairs.values() if pair[0] is not None}
    count = len(named), len({got for got, _ in named}), len({must for _, must in named})
    return [] if len(set(count)) == 1 else [f"{count[1]} people, must be {count[2]}"]


def _splits(found: Known, right: Expected, faces: list[int]) -> list[str]:
    if right.splits is not None:
        off = [n for n in faces if right.splits.get(n) not in (None, found.splits[n])]
        return [f"{len(off)} faces in a wrong split: {off[0]} in {found.splits[off[0]]}"] if off else []
    if right.people is None:
        return []
    where: dict[object, set[str]] = {}
    for n in faces:
        where.setdefault(right.people.get(n, ("alone", n)), set()).add(found.splits[n])
    torn = [person for person, splits in where.items() if len(splits) > 1 and person is not None]
    return [f"{len(torn)} people are in more than one split"] if torn else []


def _labels(found: Known, right: Expected, faces: list[int]) -> list[str]:
    wrong: list[str] = []
    if right.labels is None:
        return wrong
    for name, values in right.labels.items():
        if name not in found.labels:
            wrong.append(f"no label {name!r}; there are {sorted(found.labels)[:6]}")
            continue
        for n in faces:
            got, must = found.labels[name].get(n, np.nan), values.get(n, np.nan)
            if not np.isclose(got, must, atol=1e-4, equal_nan=True):
                wrong.append(f"{name} of face {n} is {got:g}, must be {must:g}")
                break
    return wrong + [f"a label {name!r} that nobody gave" for name in set(found.labels) - set(right.labels)]


def feed_set(
    source: str,
    root: Path,
    folder: Path,
    right: Expected,
    seed: int,
    through_check: bool = False,
    others: Iterable[Expected] = (),
    **changes: Any,
) -> Verdict:
    """A set through the datamodule: packing, people, labels, splits. ``others`` are other right readings.

    ``through_check`` takes source and root from the command that `data check` prints.
    """
    try:
        if through_check:
            source, root, changes = _recommended(root, right, changes)
        data = loaded(source, root, folder / "cache", **changes)
        found = known(data, seed)
    except (BadInput, ImageError) as error:
        return _refused(str(error), right.refusal)
    except Exception as error:
        return Verdict(WRONG, f"{type(error).__name__}: {error}")
    if not right.read:
        return Verdict(WRONG, f"read, and must be refused ({right.refusal})")
    wrong = differences(found, right)
    if not wrong or any(not differences(found, other) for other in others):
        return Verdict(READ)
    return wrong[0]


def _recommended(root: Path, right: Expected, changes: dict[str, Any]) -> tuple[str, Path, dict[str, Any]]:
    """The source, root and settings of the command that the check prints. Raises BadInput."""
    finding = check(root)
    said = str(finding)
    if right.must_say and not re.search(right.must_say, said, re.IGNORECASE):
        raise ValueError(f"the check must say {right.must_say!r}: {said!r}")
    if not finding.command.startswith("python train.py"):
        raise BadInput(said.replace("\n", " "))
    words = dict(word.split("=", 1) for word in shlex.split(finding.command)[2:])
    return words["data"], Path(words["data.root"]), {**changes, "batch_size": 1}
