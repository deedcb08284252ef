"""Exported models: one .safetensors file with the weights for inference, configuration, latent space and card.

Such a file cannot execute code: it holds arrays, and JSON that passes the same allow-list as any configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import faceforge
from faceforge import config as configuration
from faceforge.engine.migration import VERSION, migrate_config
from faceforge.errors import BadInput
from faceforge.io import tensors as files
from faceforge.networks.sizes import as_pair
from faceforge.schemes.base import Scheme
from faceforge.schemes.directions import ENCODER, Carried, Directions
from faceforge.schemes.directions import SPACE as DIRECTIONS
from faceforge.schemes.latent_space import LatentSpace
from faceforge.types import Json

FORMAT = "faceforge model"
NAME = "model.safetensors"  # in an exported folder
SPACE = "space/"  # prefix of the arrays of a latent space
USED = "average."  # prefix of the weights that inference uses
KINDS = {"name": str, "checkpoint_sha256": str, "images": int, "config": dict, "framing": list}
KEPT = (
    "_target_",
    "size",
    "channels",
    "task",
    "crop",
    "split",
    "fraction",
    "seed",
    "val_fraction",
    "test_fraction",
    "source",
)


def is_one(path: Path) -> bool:
    """Whether a path is an exported file, or the folder of one."""
    return path.suffix == ".safetensors" or (path / NAME).is_file()


def public_config(config: Mapping[str, Any]) -> Json:
    """The part of a run's configuration that is exported: how the model was built, without paths."""
    data = {key: value for key, value in config["data"].items() if key in KEPT}
    data["source"] = {key: value for key, value in data.get("source", {}).items() if key == "_target_"}
    return {"model": config["model"], "data": data, "task": config.get("task"), "input": config.get("input")}


def write(
    path: Path,
    module: Scheme,
    carried: Carried | None,
    digest: str,
    name: str,
    card: str,
) -> None:
    """Write the averaged weights of a module, its configuration, its latent space or directions, and a card."""
    tensors = {key: value.contiguous() for key, value in module.state_dict().items() if key.startswith(USED)}
    about: Json = {
        "format": FORMAT,
        "version": VERSION,
        "faceforge": faceforge.__version__,
        "name": name,
        "checkpoint_sha256": digest,
        "images": module.clock.images,
        "config": public_config(module.config),
        "framing": list(module.framing or ()),
        "space": None,
    }
    if isinstance(carried, Directions):
        about["directions"], arrays = carried.pack()
        tensors |= arrays
    elif carried is not None:
        about["space"], arrays = carried.pack()
        tensors |= {SPACE + key: torch.from_numpy(array) for key, array in arrays.items()}
    files.write(path, about, tensors, card=card)


def read(path: Path, trusted: Sequence[str]) -> tuple[Scheme, Carried | None, Json, str]:
    """The module, in eval mode on the CPU, its latent space or directions, its metadata, and the SHA-256 of the file.

    Raises BadInput if the file is damaged or not an exported model.
    """
    path = path / NAME if path.is_dir() else path
    about, tensors, digest = _read(path)
    carried = _space(path, about["space"], tensors) or _directions(path, about, tensors)
    with torch.random.fork_rng(devices=[]):
        module: Scheme = configuration.build_from(path, about["config"].get("model"), trusted)
    weights = {key: value for key, value in tensors.items() if key.startswith(USED)}
    missing = {key for key in module.state_dict() if key.startswith(USED)} ^ set(weights)
    if missing:
        raise BadInput(f"{path}: its weights do not match its configuration ({min(missing)})")
    try:
        module.load_state_dict(weights, strict=False)
        module.config, module.framing = about["config"], about["framing"]
        module.clock.images = about["images"]
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path}: its weights do not match its configuration ({reason})") from None
    return module.eval().requires_grad_(False), carried, about, digest


def _space(path: Path, about: Json | None, tensors: Mapping[str, Tensor]) -> LatentSpace | None:
    if about is None:
        return None
    try:
        arrays = {key.removeprefix(SPACE): t.numpy() for key, t in tensors.items() if key.startswith(SPACE)}
        return LatentSpace.unpack(about, arrays, str(path))
    except (TypeError, AttributeError, KeyError, ValueError, IndexError):
        raise _foreign(path) from None


def _directions(path: Path, about: Json, tensors: Mapping[str, Tensor]) -> Directions | None:
    if about.get("directions") is None:
        return None
    try:
        data = about["config"]["data"]
        arrays = {key: t for key, t in tensors.items() if key.startswith((DIRECTIONS, ENCODER))}
        return Directions.unpack(about["directions"], arrays, as_pair(data["size"]), int(data["channels"]), str(path))
    except (TypeError, AttributeError, KeyError, ValueError):
        raise _foreign(path) from None


def _foreign(path: Path) -> BadInput:
    return BadInput(f"{path}: not a model exported by faceforge, or damaged; must be written by `faceforge export RUN`")


def _read(path: Path) -> tuple[Json, dict[str, Tensor], str]:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        about, tensors = files.read(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, files.Unreadable):
        raise _foreign(path) from None
    if about.get("format") != FORMAT:
        raise _foreign(path)
    if about.get("version") not in range(1, VERSION + 1):
        found = f"version {about.get('version')}, must be at most {VERSION}"
        raise BadInput(f"{path}: written by another version of faceforge ({found})")
    if any(not isinstance(about.get(key), kind) for key, kind in KINDS.items()) or "space" not in about:
        raise _foreign(path)
    if not all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
        raise _foreign(path)
    if about["version"] < VERSION:
        try:
            about = {**about, "config": migrate_config(about["config"]), "version": VERSION}
        except RecursionError:
            raise _foreign(path) from None
    return about, tensors, digest
