"""What makes the faces of a GAN editable: directions in its z, and an encoder that finds z for photos.

`faceforge directions` stores both in the run folder, as one file of plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceforge.errors import BadInput
from faceforge.io.tensors import Unreadable, read, write
from faceforge.networks.inverter import Inverter
from faceforge.schemes.latent_space import LatentSpace
from faceforge.types import Json

NAME = "directions.safetensors"  # in a run folder
FORMAT, VERSION = "faceforge directions", 1
SPACE, ENCODER = "directions/", "encoder/"  # prefixes of arrays
WIDEST = 512  # of an encoder in a file


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions of one checkpoint of a GAN, and its encoder."""

    space: LatentSpace
    encoder: Inverter

    def pack(self) -> tuple[Json, dict[str, Tensor]]:
        """As plain data: metadata and arrays."""
        about, arrays = self.space.pack()
        tensors = {SPACE + name: torch.from_numpy(array) for name, array in arrays.items()}
        tensors |= {ENCODER + name: value.contiguous().cpu() for name, value in self.encoder.state_dict().items()}
        return {"format": FORMAT, "version": VERSION, "space": about, "width": self.encoder.width}, tensors

    @classmethod
    def unpack(
        cls, about: Mapping[str, Any], tensors: Mapping[str, Tensor], size: tuple[int, int], channels: int, where: str
    ) -> Directions:
        """Restore packed data of a GAN of this size. Raises BadInput naming ``where`` if it is damaged or foreign."""
        if about.get("format") != FORMAT:
            raise _foreign(where)
        if about.get("version") != VERSION:
            raise BadInput(f"{where}: written by another faceforge (version {about.get('version')}, this: {VERSION})")
        try:
            arrays = {key.removeprefix(SPACE): t.numpy() for key, t in tensors.items() if key.startswith(SPACE)}
            space = LatentSpace.unpack(about["space"], arrays, where)
            width = int(about["width"])
            if not 0 < width <= WIDEST or not all(t.isfinite().all() for t in tensors.values()):
                raise _foreign(where)
            with torch.random.fork_rng(devices=[]):
                encoder = Inverter(len(space.mean), size, channels, width)
            weights = {key.removeprefix(ENCODER): t for key, t in tensors.items() if key.startswith(ENCODER)}
            encoder.load_state_dict(weights)
        except (TypeError, AttributeError, KeyError, ValueError, IndexError, RuntimeError):
            raise _foreign(where) from None
        return cls(space, encoder.eval().requires_grad_(False))

    def save(self, path: Path) -> None:
        """Write one safetensors file atomically."""
        write(path, *self.pack())

    @classmethod
    def load(cls, path: Path, size: tuple[int, int], channels: int, checkpoint: str) -> Directions:
        """Load the file of a GAN of this size, whose checkpoint has this hash. Raises BadInput if there is none, or if
        it is damaged, foreign, or of another checkpoint.
        """
        try:
            about, tensors = read(path)
        except FileNotFoundError:
            raise BadInput(f"{path}: no such file; `faceforge directions` writes it") from None
        except Unreadable:
            raise _foreign(str(path)) from None
        found = cls.unpack(about, tensors, size, channels, str(path))
        if found.space.made.get("checkpoint") != checkpoint:
            again = f"faceforge directions {path.parent} --overwrite"
            raise BadInput(f"{path}: of another checkpoint than the run's best; `{again}` makes it again")
        return found


Carried = LatentSpace | Directions  # by an exported model


def _foreign(where: str) -> BadInput:
    return BadInput(f"{where}: no directions of faceforge, or damaged; `faceforge directions` writes them")
