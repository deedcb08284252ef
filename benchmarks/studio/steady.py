"""How much faces tremble in a video, looked for frame by frame and with their places fitted over time; a picture of it.

    python -m benchmarks.studio.steady

A drawn face moves over a soft background, with the noise of a small camera; where it is in each frame is known. The
same face at rest shows how much the output flickers beside the video itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import command, records
from benchmarks.pictures import PICTURES
from faceforge.data.sources.drawn import Drawn
from faceforge.studio import photo as photos
from faceforge.studio import video
from faceforge.studio.edit import edit
from faceforge.studio.model import Model, open_model
from faceforge.studio.translate import translate

SIZE, FACE = (360, 480), 220  # height and width of a frame; side of the face in it
FRAMES, RATE, NOISE = 96, Fraction(24), 4.0  # levels
CHANGES = {"Eyeglasses": 3.0}
Pixels = NDArray[np.uint8]


def path(moves: bool) -> NDArray[np.float64]:
    """The centre of the face in each frame, in pixels."""
    turn = np.arange(FRAMES) / FRAMES * 2 * np.pi * moves
    return np.stack([240 + 70 * np.sin(turn), 180 + 25 * np.sin(2 * turn)], 1)


def filmed(places: NDArray[np.float64], noise: float = NOISE) -> Iterator[Pixels]:
    """The frames: a drawn face at its places, uint8 RGB."""
    face = Drawn(count=6, seed=2026).read(5, (FACE, FACE))
    soft = cv2.resize(np.random.default_rng(0).integers(150, 200, (3, 4, 3), np.uint8), SIZE[::-1])
    mask = cv2.GaussianBlur(cv2.ellipse(np.zeros((FACE, FACE)), ((110, 110), (190, 214), 0), 1.0, -1), (0, 0), 4)
    for number, (x, y) in enumerate(places):
        move = np.array([[1, 0, x - FACE / 2], [0, 1, y - FACE / 2]])
        laid, weight = (cv2.warpAffine(each, move, SIZE[::-1]) for each in (face.astype(np.float64), mask))
        frame = weight[..., None] * laid + (1 - weight[..., None]) * soft
        frame += np.random.default_rng(number).normal(0, noise, frame.shape)
        yield frame.round().clip(0, 255).astype(np.uint8)


def trembling(found: Sequence[Sequence[photos.Spot]], places: NDArray[np.float64]) -> dict[str, float]:
    """Pixels: the mean change of speed from frame to frame beyond that of the face, in place and in width."""
    spots = [each[0].frame for each in found]
    centre = np.array([(spot.x, spot.y) for spot in spots]) - places
    width = np.array([spot.w for spot in spots])
    return {
        "place": float(np.abs(np.diff(centre, 2, axis=0)).mean()),
        "width": float(np.abs(np.diff(width, 2)).mean()),
        "faces_in_each_frame": float(np.mean([len(each) for each in found])),
    }


def flicker(frames: Sequence[Pixels]) -> float:
    """Levels: the mean difference of two frames that follow one another, in the middle, where the face is."""
    middle = [frame[80:280, 160:320].astype(float) for frame in frames]
    return float(np.mean([np.abs(one - other).mean() for one, other in pairwise(middle)]))


def ways(model: Model, change: video.Change, places: NDArray[np.float64], noise: float) -> dict[str, list[Pixels]]:
    """The frames, and what is made of them face by face in each frame, and with the places fitted over time."""
    frames, find = list(filmed(places, noise)), partial(photos.find_faces, model=model)
    alone = [change(frame, find(frame)) for frame in frames]
    return {"video": frames, "frame_by_frame": alone, "fitted": list(video.changed(frames, RATE, change, find))}


def edited(model: Model) -> video.Change:
    return lambda pixels, known: edit(model, pixels, CHANGES, known=known).photo


def translated(model: Model) -> video.Change:
    return lambda pixels, known: translate(model, pixels, known=known).photo


def strip(made: dict[str, dict[str, list[Pixels]]]) -> Pixels:
    """Six frames of a video, above what each model makes of them."""
    at = np.linspace(0, FRAMES - 1, 6).round().astype(int)
    first = next(iter(made.values()))
    rows = [first["video"], *(each["fitted"] for each in made.values())]
    return np.concatenate([np.concatenate([row[n][::2, ::2] for n in at], axis=1) for row in rows])


def main() -> None:
    """Measure, print and record; write the picture of the documentation."""
    editor, pix2pix = open_model("drawn:latent_editor"), open_model("drawn:pix2pix")
    find = partial(photos.find_faces, model=editor)
    moving = path(True)
    spots = [find(frame) for frame in filmed(moving)]
    fitted = [found for _, found in video.steadied(filmed(moving), find, round(video.REACH * float(RATE)))]
    found: dict[str, Any] = {
        "trembling_px": {"frame_by_frame": trembling(spots, moving), "fitted": trembling(fitted, moving)}
    }
    changes = {"latent_editor": edited(editor), "pix2pix": translated(pix2pix)}
    for name, change in changes.items():
        made = ways(editor if name == "latent_editor" else pix2pix, change, path(False), NOISE)
        found[f"flicker_levels.{name}"] = {way: flicker(frames) for way, frames in made.items()}
    for name, figures in found.items():
        print(name, figures)
    records.keep("steady", {"frames": FRAMES, "noise_levels": NOISE, **found})
    made = {name: ways(editor if name == "latent_editor" else pix2pix, changes[name], moving, 0.0) for name in changes}
    Image.fromarray(strip(made)).save(PICTURES / "video.png", optimize=True)


if __name__ == "__main__":
    command.run(main)
