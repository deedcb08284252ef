"""Where an audit compares faces: pixels, features and, where dlib's models are installed, a face embedding."""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor
from torch.nn.functional import normalize

from faceforge.errors import BadInput
from faceforge.metrics.copies import Extracted, Extractor, Pixels, Space
from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.features import Features
from faceforge.types import Json

SIDE = 128  # of the extractor's images; a quarter of the work of 224, and copies stay near
EMBEDDED = 2000  # faces of which embeddings are computed, at about 40 ms each on a CPU


class Embedding:
    """Embeddings of norm 1, each computed once: two parts of an audit ask for those of the real faces."""

    def __init__(self, network: DlibFace) -> None:
        self.network = network
        self._known: dict[bytes, Tensor] = {}

    @property
    def protocol(self) -> Json:
        """That of the network."""
        return {**self.network.protocol, "length": "1"}

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 128) of (N, 1|3, H, W) in [-1, 1]."""
        keys = [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest() for image in images]
        new = [n for n, key in enumerate(keys) if key not in self._known]
        if new:
            made = normalize(self.network(images[new])).cpu()
            self._known.update((keys[n], vector) for n, vector in zip(new, made, strict=True))
        return torch.stack([self._known[key] for key in keys])


def all_spaces(device: torch.device, faces: int) -> tuple[list[Space], dict[str, str]]:
    """The spaces in which some number of real faces are compared, and reasons for those that are left out."""
    found: list[Space] = [Pixels()]
    reasons: dict[str, str] = {}
    for name, make, most in (("features", features, None), ("face embedding", face_embedding, EMBEDDED)):
        try:
            if most is not None and faces > most:
                raise BadInput(f"there are {faces:,} real faces, and {name}s are computed of at most {most:,}")
            found.append(Extracted(name, make(device), device))
        except BadInput as error:
            reasons[f"copies by {name}"] = str(error)
    return found, reasons


def features(device: torch.device) -> Extractor:
    """EfficientNet-lite0. Raises BadInput without its weights."""
    return Features(SIDE).to(device)


@functools.cache
def face_embedding(device: torch.device) -> Extractor:
    """Embeddings of norm 1 (N, 128), on the CPU. Raises BadInput without dlib's models."""
    return Embedding(DlibFace().to(device))
