"""LMDB: a database of image files by key, as StyleGAN2-pytorch, LSUN and BasicSR keep them."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from faceforge.data.sources.base import Face, Files
from faceforge.errors import BadInput, to_install
from faceforge.io.archives import MAX_FILE_BYTES, FileStore, InPieces
from faceforge.io.images import ImageError
from faceforge.io.kinds import HEAD, kind_of, readable

if TYPE_CHECKING:
    import lmdb as library

FILE = "data.mdb"
SIZED = re.compile(r"(\d+)-(\d+)")  # of StyleGAN2-pytorch: pixels a side, and the number of the image


class Lmdb(Files):
    """The images of a database at ``root`` (its folder, or the file if it has none), in the order of their keys.

    Values that are no image (a count, for example) are ignored; where keys are SIZE-NUMBER, as of StyleGAN2-pytorch,
    the largest size is used. Raises BadInput if lmdb is not installed or there is no image.
    """

    name = "lmdb"
    remembered = True

    def __init__(self, root: str | None) -> None:
        if root is None or not root.strip():
            raise BadInput("data.root: must be the folder of an LMDB, such as data.root=faces.lmdb")
        store = Database(Path(root).expanduser())
        keys = store.images()
        if not keys:
            raise BadInput(f"data.root={root}: no value of this LMDB is an image")
        sized = [SIZED.fullmatch(key) for key in keys]
        if all(sized):
            largest = max(int(found[1]) for found in sized if found)
            keys = [key for key in keys if key.startswith(f"{largest}-")]
        super().__init__(store, keys, [Face(key) for key in keys])

    @classmethod
    def places(cls, root: str) -> list[Path]:
        """The file of the database."""
        return [_file(Path(root).expanduser())]

    @classmethod
    def reopened(cls, root: Path, cache: str | None) -> FileStore:
        """The same database."""
        return Database(root)

    def left_out(self) -> Counter[str]:
        """Nothing: other values belong to the format."""
        return Counter()


class Database(InPieces):
    """The values of an LMDB by key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()

    def images(self) -> list[str]:
        """The keys of images, in their order. Raises BadInput."""
        with self._opened().begin(buffers=True) as entries:
            found = [bytes(key) for key, value in entries.cursor() if readable(kind_of(bytes(value[:HEAD])))]
        return [key.decode("utf-8", "surrogateescape") for key in found]

    def read(self, name: str) -> bytes:
        """As Store.read."""
        try:
            with self._opened().begin(buffers=True) as entries:
                value = entries.get(name.encode("utf-8", "surrogateescape"))
                data = None if value is None else bytes(value)
        except BadInput as error:
            raise ImageError(str(error)) from error
        if data is None or len(data) > MAX_FILE_BYTES:
            raise ImageError("no such key" if data is None else f"must have at most {MAX_FILE_BYTES} bytes")
        return data

    def status(self, name: str) -> os.stat_result:
        """The status of the database's file."""
        return _file(self.root).stat()

    def _opened(self) -> library.Environment:
        file = _file(self.root)
        if not file.is_file():
            raise BadInput(f"data.root={self.root}: no LMDB; must be a folder with {FILE}, or such a file")
        return _open(file.resolve(), file.stat().st_mtime_ns, os.getpid())


@lru_cache(maxsize=4)
def _open(file: Path, changed: int, process: int) -> library.Environment:
    """A database of this process, which may open each only once; nothing is locked or written. Raises BadInput."""
    try:
        import lmdb
    except ImportError as error:
        raise BadInput(f"data=lmdb needs lmdb; {to_install('lmdb')}") from error
    try:
        return lmdb.open(str(file), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise BadInput(f"data.root={file}: an LMDB that cannot be read ({error})") from error


def _file(root: Path) -> Path:
    return root / FILE if root.is_dir() else root
