"""Whether an edited face is still the same person: a face recognition network, where its weights are installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from faceforge.errors import BadInput
from faceforge.metrics.identity import LEAST_SIDE, Similarity

AT_ONCE = 64  # pairs of faces compared at a time


class FaceIdentity:
    """`metrics.identity.Similarity` of many pairs of faces."""

    def __init__(self, device: torch.device) -> None:
        """Raises BadInput if the extra `people` is missing."""
        self.compare, self.device = Similarity().to(device), device

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of the similarity, for the record of a score."""
        return self.compare.protocol

    @torch.no_grad()
    def similarity(self, before: Tensor, after: Tensor) -> Tensor:
        """(N,) on the CPU, from faces (N, C, H, W) in [-1, 1]; 1 for the same face."""
        parts = zip(before.split(AT_ONCE), after.split(AT_ONCE), strict=True)
        return torch.cat([self.compare(a.to(self.device), b.to(self.device)).cpu() for a, b in parts])


def face_identity(device: torch.device, side: int) -> tuple[FaceIdentity | None, str | None]:
    """The measure for faces with this shorter side in pixels, or why there is none."""
    if side < LEAST_SIDE:
        return None, f"needs {LEAST_SIDE} pixels a side, the faces have {side}"
    try:
        return FaceIdentity(device), None
    except BadInput as error:
        return None, str(error)
