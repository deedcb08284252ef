"""Writes results: a PNG, a folder of PNGs, or a video, each with the recipe that made it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

import faceforge
from faceforge.errors import BadInput
from faceforge.io.files import atomic_path, short_name
from faceforge.studio.model import Ability, Model
from faceforge.types import Json

Source = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
COMPOSITE: Source = "compositeWithTrainedAlgorithmicMedia"
VIDEOS = (".mp4", ".gif")
RECIPE = "faceforge"  # the key of the recipe in a PNG; in a video it is the comment
DEFAULT_BYTES = 240  # of a name that is made here, to which a number or a longer suffix may come
SHARPEST = 16  # of 0 (lossless) to 51: x264's constant rate factor; faces of 64 pixels show every artefact
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/{}"
    "</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
)


@dataclass(frozen=True)
class Recipe:
    """How an image or video was made: the command, the weights (None: without any) and the settings.

    recipes.py creates them.
    """

    model: Model | None
    command: Ability
    settings: Mapping[str, Any]
    source: Source = "trainedAlgorithmicMedia"

    def line(self) -> str:
        """The recipe as one line of JSON, which marks the result as synthetic."""
        recipe = {
            "command": self.command,
            "run": self.model and self.model.name,
            "weights_sha256": self.model and self.model.digest,
            "synthetic": True,
            **self.settings,
        }
        return json.dumps(recipe, default=str)

    def text(self) -> dict[str, str]:
        """The text chunks of a PNG: the recipe, the program, and the IPTC mark of synthetic images."""
        return {
            RECIPE: self.line(),
            "Software": f"faceforge {faceforge.__version__}",
            "XML:com.adobe.xmp": XMP.format(self.source),
        }


class Sound(NamedTuple):
    """The sound of a video, and the codec in which another gets it ("copy": as it is)."""

    path: Path
    codec: str


def save_png(pixels: np.ndarray, path: Path, recipe: Recipe) -> Path:
    """Write uint8 (H, W, 3) or (H, W) with its recipe, atomically."""
    with atomic_path(path) as beside:
        beside.write_bytes(to_png(pixels, recipe))
    return path


def to_png(pixels: np.ndarray, recipe: Recipe | None) -> bytes:
    """Encode uint8 (H, W, 3) or (H, W) with its recipe; None for images that are not synthetic."""
    info = PngImagePlugin.PngInfo()
    for key, text in recipe.text().items() if recipe else ():
        info.add_itxt(key, text)
    data = BytesIO()
    Image.fromarray(pixels).save(data, format="PNG", pnginfo=info)
    return data.getvalue()


def read_recipe(path: Path) -> Json:
    """The recipe in an image or video made by faceforge. Raises BadInput if there is none."""
    try:
        if path.suffix.lower() == ".mp4":
            return json.loads(_comment(path))
        with Image.open(path, formats=("PNG", "GIF")) as image:
            image.load()
            return json.loads(image.info[RECIPE if image.format == "PNG" else "comment"])  # type: ignore[index]
    except (OSError, KeyError, ValueError, TypeError):
        raise BadInput(f"{path}: has no faceforge recipe") from None


def _comment(path: Path) -> str:
    """The comment of a video, read by ffmpeg, which escapes its special characters with backslashes."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "ffmetadata", "-"]
    told = subprocess.run(command, capture_output=True, check=False).stdout.decode("utf-8", "replace")
    found = re.search(r"^comment=((?:[^\\\n]|\\.)*)", told, re.MULTILINE | re.DOTALL)
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else ""


def save_video(
    frames: Iterable[np.ndarray], path: Path, fps: float | Fraction, recipe: Recipe, sound: Sound | None = None
) -> Path:
    """Write uint8 RGB frames (H, W, 3) as .mp4 (H.264) or .gif (looping), with the recipe.

    An .mp4 gets the ``sound`` of another video, from its beginning.
    """
    with atomic_path(path) as beside:
        if path.suffix.lower() == ".gif":
            _write_gif(frames, beside, float(fps), recipe.line())
        else:
            write_mp4(frames, beside, fps, recipe, sound)
    return path


def _write_gif(frames: Iterable[np.ndarray], path: Path, fps: float, comment: str) -> None:
    pictures = map(Image.fromarray, frames)
    first = next(pictures)
    how = {"duration": round(1000 / fps), "loop": 0, "comment": comment.encode()}
    first.save(path, format="GIF", save_all=True, append_images=pictures, **how)


def write_mp4(
    frames: Iterable[np.ndarray], path: Path, fps: float | Fraction, recipe: Recipe, sound: Sound | None = None
) -> None:
    """Write uint8 RGB frames (H, W, 3) into a file that may be open elsewhere, as H.264 with the recipe."""
    import imageio_ffmpeg

    rate = str(Fraction(fps).limit_denominator(1001))
    heard = {"audio_path": str(sound.path), "audio_codec": sound.codec} if sound else {}
    writer = None
    for frame in map(_even, frames):
        if writer is None:
            told = ["-metadata", f"comment={recipe.line()}"]
            options = ["-crf", str(SHARPEST), "-movflags", "+faststart", *told, "-f", "mp4"]
            how = {"fps": float(fps), "input_params": ["-r", rate], "macro_block_size": 2, "output_params": options}
            how["ffmpeg_log_level"] = "error"  # it warns of the second rate, which is the exact one
            how |= heard
            writer = imageio_ffmpeg.write_frames(str(path), frame.shape[1::-1], **how)  # type: ignore[arg-type]
            writer.send(None)
        writer.send(np.ascontiguousarray(frame))
    if writer is not None:
        writer.close()


def _even(frame: np.ndarray) -> np.ndarray:
    """Pad to even sides, as H.264 requires, by repeating the last row or column."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@dataclass(frozen=True)
class Target:
    """The output: one file, or a folder of files."""

    path: Path
    folder: bool

    def files(self, stems: Iterable[str], suffix: str = ".png") -> Iterator[Path]:
        """The file of each result."""
        for stem in stems:
            yield self.path / short_name(stem, suffix, DEFAULT_BYTES) if self.folder else self.path


Beside = Callable[[Path], Iterable[Path]]  # the other files that are written with a file


def alone(path: Path) -> Iterable[Path]:
    """No other files."""
    return ()


def target(
    out: Path | None,
    default: Path,
    overwrite: bool,
    kinds: tuple[str, ...] = (".png",),
    beside: Beside = alone,
) -> Target:
    """The output path: ``out``, or a free name based on ``default``. A path without a suffix is a folder. ``beside``
    gives the other files that are written with a file.

    Raises BadInput if a file exists and must not be replaced, or the suffix is not one of ``kinds``.
    """
    path = out or _unused(default.with_name(short_name(default.stem, default.suffix, DEFAULT_BYTES)), beside)
    suffix = path.suffix.lower()
    if suffix and suffix not in kinds and not path.is_dir():
        raise BadInput(f"{path}: must be {' or '.join(kinds)}, or a folder")
    folder = suffix not in kinds
    if folder and path.is_file():
        raise BadInput(f"{path}: is a file; must be {' or '.join(kinds)}, or a folder")
    taken = [file for file in ((path,) if folder else (path, *beside(path))) if _is_taken(file, folder)]
    if taken and not overwrite:
        raise BadInput(f"{taken[0]}: already exists; use --overwrite to replace it, or choose another --out")
    return Target(path, folder)


def _is_taken(path: Path, folder: bool) -> bool:
    return path.exists() and (not folder or any(path.iterdir()))


def _unused(path: Path, beside: Beside) -> Path:
    number, candidate = 1, path
    while any(file.exists() for file in (candidate, *beside(candidate))):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
