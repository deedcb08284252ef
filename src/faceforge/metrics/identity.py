"""How alike two pictures of a face are to a face recognition network, and whether they pass as one person."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.face_chips import FRAMING, Framing

THRESHOLD, FALSE_ACCEPTS = 0.95, 1e-2
DLIB_DISTANCE = 0.6  # dlib's own threshold


class Similarity(nn.Module):
    """The similarity of faces before and after a change, differentiable in both.

    Both pictures of a pair are aligned by the landmarks of the first, so that a change of the face is not hidden by
    other landmarks. The weights are frozen.
    """

    def __init__(self, framing: Framing = FRAMING) -> None:
        super().__init__()
        self.faces = DlibFace(framing)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Cosine similarity (N,) of descriptions of faces (N, 1|3, H, W) in [-1, 1]; 1 for equal pictures."""
        return of_descriptions(*self.faces.describe(before, after))


def of_descriptions(before: Tensor, after: Tensor) -> Tensor:
    """Similarity (N,) of descriptions (N, 128)."""
    return cosine_similarity(before, after)
