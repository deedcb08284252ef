"""WebDataset shards (Aizman et al. 2019, arXiv 2001.01858): tars in which files of one name are one sample."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from faceforge.data.sources.base import Face, Files
from faceforge.data.sources.columns import flat, people_and_labels
from faceforge.errors import BadInput, to_install
from faceforge.io.archives import IMAGES, MAX_FILE_BYTES, FileStore, InPieces
from faceforge.io.attributes import Attributes
from faceforge.io.images import ImageError
from faceforge.io.storage import cache_root

CLASS, DATA = "cls", "json"
SCHEMES = ("http://", "https://")


class Shards(Files):
    """``root``: shards by a pattern ("faces-{000..099}.tar", several joined by ::), or a folder of them.

    A sample's picture is its first file with the ending of one, or that of ``picture`` (such as "face.jpg"). Its .json
    and .cls are its person and labels: ``person`` names the key. Shards at http(s) are downloaded once, into the cache.
    Raises BadInput if webdataset is not installed, no shard can be read, or no sample has a picture.
    """

    name = "shards"
    remembered = True

    def __init__(
        self, root: str | None, picture: str | None = None, person: str | None = None, cache: str | None = None
    ) -> None:
        samples = [sample for path in _local(root, cache) for sample in _samples(path, picture)]
        if not any(sample.rows is not None for sample in samples):
            why = f"; {samples[0].key}: {samples[0].name}" if samples else ""
            ending = f".{picture}" if picture else "an image"
            raise BadInput(f"data.root={root}: no sample with {ending} in its shards{why}")
        samples.sort(key=lambda sample: sample.key)
        people, self._attributes = people_and_labels(str(root), [s.rows or {} for s in samples], person, CLASS)
        faces = [Face(sample.key, one) for sample, one in zip(_distinct(samples), people, strict=True)]
        super().__init__(TarFiles(Path(str(root))), [sample.name for sample in samples], faces)

    @classmethod
    def places(cls, root: str) -> list[Path]:
        """The shards; what is not on this machine's disks is no file."""
        return [Path(path) for path in _expanded(root)]

    @classmethod
    def reopened(cls, root: Path, cache: str | None) -> FileStore:
        """The same shards."""
        return TarFiles(root)

    def left_out(self) -> Counter[str]:
        """Nothing: other files of a sample are its values."""
        return Counter()

    def attributes(self) -> Attributes | None:
        """The labels of .json and .cls: names and (N, A) values."""
        return self._attributes


class _Sample(NamedTuple):
    key: str
    name: str  # of the picture, as TarFiles reads it; why there is none if the shard cannot be read
    rows: dict[str, str] | None


def _distinct(samples: Sequence[_Sample]) -> Iterator[_Sample]:
    """The samples with different keys: one that several shards use has the name of its shard before it."""
    counts = Counter(sample.key for sample in samples)
    for sample in samples:
        shard = Path(sample.name.split("\t")[0]).stem
        yield sample if counts[sample.key] == 1 else sample._replace(key=f"{shard}/{sample.key}")


# --------------------------------------------------------------------------------------------- which shards


def _expanded(root: str) -> list[str]:
    """The shards that a pattern or a folder names. Raises BadInput."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise BadInput(f"data=shards needs webdataset; {to_install('shards')}") from error
    folder = Path(root).expanduser()
    if folder.is_dir():
        return sorted(str(path) for path in folder.rglob("*.tar"))
    found = [url.removeprefix("file:") for url in expand_urls(os.path.expanduser(root))]  # noqa: PTH111
    wrong = next((url for url in found if re.match(r"[a-zA-Z]{2,}:", url) and not url.startswith(SCHEMES)), None)
    if wrong is not None:  # webdataset's pipe: runs any command
        raise BadInput(f"data.root={root}: {wrong}: shards must be files, http:// or https://")
    return found


def _local(root: str | None, cache: str | None) -> list[Path]:
    """The shards on this machine's disks, downloaded where needed. Raises BadInput."""
    if root is None or not root.strip():
        raise BadInput('data.root: must be shards, such as data.root="shards/{000..099}.tar"')
    urls = _expanded(root)
    paths = [_downloaded(url, cache) if url.startswith(SCHEMES) else Path(url) for url in urls]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None or not paths:
        raise BadInput(f"data.root={root}: {missing or 'no .tar in this folder'}: no such shard")
    return paths


def _downloaded(url: str, cache: str | None) -> Path:
    from webdataset.cache import FileCache

    folder = cache_root(cache) / "shards"
    try:
        return Path(FileCache(str(folder), url_to_name=lambda url: re.sub(r"[^\w.-]+", "_", url)).get_file(url))
    except Exception as error:  # webdataset passes on what curl, urllib and its own checks raise
        raise BadInput(f"data.root={url}: cannot be downloaded to {folder} ({str(error)[:120]})") from error


# ------------------------------------------------------------------------------------------ what is in them


def _samples(path: Path, picture: str | None) -> Iterator[_Sample]:
    """The samples of a shard with a picture; one without values stands for the rest of a damaged shard."""
    from webdataset.tariterators import base_plus_ext

    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    damage = ""
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    key, ending = base_plus_ext(member.name.removeprefix("./"))
                    if key and ending and member.isreg() and not key.rpartition("/")[2].startswith("."):
                        found.setdefault(key, {})[ending.lower()] = member
                    tar.members = []  # pyright: ignore[reportAttributeAccessIssue]  a list of all takes memory
        except (tarfile.TarError, OSError, EOFError) as error:
            damage = str(error)
        size = os.fstat(file.fileno()).st_size
        for key, files in found.items():
            ending = picture if picture in files else next((e for e in files if f".{e}".endswith(IMAGES)), None)
            if ending is not None and (picture is None or ending == picture):
                member = files[ending]
                name = "\t".join([str(path), str(member.offset_data), str(member.size), member.name])
                yield _Sample(key, name, _values(file, files))
                damage = damage or ("unexpected end of data" if member.offset_data + member.size > size else "")
    if damage:
        yield _Sample(path.name, f"{path}\t0\t-1\t{damage}", None)


def _values(file: IO[bytes], files: dict[str, tarfile.TarInfo]) -> dict[str, str]:
    """The values of a sample's .json and .cls; damaged ones are unknown."""
    found: dict[str, str] = {}
    for ending in (DATA, CLASS):
        if ending in files and files[ending].size <= MAX_FILE_BYTES:
            file.seek(files[ending].offset_data)
            text = file.read(files[ending].size).decode("utf-8", "replace").strip()
            try:
                read = json.loads(text) if ending == DATA else {CLASS: text}
            except ValueError:
                continue
            found |= flat(read) if isinstance(read, dict) else {}
    return found


class TarFiles(InPieces):
    """Members of tars, read where they lie; a name is the tar, offset, size and member, with tabs between."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()

    def read(self, name: str) -> bytes:
        """As Store.read."""
        path, start, size, member = name.split("\t", 3)
        if int(size) < 0:
            raise ImageError(f"a truncated or damaged shard ({member})")
        if int(size) > MAX_FILE_BYTES:
            raise ImageError(f"must be a file of at most {MAX_FILE_BYTES} bytes")
        return self._part(path, int(start), int(size))

    def status(self, name: str) -> os.stat_result:
        """The status of the tar."""
        return Path(name.split("\t")[0]).stat()

    def _part(self, path: str, start: int, size: int) -> bytes:
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        if len(data) < size:
            raise ImageError("truncated: its shard ends early")
        return data
