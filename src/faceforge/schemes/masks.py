"""Where in a face an attribute shows: an edit is limited to that, and leaves the rest of a picture as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

EXAMPLES = 16  # faces that a mask is estimated from
NOTHING, WHOLE = 0.1, 0.35  # of the largest change: what changes less stays as it is, what changes more is edited whole
SMOOTH = 1 / 32  # standard deviation of the smoothing, of the shorter side

Decode = Callable[[Tensor], Tensor]


def mask_of(change: Tensor) -> Tensor:
    """A mask (1, 1, H, W) from 0 to 1, from what a direction changes in some faces (N, C, H, W).

    The mean size of the change, smoothed and relative to its maximum, goes through a smooth step from ``NOTHING`` to
    ``WHOLE``. It is 1 everywhere if nothing changes.
    """
    size = change.float().abs().amax(1, keepdim=True).mean(0, keepdim=True)
    sigma = SMOOTH * min(size.shape[-2:])
    kernel = [min(2 * round(3 * sigma) + 1, 2 * ((side - 1) // 2) + 1) for side in size.shape[-1:-3:-1]]
    smooth = gaussian_blur(size, kernel, [sigma, sigma])
    most = smooth.max()
    if most <= 0:
        return torch.ones_like(smooth)
    step = ((smooth / most - NOTHING) / (WHOLE - NOTHING)).clamp(0, 1)
    return step.square() * (3 - 2 * step)


def place_of(decode: Decode, z: Tensor, edited: Tensor) -> Tensor:
    """The mask (1, 1, H, W) of an edit, from codes of some faces (N, Z) before and after it.

    ``decode`` makes images (N, C, H, W) of codes.
    """
    return mask_of(decode(edited) - decode(z))


def limited(images: Tensor, plain: Tensor, edited: Tensor, mask: Tensor | float = 1.0) -> Tensor:
    """What an edit makes of images (N, C, H, W) in [-1, 1]: they keep the details that their codes do not capture.

    The difference between the decoded edited code and the decoded code is added to the image, where the mask allows.
    """
    return (images + mask * (edited - plain)).clamp(-1, 1)
