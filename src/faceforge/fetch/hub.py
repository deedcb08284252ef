"""Copies of sets on the Hugging Face hub: parquet files, unpacked into the layout in which a set is handed on.

The hub declares size and sha256 of each file at a revision, and the files are checked against these; nobody else has
pinned them. What is in them is checked too: every picture's name and bytes, the numbers of pictures and people. The
copy of CelebA holds the pixels of the official JPEGs as PNG, without their names: within the official splits, which
are ranges of them, pictures are numbered in the order of the copy.
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

SPLITS = ("train", "valid", "test")  # in the order of CelebA's numbers, 0 to 2 in its table
KINDS = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}
NOTES = (
    ".faceforge-unpacking"  # in the set's folder while it is incomplete: one table for each parquet file that is done
)

Row = dict[str, Any]
Say = Callable[[str], None]


def get(data: DataSet, folder: Path, endpoint: str, say: Say) -> Path:
    """Fetch and unpack the copy into ``folder``, a file at a time; a later call goes on. Raises DownloadError."""
    _pyarrow()
    address = f"{endpoint}/api/datasets/{data.repository}/revision/{data.revision}?blobs=true"
    shards = _declared(read_json(address, data.repository), data.repository)
    notes = folder / NOTES
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
    """Write the pictures and tables of parquet files below ``folder`` and give the path for data.root.

    Files are taken in the given order; one that a note says is done is not read again. Raises DownloadError.
    """
    place = folder / ("img_align_celeba" if data.name == "celeba" else "lfw")
    rows: list[Row] = []
    notes = []
    for file in files:
        notes.append(note := _note(folder / NOTES, file.name))
        if not note.exists():
            _unpack_one(data, file, place, note, len(rows))
        rows.extend(_rows_of(note))
    people = len({row["person"] for row in rows})
    if (len(rows), people) != (data.pictures, data.people):
        known = f"{data.pictures:,} of {data.people:,}"
        raise DownloadError(f"{folder}: this copy holds {len(rows):,} pictures of {people:,} people, {known} are known")
    if data.name == "celeba":
        _write_tables(rows, folder)
    for note in notes:
        note.unlink()
    with suppress(OSError):
        (folder / NOTES).rmdir()
    say(f"   unpacked into {place}")
    return folder if data.name == "celeba" else place


def _pyarrow() -> ModuleType:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DownloadError(f"its parquet files are read by pyarrow; {to_install('data')}") from error
    return parquet


def _declared(answer: Any, repository: str) -> list[tuple[str, int, str]]:
    """Name, size and sha256 of each parquet file that the hub lists."""
    try:
        files = [file for file in answer["siblings"] if file["rfilename"].endswith(".parquet")]
        found = [(file["rfilename"], int(file["lfs"]["size"]), str(file["lfs"]["sha256"])) for file in files]
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(f"{repository}: the hub does not declare sizes and hashes of its files") from error
    if not found:
        raise DownloadError(f"{repository}: the hub lists no parquet files there")
    return found


def _check_space(folder: Path, needed: int) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DownloadError(f"{needed:,} bytes are needed in {folder}, {free:,} are free")


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
    """Write each picture of a parquet file whole or not at all, then the note of them."""
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
                total=table.metadata.num_rows, desc=f"unpacking {file.name}", unit=" pictures", disable=None
            ) as bar:
                for batch in batches:
                    yield from batch.to_pylist()
                    bar.update(len(batch))
    except (OSError, ArrowException) as error:
        raise DownloadError(f"{file.name}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def _picture(row: Row, file: str) -> tuple[bytes, str, str]:
    """Bytes, ending and own name of a row's picture."""
    image = row.get("image")
    image = image if isinstance(image, dict) else {}
    content = image.get("bytes")
    ending = KINDS.get(content[:3]) if isinstance(content, bytes) else None
    if content is None or ending is None:
        raise DownloadError(f"{file}: a row holds no JPEG or PNG under `image`, but {sorted(row)[:5]}")
    return content, ending, PurePosixPath(image.get("path") or "").name


def _celeba(row: Row, number: int) -> tuple[str, str, bytes]:
    content, ending, own = _picture(row, "CelebA")
    own = own if re.fullmatch(r"\d{6}\.\w+", own) else f"{number:06d}.any"
    if "celeb_id" not in row:
        raise DownloadError(f"a row holds no celeb_id, but {sorted(row)[:5]}")
    return Path(own).stem + ending, str(row["celeb_id"]), content


def _lfw(row: Row, file: Path) -> tuple[str, str, bytes]:
    content, ending, own = _picture(row, file.name)
    own = PurePosixPath(str(row.get("filename") or own)).name
    person = re.fullmatch(r"(\w[\w.'-]*)_\d{4}\.\w+", own)
    if person is None:
        raise DownloadError(f"{file.name}: a picture is named {own!r} where Name_0001.jpg is expected")
    return f"{person[1]}/{Path(own).stem}{ending}", person[1], content


def _put(path: Path, content: bytes) -> None:
    if path.exists():
        if path.read_bytes() != content:
            raise DownloadError(f"{path} is in the way and another picture; move it away")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content)
    beside.replace(path)


def _write_tables(rows: Sequence[Row], folder: Path) -> None:
    """CelebA's three tables as they are handed on; attributes 1 and -1."""
    names = [name for name in rows[0] if name not in ("picture", "person", "split")]
    tables = {
        "list_attr_celeba.csv": [["image_id", *names], *([row["picture"], *(row[n] for n in names)] for row in rows)],
        "identity_CelebA.csv": [[row["picture"], row["person"]] for row in rows],
        "list_eval_partition.csv": [["image_id", "partition"], *([row["picture"], row["split"]] for row in rows)],
    }
    for name, lines in tables.items():
        with atomic_path(folder / name) as beside, beside.open("w", newline="", encoding="utf-8") as text:
            csv.writer(text, lineterminator="\n").writerows(lines)
