"""How alike two pictures of a face are to a face recognition network, and whether they pass as one person.

It says how the network sees faces, which is no proof of identity, and it separates some people less well than others:
docs/identity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.units import Groups

# Of pairs of strangers at 64x64, one in a thousand is more alike (python -m benchmarks.models.identity); at dlib's own
# threshold, a distance of 0.6, it is one in two hundred.
THRESHOLD, FALSE_ACCEPTS = 0.45, 1e-3
DLIB_THRESHOLD = 0.4
LEAST_SIDE = 32  # pixels of an image; below, strangers look alike
USELESS = 0.05  # share of strangers that pass, above which passing says little
SHIFTS = 50  # strangers with which each face is compared, at most

HOW = {
    "identity": "1 - distance of dlib's descriptions of output and target; 1 for the same picture",
    "same_person": f"share of outputs whose identity is above {THRESHOLD}, above which are {FALSE_ACCEPTS:.1%} of the "
    "pairs of strangers among real faces of 64x64",
}


class Similarity(nn.Module):
    """How alike faces are before and after a change, differentiable in both pictures.

    Both are aligned by the points of the first: the change must not move the points that judge it. The weights are
    frozen.
    """

    name, weights_sha256 = DlibFace.name, DlibFace.weights_sha256

    def __init__(self) -> None:
        super().__init__()
        self.faces = DlibFace()

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol of the similarity, for the record of a score."""
        return self.faces.protocol

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Similarity (N,) of faces (N, 1|3, H, W) in [-1, 1], of one shape: 1 for equal pictures; see `similarity`."""
        (one, other), _ = self.faces.describe([before, after])
        return similarity(one, other)


def similarity(before: Tensor, after: Tensor) -> Tensor:
    """1 - dlib's distance of descriptions (N, 128): (N,), 1 for equal ones, about 0.2 for strangers, unbounded below.

    The distance is Euclidean, as the network was trained; the angle separates people a little less well.
    """
    return 1 - torch.linalg.vector_norm(before - after, dim=1)


def same_person(similarity: Tensor) -> Tensor:
    """Whether faces of these similarities (N,) pass as one person, bool (N,)."""
    return similarity > THRESHOLD


def between_people(descriptions: Tensor, groups: Groups) -> dict[str, Any]:
    """What `identity` and `same_person` are between different pictures of one person, and between strangers.

    Of descriptions (N, 128) of real faces and the person of each; faces of unknown people (None) are left out. Empty
    if no person is known.
    """
    known = torch.tensor([n for n, group in enumerate(groups) if group is not None], dtype=torch.long)
    number = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    people = torch.tensor([number[groups[n]] for n in known.tolist()], dtype=torch.long)
    order = people.argsort(stable=True)
    numbers, people = descriptions[known[order]], people[order]
    shifts = range(1, len(people))
    strangers = [_pairs(numbers, people, shift, same=False) for shift in shifts[:: max(1, len(shifts) // SHIFTS)]]
    found = {
        "another_picture": _pairs(numbers, people, 1, same=True),
        "stranger": torch.cat([numbers.new_zeros(0), *strangers]),
    }
    return {name: _shares(values) for name, values in found.items() if len(values)}


def in_words(between: Mapping[str, Any]) -> list[str]:
    """What `between_people` found, in a sentence; none if it found nothing of strangers."""
    if "stranger" not in between:
        return []
    stranger, own = between["stranger"], between.get("another_picture")
    first = f"another picture of the same person has {own['identity']:.3f}, " if own else ""
    so = ", so same person says little of them" if stranger["same_person"] > USELESS else ""
    share = f"{stranger['same_person']:.1%} of strangers pass as the same person"
    return [f"Identity among these faces: {first}a stranger has {stranger['identity']:.3f}; {share}{so}."]


def _pairs(numbers: Tensor, people: Tensor, shift: int, same: bool) -> Tensor:
    """Similarities of faces to the one ``shift`` places on, if that is of the same person, or of another."""
    first, second = slice(None, -shift), slice(shift, None)
    wanted = (people[first] == people[second]) == same
    return similarity(numbers[first][wanted], numbers[second][wanted])


def _shares(values: Tensor) -> dict[str, Any]:
    rate = float(same_person(values).double().mean())
    return {"identity": float(values.double().mean()), "same_person": rate, "pairs": len(values)}
