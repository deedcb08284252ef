"""dlib's face recognition network as an extractor: how faces differ as people, and little of how they are painted."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from faceforge.io import dlib_models
from faceforge.metrics.dlib_face import WIDTH, DlibFace
from faceforge.metrics.face_chips import SIDE
from faceforge.metrics.features.base import Extractor


class FaceFeatures(Extractor):
    """The 128 numbers of dlib's network (King 2017) of faces aligned by five points; see `metrics/dlib_face.py`.

    Raises BadInput if the extra `people` is not installed.
    """

    name: ClassVar[str] = DlibFace.name
    width: ClassVar[int] = WIDTH
    network_name: ClassVar[str] = "dlib face recognition resnet v1, in torch"

    def __init__(self, batch: int | None = None) -> None:
        super().__init__(batch)
        dlib_models.find("--features dlib")
        self.weights_sha256 = dlib_models.SHA256[dlib_models.NETWORK]
        self.resize = f"aligned{SIDE}"
        self.seen = f"8 bits, grey replicated, aligned by dlib's five points to {SIDE}x{SIDE}, (byte - mean) / 256"

    def _at_once(self, device: torch.device) -> int:
        return self.batch or (16 if device.type == "cpu" else 64)

    def _make(self) -> nn.Module:
        return DlibFace()

    def _features(self, network: nn.Module, images: Tensor) -> Tensor:
        return network(images)
