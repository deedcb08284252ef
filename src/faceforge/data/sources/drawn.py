"""Procedural portraits: a data set without files, licences or people, in which every cause is known.

Face i of seed s is a pure function of (s, i): its factors come from counter streams. Several pictures show one person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from faceforge.data.sources.base import Face, Painted
from faceforge.drawn.factors import PICTURES, STYLES, Columns, draw_factors
from faceforge.drawn.portrait import paint
from faceforge.errors import BadInput

VERSION = "drawn/1"  # of the style: increment it whenever pixels change
BLOCK = 256  # faces whose factors are drawn at a time
# The factors that give a face an attribute, from the middle of their range; attributes that many factors make, such as
# Male and Young, have none.
CAUSES: Mapping[str, Mapping[str, float]] = {
    "Arched_Eyebrows": {"brow_arch": 0.96},
    "Bald": {"hair_style": STYLES.index("bald")},
    "Bangs": {"fringe": 1.0},
    "Big_Lips": {"lips": 1.3},
    "Black_Hair": {"hair_melanin": 0.9, "hair_red": 0.0, "hair_gray": 0.0},
    "Blond_Hair": {"hair_melanin": 0.17, "hair_red": 0.0, "hair_gray": 0.0},
    "Brown_Hair": {"hair_melanin": 0.57, "hair_red": 0.0, "hair_gray": 0.0},
    "Bushy_Eyebrows": {"brow_thickness": 1.4},
    "Eyeglasses": {"eyeglasses": 1.0, "sunglasses": 0.0},
    "Goatee": {"beard": 3.0},
    "Gray_Hair": {"hair_gray": 0.75},
    "Heavy_Makeup": {"makeup": 0.75},
    "Mouth_Slightly_Open": {"mouth_open": 0.5},
    "Mustache": {"beard": 2.0},
    "Narrow_Eyes": {"eye_open": 0.79},
    "No_Beard": {"beard": 0.0},
    "Pale_Skin": {"skin": 0.045},
    "Rosy_Cheeks": {"blush": 0.8},
    "Smiling": {"smile": 0.6},
    "Wearing_Earrings": {"earrings": 1.0},
    "Wearing_Hat": {"hat": 1.0},
    "Wearing_Lipstick": {"lipstick": 0.65},
}


@lru_cache(maxsize=64)
def _block(seed: int, number: int) -> Columns:
    """The factors of BLOCK consecutive faces: drawing many costs hardly more than drawing one."""
    return draw_factors(seed, np.arange(number * BLOCK, (number + 1) * BLOCK))


def _attributes(f: Columns) -> dict[str, NDArray[np.bool_]]:
    """CelebA's attributes as functions of the factors: name -> bool (N,)."""
    style = {name: f["hair_style"] == i for i, name in enumerate(STYLES)}
    haired, gray, red = ~style["bald"], f["hair_gray"] > 0.5, f["hair_red"] > 0.5
    coloured = haired & ~gray & ~red
    return {
        "Arched_Eyebrows": f["brow_arch"] > 0.72,
        "Bald": style["bald"],
        "Bangs": f["fringe"] > 0.5,
        "Big_Lips": f["lips"] > 1.12,
        "Big_Nose": f["nose_width"] * f["nose_length"] > 1.16,
        "Black_Hair": coloured & (f["hair_melanin"] > 0.80),
        "Blond_Hair": coloured & (f["hair_melanin"] < 0.35),
        "Brown_Hair": coloured & (f["hair_melanin"] >= 0.35) & (f["hair_melanin"] <= 0.80),
        "Bushy_Eyebrows": f["brow_thickness"] > 1.22,
        "Eyeglasses": f["eyeglasses"] > 0.5,
        "Goatee": f["beard"] == 3,
        "Gray_Hair": haired & gray,
        "Heavy_Makeup": f["makeup"] > 0.45,
        "Male": f["male"] > 0.5,
        "Mouth_Slightly_Open": f["mouth_open"] > 0.10,
        "Mustache": (f["beard"] == 2) | (f["beard"] == 3) | (f["beard"] == 4),
        "Narrow_Eyes": f["eye_open"] < 0.86,
        "No_Beard": f["beard"] == 0,
        "Oval_Face": (f["jaw"] < 0.52) & (f["head_length"] > 0.97 * f["head_width"]),
        "Pale_Skin": f["skin"] < 0.09,
        "Pointy_Nose": (f["nose_tip"] > 0.55) & (f["nose_width"] < 1.05),
        "Rosy_Cheeks": f["blush"] > 0.60,
        "Smiling": f["smile"] > 0.2,
        "Straight_Hair": haired & (f["hair_wave"] < 0.1),
        "Wavy_Hair": haired & (f["hair_wave"] > 0.4),
        "Wearing_Earrings": f["earrings"] > 0.5,
        "Wearing_Hat": f["hat"] > 0.5,
        "Wearing_Lipstick": f["lipstick"] > 0.35,
        "Young": f["age"] < 42,
    }


class Drawn(Painted):
    """A source of `count` drawn faces, four per person, at any size from about 8 pixels."""

    name = "drawn"
    changes = tuple(CAUSES)

    def __init__(self, root: str | None = None, count: int = 8000, seed: int = 0) -> None:
        if root is not None:
            raise BadInput(f"data.root: {root!r} must be null: drawn faces need no folder")
        if count < 1:
            raise BadInput(f"data.source.count: {count} must be at least 1")
        self.seed = seed
        self.faces: Sequence[Face] = [
            Face(f"drawn/{i:07d}", identity=f"drawn/person/{i // PICTURES:06d}") for i in range(count)
        ]

    def read(self, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Face `index` painted at size (height, width): uint8 (height, width, 3), RGB."""
        return paint(self.factors(index), size)

    def changed(self, index: int, attribute: str, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Face `index` painted with the factors that cause an attribute, all others as they are. See CAUSES."""
        return paint({**self.factors(index), **CAUSES[attribute]}, size)

    def digest(self, index: int) -> str:
        """SHA-256 (hex) of everything a drawn face depends on: style version, seed and index."""
        return hashlib.sha256(f"{VERSION}\x1f{self.seed}\x1f{index}".encode()).hexdigest()

    def factors(self, index: int) -> dict[str, float]:
        """The factors of a face, named as in FACTORS. Raises IndexError beyond the last face."""
        index = range(len(self.faces))[index]
        table = _block(self.seed, index // BLOCK)
        return {name: float(column[index % BLOCK]) for name, column in table.items()}

    def attributes(self) -> tuple[list[str], NDArray[np.float32]]:
        """CelebA's names and float32 (N, A) of 0 and 1."""
        table = _attributes(draw_factors(self.seed, np.arange(len(self.faces))))
        return list(table), np.stack(list(table.values()), axis=1).astype(np.float32)
