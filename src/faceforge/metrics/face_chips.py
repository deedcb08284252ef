"""Faces cut out as dlib's network was trained on them: by five points, to 150x150, differentiable in the pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceforge.io import dlib_models

SIDE = 150  # pixels of an aligned face
# dlib's mean points (image_transforms/interpolation.h: get_face_chip_details) in the unit square, and what it adds on
# each side: the outer and inner corner of the right eye of the picture, those of the left one, and below the nose
CHIP_POINTS = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
CHIP_PADDING = 0.25

# The box in which points are searched first: its centre in widths and heights, its side in heights of the picture.
# Faces of LFW (c150, none), CelebA (c108 to none) and `faceforge cut` lie within 0.7 to 1.6 times it.
BOX = (0.5, 0.6, 0.55)
PASSES = 3
SETTLED = 0.025  # mean distance of the last two predictions, in sides of the box: below for faces, above for noise

# A similarity z -> scale and turn z, then move: (N, 4) of p, q, x, y, where x' = p x - q y + x, y' = q x + p y + y


def fitted(source: Tensor, target: Tensor) -> Tensor:
    """The similarities (N, 4) that map points (P, 2) to points (N, P, 2) with least squares (Umeyama 1991)."""
    centre, goal = source.mean(0), target.mean(1)
    s, t = source - centre, target - goal[:, None]
    total = s.square().sum()
    p = (s * t).sum((1, 2)) / total
    q = (s[:, 0] * t[..., 1] - s[:, 1] * t[..., 0]).sum(1) / total
    x = goal[:, 0] - p * centre[0] + q * centre[1]
    y = goal[:, 1] - q * centre[0] - p * centre[1]
    return torch.stack([p, q, x, y], 1)


def applied(similarity: Tensor, points: Tensor) -> Tensor:
    """Points (N or 1, P, 2) mapped by similarities (N, 4)."""
    p, q, x, y = (part[:, None] for part in similarity.unbind(1))
    across, down = points.unbind(-1)
    return torch.stack([p * across - q * down + x, q * across + p * down + y], -1)


class Points(nn.Module):
    """dlib's predictor of five points of a face (Kazemi and Sullivan 2014), for whole batches on any device."""

    def __init__(self, forests: dlib_models.Forests) -> None:
        super().__init__()
        self.stages, self.trees, self.splits = forests.first.shape
        for name, values in vars(forests).items():
            tensor = torch.from_numpy(values.copy())
            if name == "leaves":  # (stages, leaves of all trees, points, 2): no format of memory knows more dimensions
                tensor = tensor.flatten(1, 2)
            self.register_buffer(name, tensor, persistent=False)
        self.mean: Tensor

    @torch.no_grad()
    def forward(self, grey: Tensor, boxes: Tensor) -> Tensor:
        """Points (N, 5, 2) of faces in pictures (N, H, W) in [0, 255], in pixels whose centres are integers.

        ``boxes`` (N, 4) are similarities that map the unit square to the box of each face.
        """
        shape = self.mean.expand(len(grey), -1, -1)
        for stage in range(self.stages):
            shape = shape + self._move(stage, grey, boxes, shape)
        return applied(boxes, shape)

    def _move(self, stage: int, grey: Tensor, boxes: Tensor, shape: Tensor) -> Tensor:
        turn = fitted(self.mean, shape)
        turn = torch.cat([turn[:, :2], torch.zeros_like(turn[:, 2:])], 1)
        places = shape[:, self.anchors[stage]] + applied(turn, self.deltas[stage][None])
        values = _nearest(grey, applied(boxes, places))
        one, other = (values.index_select(1, of[stage].flatten()) for of in (self.first, self.second))
        above = (one - other).unflatten(1, (self.trees, self.splits)) > self.threshold[stage]
        node = torch.zeros_like(above[..., :1], dtype=torch.long)
        for _ in range(self.splits.bit_length()):
            node = 2 * node + 2 - above.gather(2, node).long()
        tree = torch.arange(self.trees, device=grey.device) * (self.splits + 1)
        leaf = tree + node[..., 0] - self.splits
        return self.leaves[stage].index_select(0, leaf.flatten()).unflatten(0, leaf.shape).sum(1)


def _nearest(grey: Tensor, places: Tensor) -> Tensor:
    """Values (N, F) of the pixels (N, H, W) next to places (N, F, 2), 0 outside, as dlib rounds them."""
    height, width = grey.shape[1:]
    x, y = (places + 0.5).floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = (y * width + x).where(inside, 0)
    return grey.flatten(1).gather(1, index).where(inside, 0.0)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images (N, C, H, W) at another size, bicubic and antialiased, by two products of matrices.

    `F.interpolate` has no deterministic gradient on GPUs, and trainer.deterministic would refuse it.
    """
    rows, columns = (_weights(a, b).to(images) for a, b in ((images.shape[2], height), (images.shape[3], width)))
    return rows @ images @ columns.T


@functools.lru_cache(maxsize=16)
def _weights(length: int, wanted: int) -> Tensor:
    """The matrix (wanted, length) that resizes a column of pixels."""
    columns = torch.eye(length, dtype=torch.float64)[None, None]
    return F.interpolate(columns, size=(wanted, length), mode="bicubic", antialias=True)[0, 0]


def sampled(images: Tensor, places: Tensor) -> Tensor:
    """Images (N, C, H, W) at places (N, P, 2), bilinear, the border repeated: (N, C, P).

    By gathering, whose gradient is deterministic on GPUs where it is asked to be; that of `F.grid_sample` is not.
    """
    height, width = images.shape[2:]
    x, y = places[..., 0].clamp(0, width - 1), places[..., 1].clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(0, width - 2)), y.floor().clamp(max=max(0, height - 2))
    right, low = (x - left)[:, None], (y - top)[:, None]
    flat, start = images.flatten(2), (top * width + left).long()
    step, line = min(1, width - 1), width * min(1, height - 1)

    def at(index: Tensor) -> Tensor:
        return flat.gather(2, index[:, None].expand(-1, images.shape[1], -1))

    upper = (1 - right) * at(start) + right * at(start + step)
    lower = (1 - right) * at(start + line) + right * at(start + line + step)
    return (1 - low) * upper + low * lower


@functools.cache
def _forests() -> dlib_models.Forests:
    """The trees of the five points, which take a second to read."""
    return dlib_models.forests(dlib_models.read(dlib_models.POINTS))


class FaceChips(nn.Module):
    """Aligned faces of pictures that show one face each, which fills about the middle of the picture.

    The points are predicted in a box in the middle, then `PASSES` times in all in the box and roll that they say, until
    they stay. If they do not, there is no face where one should be, and the picture is cut as if its points were the
    mean ones in the box in the middle.
    """

    def __init__(self) -> None:
        super().__init__()
        self.points = Points(_forests())
        goal = (torch.tensor(CHIP_POINTS) + CHIP_PADDING) / (1 + 2 * CHIP_PADDING) * SIDE
        self.goal: Tensor
        self.register_buffer("goal", goal, persistent=False)
        self.box = float(fitted(self.points.mean, goal[None])[0, :2].norm())  # pixels of a chip: the side of the box

    @property
    def protocol(self) -> dict[str, str]:
        """How faces are aligned, for the record of a score."""
        return {
            "alignment": f"dlib's 5 points of the true face, predicted {PASSES} times from a box in the middle of its "
            "picture; a fixed cut where they do not settle",
            "points_sha256": dlib_models.SHA256[dlib_models.POINTS],
        }

    def forward(self, pictures: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Aligned faces (N, 3, 150, 150) of each of several pictures (N, 1|3, H, W) of one shape, in units of these,
        cut by the points of the first, which are in [0, 255]; and where such were found, bool (N,).
        """
        height, width = pictures[0].shape[2:]
        share = self.box / (BOX[2] * height)  # so that a face of the expected size is as large as in a chip
        large = [resized(images, round(height * share), round(width * share)) for images in pictures]
        places, found = self.places(large[0])
        return [self._cut(images, places) for images in large], found

    @torch.no_grad()
    def places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities (N, 4) from chips to images (N, C, H, W) in [0, 255], and where points were found, bool (N,)."""
        grey, middle = images.mean(1), self.middle(images)
        box, points = middle, applied(middle, self.points.mean[None])
        expected = before = points
        for _ in range(PASSES):
            points, before = self.points(grey, box), points
            box = fitted(self.points.mean, points)
        found = (points - before).norm(dim=2).mean(1) < SETTLED * box[:, :2].norm(dim=1)
        return fitted(self.goal, torch.where(found[:, None, None], points, expected)), found

    def middle(self, images: Tensor) -> Tensor:
        """The box in which points are searched first, as a similarity for each image (N, 4)."""
        height, width = images.shape[2:]
        x, y, side = BOX[0] * width, BOX[1] * height, BOX[2] * height
        return images.new_tensor([side, 0.0, x - side / 2 - 0.5, y - side / 2 - 0.5]).expand(len(images), 4)

    def _cut(self, images: Tensor, places: Tensor) -> Tensor:
        line = torch.arange(SIDE, device=images.device, dtype=images.dtype) + 0.5  # as dlib counts
        grid = torch.stack([line.repeat(SIDE), line.repeat_interleave(SIDE)], 1)
        return sampled(images, applied(places, grid[None])).unflatten(2, (SIDE, SIDE)).expand(-1, 3, -1, -1)
