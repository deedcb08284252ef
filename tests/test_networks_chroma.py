"""Colour laid on a lightness that is kept: the arithmetic against OpenCV, its limits, and the networks that use it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faceforge import config
from faceforge.data.tasks import luma
from faceforge.networks.blocks import coloured
from faceforge.networks.superres import ConvSuperres
from faceforge.networks.unet import UNet


def faces(count: int = 2, height: int = 12, width: int = 20) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_luma_and_chroma_of_a_picture_give_it_back():
    """Cb and Cr by OpenCV, in [0, 1] around 0.5: those of a real picture always have room."""
    picture = faces()
    planes = (picture.permute(0, 2, 3, 1).numpy() + 1) / 2
    of_opencv = np.stack([cv2.cvtColor(plane, cv2.COLOR_RGB2YCrCb) for plane in planes])
    chroma = torch.from_numpy(of_opencv[..., [2, 1]]).permute(0, 3, 1, 2) * 2 - 1
    # OpenCV rounds its factors to three digits
    torch.testing.assert_close(coloured(luma(picture), chroma), picture, atol=3e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_chroma_changes_the_lightness_or_leaves_the_range(channels):
    grey = torch.linspace(-1, 1, 9).view(1, 1, 1, 9).expand(1, channels, 25, 9)
    steps = torch.linspace(-1, 1, 5)
    chroma = torch.cartesian_prod(steps, steps).T.reshape(1, 2, 25, 1).expand(-1, -1, -1, 9)
    made = coloured(grey, chroma)
    assert made.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(luma(made), grey[:, :1], atol=1e-6, rtol=0)
    assert (made[..., [0, -1]] - grey[..., [0, -1]]).abs().max() < 1e-6, "black and white have no colour"
    torch.testing.assert_close(coloured(grey, 0 * chroma), grey.expand(-1, 3, -1, -1), atol=1e-6, rtol=0)
    inside = made[0, :, :, 4]  # mid-grey: the hue of the request, as much of it as fits
    wanted = torch.stack([1.402 * chroma[0, 1, :, 4], 1.772 * chroma[0, 0, :, 4]])
    shrunk = inside[[0, 2]] / wanted.where(wanted != 0, torch.ones(()))
    assert shrunk.max() <= 1 + 1e-5
    assert shrunk[:, (wanted != 0).all(0)].diff(dim=0).abs().max() < 1e-5, "red and blue shrink alike"


def networks(in_channels: int) -> list[nn.Module]:
    torch.manual_seed(0)
    forms = [UNet([24, 40], 3, in_channels, width=4, max_width=8, norm=norm, output="chroma", blocks=1)
             for norm in ("none", "instance", "batch")]  # fmt: skip
    return [*forms, ConvSuperres([24, 40], 3, in_channels, factor=1, width=4, blocks=1, output="chroma")]


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_networks_that_predict_chroma_keep_the_lightness_and_learn_with_every_parameter(in_channels, batch):
    target = faces(batch, 24, 40)
    source = luma(target).expand(-1, in_channels, -1, -1)
    for network in networks(in_channels):
        made = network(source)
        assert made.shape == target.shape
        torch.testing.assert_close(luma(made), luma(target), atol=1e-5, rtol=0)
        assert (made - luma(made)).abs().mean() < 0.05, "begins near the grey picture"
        (made - target).abs().mean().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_smaller_grey_picture_is_enlarged_and_coloured():
    torch.manual_seed(0)
    network = ConvSuperres(16, 3, 1, factor=2, width=4, blocks=1, output="chroma")
    small = luma(faces(1, 8, 8))
    torch.testing.assert_close(luma(network(small)), network.base(small)[:, :1].clamp(-1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(16, 1, 1, output="chroma"), "output=chroma: channels=1, in_channels=1; must be 3, and 1 or 3"),
        (lambda: UNet(16, 3, 2, output="chroma"), "in_channels=2"),
        (lambda: UNet(16, 3, 1, output="luma"), "output=luma: must be one of image, chroma"),
        (lambda: ConvSuperres(16, 3, 1, 1, base="none", output="chroma"), "output=chroma: base=none; must be bicubic"),
    ],
)
def test_what_cannot_keep_a_lightness_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("model", "network"), [("pix2pix", "generator"), ("conv_superres", "network")])
def test_the_task_says_what_is_predicted(model, network):
    for task, expected in {"colorize": "chroma", "deblur": "image"}.items():
        assert config.compose([f"model={model}", f"task={task}"])["model"][network]["output"] == expected
