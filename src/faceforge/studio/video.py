"""Videos: what a model makes of every frame. Frame rate and sound stay, and faces stay where they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceforge.cut import frame as framing
from faceforge.errors import BadInput
from faceforge.studio.output import Sound
from faceforge.studio.photo import Frame, Places, Spot
from faceforge.types import Json

ENDINGS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".gif"}
ROUNDED = (24, 30, 48, 60, 120)  # a second's frames, of which 1000 in 1001 are shown where a rate is not whole
COPIED = {"aac", "mp3"}  # sound of an MP4 that every player knows; other is encoded as AAC
REACH = 0.25  # seconds before and after a frame from which the place of a face is fitted
OVERLAP = 0.3  # of the same face in two frames: intersection over union
LEAST = 2  # frames within reach in which a face is found; a single one is a mistake of the detector
CUT = 30  # levels: the mean difference of two frames between which the scene changes
PREVIEWED = 4  # frames
ALONE = ["-protocol_whitelist", "file,pipe"]  # a video opens no address

Find = Callable[[np.ndarray], list[Spot]]
Change = Callable[[np.ndarray, Places], np.ndarray]


def is_video(path: Path) -> bool:
    """Whether a file is a video by its ending; a GIF is one if it moves."""
    suffix = path.suffix.lower()
    if suffix not in ENDINGS or not path.is_file():
        return False
    if suffix != ".gif":
        return True
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError):
        return True  # so that it is refused as one


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Video:
    """A video to read: frames a second, about how many frames, their height and width, and the codec of its sound."""

    path: Path
    rate: Fraction
    count: int
    size: tuple[int, int]
    sound: str | None

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.count / float(self.rate)

    @property
    def heard(self) -> Sound | None:
        """Its sound, for an .mp4."""
        return Sound(self.path, "copy" if self.sound in COPIED else "aac") if self.sound else None

    def frames(self, start: float = 0.0) -> Iterator[np.ndarray]:
        """The frames from a second on, uint8 RGB (H, W, 3), upright and evenly spaced in time."""
        import imageio_ffmpeg

        height, width = self.size
        seek = ["-ss", f"{start:.3f}"] if start else []
        reader = imageio_ffmpeg.read_frames(str(self.path), input_params=[*ALONE, *seek])
        try:
            next(reader)  # what it says of turned videos is not true of the frames
            for frame in reader:
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
        finally:
            reader.close()


def open_video(path: Path) -> Video:
    """A video. Raises BadInput for a file that is none, or that has no frame rate."""
    about = _about(path)
    if not about.get("fps"):
        raise BadInput(f"{path}: has no frame rate; must be a video")
    rate = exact(float(about["fps"]))
    return Video(path, rate, max(1, round(float(rate) * about["duration"])), _size(path), about.get("audio_codec"))


def exact(rate: float) -> Fraction:
    """A frame rate as it was meant: 29.97 is 30000/1001."""
    for whole in ROUNDED:
        if abs(rate - whole / 1.001) < 0.005:
            return Fraction(whole * 1000, 1001)
    return Fraction(rate).limit_denominator(100)


def _about(path: Path) -> Json:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path), input_params=ALONE)
    try:
        return next(reader)
    except (OSError, RuntimeError, ValueError, StopIteration, IndexError):
        raise BadInput(f"{path}: not a readable video") from None
    finally:
        reader.close()


def _size(path: Path) -> tuple[int, int]:
    """Height and width of the frames as ffmpeg gives them, which turns what a phone recorded on its side."""
    import imageio_ffmpeg

    first = ["-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *ALONE, "-i", str(path), *first]
    data = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout
    if not re.match(rb"P6\s", data):
        raise BadInput(f"{path}: not a readable video")
    with Image.open(BytesIO(data), formats=("PPM",)) as image:
        return image.height, image.width


@contextmanager
def in_memory(data: bytes = b"") -> Iterator[Path]:
    """A file that lies on no disk, for a program that takes a path. Raises BadInput where the system has none."""
    if sys.platform != "linux":
        raise BadInput("videos are processed here where the app runs on Linux; elsewhere use the command line")
    number = os.memfd_create("video")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(data)
        yield Path(f"/proc/{os.getpid()}/fd/{number}")
    finally:
        os.close(number)


# --------------------------------------------------------------------------------------------------------- steady faces


@dataclass(eq=False)
class Track:
    """One face through a scene: its frames (x, y, w, h) by number."""

    quarter: int
    places: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """Where it was seen last."""
        return next(reversed(self.places))

    def at(self, number: int, around: range, size: tuple[int, int]) -> Spot | None:
        """Its place in a frame: on the line that fits the places ``around``, near ones more; None outside of its life,
        and where it was hardly seen.
        """
        near = [n for n in around if n in self.places]
        if len(near) < min(LEAST, len(around)) or not near[0] <= number <= near[-1]:
            return None
        away, places = np.array(near, float) - number, np.stack([self.places[n] for n in near])
        weight = 1 - np.abs(away) / (1 + max(number - around[0], around[-1] - number))
        weight /= weight.sum()
        middle, centre = weight @ away, weight @ places
        spread = weight @ (away - middle) ** 2
        slope = (weight * (away - middle)) @ places / spread if spread > 0 else 0.0
        x, y, w, h = (centre - slope * middle).tolist()
        height, width = size if self.quarter % 2 == 0 else size[::-1]
        return Spot(framing.fit(Frame(x, y, max(1.0, w), max(1.0, h)), width, height), self.quarter)


def steadied(frames: Iterable[np.ndarray], find: Find, reach: int) -> Iterator[tuple[np.ndarray, list[Spot]]]:
    """Each frame with the places of its faces, fitted over ``reach`` frames on either side of it.

    A detector's boxes tremble by a few pixels, and a network's output trembles with them. A face that is not found in
    less than ``reach`` frames keeps its way meanwhile; one that is found in a single frame of a scene is left out.
    """
    waiting: deque[tuple[np.ndarray, list[Track]]] = deque()
    tracks: list[Track] = []
    scenes = [0]  # where each begins
    number, before = -1, None
    for number, pixels in enumerate(frames):
        seen = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        if before is not None and np.abs(seen - before).mean() > CUT:
            tracks = []
            scenes.append(number)
        before = seen
        tracks = _followed(tracks, number, find(pixels), reach)
        waiting.append((pixels, tracks))
        if len(waiting) > reach:
            yield _placed(waiting, number, reach, scenes)
    while waiting:
        yield _placed(waiting, number, reach, scenes)


def _placed(
    waiting: deque[tuple[np.ndarray, list[Track]]], last: int, reach: int, scenes: Sequence[int]
) -> tuple[np.ndarray, list[Spot]]:
    """The first of the frames that wait, of which the ``last`` was read, and the places of its faces."""
    number = last + 1 - len(waiting)
    pixels, tracks = waiting.popleft()
    following = bisect(scenes, number)
    end = scenes[following] if following < len(scenes) else last + 1
    around = range(max(scenes[following - 1], number - reach), min(end, number + reach + 1))
    spots = [track.at(number, around, pixels.shape[:2]) for track in tracks]
    return pixels, [spot for spot in spots if spot]


def _followed(tracks: list[Track], number: int, spots: list[Spot], reach: int) -> list[Track]:
    """The tracks of a frame: those of the frame before and new ones, each with the spot that is nearest to it."""
    alive = [track for track in tracks if number - track.last <= reach]
    free = list(alive)
    for spot in spots:
        place = np.array([spot.frame.x, spot.frame.y, spot.frame.w, spot.frame.h])
        near = [track for track in free if track.quarter == spot.quarter]
        best = max(near, key=lambda track: _overlap(track.places[track.last], place), default=None)
        if best is None or _overlap(best.places[best.last], place) < OVERLAP:
            best = Track(spot.quarter)
            alive.append(best)
        else:
            free.remove(best)
        best.places[number] = place
    return alive


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two frames (x, y, w, h) about their centres."""
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    common = float(np.prod(np.maximum(0.0, high - low)))
    return common / (float(np.prod(one[2:]) + np.prod(other[2:])) - common)


# ------------------------------------------------------------------------------------------------------------- changing


def changed(
    frames: Iterable[np.ndarray], rate: Fraction, change: Change, find: Find | None, everywhere: bool = False
) -> Iterator[np.ndarray]:
    """Each frame with its faces changed, and those without a face where ``everywhere``.

    ``find`` None: faces are not looked for here, and ``change`` gets the frame alone.
    """
    if find is None:
        for pixels in frames:
            yield change(pixels, None)
        return
    for pixels, spots in steadied(frames, find, max(1, round(REACH * float(rate)))):
        yield change(pixels, spots) if spots or everywhere else pixels


def preview(video: Video, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Frames at even distances, above what becomes of them: uint8 RGB (H, W, 3)."""
    columns = []
    for part in range(PREVIEWED):
        pixels = next(video.frames((part + 0.5) / PREVIEWED * video.seconds), None)
        if pixels is not None:
            made = change(pixels)
            columns.append(np.concatenate([cv2.resize(pixels, made.shape[1::-1]), made]))
    if not columns:
        raise BadInput(f"{video.path}: not a readable video")
    return np.concatenate(columns, axis=1)
