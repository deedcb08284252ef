"""Pairs of pictures: two folders of the same names, pictures side by side, or a table of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from faceforge.data.layout import Layout, understand
from faceforge.data.sources.base import Face, Files, Paired
from faceforge.errors import BadInput
from faceforge.io import tables
from faceforge.io.archives import FileStore, Folder, image_names, open_store
from faceforge.io.images import ImageError, decode

HALVES = ("left", "right")
INPUTS = ("a", "input", "inputs", "source", "x")  # names of folders that need not be said to be the inputs
SIDES = ("input", "target")  # columns of a table
LOOKED_AT = 20  # pictures; where all are twice as wide as high, pictures are side by side


@dataclass(frozen=True)
class _Pair:
    """The names of two files, which are one and the same where pictures are side by side."""

    id: str
    input: str
    target: str
    person: str | None
    split: str | None


class Pairs(Files, Paired):
    """An input and a target of each pair, as two faces of one person: the inputs' ids end in `` (input)``.

    ``root`` is a folder or archive with two folders of the same names, one of which ``input`` names (not needed where
    it is called A, also as trainA, or input); or with pictures side by side, whose input is the ``left`` (default) or
    ``right`` half; or a CSV with the columns input and target, and perhaps person and split, whose files are named
    from its own folder. Raises BadInput if pairs are incomplete.
    """

    name = "pairs"

    def __init__(self, root: str | None, input: str | None = None, cache: str | None = None) -> None:
        self.half: str | None = None
        if root is not None and root.lower().endswith((".csv", ".tsv")):
            store: FileStore = Folder(Path(root).expanduser().parent)
            pairs = _of_table(Path(root).expanduser(), store, input)
        else:
            store = open_store(root, cache)
            pairs, self.half = _of_files(store, image_names(store, store.names()), input)
        both = sorted([(pair.id, pair.target, pair) for pair in pairs] + [_input(pair) for pair in pairs])
        super().__init__(store, [name for _, name, _ in both], [Face(i, p.person, p.split) for i, _, p in both])
        places = {face: n for n, (face, _, _) in enumerate(both)}
        self._inputs = np.array([-1 if i != p.id else places[_input(p)[0]] for i, _, p in both], dtype=np.int64)

    @property
    def inputs(self) -> np.ndarray:
        """The index of each face's input, int64 (N,); -1 for inputs themselves."""
        return self._inputs

    def read(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """As Files.read: of pictures side by side the half."""
        picture = super().read(index, size)
        if self.half is None:
            return picture
        middle = picture.shape[1] // 2
        return picture[:, :middle] if self._side(index) == "left" else picture[:, middle : 2 * middle]

    def digest(self, index: int) -> str:
        """As Files.digest; of the file and the half."""
        whole = super().digest(index)
        return whole if self.half is None else hashlib.sha256(f"{whole} {self._side(index)}".encode()).hexdigest()

    def _side(self, index: int) -> str:
        other = HALVES[self.half == "left"]
        return other if self._inputs[index] >= 0 else str(self.half)


def _input(pair: _Pair) -> tuple[str, str, _Pair]:
    return f"{pair.id} (input)", pair.input, pair


# ------------------------------------------------------------------------------------------------------------- folders


def _of_files(store: FileStore, names: Sequence[str], wanted: str | None) -> tuple[list[_Pair], str | None]:
    """The pairs, and the half that is the input where pictures are side by side. Raises BadInput."""
    layout = understand(names, pairs=True)
    if layout.pairs:
        return _of_folders(store, names, layout, wanted), None
    if wanted not in HALVES and not all(_is_wide(store, name) for name in names[:: max(1, len(names) // LOOKED_AT)]):
        raise BadInput(
            f"data.root={store.root}: {layout.said()}; must be two folders with the same names, pictures side by side "
            "(twice as wide as high, or data.source.input=left or right), or a CSV with the columns input and target"
        )
    half = wanted or "left"
    if half not in HALVES:
        raise BadInput(f"data.source.input={half}: pictures are side by side; must be left or right")
    where = zip(layout.ids, names, layout.people, layout.splits, strict=True)
    return [_Pair(face, name, name, person, split) for face, name, person, split in where], half


def _is_wide(store: FileStore, name: str) -> bool:
    """Whether a picture may be two squares side by side; one that cannot be read is left out later, and told."""
    try:
        height, width = decode(store.read(name), name).shape[:2]
    except ImageError:
        return True
    return abs(width - 2 * height) <= 2


def _of_folders(store: FileStore, names: Sequence[str], layout: Layout, wanted: str | None) -> list[_Pair]:
    sides = layout.sets
    side = wanted or next((name for name in sides if name.lower() in INPUTS), None)
    if side not in sides:
        found = " is not named" if wanted is None else f"={wanted}"
        raise BadInput(f"data.source.input{found}: it must be the folder of the inputs, {' or '.join(sides)}")
    by_side: dict[str | None, dict[str, tuple[str, str | None]]] = {}
    for name, folder, person, split in zip(names, layout.folders, layout.people, layout.splits, strict=True):
        key = person or f"{split or ''}/{tables.plain(PurePosixPath(name).name)}"
        by_side.setdefault(folder, {})[key] = (name, split)
    given, wanted_faces = by_side[side], by_side[next(name for name in sides if name != side)]
    _require_both(store.root, given, wanted_faces)
    return [_Pair(key, given[key][0], name, key, split) for key, (name, split) in wanted_faces.items()]


def _require_both(root: Path, one: Mapping[str, tuple[str, object]], other: Mapping[str, tuple[str, object]]) -> None:
    alone = [name for a, b in ((one, other), (other, one)) for key, (name, _) in a.items() if key not in b]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise BadInput(f"data.root={root}: {alone[0]}{more}: no picture of this name on the other side; remove it")


# --------------------------------------------------------------------------------------------------------------- table


def _of_table(path: Path, store: FileStore, wanted: str | None) -> list[_Pair]:
    where = f"data.root={path}"
    if wanted is not None:
        raise BadInput(f"data.source.input={wanted}: {path.name} has a column input; must be null")
    try:
        rows = tables.read(path.read_bytes(), where)
    except OSError as error:
        raise BadInput(f"{where}: cannot be read ({error.strerror})") from error
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not set(SIDES) <= set(header):
        raise BadInput(f"{where}: has the columns {', '.join(header) or 'none'}; must have input and target")
    known, pairs = set(store.names()), []
    for line, cells in rows[1:]:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        missing = next((row.get(side) or side for side in SIDES if row.get(side) not in known), None)
        if missing is not None:
            raise BadInput(f"{where}, line {line}: {missing}: there is no such file; must be a path from {path.parent}")
        person, split = row.get("person") or None, row.get("split") or None
        pairs.append(_Pair(row["target"], row["input"], row["target"], person, split))
    twice = len(pairs) - len({pair.target for pair in pairs})
    if twice:
        raise BadInput(f"{where}: {twice} targets are named more than once; each must be in one pair")
    return pairs
