"""InceptionV3 as FID is defined on it: the network of 2015 in TensorFlow's form, made by torch-fidelity."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from faceforge.errors import BadInput, to_install
from faceforge.metrics.features.base import Extractor, resized

SIZE = 299  # pixels a side, the network's own
HASH = "6726825d"  # of torch-fidelity's file: the first digits of its SHA-256
RESIZES = {
    "clean": "bicubic, antialiased, on floats, clipped, not rounded (clean-fid)",
    "legacy": "bilinear as TensorFlow 1, neither antialiased nor centred (pytorch-fid, torch-fidelity)",
}


class InceptionFeatures(Extractor):
    """The 2,048 pooled numbers of InceptionV3 before its classifier (Szegedy et al. 2015; Heusel et al. 2017).

    ``resize`` says how images come to 299 x 299. ``legacy`` is what most papers report. It skips pixels of larger
    images, which ``clean`` (Parmar et al. 2022, arXiv 2104.11222) mends; their scores must not be compared.
    ``weights`` is a file in torch-fidelity's format; None is torch-fidelity's own, downloaded once. Raises BadInput.
    """

    name: ClassVar[str] = "inception"
    width: ClassVar[int] = 2048
    network_name: ClassVar[str] = "InceptionV3 of 2015 (torch-fidelity), global pool"

    def __init__(
        self, resize: Literal["clean", "legacy"] = "clean", weights: str | None = None, batch: int | None = None
    ) -> None:
        super().__init__(batch)
        if resize not in RESIZES:
            raise ValueError(f"resize={resize}: must be one of {', '.join(RESIZES)}")
        fidelity = _package()
        path = Path(weights).expanduser() if weights else _downloaded(fidelity)
        data = _read(path)
        self._made = _network(fidelity, path, data)
        self.weights_sha256 = hashlib.sha256(data).hexdigest()
        self.way: Literal["clean", "legacy"] = resize
        self.resize = f"{resize}{SIZE}"
        self.seen = f"8 bits, grey replicated, to {SIZE}x{SIZE}: {RESIZES[resize]}, (x - 128) / 128"

    def _features(self, network: nn.Module, images: Tensor) -> Tensor:
        x = (127.5 * images + 127.5).round().expand(-1, 3, -1, -1)
        if self.way == "legacy":
            return network(x.to(torch.uint8))[0]
        return _after_resize(network, (resized(x, SIZE).clamp(0, 255) - 128) / 128)


def _package() -> ModuleType:
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise BadInput(f"inception needs the package torch-fidelity, not installed; {to_install('fid')}") from error
    return feature_extractor_inceptionv3


def _downloaded(fidelity: ModuleType) -> Path:
    """torch-fidelity's file, where torch keeps downloads. Raises BadInput if it can be neither found nor fetched."""
    url = fidelity.URL_INCEPTION_V3
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=HASH, progress=False)
    except (OSError, RuntimeError) as error:  # of the network, and of another hash
        raise BadInput(
            f"inception: {path.name} cannot be downloaded ({error}); fetch {url} where there is a network and name "
            "the file: evaluation.features.weights=PATH, or --features inception:weights=PATH"
        ) from error
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"weights={path}: cannot be read ({error.strerror})") from error


def _network(fidelity: ModuleType, path: Path, data: bytes) -> nn.Module:
    """The network with weights that hold tensors only: torch-fidelity itself would unpickle anything."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        clean = io.BytesIO()
        torch.save(state, clean)
        clean.seek(0)
        return fidelity.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=clean)
    except (RuntimeError, pickle.UnpicklingError, AttributeError, TypeError, EOFError, ValueError) as error:
        why = " ".join(str(error).split())[:120]
        raise BadInput(f"weights={path}: not InceptionV3 in torch-fidelity's format ({why})") from error


LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


def _after_resize(network: nn.Module, x: Tensor) -> Tensor:
    """The network's layers in their order, without its own resizing, which its ``forward`` would repeat."""
    layers = dict(network.named_children())
    for name in LAYERS:
        x = layers[name](x)
    return x.flatten(1)
