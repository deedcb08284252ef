"""Pictures in which every found face is a fault: face-free parts of photos, textures, and things planted beside faces.

All are made in memory from a seed; none is written.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from benchmarks.cut.annotated import Annotated, Scene
from faceforge.cut.detect import overlap
from faceforge.cut.frame import Box
from faceforge.io.images import decode

Random = np.random.Generator

LEAST_SIDE = 96  # of a face-free rectangle
GROWTH = 0.5  # by which an annotated box is grown before a rectangle may touch it
# pictures that packages carry and that show no person (a cat, but no statue and no coin with a head)
SAMPLES = {
    "skimage": ("data", "brick cell chelsea chessboard_GRAY chessboard_RGB clock_motion coffee color grass gravel "
                "horse hubble_deep_field ihc logo microaneurysms moon motorcycle_left page retina rocket text"),
    "sklearn": ("datasets/images", "china flower"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- no faces


def grown(box: Box, by: float = GROWTH) -> Box:
    """The box larger by a share of its sides, about its centre."""
    x, y, w, h = box
    return x - w * by / 2, y - h * by / 2, w * (1 + by), h * (1 + by)


def free_rectangle(width: int, height: int, boxes: Sequence[Box], least: int = LEAST_SIDE) -> Box | None:
    """The largest rectangle of whole pixels without a part of any box, both sides at least ``least``; else None."""
    lefts = {0, *(int(np.ceil(x + w)) for x, _, w, _ in boxes)}
    rights = {width, *(int(x) for x, *_ in boxes)}
    tops = {0, *(int(np.ceil(y + h)) for _, y, _, h in boxes)}
    bottoms = {height, *(int(y) for _, y, *_ in boxes)}
    best: Box | None = None
    for left, right, top, bottom in product(sorted(lefts), sorted(rights), sorted(tops), sorted(bottoms)):
        if left < 0 or top < 0 or right > width or bottom > height or min(right - left, bottom - top) < least:
            continue
        candidate = float(left), float(top), float(right - left), float(bottom - top)
        larger = best is None or candidate[2] * candidate[3] > best[2] * best[3]
        if larger and all(overlap(candidate, box) == 0.0 for box in boxes):
            best = candidate
    return best


def free_parts(photos: Iterable[tuple[Annotated, np.ndarray]]) -> list[Scene]:
    """The largest face-free rectangle of every photo that leaves room for one."""
    made = []
    for photo, pixels in photos:
        boxes = [grown(box) for boxes in photo.boxes.values() for _, box in boxes]
        found = free_rectangle(*photo.size, boxes)
        if found:
            x, y, w, h = (int(v) for v in found)
            made.append(Scene(photo.name, np.ascontiguousarray(pixels[y : y + h, x : x + w])))
    return made


def sample_pictures() -> list[Scene]:
    """The face-free pictures of scikit-image and scikit-learn where these can be imported."""
    made = []
    for package, (folder, names) in SAMPLES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        files = {path.stem: path for path in (Path(spec.origin).parent / folder).iterdir()}
        for name in names.split():
            if name in files:
                pixels = decode(files[name].read_bytes(), name)
                colour = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
                made.append(Scene(f"{package}/{name}", np.ascontiguousarray(colour)))
    return made


def textures(count: int, seed: int) -> list[Scene]:
    """``count`` pictures of 320 x 240 made of noise and shapes, each kind as often as the others."""
    made = []
    for n in range(count):
        kind, draw = list(TEXTURES.items())[n % len(TEXTURES)]
        random = np.random.default_rng([seed, 1, n])
        made.append(Scene(f"{kind} {n}", draw(random, 240, 320)))
    return made


# -------------------------------------------------------------------------------------------------- drawn, all seeded


def _colour(random: Random) -> np.ndarray:
    return random.uniform(30, 225, 3)


def _noise(random: Random, height: int, width: int, power: float) -> np.ndarray:
    """Noise whose amplitude falls with the frequency to ``power``: (H, W), mean 0 and deviation 1."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    spectrum = np.fft.rfft2(random.standard_normal((height, width))) / frequency**power
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return (noise - noise.mean()) / (noise.std() or 1.0)


def _blend(share: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Colours from ``a`` (share 0) to ``b`` (share 1): uint8 (H, W, 3)."""
    return np.clip(a + np.clip(share, 0, 1)[:, :, None] * (b - a), 0, 255).astype(np.uint8)


def clouds(random: Random, height: int, width: int) -> np.ndarray:
    """Two colours mixed by smooth noise."""
    return _blend(
        0.5 + 0.25 * _noise(random, height, width, random.uniform(0.8, 1.8)), _colour(random), _colour(random)
    )


def foliage(random: Random, height: int, width: int) -> np.ndarray:
    """Leaf-like spots of greens and browns over each other, from coarse to fine."""
    picture = np.full((height, width, 3), (40, 60, 30), np.float64)
    for power in (1.6, 1.2, 0.8, 0.5):
        leaf = np.array([random.uniform(40, 150), random.uniform(80, 190), random.uniform(20, 90)])
        noise = _noise(random, height, width, power)
        picture = np.where((noise > 0.6)[:, :, None], leaf + 12 * noise[:, :, None], picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def stripes(random: Random, height: int, width: int) -> np.ndarray:
    """Stripes of one width in any direction, as on shirts and blinds."""
    angle, period = random.uniform(0, np.pi), random.uniform(6, max(8, min(height, width) / 3))
    rows, columns = np.mgrid[:height, :width]
    wave = np.sin(2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period)
    return _blend(0.5 + 2 * wave, _colour(random), _colour(random))


def checks(random: Random, height: int, width: int) -> np.ndarray:
    """A chequered cloth."""
    side = int(random.integers(8, 40))
    rows, columns = np.mgrid[:height, :width] // side
    return _blend(((rows + columns) % 2).astype(float), _colour(random), _colour(random))


def discs(random: Random, height: int, width: int) -> np.ndarray:
    """Discs of any size and colour beside and over each other."""
    picture = np.full((height, width, 3), _colour(random)).astype(np.uint8)
    for _ in range(int(random.integers(1, 12))):
        centre = int(random.integers(0, width)), int(random.integers(0, height))
        radius = int(random.uniform(0.05, 0.4) * min(height, width))
        cv2.circle(picture, centre, max(2, radius), _colour(random).tolist(), -1, cv2.LINE_AA)
    return picture


def bricks(random: Random, height: int, width: int) -> np.ndarray:
    """A wall: every row of bricks shifted by half a brick."""
    tall, long = int(random.integers(10, 40)), int(random.integers(24, 90))
    rows, columns = np.mgrid[:height, :width]
    shifted = columns + (rows // tall % 2) * (long // 2)
    joint = (rows % tall < 3) | (shifted % long < 3)
    shade = 0.85 + 0.1 * _noise(random, height, width, 0.7)
    return _blend(np.where(joint, 0.0, shade), _colour(random), _colour(random))


TEXTURES: dict[str, Callable[[Random, int, int], np.ndarray]] = {
    "clouds": clouds,
    "foliage": foliage,
    "stripes": stripes,
    "checks": checks,
    "discs": discs,
    "bricks": bricks,
}


# ----------------------------------------------------------------------------------------------------------- planted


def scrambled(random: Random, face: np.ndarray) -> np.ndarray:
    """The picture of a face cut into 4 x 4 blocks that no longer lie where they lay."""
    tall, wide = max(1, face.shape[0] // 4), max(1, face.shape[1] // 4)
    blocks = [face[r * tall : (r + 1) * tall, c * wide : (c + 1) * wide] for r, c in product(range(4), range(4))]
    order = random.permutation(16)
    while np.any(order == np.arange(16)):
        order = random.permutation(16)
    return np.vstack([np.hstack([blocks[i] for i in order[4 * row : 4 * row + 4]]) for row in range(4)])


def mask_like(random: Random, height: int, width: int) -> np.ndarray:
    """Two dark blobs over a bar on an oval: what a socket, a car or a kettle shows of a face."""
    picture = np.full((height, width, 3), _colour(random)).astype(np.uint8)
    skin, dark = random.uniform(120, 235, 3), random.uniform(10, 90, 3)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(x * width), round(y * height)

    cv2.ellipse(picture, at(0.5, 0.5), at(0.42, 0.47), 0, 0, 360, skin.tolist(), -1, cv2.LINE_AA)
    apart, blob = random.uniform(0.14, 0.22), random.uniform(0.05, 0.1)
    for side in (-1, 1):
        cv2.ellipse(picture, at(0.5 + side * apart, 0.4), at(blob, blob), 0, 0, 360, dark.tolist(), -1, cv2.LINE_AA)
    bar = random.uniform(0.1, 0.22)
    cv2.rectangle(picture, at(0.5 - bar, 0.7), at(0.5 + bar, 0.7 + random.uniform(0.03, 0.09)), dark.tolist(), -1)
    return picture


PLANTED = ("scrambled", "mask-like", "discs", "stripes", "foliage")


def plant(random: Random, kind: str, face: np.ndarray, height: int, width: int) -> np.ndarray:
    """A thing of a kind that is no face, uint8 (height, width, 3)."""
    if kind == "scrambled":
        return cv2.resize(scrambled(random, face), (width, height), interpolation=cv2.INTER_AREA)
    drawn = mask_like if kind == "mask-like" else TEXTURES[kind]
    return drawn(random, height, width)


def composite(scene: Scene, n: int, seed: int) -> Scene | None:
    """The photo in one corner of a canvas twice as wide and high, its edges drawn out, and a thing in each other.

    The things are about as large as the photo's largest face. None where no face counts.
    """
    if not scene.faces:
        return None
    random = np.random.default_rng([seed, 2, n])
    height, width = scene.pixels.shape[:2]
    corner = int(random.integers(4))
    left, top = width * (corner % 2), height * (corner // 2)
    canvas = cv2.copyMakeBorder(scene.pixels, top, height - top, left, width - left, cv2.BORDER_REPLICATE)
    x, y, w, h = max(scene.faces, key=lambda box: box[2] * box[3])
    face = scene.pixels[int(y) : int(y + h), int(x) : int(x + w)]
    planted = []
    kinds = [PLANTED[(n + i) % len(PLANTED)] for i in range(3)]
    for other, kind in zip((c for c in range(4) if c != corner), kinds, strict=True):
        size = random.uniform(0.75, 1.0)
        tall, wide = max(24, int(h * size)), max(24, int(w * size))
        at_x = width * (other % 2) + int(random.integers(0, max(1, width - wide + 1)))
        at_y = height * (other // 2) + int(random.integers(0, max(1, height - tall + 1)))
        canvas[at_y : at_y + tall, at_x : at_x + wide] = plant(random, kind, face, tall, wide)
        planted.append((kind, (float(at_x), float(at_y), float(wide), float(tall))))
    return Scene(scene.name, canvas, _moved(scene.faces, left, top), _moved(scene.ignored, left, top), planted)


def _moved(boxes: Iterable[Box], left: float, top: float) -> list[Box]:
    return [(x + left, y + top, w, h) for x, y, w, h in boxes]
