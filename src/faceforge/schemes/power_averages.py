"""Averages of a network whose length is chosen after the training (Karras et al. 2024, arXiv 2312.02696, section 3).

A length is the standard deviation of an average's weights over the training, relative to the images seen then: 0.1
averages over about the last tenth. Averages of two lengths are kept, and stored now and then; any other length is a sum
of what was stored, weighted by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from faceforge.errors import BadInput
from faceforge.io.files import atomic_path
from faceforge.schemes import ema

FOLDER = "averages"  # in a run folder
LONGEST = 0.28  # at 0.289 all images would weigh the same
Place = tuple[float, int]  # an average: its length, and the images seen when it was stored


class PowerAverages(nn.Module):
    """Averages of a network of several lengths, updated together."""

    def __init__(self, network: nn.Module, lengths: Sequence[float]) -> None:
        super().__init__()
        if wrong := [length for length in lengths if not 0 < length <= LONGEST]:
            raise ValueError(f"model.ema_kept: {wrong[0]:g} must be a length above 0 and at most {LONGEST}")
        if len(set(lengths)) != len(lengths):
            raise ValueError(f"model.ema_kept={list(lengths)}: must be lengths that differ")
        self.lengths = list(lengths)
        self.exponents = [exponent(length) for length in lengths]
        self.networks = nn.ModuleList(ema.averaged_copy(network) for _ in lengths)

    def update(self, network: nn.Module, images: int, seen: int) -> None:
        """Move all towards a network trained on ``images`` more, ``seen`` in all (section 3.1)."""
        for average, power in zip(self.networks, self.exponents, strict=True):
            ema.update(average, network, (1 - images / seen) ** (power + 1))

    def store(self, folder: Path, seen: int) -> None:
        """Write all to ``folder``, under the images seen."""
        numbered = enumerate(zip(self.lengths, self.networks, strict=True))
        tensors = {
            f"{n}.{name}": value.detach().cpu().contiguous()
            for n, (_, network) in numbered
            for name, value in network.state_dict().items()
        }
        folder.mkdir(exist_ok=True)
        with atomic_path(folder / f"{seen:09d}.safetensors") as beside:
            beside.write_bytes(save(tensors, {"lengths": " ".join(map(repr, self.lengths))}))


def exponent(length: float) -> float:
    """Gamma of a length (algorithm 2): the real root above 0 of a cubic."""
    squared = length**-2
    return float(np.roots([1, 7, 16 - squared, 12 - squared]).real.max())


def overlap(one: Place, other: Place) -> float:
    """The integral of the product of two averages' weights over the images (algorithm 3)."""
    (a, first), (b, last) = sorted(((exponent(length), images) for length, images in (one, other)), key=lambda e: e[1])
    return (a + 1) * (b + 1) * (first / last) ** b / ((a + b + 1) * last)


def shares(stored: Sequence[Place], wanted: Place) -> NDArray[np.float64]:
    """How much of each stored average adds up to another one, by least squares (section 3.2)."""
    gram = np.array([[overlap(one, other) for other in stored] for one in stored])
    return np.linalg.lstsq(gram, np.array([overlap(one, wanted) for one in stored]), rcond=None)[0]


def require_length(length: float) -> None:
    """Raises BadInput for a length that no average can have."""
    if not 0 < length <= LONGEST:
        raise BadInput(f"--length {length:g}: must be above 0 and at most {LONGEST}")


class Stored:
    """The averages that a run has stored. Raises BadInput if there are none, or files that are not such."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(path for path in folder.glob("*.safetensors") if path.stem.isdecimal() and int(path.stem))
        if not self.files:
            raise BadInput(
                f"{folder}: holds no averages; a GAN that is trained with model.ema_kept=[0.05,0.1] has some"
            )
        self.places = [(length, int(path.stem)) for path in self.files for length in _lengths(path)]

    @property
    def images(self) -> int:
        """Seen when the last ones were stored."""
        return self.places[-1][1]

    def average(self, length: float) -> dict[str, Tensor]:
        """The weights of the network, averaged over a length up to the last images. Raises BadInput."""
        parts = iter(shares(self.places, (length, self.images)))
        total: dict[str, Tensor] = {}
        for path in self.files:
            own = [float(next(parts)) for _ in _lengths(path)]
            try:
                with _opened(path) as file:
                    for key in file.keys():  # noqa: SIM118 (not a dict)
                        number, name = key.split(".", 1)
                        _add(total, name, file.get_tensor(key), own[int(number)])
            except (ValueError, IndexError, RuntimeError) as error:
                raise BadInput(f"{path}: not a file of averages of this run ({error})") from None
        return {name: _as_kept(name, value) for name, value in total.items()}


def _add(total: dict[str, Tensor], name: str, value: Tensor, share: float) -> None:
    """In double precision; counters are those of the last."""
    if value.is_floating_point():
        total[name] = total.get(name, torch.zeros((), dtype=torch.float64)) + share * value.double()
    else:
        total[name] = value


def _as_kept(name: str, value: Tensor) -> Tensor:
    """In single precision. Shares may be negative, variances may not."""
    value = value.float() if value.is_floating_point() else value
    return value.clamp(min=0) if name.endswith("running_var") else value


def _lengths(path: Path) -> list[float]:
    with _opened(path) as file:
        about: Mapping[str, str] = file.metadata() or {}
        return [float(length) for length in about.get("lengths", "").split()]


def _opened(path: Path):  # noqa: ANN202 (safetensors has no type for it)
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a file of averages ({error})") from None
