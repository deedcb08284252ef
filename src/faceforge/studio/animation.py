"""Paths through latent space: between random faces, along an attribute, from one person to another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from faceforge.errors import BadInput
from faceforge.schemes.abilities import Samples
from faceforge.schemes.latent_space import Density, Kind
from faceforge.studio.model import AT_ONCE, Model
from faceforge.studio.photo import to_pictures
from faceforge.types import Json

FPS = 24.0


def walk(
    model: Model, stops: int, frames: int, seed: int = 0, truncation: float = 1.0, density: Density = "mixture"
) -> Iterator[np.ndarray]:
    """``frames`` faces, uint8 (H, W, 3), along a closed loop through ``stops`` random faces.

    Normal z of a GAN are interpolated along great circles, at the norm of samples (White 2016, arXiv 1609.04468);
    codes of an autoencoder and uniform z linearly. Raises BadInput for fewer than 2 stops.
    """
    model.require("walk")
    if stops < 2:
        raise BadInput(f"--faces {stops}: must be at least 2")
    z = model.codes(stops, seed, 0, truncation, density)
    places = np.arange(frames) * stops / frames

    def at(place: float) -> Tensor:
        first = int(place) % stops
        return _between(model, z[first], z[(first + 1) % stops], _eased(place - int(place)))

    return _frames(model, (at(place) for place in places))


def one_face(
    model: Model,
    name: str,
    span: tuple[float, float],
    frames: int,
    seed: int = 0,
    truncation: float = 1.0,
    density: Density = "mixture",
    kind: Kind | None = None,
) -> tuple[Iterator[np.ndarray], Json]:
    """``frames`` of the first face of a seed along an attribute, and the settings for its recipe.

    A conditional GAN is told the attribute, from 0 to 1 within the ``span``, if it knows it.
    """
    if name in model.labels or (model.labels and "edit" not in model.abilities):
        low, high = (min(max(end, 0.0), 1.0) for end in span)
        codes = (model.codes(1, seed, 0, truncation, density, {name: s})[0] for s in _to_and_fro(low, high, frames))
        model.require_attributes({name: low})
        return _frames(model, codes), {"attribute": name, "from_to": (low, high)}
    model.require("edit")
    kind = kind or model.space.kind
    z = model.codes(1, seed, 0, truncation, density)
    return sweep(model, z, name, *span, frames, kind), {"attribute": name, "from_to": span, "direction": kind}


def sweep(model: Model, z: Tensor, name: str, low: float, high: float, frames: int, kind: Kind) -> Iterator[np.ndarray]:
    """``frames`` of the face of code z (1, Z), from ``low`` to ``high`` of an attribute and back."""
    model.require("edit")
    return _frames(model, (model.edited(z, {name: s}, kind)[0] for s in _to_and_fro(low, high, frames)))


def _to_and_fro(low: float, high: float, frames: int) -> list[float]:
    """``frames`` numbers from ``low`` to ``high`` and back, slow at both."""
    return (low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frames) / frames))).tolist()


def morph(model: Model, start: Tensor, end: Tensor, frames: int) -> Iterator[np.ndarray]:
    """``frames`` from the face of code ``start`` (1, Z) to that of ``end``, both included."""
    model.require("morph")
    shares = np.linspace(0, 1, frames).tolist()
    return _frames(model, (_between(model, start[0], end[0], _eased(share)) for share in shares))


def _between(model: Model, a: Tensor, b: Tensor, share: float) -> Tensor:
    """The interpolation of two codes of a model; the labels at the end of a conditional GAN's lie on a line."""
    round_, labels = isinstance(model.module, Samples) and model.module.latent == "normal", len(model.labels)
    if not labels:
        return between(a, b, share, round_)
    noise = between(a[:-labels], b[:-labels], share, round_)
    return torch.cat([noise, between(a[-labels:], b[-labels:], share, False)])


def between(a: Tensor, b: Tensor, share: float, round_: bool) -> Tensor:
    """The interpolation from ``a`` (share 0) to ``b`` (1): linear, or with ``round_`` along the great circle."""
    if not round_:
        return torch.lerp(a, b, share)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def _eased(share: float) -> float:
    """Smoothstep: slow at both ends, so that a video pauses at its faces."""
    return share * share * (3 - 2 * share)


def _frames(model: Model, codes: Iterator[Tensor]) -> Iterator[np.ndarray]:
    waiting: list[Tensor] = []
    for z in codes:
        waiting.append(z)
        if len(waiting) == AT_ONCE:
            yield from to_pictures(model.decode(torch.stack(waiting)))
            waiting = []
    if waiting:
        yield from to_pictures(model.decode(torch.stack(waiting)))
