"""A data set of Hugging Face `datasets`: saved on disk, a folder of parquet or pictures, or one on the hub."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceforge.data.layout import SPLITS
from faceforge.data.sources.base import Face, Files
from faceforge.data.sources.columns import flat, people_and_labels
from faceforge.errors import BadInput, to_install
from faceforge.io.archives import MAX_FILE_BYTES, FileStore, InPieces
from faceforge.io.attributes import Attributes
from faceforge.io.images import ImageError
from faceforge.io.storage import cache_root

if TYPE_CHECKING:
    from datasets import Dataset

SAVED = ("state.json", "dataset_dict.json")  # of what save_to_disk wrote


class Hub(Files):
    """The pictures of one column (``picture``; the first of that kind), in all splits.

    ``person`` names the column of people; other columns are labels where they hold 0 and 1, true and false, or few
    words. Two or more splits named train, val and test are an official split. Raises BadInput if datasets is not
    installed, nothing can be loaded, or there is no such column.
    """

    name = "hub"
    remembered = True

    def __init__(
        self, root: str | None, picture: str | None = None, person: str | None = None, cache: str | None = None
    ) -> None:
        if root is None or not root.strip():
            raise BadInput("data.root: must be a data set's folder or its name on the hub, such as OWNER/NAME")
        parts = _loaded(root, cache)
        column = _picture(root, parts, picture)
        store = Columns(Path(root), cache, {name: part.select_columns([column]) for name, part in parts.items()})
        official = {split for name in parts if (split := SPLITS.get(name))} if len(parts) > 1 else set()
        names = [(split, n) for split, part in parts.items() for n in range(len(part))]
        rows = [flat(row) for part in parts.values() for row in _values(part, column)]
        people, self._attributes = people_and_labels(root, rows, person)
        faces = [
            Face(f"{name}/{n:07d}", one, SPLITS.get(name) if official else None)
            for (name, n), one in zip(names, people, strict=True)
        ]
        order = sorted(range(len(faces)), key=lambda n: faces[n].id)
        if self._attributes:
            self._attributes = self._attributes[0], self._attributes[1][order]
        listed = ["\t".join([names[n][0], str(names[n][1]), column]) for n in order]
        super().__init__(store, listed, [faces[n] for n in order])

    @classmethod
    def reopened(cls, root: Path, cache: str | None) -> FileStore:
        """The same data set, loaded when a picture is read."""
        return Columns(root, cache)

    def left_out(self) -> Counter[str]:
        """Nothing: other columns are values."""
        return Counter()

    def attributes(self) -> Attributes | None:
        """The labels in the other columns: names and (N, A) values."""
        return self._attributes


def _loaded(root: str, cache: str | None) -> dict[str, Dataset]:
    """Each split, with undecoded pictures. Raises BadInput."""
    try:
        import datasets
    except ImportError as error:
        raise BadInput(f"data=hub needs datasets; {to_install('shards')}") from error
    datasets.disable_progress_bars()
    folder = Path(root).expanduser()
    try:
        if any((folder / name).is_file() for name in SAVED):
            found = datasets.load_from_disk(str(folder))
        elif folder.is_file():
            found = datasets.load_dataset("parquet", data_files=str(folder), cache_dir=str(cache_root(cache) / "hub"))
        else:
            name = str(folder) if folder.is_dir() else root
            found = datasets.load_dataset(name, cache_dir=str(cache_root(cache) / "hub"))
    except Exception as error:  # datasets passes on what its readers, its files and the network raise
        what = "cannot be loaded" if folder.exists() else "neither a folder here nor a data set that the hub gives"
        raise BadInput(f"data.root={root}: {what} ({str(error).splitlines()[0][:160]})") from error
    parts = found.items() if isinstance(found, dict) else [(found.split or "train", found)]
    return {str(name): _undecoded(part) for name, part in parts if len(part)}


def _undecoded(part: Dataset) -> Dataset:
    import datasets

    for name, feature in part.features.items():
        if isinstance(feature, datasets.Image):
            part = part.cast_column(name, datasets.Image(decode=False))
    return part


def _picture(root: str, parts: dict[str, Dataset], asked: str | None) -> str:
    """The column of pictures. Raises BadInput."""
    import datasets

    features = next(iter(parts.values())).features if parts else {}
    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if asked is not None and asked not in found:
        raise BadInput(f"data.source.picture={asked}: no column of pictures in {root}; must be one of {found}")
    if not found:
        raise BadInput(f"data.root={root}: no column of pictures; found {', '.join(list(features)[:8]) or 'no rows'}")
    return asked or found[0]


def _values(part: Dataset, column: str) -> Sequence[dict[str, object]]:
    """The rows without pictures; numbers of classes by their names."""
    import datasets

    kept = [n for n, feature in part.features.items() if n != column and not isinstance(feature, datasets.Image)]
    if not kept:
        return [{}] * len(part)
    table: dict[str, list[Any]] = part.select_columns(kept)[:]
    for name in kept:
        feature = part.features[name]
        if isinstance(feature, datasets.ClassLabel):
            table[name] = [feature.names[value] if value is not None and value >= 0 else None for value in table[name]]
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


class Columns(InPieces):
    """The pictures of a data set: a name is the split, the row and the column, with tabs between."""

    def __init__(self, root: Path, cache: str | None, parts: dict[str, Dataset] | None = None) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()
        self._cache, self._parts = cache, parts

    def read(self, name: str) -> bytes:
        """As Store.read."""
        value = self._row(name)
        data, path = value.get("bytes"), value.get("path")
        if data is None and path:
            try:
                data = Path(path).read_bytes()
            except OSError as error:
                raise ImageError(f"cannot be read: {error.strerror}") from error
        if not data or len(data) > MAX_FILE_BYTES:
            raise ImageError("no picture in this row" if not data else f"must have at most {MAX_FILE_BYTES} bytes")
        return data

    def status(self, name: str) -> os.stat_result:
        """The status of the Arrow file that was written or downloaded last."""
        files = [Path(file["filename"]) for part in self._opened().values() for file in part.cache_files]
        return max((file.stat() for file in files), key=lambda status: status.st_mtime_ns)

    def _row(self, name: str) -> dict[str, Any]:
        split, row, column = name.split("\t", 2)
        return self._opened()[split][int(row)][column] or {}

    def _opened(self) -> dict[str, Dataset]:
        if self._parts is None:
            self._parts = _loaded(str(self.root), self._cache)
        return self._parts
