"""evaluation.npz: what each face contributed to the scores, so that two runs can be compared face by face.

It lies beside evaluation.json, which holds its SHA-256. Needs no torch.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceforge.errors import BadInput
from faceforge.io.files import replacing
from faceforge.metrics.bootstrap import Groups, unit_numbers

Key = tuple[str, str, str, str]  # table, row, score, and whose the values are (OF)
Values = NDArray[np.floating]
OF = ("faces", "real", "fake", "without_real", "without_fake")
LARGEST = 1 << 30  # bytes of all arrays


@dataclass(frozen=True)
class Kept:
    """The faces of one table of scores and what they contributed.

    ``faces`` (N,) are the names of the scored (or real) faces, ``people`` (N,) the number of each one's person, counted
    from 0 in the order of their first faces. ``values`` are float32, by row, score and whose they are: of ``faces`` or
    ``real`` (N,), or of generated faces, ``fake`` (M,), of which the score is the mean; ``without_real`` (people,) and
    ``without_fake`` (M,): by how much the score changes when this person, or this generated face, is left out.
    """

    faces: Sequence[str]
    people: NDArray[np.int64]
    values: Mapping[tuple[str, str, str], Values]

    @property
    def digest(self) -> str:
        """SHA-256 of the names of the faces in their order."""
        return hashlib.sha256("\n".join(self.faces).encode("utf-8", "surrogatepass")).hexdigest()


def path_of(evaluation: Path) -> Path:
    """Where the values of an evaluation file are kept."""
    return (
        evaluation.with_suffix(".npz")
        if evaluation.suffix == ".json"
        else evaluation.with_name(f"{evaluation.name}.npz")
    )


def write(path: Path, faces: Mapping[str, tuple[Sequence[str], Groups]], values: Mapping[Key, Values]) -> str:
    """Write the faces (names and people) of each table and their values, atomically; the SHA-256 of the file."""
    arrays: dict[str, NDArray] = {}
    for table, (names, groups) in faces.items():
        arrays[f"{table}.faces"] = np.array(names, dtype=np.str_)
        arrays[f"{table}.people"] = unit_numbers(groups, len(names)).astype(np.int32)
        for of in OF:
            found = {(row, s): part for (kind, row, s, whose), part in values.items() if (kind, whose) == (table, of)}
            arrays |= {f"{table}.{of}.{name}": array for name, array in _stacked(found).items()}
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  (its keywords are arrays)
    with replacing(path, binary=True) as file:
        file.write(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def _stacked(found: Mapping[tuple[str, str], Values]) -> dict[str, NDArray]:
    """One array (rows, scores, n) with their names; NaN where a row has no such score."""
    if not found:
        return {}
    rows, scores = (list(dict.fromkeys(key[n] for key in found)) for n in (0, 1))
    stacked = np.full((len(rows), len(scores), max(map(len, found.values()))), np.nan, np.float32)
    for (row, score), part in found.items():
        stacked[rows.index(row), scores.index(score)] = part
    return {"rows": np.array(rows, np.str_), "scores": np.array(scores, np.str_), "values": stacked}


def read(path: Path, digest: str) -> dict[str, Kept]:
    """The values by table. Raises BadInput where the file is damaged or not the one with this SHA-256."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise BadInput(f"{path}: damaged, or not written together with its evaluation (its hash does not match)")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError("too large")
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return dict(_tables({name: arrays[name] for name in arrays.files}))
    except (OSError, ValueError, KeyError, IndexError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: no readable file of scores by face ({error})") from None


def _tables(arrays: Mapping[str, NDArray]) -> Iterable[tuple[str, Kept]]:
    for table in [name.removesuffix(".people") for name in arrays if name.endswith(".people")]:
        faces, people = arrays[f"{table}.faces"].astype(str), arrays[f"{table}.people"].astype(np.int64)
        if faces.shape != people.shape or faces.ndim != 1:
            raise ValueError(f"{faces.shape} names for {people.shape} people")
        values: dict[tuple[str, str, str], Values] = {}
        for of in [of for of in OF if f"{table}.{of}.values" in arrays]:
            stacked, rows, scores = (arrays[f"{table}.{of}.{name}"] for name in ("values", "rows", "scores"))
            sizes = {"faces": len(faces), "real": len(faces), "without_real": int(people.max(initial=-1)) + 1}
            if stacked.shape != (len(rows), len(scores), sizes.get(of, stacked.shape[-1])):
                raise ValueError(f"{table}.{of} has the shape {stacked.shape}")
            values |= {
                (str(row), str(score), of): stacked[i, j]
                for i, row in enumerate(rows)
                for j, score in enumerate(scores)
                if np.isfinite(stacked[i, j]).all()
            }
        yield table, Kept([str(name) for name in faces], people, values)
