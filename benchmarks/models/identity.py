"""How well `metrics.identity` tells people apart at the sizes that models make, and where its threshold comes from.

    python -m benchmarks.models.identity ../shared/data/lfw_color ../shared/data/celeba_small

Pairs of pictures of the same and of different people, of the two sets. The threshold is fitted to one half of the
people, all figures are those of the other half. It writes docs/results/records/identity.json, with numbers only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks import command, records
from faceforge.data.framing import frame
from faceforge.data.sources.base import Files
from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.lfw import Lfw
from faceforge.io.images import from_uint8
from faceforge.metrics import identity
from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.face_chips import FaceChips, applied, fitted

SIZES = (16, 24, 32, 64, 128)  # pixels a side
FITTED = 64
FALSE_ACCEPTS = 1e-3  # share of pairs of strangers that the threshold takes for one person
EACH = 4  # pictures of a person
PEOPLE = 300
GROUPS = ("Male", "Young", "Eyeglasses", "Wearing_Hat", "No_Beard", "Heavy_Makeup")


@dataclass
class Faces:
    """Pictures (N, C, H, W) in [-1, 1] of known people, and 0/1 flags of each."""

    images: Tensor
    people: np.ndarray
    flags: Mapping[str, np.ndarray]


class Fixed(FaceChips):
    """Faces cut without their points, as if none had been found."""

    def places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As FaceChips.places, for no face found."""
        expected = applied(self.middle(images), self.points.mean[None])
        return fitted(self.goal, expected), torch.zeros(len(images), dtype=torch.bool)


def chosen(source: Files) -> list[int]:
    """Up to `EACH` pictures of each of `PEOPLE` people who have two at least, in an order by hash."""
    of: dict[str, list[int]] = {}
    for n, face in enumerate(source.faces):
        of.setdefault(face.identity or "", []).append(n)
    several = [person for person, places in of.items() if person and len(places) > 1]
    several.sort(key=lambda person: hashlib.sha256(person.encode()).digest())
    return sorted(place for person in several[:PEOPLE] for place in of[person][:EACH])


def read(source: Files, places: Sequence[int], crop: str, side: int, channels: int = 3) -> Faces:
    """Faces of a source as a run has them."""
    pixels = [frame(source.read(place, (side, side)), crop, (side, side), channels) for place in places]
    people = np.array([source.faces[place].identity for place in places])
    names, values = source.attributes() or ([], np.zeros((len(source.faces), 0)))
    flags = {name: values[places, names.index(name)] for name in GROUPS if name in names}
    return Faces(from_uint8(torch.from_numpy(np.stack(pixels))), people, flags)


@dataclass
class Pairs:
    """Similarities (P,) of all pairs of faces, and which are of one person; ``first`` and ``second`` count faces."""

    similarity: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray


def pairs(descriptions: Tensor, people: np.ndarray) -> Pairs:
    """All pairs among faces with descriptions (N, 128)."""
    first, second = np.triu_indices(len(people), 1)
    found = [
        identity.similarity(descriptions[first[n : n + 100_000]], descriptions[second[n : n + 100_000]])
        for n in range(0, len(first), 100_000)
    ]
    return Pairs(torch.cat(found).numpy(), people[first] == people[second], first, second)


def half(people: np.ndarray, which: int) -> np.ndarray:
    """The places of faces of one half of the people, by a hash of their names."""
    return np.array([n for n, who in enumerate(people) if hashlib.sha256(str(who).encode()).digest()[-1] % 2 == which])


def figures(found: Pairs, threshold: float) -> dict[str, Any]:
    """Shares of pairs that pass as one person, mean similarities, and how often a pair of one person is more alike
    than one of strangers."""
    one, two = found.similarity[found.same], np.sort(found.similarity[~found.same])
    passed = {
        f"{name} at {at:.2f}": records.share(int((values > at).sum()), len(values))
        for at in (threshold, identity.DLIB_THRESHOLD)
        for name, values in (("same person", one), ("strangers", two))
    }
    above = float(np.searchsorted(two, one).mean() / len(two))
    return {**passed, "mean, same person": float(one.mean()), "mean, strangers": float(two.mean()), "area": above}


def strangers_alike(found: Pairs, flags: Mapping[str, np.ndarray], threshold: float) -> dict[str, Any]:
    """Of pairs of strangers who both have a flag, and who both lack it, the share that passes as one person."""
    told = {}
    for name, values in flags.items():
        for value, words in ((1, name), (0, f"not {name}")):
            both = ~found.same & (values[found.first] == value) & (values[found.second] == value)
            told[words] = records.share(int((found.similarity[both] > threshold).sum()), int(both.sum()))
    return told


@torch.no_grad()
def described(net: DlibFace, faces: Faces) -> tuple[Tensor, float]:
    """Descriptions, and the share of pictures in which points were found."""
    (numbers,), found = net.describe([faces.images])
    return numbers, float(found.float().mean())


def threshold_of(of_sets: Sequence[Pairs]) -> float:
    """The lowest threshold that passes at most `FALSE_ACCEPTS` of the pairs of strangers, sets counting alike."""
    values = np.concatenate([found.similarity[~found.same] for found in of_sets])
    weights = np.concatenate([np.full(n := int((~found.same).sum()), 1 / n / len(of_sets)) for found in of_sets])
    order = np.argsort(-values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), FALSE_ACCEPTS)])


def main(lfw: str, celeba: str) -> None:
    """Fit the threshold, show how it differs from that in metrics/identity.py, and measure this."""
    net = DlibFace()
    sets: dict[str, tuple[Files, str]] = {"lfw c150": (Lfw(lfw), "c150"), "celeba c140": (Celeba(celeba), "c140")}
    places = {name: chosen(source) for name, (source, _) in sets.items()}
    fitted, record = [], {}

    def measure(name: str, label: str, side: int, channels: int, keep: Callable[[Pairs, Faces], None]) -> None:
        source, crop = sets[name]
        faces = read(source, places[name], crop, side, channels)
        numbers, share = described(net, faces)
        if side == FITTED and label == str(FITTED):
            kept = half(faces.people, 0)
            fitted.append(pairs(numbers[kept], faces.people[kept]))
        kept = half(faces.people, 1)
        found = pairs(numbers[kept], faces.people[kept])
        told = {"faces": len(kept), "people": len(set(faces.people[kept])), "points found": round(share, 4)}
        record.setdefault(name, {})[label] = {**told, **figures(found, identity.THRESHOLD)}
        print(name, label, json.dumps(record[name][label]), flush=True)
        keep(found, Faces(faces.images[kept], faces.people[kept], {n: v[kept] for n, v in faces.flags.items()}))

    def groups(found: Pairs, faces: Faces) -> None:
        if faces.flags:
            record["strangers of a group, celeba c140, 64"] = strangers_alike(found, faces.flags, identity.THRESHOLD)

    for name in sets:
        for side in SIZES:
            measure(name, str(side), side, 3, groups if side == FITTED else lambda found, faces: None)
        measure(name, f"{FITTED}, grey", FITTED, 1, lambda found, faces: None)
    net.align = Fixed()
    for name in sets:
        measure(name, f"{FITTED}, cut without points", FITTED, 3, lambda found, faces: None)
    print(f"THRESHOLD = {threshold_of(fitted):.3f} (metrics/identity.py: {identity.THRESHOLD})")
    print(records.keep("identity", {"threshold": identity.THRESHOLD, "fitted": threshold_of(fitted), **record}))


if __name__ == "__main__":
    command.run(lambda: typer.run(main))
