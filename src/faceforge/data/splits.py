"""Train, validation and test splits: a pure function of identities and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from faceforge.counter_rng import key
from faceforge.data.sources.base import Face
from faceforge.errors import BadInput

SPLITS = ("train", "val", "test")


def split_faces(
    faces: Sequence[Face], mode: str, seed: int, val_fraction: float, test_fraction: float
) -> dict[str, np.ndarray]:
    """Indices of the faces in train, val and test; no person is in two of them.

    ``identity`` hashes the person (or the file if unnamed), so that adding people moves no one; ``official`` is the
    dataset's own split; ``auto`` is that of the folders train, val and test where faces have one, otherwise identity.
    Raises BadInput if a requested split would be empty.
    """
    if mode == "auto" and any(face.split for face in faces):
        return _completed(faces, seed, val_fraction, test_fraction)
    if mode == "official":
        names = _official(faces)
    else:
        people = [f"person:{face.identity}" if face.identity else f"file:{face.id}" for face in faces]
        places = _places(sorted(set(people)), seed, val_fraction, test_fraction)
        names = [places[person] for person in people]
    split = {name: np.flatnonzero(np.array(names) == name) for name in SPLITS}
    if mode == "official" and any(len(rows) == 0 for rows in split.values()):
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in split.items())
        raise BadInput(f"data.split=official: leaves a split empty ({counts}); use data.split=identity")
    return split


def _completed(faces: Sequence[Face], seed: int, val_fraction: float, test_fraction: float) -> dict[str, np.ndarray]:
    """The official split; one that is missing is taken from the people of the training faces."""
    has = {face.split for face in faces}
    pool = np.array([n for n, face in enumerate(faces) if face.split in ("train", None)], dtype=np.int64)
    shares = [share if name not in has else 0.0 for name, share in (("val", val_fraction), ("test", test_fraction))]
    own = split_faces([faces[n] for n in pool], "identity", seed, *shares)
    given = {name: [n for n, face in enumerate(faces) if face.split == name] for name in has - {"train", None}}
    return {name: np.array(given[name]) if name in given else pool[own[name]] for name in SPLITS}


def split_by(faces: Sequence[Face], mode: str) -> str:
    """``official``, or what a split keeps together: ``person``, ``picture``, or ``person and picture``."""
    if mode == "official" or (mode == "auto" and any(face.split for face in faces)):
        return "official"
    kinds = {"picture" if face.identity is None else "person" for face in faces}
    return " and ".join(sorted(kinds))


def so_what(by: str) -> str:
    """What follows where people are unknown, as the end of a sentence."""
    if by == "official":
        return "so scores on the official split may flatter"
    return "so their split is by picture: one person can be in training and test, and scores may flatter"


def cautions(faces: Sequence[Face], rows: Mapping[str, np.ndarray], by: str) -> list[str]:
    """One sentence for each reason why scores may flatter."""
    unknown, whole = sum(face.identity is None for face in faces), len(faces)
    people = Counter(person for found in rows.values() for person in {faces[n].identity for n in found} - {None})
    shared = sum(count > 1 for count in people.values())
    who = "People are unknown" if unknown == whole else f"The people of {unknown:,} of {whole:,} faces are unknown"
    said = [f"{who}, {so_what(by)}."] if unknown else []
    if shared:
        said.append(f"{shared:,} people are in more than one of the official splits, so scores may flatter.")
    return said


def share_of(ids: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Positions of the ids that a fraction keeps, at least one, by hash: a smaller fraction is a subset of a larger."""
    if fraction == 1:
        return np.arange(len(ids))
    hashes = _hashes(ids, seed, "fraction")
    return np.flatnonzero((hashes < fraction) | (hashes == hashes.min()))


def _official(faces: Sequence[Face]) -> list[str]:
    without = [face.id for face in faces if face.split is None]
    if without:
        raise BadInput(
            f"data.split=official: {len(without)} of {len(faces)} images have no official split "
            f"({without[0]}); use data.split=identity"
        )
    return [str(face.split) for face in faces]


def _hashes(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """U[0, 1) for each name, from its hash."""
    return np.array([key(seed, purpose, name) for name in names], dtype=np.float64) / 2.0**64


def _places(people: list[str], seed: int, val_fraction: float, test_fraction: float) -> dict[str, str]:
    asked = [name for name, share in (("test", test_fraction), ("val", val_fraction)) if share > 0]
    if len(people) < len(asked) + 1:
        raise BadInput(
            f"data.root: {len(people)} different people (or unnamed images) cannot be split into "
            f"{', '.join(['train', *reversed(asked)])}: at least {len(asked) + 1} are needed"
        )
    hashes = _hashes(people, seed, "split")
    names = np.where(hashes < test_fraction, "test", np.where(hashes < test_fraction + val_fraction, "val", "train"))
    order = np.argsort(hashes, kind="stable")
    for place, name in zip([order[-1], *order[: len(asked)]], ["train", *asked], strict=True):
        if name not in names:  # too few people for the hash to fill it
            names[place] = name
    return dict(zip(people, map(str, names), strict=True))
