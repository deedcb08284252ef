"""The strip of pictures in README.md and those of docs/gallery.md: what the small models that ship make of drawn faces.

python -m benchmarks.pictures
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from benchmarks.command import ROOT
from faceforge.data.sources.drawn import Drawn
from faceforge.io.images import from_uint8, make_grid, write_png
from faceforge.studio.model import Model, open_model

PICTURES = ROOT / "docs" / "pictures"
STRIP = PICTURES / "strip.png"
EDITS = {
    "Smiling": (30, 5.0),
    "Eyeglasses": (38, 3.0),
    "Goatee": (45, 2.5),
    "Black_Hair": (22, 2.5),
}  # a face, how much
TILE, GAP, LABEL = 132, 6, 22  # pixels
SEED = 2026  # of faces that no model was trained on
WAY = "mean_difference"
Pixels = NDArray[np.uint8]


def strip() -> Pixels:
    """Uint8 (H, W, 3): a column for each system, before above after."""
    columns = {
        "mlp_autoencoder": paired(open_model("drawn:mlp_autoencoder"), 5),
        "conv_superres": paired(open_model("drawn:conv_superres"), 8),
        "pix2pix": paired(open_model("drawn:pix2pix"), 14),
        "latent_editor": edited(open_model("drawn:latent_editor"), 5, "Eyeglasses", 3.0),
        "dcgan_conventional": random(open_model("drawn:dcgan_conventional"), 6, 10),
        "dcgan_cnn": random(open_model("drawn:dcgan_cnn"), 1, 8),
    }
    height, width = LABEL + 2 * (TILE + GAP), len(columns) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for n, (name, (before, after)) in enumerate(columns.items()):
        left = n * (TILE + GAP)
        draw.text((left + TILE / 2, LABEL / 2), name, "black", font, anchor="mm")
        sheet.paste(tile(before), (left, LABEL))
        sheet.paste(tile(after), (left, LABEL + TILE + GAP))
    return np.asarray(sheet)


def face(number: int, model: Model) -> Tensor:
    """A drawn face (1, C, H, W) in [-1, 1] of the model's size."""
    pixels = Drawn(count=number + 1, seed=SEED).read(number, (model.size[0], model.size[1]))
    picture = from_uint8(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None])
    return picture if model.channels == 3 else picture.mean(1, keepdim=True)


def paired(model: Model, number: int) -> tuple[Tensor, Tensor]:
    """What the task makes of a face, and what the model makes of that."""
    shown = model.task.input_for(face(number, model))
    assert shown is not None
    return shown, model.predict(shown)


def edited(model: Model, number: int, attribute: str, strength: float) -> tuple[Tensor, Tensor]:
    """A face, and the same with an attribute, as ``faceforge edit`` makes it."""
    before = face(number, model)
    z = model.encode(before)
    change = model.decode(model.space.edit(z, {attribute: strength}, WAY)) - model.decode(z)
    return before, (before + model.space.mask(model.decode, attribute, WAY) * change).clamp(-1, 1)


def random(model: Model, first: int, second: int) -> tuple[Tensor, Tensor]:
    """Two of twelve random faces."""
    faces = next(model.faces(12, seed=4)).split(1)
    return faces[first], faces[second]


def faces_of(name: str) -> Pixels:
    """Three rows of eight random faces of a model."""
    return make_grid(next(open_model(name).faces(24, seed=4)), columns=8)


def edits() -> Pixels:
    """A row for each attribute: a face, then the same with more and more of it."""
    model = open_model("drawn:latent_editor")
    rows = []
    for attribute, (number, most) in EDITS.items():
        rows += [edited(model, number, attribute, most * step / 7)[1] for step in range(8)]
    return make_grid(torch.cat(rows), columns=8)


def triplets(name: str, numbers: range) -> Pixels:
    """Rows of inputs, of outputs, and of the faces that both come from."""
    model = open_model(name)
    whole = [face(number, model) for number in numbers]
    pairs = [paired(model, number) for number in numbers]
    shown = [functional.interpolate(before, model.size, mode="nearest") for before, _ in pairs]
    rows = [*shown, *(after for _, after in pairs), *whole]
    return make_grid(torch.cat([picture.expand(-1, model.channels, -1, -1) for picture in rows]), columns=len(numbers))


GALLERY: dict[str, Callable[[], Pixels]] = {
    "random_gan": lambda: faces_of("drawn:dcgan_conventional"),
    "random_editor": lambda: faces_of("drawn:latent_editor"),
    "edits": edits,
    "colours": lambda: triplets("drawn:pix2pix", range(10, 18)),
    "sharpened": lambda: triplets("drawn:conv_superres", range(20, 28)),
}


def tile(picture: Tensor) -> Image.Image:
    """(1, C, H, W) in [-1, 1], enlarged so that its pixels stay visible."""
    pixels = functional.interpolate((picture.expand(-1, 3, -1, -1) + 1) * 127.5, (TILE, TILE), mode="nearest")[0]
    return Image.fromarray(pixels.round().clamp(0, 255).byte().numpy().transpose(1, 2, 0))


if __name__ == "__main__":
    for name, make in {"strip": strip, **GALLERY}.items():
        write_png(make(), PICTURES / f"{name}.png")
