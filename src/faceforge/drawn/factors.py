"""The factors of drawn faces, each drawn from its own counter stream, and their dependencies.

Adding a factor leaves the others unchanged. Shape, colours, sex and age belong to the person; expression, pose, light,
clothes, glasses and hat to the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceforge import counter_rng
from faceforge.drawn.hair import HAIR_STYLES

PICTURES = 4  # of each person

Columns = dict[str, NDArray[np.floating[Any]]]


class Factor(NamedTuple):
    """A factor drawn from [low, high), uniform or peaked in the middle; of the person or of the image."""

    low: float
    high: float
    person: bool = False
    heaped: bool = False


def _person(low: float, high: float) -> Factor:
    return Factor(low, high, person=True, heaped=True)


def _pose(high: float) -> Factor:
    return Factor(-high, high, heaped=True)


_SHARE = Factor(0.0, 1.0)
_OF_PERSON = Factor(0.0, 1.0, person=True)

# Each factor is drawn from its own stream; `_derive` then adds dependencies.
FACTORS: Mapping[str, Factor] = {
    # the person
    "male": _OF_PERSON,  # below 0.5 female, above male; near 0 or 1
    "age": Factor(18.0, 80.0, person=True),  # years
    "texture": _OF_PERSON,  # seeds strands, curls, freckles
    "head_width": _person(0.90, 1.10),
    "head_length": _person(0.93, 1.07),
    "jaw": _person(0.0, 1.0),  # narrow to square
    "cheek": _person(0.0, 1.0),  # hollow to full
    "chin": _person(0.0, 1.0),  # pointed to broad
    "build": _person(0.75, 1.25),  # neck and shoulders
    "skin": _OF_PERSON,  # pale to dark
    "undertone": Factor(-1.0, 1.0, person=True),  # cool to warm
    "freckles": _OF_PERSON,  # drawn above 0.5
    "hair_melanin": _OF_PERSON,  # platinum to black
    "hair_red": _OF_PERSON,
    "hair_gray": _OF_PERSON,
    "hair_style": _OF_PERSON,  # becomes a place in hair.HAIR_STYLES
    "hair_length": _OF_PERSON,  # within the style
    "hair_wave": _OF_PERSON,  # straight to wavy
    "hair_curl": _OF_PERSON,  # 1 for curls
    "fringe": _OF_PERSON,  # drawn above 0.5
    "part_side": Factor(-1.0, 1.0, person=True),
    "recession": _OF_PERSON,  # of the hairline
    "iris": _OF_PERSON,  # blue, green, hazel to dark brown
    "eye_size": _person(0.86, 1.14),
    "eye_spacing": _person(0.93, 1.07),
    "eye_tilt": _person(-0.8, 1.4),
    "eyelid": _OF_PERSON,  # height of the crease
    "brow_thickness": _person(0.55, 1.45),
    "brow_arch": _person(0.0, 1.2),
    "nose_length": _person(0.90, 1.10),
    "nose_width": _person(0.78, 1.28),
    "nose_bridge": _person(0.6, 1.4),
    "nose_tip": _OF_PERSON,  # round to pointed
    "mouth_width": _person(0.86, 1.14),
    "lips": _person(0.60, 1.40),  # fullness
    "ear_size": _person(0.85, 1.15),
    "beard": _OF_PERSON,  # becomes 0 none, 1 stubble, 2 moustache, 3 goatee, 4 full
    "beard_length": _OF_PERSON,
    # the picture
    "smile": Factor(-0.6, 1.0),  # sad, neutral at 0, laughing
    "mouth_open": _SHARE,
    "frown": _SHARE,
    "brow_raise": _pose(1.0),
    "eye_open": Factor(0.72, 1.16, heaped=True),
    "gaze_x": _pose(1.0),
    "gaze_y": _pose(1.0),
    "yaw": _pose(19.0),  # degrees, to the right
    "pitch": _pose(8.0),  # degrees, up
    "roll": _pose(7.0),  # degrees, clockwise
    "zoom": _pose(0.03),  # becomes 0.97 to 1.03
    "light_x": Factor(-1.0, 1.0),  # from the left to the right
    "light_y": Factor(0.15, 0.75),  # from the front to above
    "contrast": Factor(0.55, 1.05),
    "back_hue": _SHARE,
    "back_shift": Factor(-0.14, 0.14),
    "back_saturation": Factor(0.06, 0.42),
    "back_value": Factor(0.45, 0.90),
    "back_angle": _SHARE,
    "clothes_style": _SHARE,
    "clothes_hue": _SHARE,
    "clothes_saturation": Factor(0.05, 0.70),
    "clothes_value": Factor(0.22, 0.92),
    "makeup": _SHARE,
    "shadow_hue": _SHARE,
    "lipstick": _SHARE,
    "lipstick_hue": Factor(0.93, 1.03),
    "blush": _SHARE,
    "earrings": _SHARE,  # drawn above 0.5
    "eyeglasses": _SHARE,  # becomes 0 or 1
    "sunglasses": _SHARE,  # becomes 0 or 1
    "frame_style": _SHARE,  # round, rectangular, aviator, cat eye
    "frame_weight": _SHARE,  # thin to thick
    "frame_colour": _SHARE,
    "lens_hue": _SHARE,
    "hat": _SHARE,  # becomes 0 or 1
    "hat_style": _SHARE,  # cap, beanie, brim
    "hat_detail": _SHARE,
    "hat_hue": _SHARE,
    "hat_saturation": Factor(0.08, 0.75),
    "hat_value": Factor(0.22, 0.88),
}

# Probability of each style for women and men; baldness is decided by age before.
STYLES = list(HAIR_STYLES)
WOMEN = {"crop": 0.04, "part": 0.10, "curls": 0.15, "bob": 0.22, "long": 0.33, "bun": 0.16}
MEN = {"crop": 0.26, "part": 0.34, "quiff": 0.20, "curls": 0.13, "long": 0.07}
BEARDS = (0.42, 0.19, 0.09, 0.12, 0.18)
FRINGED = ("part", "bob", "long", "bun", "crop")


def draw_factors(seed: int, indices: ArrayLike) -> Columns:
    """Every factor of the given faces: name -> float64 (N,)."""
    indices = np.asarray(indices, dtype=np.int64).reshape(-1)
    raw = {}
    for name, factor in FACTORS.items():
        counters = indices // PICTURES if factor.person else indices
        draws = counter_rng.uniform(seed, f"drawn/{name}", counters, (3,) if factor.heaped else (1,))
        raw[name] = factor.low + (factor.high - factor.low) * draws.mean(axis=1)
    return _derive(raw)


def _derive(f: Columns) -> Columns:
    """Apply dependencies; smile, glasses and hat stay independent of each other and of everything else."""
    share = (f["male"] * 2) % 1.0
    f["male"] = np.where(f["male"] > 0.55, 0.86 + 0.14 * share, 0.14 * share)
    f["age"] = 18 + 62 * ((f["age"] - 18) / 62) ** 1.7
    f["zoom"] = 1 + f["zoom"]
    f["eyeglasses"] = (f["eyeglasses"] < 0.20) * 1.0
    f["sunglasses"] = (f["sunglasses"] < 0.22) * 1.0
    f["hat"] = (f["hat"] < 0.14) * 1.0
    f["mouth_open"] = np.clip(f["mouth_open"] * 1.3 - 0.66 + 0.32 * np.maximum(f["smile"], 0), 0, 1)
    f["frown"] = np.clip(f["frown"] * 1.6 - 0.9 - f["smile"] * 0.25, 0, 1)
    _colour(f)
    _groom(f)
    _shape(f)
    return f


def _colour(f: Columns) -> None:
    """Dark skin implies dark hair and eyes; hair greys with age."""
    f["skin"] = f["skin"] ** 1.5
    dark = np.clip((f["skin"] - 0.28) / 0.33, 0, 1)
    f["hair_melanin"] += (1 - f["hair_melanin"]) * 0.92 * dark
    f["iris"] = np.clip(f["iris"] + (1 - f["iris"]) * 0.9 * dark, 0, 1)
    f["hair_red"] = np.where((f["hair_red"] < 0.12) & (dark < 0.2), 0.80, 0.12 * f["hair_red"] * (1 - dark))
    f["hair_gray"] = np.clip((f["age"] - 46) / 22 + 0.9 * (f["hair_gray"] - 0.5), 0, 1) * (f["age"] > 38)
    f["freckles"] = ((f["freckles"] < 0.16 + 0.5 * (f["hair_red"] > 0.5)) & (f["skin"] < 0.4)) * 1.0


def _groom(f: Columns) -> None:
    """Hair style, beard and make-up by sex and age."""
    male, old = f["male"] > 0.5, np.clip((f["age"] - 28) / 40, 0, 1)
    styles = np.where(male, _choose(f["hair_style"], MEN), _choose(f["hair_style"], WOMEN))
    bald = male & (f["recession"] > 0.94 - 0.34 * old)
    styles = np.where(bald, STYLES.index("bald"), styles)
    f["hair_style"] = styles.astype(np.float64)
    f["recession"] *= np.where(male, 0.25 + old, 0.15)
    curls = styles == STYLES.index("curls")
    f["hair_curl"] = np.where(curls, 1.0, 0.0)
    f["hair_wave"] = np.where(curls, 1.0, np.clip(f["hair_wave"] * 1.7 - 0.6, 0, 1))
    can = np.isin(styles, [STYLES.index(name) for name in FRINGED])
    f["fringe"] = (can & (f["fringe"] < np.where(male, 0.14, 0.36))) * 1.0
    edges = np.cumsum(BEARDS)[:-1]
    f["beard"] = np.where(male, np.searchsorted(edges, f["beard"], side="right"), 0).astype(np.float64)
    woman = 1 - f["male"]
    f["makeup"] = np.clip(f["makeup"] * 1.6 - 0.5, 0, 1) * woman
    f["lipstick"] = np.clip(f["lipstick"] * 1.4 - 0.6 + 0.5 * f["makeup"], 0, 1) * (woman > 0.5)
    f["blush"] = np.clip(f["blush"] ** 1.6 + 0.2 * f["makeup"] - 0.1 * f["male"], 0, 1)
    f["earrings"] = ((f["earrings"] < 0.4) & ~male) * 1.0


def _shape(f: Columns) -> None:
    """On average, men have broader jaws, heavier brows and longer noses, women fuller lips and larger eyes."""
    male = f["male"]
    f["jaw"] = np.clip(0.75 * f["jaw"] + 0.30 * male, 0, 1)
    f["chin"] = np.clip(0.75 * f["chin"] + 0.30 * male, 0, 1)
    f["head_width"] *= 0.985 + 0.03 * male
    f["head_length"] *= 0.985 + 0.03 * male
    f["brow_thickness"] *= 0.80 + 0.42 * male
    f["brow_arch"] *= 1.15 - 0.6 * male
    f["eye_size"] *= 1.05 - 0.09 * male
    f["lips"] *= 1.08 - 0.22 * male + 0.16 * f["skin"]
    f["nose_width"] *= 0.94 + 0.10 * male + 0.16 * f["skin"]
    f["nose_length"] *= 0.98 + 0.04 * male


def _choose(share: NDArray[np.floating[Any]], weights: Mapping[str, float]) -> NDArray[np.int64]:
    """Indices into STYLES, drawn with the given weights from numbers in [0, 1)."""
    edges = np.cumsum(list(weights.values()))[:-1] / sum(weights.values())
    places = np.array([STYLES.index(name) for name in weights])
    return places[np.searchsorted(edges, share, side="right")]
