"""Finds crops of the same photo: near duplicates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from faceforge.cut.work import thumb
from faceforge.io.manifest import Row

MAX_BITS = 8  # of 64 by which the fingerprints of two copies may differ
MAX_LEVELS = 12.0  # mean difference of their thumbnails in grey levels, after removing the mean brightness
COMPARED_SIDE = 48  # pixels a side at which thumbnails are compared
BLOCK = 64  # fingerprints compared with all others at a time
MAX_VARIANTS = 8  # distinct images with one fingerprint; further ones are compared with these only


@dataclass(frozen=True, slots=True)
class Faces:
    """The data of N faces: names, fingerprints, and frame widths in their photos."""

    names: list[str]
    prints: np.ndarray  # uint64 (N,)
    widths: np.ndarray  # float32 (N,)


def gather(rows: Iterable[Row]) -> Faces:
    """The faces that are not rejected."""
    kept = [(r.face, int(r.fingerprint, 16), r.frame_w or 0.0) for r in rows if r.n and r.verdict != "rejected"]
    names = [face for face, _, _ in kept]
    prints = np.array([bits for _, bits, _ in kept], dtype=np.uint64)
    return Faces(names, prints, np.array([width for _, _, width in kept], dtype=np.float32))


def near_duplicates(faces: Faces, target: Path) -> dict[str, str]:
    """Maps each near duplicate to the face to keep: the largest, or the first among equals."""
    leader = list(range(len(faces.names)))

    def join(a: int, b: int) -> bool:
        roots = _find(leader, a), _find(leader, b)
        if roots[0] != roots[1]:
            if not _same(target, faces.names[a], faces.names[b]):
                return False
            first, second = sorted(roots, key=lambda n: (-faces.widths[n], n))
            leader[second] = first
        return True

    distinct: dict[int, list[int]] = {}  # by fingerprint, so that 1,000 copies do not make 1,000,000 pairs
    for n, bits in enumerate(faces.prints.tolist()):
        others = distinct.setdefault(bits, [])
        if not any(join(other, n) for other in others) and len(others) < MAX_VARIANTS:
            others.append(n)
    groups = list(distinct.values())
    for a, b in _candidates(np.array(list(distinct), dtype=np.uint64)):
        for one, other in product(groups[a], groups[b]):
            join(one, other)
    roots = [_find(leader, n) for n in range(len(leader))]
    return {faces.names[n]: faces.names[root] for n, root in enumerate(roots) if root != n}


def _find(leader: list[int], n: int) -> int:
    while leader[n] != n:
        leader[n] = n = leader[leader[n]]
    return n


def _candidates(prints: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs (a < b) of fingerprints that differ by at most MAX_BITS, computed block by block."""
    for first in range(0, len(prints), BLOCK):
        for a, b in candidates(prints[first : first + BLOCK], prints[first:]):
            if a < b:
                yield first + a, first + b


def candidates(prints: np.ndarray, others: np.ndarray) -> Iterable[tuple[int, int]]:
    """Pairs of fingerprints, uint64 (N,) and (M,), that differ by at most MAX_BITS: their places."""
    one, other = (found.astype(">u8").view(np.uint8).reshape(-1, 8) for found in (prints, others))
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for first in range(0, len(one) if len(other) else 0, BLOCK):
        for matches in matcher.radiusMatch(one[first : first + BLOCK], other, MAX_BITS + 0.5):
            yield from ((first + m.queryIdx, m.trainIdx) for m in matches)


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures of `without_mean` differ little enough to be copies."""
    return float(np.abs(first - second).mean()) <= MAX_LEVELS


def without_mean(grey: np.ndarray) -> np.ndarray:
    """A grey picture, uint8 (H, W), as it is compared: 48 x 48, without its mean brightness."""
    small = cv2.resize(grey, (COMPARED_SIDE, COMPARED_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small - small.mean()


def _same(target: Path, a: str, b: str) -> bool:
    first, second = (_read(thumb(target, face)) for face in (a, b))
    return first is not None and second is not None and alike(first, second)


def _read(path: Path) -> np.ndarray | None:
    try:
        coded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        return None
    picture = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE) if len(coded) else None
    return None if picture is None else without_mean(picture)
