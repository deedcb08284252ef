"""How alike two pictures of a face are to a face recognition network, and whether they pass as one person."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceforge.metrics.dlib_face import DlibFace

THRESHOLD = 0.45  # of the similarity
DLIB_THRESHOLD = 0.4  # dlib's own, a distance of 0.6


class Similarity(nn.Module):
    """How alike faces are before and after a change, differentiable in both pictures.

    Both are aligned by the points of the first: the change must not move the points that judge it. The weights are
    frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faces = DlibFace()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Similarity (N,) of faces (N, 1|3, H, W) in [-1, 1], of one shape: 1 for equal pictures; see `similarity`."""
        return similarity(*self.faces.describe(before, after))


def similarity(before: Tensor, after: Tensor) -> Tensor:
    """1 - dlib's distance of descriptions (N, 128): (N,), 1 for equal ones, about 0.2 for strangers, unbounded below.

    The distance is Euclidean, as the network was trained; the angle separates people a little less well.
    """
    return 1 - torch.linalg.vector_norm(before - after, dim=1)


def same_person(similarity: Tensor) -> Tensor:
    """Whether faces of these similarities (N,) pass as one person, bool (N,)."""
    return similarity > THRESHOLD
