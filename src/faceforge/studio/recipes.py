"""The recipes of results: the same for a request from the command line and from the app.

``names`` are file names; uploads in the app have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faceforge.schemes.latent_space import Density, Kind
from faceforge.studio.edit import Taught
from faceforge.studio.model import NOTHING, Model
from faceforge.studio.output import COMPOSITE, Recipe
from faceforge.types import Json


def drawn(model: Model, seed: int, truncation: float, density: Density, chosen: Mapping[str, float] = NOTHING) -> Json:
    """The settings of random faces; a GAN has no choice of density. ``chosen`` are attributes that they were told."""
    settings = {"seed": seed, "truncation": truncation, **({"attributes": dict(chosen)} if chosen else {})}
    return settings | {"density": density} if model.has_codes else settings


def generate(model: Model, faces: Mapping[str, Any], count: int, sample: int | None = None) -> Recipe:
    """``count`` random faces in one grid, or one ``sample`` of them."""
    which = {} if sample is None else {"sample": sample}
    return Recipe(model, "generate", {**faces, "count": count, **which})


def upscale(model: Model, simulate: bool, **names: str) -> Recipe:
    """An enlarged photo."""
    ensemble = {"self_ensemble": True} if model.self_ensemble else {}
    return Recipe(model, "upscale", {"simulate": simulate, **ensemble, **names}, COMPOSITE)


def translate(model: Model, whole: bool, strength: float = 1.0, hints: Sequence[str] = (), **names: str) -> Recipe:
    """A photo or video with translated faces."""
    settings = {"task": model.task.name, "whole": whole, **({} if strength == 1 else {"strength": strength})}
    settings |= {"hints": list(hints)} if hints else {}
    return Recipe(model, "translate", {**settings, **names}, COMPOSITE)


def from_lines(model: Model, **names: str) -> Recipe:
    """A face made from drawn lines."""
    return Recipe(model, "translate", {"task": model.task.name, "lines": "by hand", **names})


def edit(
    model: Model, strengths: Mapping[str, float], kind: Kind, whole: bool, taught: Taught | None = None, **names: str
) -> Recipe:
    """A photo with changed attributes; ``taught`` is an attribute with its two folders."""
    settings = {"strengths": dict(strengths), "direction": kind, "whole": whole}
    settings |= {"taught": [str(part) for part in taught]} if taught else {}
    return Recipe(model, "edit", {**settings, **names}, COMPOSITE)


def edit_drawn(model: Model, strengths: Mapping[str, float], kind: Kind, faces: Mapping[str, Any]) -> Recipe:
    """A random face with changed attributes."""
    return Recipe(model, "edit", {"strengths": dict(strengths), "direction": kind, **faces})


def average(model: Model | None, way: str, photos: int, **names: str) -> Recipe:
    """The mean face of a number of photos."""
    return Recipe(model, "average", {"way": way, "photos": photos, **names}, COMPOSITE)


def walk(model: Model, faces: Mapping[str, Any], seconds: float, way: Mapping[str, Any]) -> Recipe:
    """A walk through latent space; ``way`` is the number of faces, or the attribute with its range."""
    return Recipe(model, "walk", {**faces, "seconds": seconds, **way})


def morph(model: Model, steps: int, whole: bool, seconds: float | None, *names: str) -> Recipe:
    """A video from one face to another, or with ``seconds`` None a strip of images."""
    settings = {"steps": steps, "whole": whole} | ({} if seconds is None else {"seconds": seconds})
    return Recipe(model, "morph", settings | ({"photos": list(names)} if names else {}), COMPOSITE)


def invert(model: Model, steps: int, whole: bool, **names: str) -> Recipe:
    """The codes of the faces in a photo."""
    return Recipe(model, "invert", {"steps": steps, "whole": whole, **names}, COMPOSITE)
