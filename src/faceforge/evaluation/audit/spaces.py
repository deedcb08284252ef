"""Where an audit compares faces: pixels, features and, where one is installed, a face embedding."""

from __future__ import annotations

import torch

from faceforge.errors import BadInput
from faceforge.metrics.copies import Extracted, Extractor, Pixels, Space
from faceforge.metrics.features import Features

SIDE = 128  # of the extractor's images; a quarter of the work of 224, and copies stay near


def all_spaces(device: torch.device) -> tuple[list[Space], dict[str, str]]:
    """The spaces that there are, and reasons for those that are left out."""
    found: list[Space] = [Pixels()]
    reasons: dict[str, str] = {}
    for name, make in (("features", features), ("face embedding", face_embedding)):
        try:
            found.append(Extracted(name, make(device), device))
        except BadInput as error:
            reasons[f"copies by {name}"] = str(error)
    return found, reasons


def features(device: torch.device) -> Extractor:
    """EfficientNet-lite0. Raises BadInput without its weights."""
    return Features(SIDE).to(device)


def face_embedding(device: torch.device) -> Extractor:
    """Embeddings of norm 1 (N, 128). Raises BadInput where there is none."""
    raise BadInput("no face embedding is installed")
