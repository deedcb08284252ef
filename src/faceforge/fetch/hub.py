"""Copies of data sets on the Hugging Face hub: parquet files, unpacked into the original layout of the set.

The files are checked against the size and SHA-256 that the hub declares for a revision, since nobody pins them. Their
content is checked too: the name and format of every image, and the numbers of images and people. The copy of CelebA
holds the pixels of the official JPEGs as PNG, without file names; since the official splits are ranges of numbers,
images are numbered in the order of the copy.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tqdm import tqdm

from faceforge.errors import to_install
from faceforge.fetch.download import DownloadError, fetch, read_json
from faceforge.io.files import atomic_path

if TYPE_CHECKING:
    from faceforge.fetch.catalog import DataSet

SPLITS = ("train", "valid", "test")  # in the order of CelebA's numbering; 0 to 2 in its table
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}
PROGRESS_FOLDER = ".faceforge-unpacking"  # in the set's folder until complete: one table per unpacked parquet file

Row = dict[str, Any]
Say = Callable[[str], None]


def get(data: DataSet, folder: Path, endpoint: str, say: Say) -> Path:
    """Download and unpack the copy into ``folder``, file by file; a later call resumes. Raises DownloadError."""
    _pyarrow()
    address = f"{endpoint}/api/datasets/{data.repository}/revision/{data.revision}?blobs=true"
    shards = _listed(read_json(address, data.repository), data.repository)
    notes = folder / PROGRESS_FOLDER
    missing = [size for name, size, _ in shards if not _note(notes, name).exists()]
    _check_space(folder, sum(missing) + max(missing, default=0))

    def arriving() -> Iterator[Path]:
        for name, size, sha256 in sorted(shards, key=lambda shard: (_split(shard[0]), shard[0])):
            file = notes / name.replace("/", "-")
            if not _note(notes, name).exists():
                url = f"{endpoint}/datasets/{data.repository}/resolve/{data.revision}/{quote(name)}"
                fetch(url, file, size=size, sha256=sha256, what=PurePosixPath(name).name)
            yield file
            file.unlink(missing_ok=True)

    return unpack(data, arriving(), folder, say)


def unpack(data: DataSet, files: Iterable[Path], folder: Path, say: Say) -> Path:
    """Write the images and tables of parquet files below ``folder`` and return the path for data.root.

    Files are unpacked in the given order; a file that has a note is not read again. Raises DownloadError.
    """
    images_folder = folder / ("img_align_celeba" if data.name == "celeba" else "lfw")
    rows: list[Row] = []
    notes = []
    for file in files:
        notes.append(note := _note(folder / PROGRESS_FOLDER, file.name))
        if not note.exists():
            _unpack_one(data, file, images_folder, note, len(rows))
        rows.extend(_rows_of(note))
    people = len({row["person"] for row in rows})
    if (len(rows), people) != (data.images, data.people):
        expected = f"{data.images:,} of {data.people:,}"
        raise DownloadError(f"{folder}: this copy holds {len(rows):,} images of {people:,} people, must be {expected}")
    if data.name == "celeba":
        _write_tables(rows, folder)
    for note in notes:
        note.unlink()
    with suppress(OSError):
        (folder / PROGRESS_FOLDER).rmdir()
    say(f"   unpacked into {images_folder}")
    return folder if data.name == "celeba" else images_folder


def _pyarrow() -> ModuleType:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DownloadError(f"its parquet files need pyarrow; {to_install('data')}") from error
    return parquet


def _listed(answer: Any, repository: str) -> list[tuple[str, int, str]]:
    """Name, size and SHA-256 of each parquet file that the hub lists."""
    try:
        files = [file for file in answer["siblings"] if file["rfilename"].endswith(".parquet")]
        declared = [(file["rfilename"], int(file["lfs"]["size"]), str(file["lfs"]["sha256"])) for file in files]
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(f"{repository}: the hub does not declare the sizes and hashes of its files") from error
    if not declared:
        raise DownloadError(f"{repository}: the hub lists no parquet files")
    return declared


def _check_space(folder: Path, needed: int) -> None:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DownloadError(f"{folder} needs {needed:,} free bytes, has {free:,}")


def _note(notes: Path, name: str) -> Path:
    return notes / f"{name.replace('/', '-')}.csv"


def by_split(files: Iterable[Path]) -> list[Path]:
    """Parquet files in the order of CelebA's numbers: train, valid, test, each by name."""
    return sorted(files, key=lambda file: (_split(file.name), file.name))


def _split(name: str) -> int:
    return next((n for n, split in enumerate(SPLITS) if split in name), 0)


def _rows_of(note: Path) -> Iterator[Row]:
    with note.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _unpack_one(data: DataSet, file: Path, place: Path, note: Path, before: int) -> None:
    """Write the images of a parquet file, each atomically, then their note."""
    rows = []
    for number, row in enumerate(_read(file), start=before + 1):
        name, person, content = _celeba(row, number) if data.name == "celeba" else _lfw(row, file)
        _put(place / name, content)
        flags = {key: 1 if value else -1 for key, value in row.items() if isinstance(value, bool)}
        rows.append({"picture": PurePosixPath(name).name, "person": person, "split": _split(file.name), **flags})
    if not rows:
        raise DownloadError(f"{file.name}: holds no rows")
    os.sync()
    with atomic_path(note) as beside, beside.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _read(file: Path) -> Iterator[Row]:
    from pyarrow import ArrowException

    try:
        with _pyarrow().ParquetFile(file) as table:
            batches = table.iter_batches(batch_size=64)
            with tqdm(
                total=table.metadata.num_rows, desc=f"unpacking {file.name}", unit=" images", disable=None
            ) as bar:
                for batch in batches:
                    yield from batch.to_pylist()
                    bar.update(len(batch))
    except (OSError, ArrowException) as error:
        raise DownloadError(f"{file.name}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def _picture(row: Row, file: str) -> tuple[bytes, str, str]:
    """Bytes, suffix and stored name of the image of a row."""
    image = row.get("image")
    image = image if isinstance(image, dict) else {}
    content = image.get("bytes")
    ending = SUFFIXES.get(content[:3]) if isinstance(content, bytes) else None
    if content is None or ending is None:
        raise DownloadError(f"{file}: a row has no JPEG or PNG in its column image; its columns are {sorted(row)[:5]}")
    return content, ending, PurePosixPath(image.get("path") or "").name


def _celeba(row: Row, number: int) -> tuple[str, str, bytes]:
    content, ending, own = _picture(row, "CelebA")
    own = own if re.fullmatch(r"\d{6}\.\w+", own) else f"{number:06d}.any"
    if "celeb_id" not in row:
        raise DownloadError(f"a row has no column celeb_id; its columns are {sorted(row)[:5]}")
    return Path(own).stem + ending, str(row["celeb_id"]), content


def _lfw(row: Row, file: Path) -> tuple[str, str, bytes]:
    content, ending, own = _picture(row, file.name)
    own = PurePosixPath(str(row.get("filename") or own)).name
    person = re.fullmatch(r"(\w[\w.'-]*)_\d{4}\.\w+", own)
    if person is None:
        raise DownloadError(f"{file.name}: an image is named {own!r}, must be like Name_0001.jpg")
    return f"{person[1]}/{Path(own).stem}{ending}", person[1], content


def _put(path: Path, content: bytes) -> None:
    if path.exists():
        if path.read_bytes() != content:
            raise DownloadError(f"{path} exists and is another image; move it away")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content)
    beside.replace(path)


def _write_tables(rows: Sequence[Row], folder: Path) -> None:
    """Write the three tables of CelebA in their original layout; attributes are 1 and -1."""
    names = [name for name in rows[0] if name not in ("picture", "person", "split")]
    tables = {
        "list_attr_celeba.csv": [["image_id", *names], *([row["picture"], *(row[n] for n in names)] for row in rows)],
        "identity_CelebA.csv": [[row["picture"], row["person"]] for row in rows],
        "list_eval_partition.csv": [["image_id", "partition"], *([row["picture"], row["split"]] for row in rows)],
    }
    for name, lines in tables.items():
        with atomic_path(folder / name) as beside, beside.open("w", newline="", encoding="utf-8") as text:
            csv.writer(text, lineterminator="\n").writerows(lines)
