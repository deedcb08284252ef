"""What an edit does, face by face, at each strength: on-target flips, leakage, identity, realism, the true edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceforge.evaluation.edits.ways import Editor, Way
from faceforge.evaluation.predictors import CPU, Predictor
from faceforge.metrics.features import Extractor
from faceforge.metrics.kid import kid
from faceforge.metrics.pairs import mae, psnr
from faceforge.metrics.units import Groups

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
HIDDEN = (
    1e-3  # mean change of a pixel, range 1, below which a painted attribute does not show, such as bangs under a hat
)
Values = NDArray[np.float64]


class Identity(Protocol):
    """How alike the people of two sets of faces are."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of the similarity, for the record of a score."""
        ...

    def similarity(self, before: Tensor, after: Tensor) -> Tensor:
        """(N,) from faces (N, C, H, W) in [-1, 1]; 1 for the same face."""
        ...


@dataclass(frozen=True)
class Reals:
    """Features (M, D) of real faces, and their people."""

    features: Tensor
    groups: Groups


@dataclass(frozen=True)
class Judges:
    """Predictors, the measure of identity where there is one, and the extractor of realism where it is asked for."""

    predictor: Predictor
    identity: Identity | None = None
    extractor: Extractor | None = None
    device: torch.device = CPU


@dataclass(frozen=True)
class Faces:
    """Faces without an attribute, which edits give to them; with ``sign`` -1 faces with it, from which they take it.

    ``images`` and ``plain``, their reconstructions, are (N, C, H, W) in [-1, 1], ``z`` their codes (N, Z), ``before``
    what edits are compared with and ``seen`` (N, A) what predictors see in that. ``truth`` are the same faces with
    the attribute, where these can be painted, and ``reals`` other people who have it.
    """

    attribute: str
    images: Tensor
    z: Tensor
    plain: Tensor
    before: Tensor
    seen: NDArray[np.bool_]
    groups: Groups
    truth: Tensor | None = None
    reals: Reals | None = None
    sign: int = 1

    @classmethod
    def of(
        cls,
        editor: Editor,
        judges: Judges,
        attribute: str,
        images: Tensor,
        groups: Groups,
        truth: Tensor | None = None,
        reals: Reals | None = None,
        sign: int = 1,
    ) -> Faces:
        """From their images (N, C, H, W) in [-1, 1]."""
        z = editor.codes(images)
        plain = editor.decoded(z)
        before = editor.before(images, plain)
        return cls(attribute, images, z, plain, before, judges.predictor(before), groups, truth, reals, sign)


@dataclass(frozen=True)
class Point:
    """An edit of one strength.

    ``values`` holds (N,) for each measure. ``flips``: 1 where the attribute's predictor changes to what the edit
    intends, 0 where not, nan for faces in which it saw that before. ``leakage``: the share of the other predictors
    that change. ``change``: mean absolute change of a pixel, range 1. ``identity``: similarity to the face before.
    ``gain`` and ``nearer``: by how many dB of PSNR, and by how much mean absolute error, the edited face is closer to
    the truth than the face before; nan where the truth looks like the face before. ``others`` has the share of faces
    that change by attribute, ``kid`` the distance from real faces.
    """

    strength: float
    values: Mapping[str, Values]
    others: Mapping[str, float] = field(default_factory=dict)
    kid: float | None = None


def point(editor: Editor, judges: Judges, faces: Faces, way: Way, strength: float, mask: Tensor | float = 1.0) -> Point:
    """Edit all faces by one strength, where the mask allows, and judge them."""
    z = way.edit(faces.z, faces.attribute, faces.sign * strength)
    edited = editor.after(faces.images, faces.plain, z, mask)
    seen = judges.predictor(edited)
    values, others = _seen(faces, judges.predictor.names, seen)
    values["change"] = _doubles(mae(_unit(edited), _unit(faces.before)))
    if judges.identity is not None:
        values["identity"] = _doubles(judges.identity.similarity(faces.before, edited))
    if faces.truth is not None:
        values |= _against_truth(faces.truth, faces.before, edited)
    return Point(strength, values, others, _realism(judges, faces, edited))


def curve(
    editor: Editor, judges: Judges, faces: Faces, way: Way, strengths: Sequence[float] = STRENGTHS
) -> list[Point]:
    """A point for each strength."""
    mask = way.mask(editor, faces.attribute)
    return [point(editor, judges, faces, way, strength, mask) for strength in strengths]


def _seen(faces: Faces, names: Sequence[str], seen: NDArray[np.bool_]) -> tuple[dict[str, Values], dict[str, float]]:
    """Flips and leakage of each face, and the changes by attribute."""
    own, wanted = names.index(faces.attribute), faces.sign > 0
    flips = np.where(faces.seen[:, own] == wanted, np.nan, seen[:, own] == wanted)
    changed = np.delete(faces.seen != seen, own, axis=1)
    others = [name for name in names if name != faces.attribute]
    values = {"flips": flips, **({"leakage": changed.mean(1)} if others else {})}
    return values, dict(zip(others, changed.mean(0).tolist(), strict=True))


def _against_truth(truth: Tensor, before: Tensor, edited: Tensor) -> dict[str, Values]:
    right, first, then = _unit(truth), _unit(before), _unit(edited)
    apart = mae(first, right)
    gains = {"gain": psnr(then, right) - psnr(first, right), "nearer": apart - mae(then, right)}
    return {name: np.where(_doubles(apart) < HIDDEN, np.nan, _doubles(gain)) for name, gain in gains.items()}


def _realism(judges: Judges, faces: Faces, edited: Tensor) -> float | None:
    """KID against real faces of other people that have the attribute; None for too few people."""
    if judges.extractor is None or faces.reals is None:
        return None
    found = features_of(judges, edited)
    try:
        return kid(faces.reals.features, found, faces.reals.groups, faces.groups).value
    except ValueError:
        return None


def features_of(judges: Judges, images: Tensor) -> Tensor:
    """Features (N, D), on the CPU, of images (N, C, H, W) in [-1, 1]."""
    assert judges.extractor is not None
    return torch.cat([judges.extractor(part.to(judges.device)).cpu() for part in images.split(64)])


def _unit(images: Tensor) -> Tensor:
    return (images.double() + 1).div(2).clamp(0, 1)


def _doubles(values: Tensor) -> Values:
    return values.detach().cpu().double().numpy()
