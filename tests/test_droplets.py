"""Droplets: planted ones are counted, eyes and shadows are not, and the default generator makes none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from benchmarks import runs
from benchmarks.models.droplets import counted
from faceforge import config
from faceforge.engine import checkpoint
from faceforge.engine.training import build, train
from faceforge.metrics.droplets import droplets


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Tensor:
    """Drawn faces (8, 3, 160, 128) in [0, 1]."""
    cache = tmp_path_factory.mktemp("cache")
    words = ["model=pix2pix", "data.source.count=40", "logger.mode=disabled", f"data.cache={cache}"]
    _, data = build(config.compose(words))
    data.prepare(progress=False)
    data.setup("fit")
    return (data.images("train", range(8)) + 1) / 2


def spots(height: int, width: int, places: list[tuple[int, int]], radius: int) -> Tensor:
    """1 inside the discs."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    found = [(rows - y) ** 2 + (columns - x) ** 2 <= radius**2 for y, x in places]
    return torch.stack(found).any(0).float()


@pytest.mark.parametrize("radius", [2, 4, 6])
def test_planted_droplets_are_counted(faces, radius):
    bright = faces.mean(0, keepdim=True).clamp(min=0.6)
    mask = spots(160, 128, [(20, 20), (80, 64), (140, 100)], radius)
    made = torch.cat([bright, bright * (1 - mask), bright * (1 - 0.1 * mask)])
    assert droplets(made, [bright.expand(3, -1, -1, -1)]).tolist() == [0, 3, 0]


def test_what_belongs_there_is_none(faces):
    """The faces themselves, faces that moved a little, softer and noisier ones: their eyes are dark too."""
    moved = pad(faces, (3, 0, 0, 3), mode="replicate")[..., 3:, :-3]
    soft = interpolate(interpolate(faces, scale_factor=0.25, mode="area"), scale_factor=4, mode="bilinear")
    noise = 0.05 * torch.from_numpy(np.random.default_rng(0).standard_normal(faces.shape)).float()
    for made in (faces, moved, soft, (faces + noise).clamp(0, 1), 0.5 * faces):
        assert droplets(made, [faces]).sum() == 0


def test_a_shadow_is_too_large_and_a_speck_too_small():
    white = torch.ones(1, 1, 64, 48)
    shadow, speck, line = white.clone(), white.clone(), white.clone()
    shadow[..., 10:40, 10:40] = 0
    speck[..., 20, 20:23] = 0
    line[..., 30, :] = 0
    assert [int(droplets(made, [white])) for made in (shadow, speck, line)] == [0, 0, 1]
    assert int(droplets(line, [white, line])) == 0, "one reference that is dark there is enough"


def test_odd_sizes_and_one_channel():
    white = torch.ones(2, 1, 33, 17)
    made = white.clone()
    made[1, :, 10:12, 5:7] = 0.1
    assert droplets(made, [white]).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["contours", "colorize"])
def test_the_default_recipe_makes_none_of_people_it_never_saw(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    words = ["model=pix2pix", f"task={task}", "data.size=[80,64]", "data.source.count=400", "model.generator.width=12"]
    words += ["trainer.gpus=0", "trainer.max_images=800", "trainer.checkpoint_every=800", "logger.mode=disabled"]
    words += [f"data.cache={tmp_path / 'cache'}", "run_dir=run"]
    assert train(config.compose(words), words) == 0
    module = checkpoint.load(tmp_path / "run")
    data = runs.faces(module.config["data"])
    found = counted(module, data, "test", 32)
    assert found["model"] == {"droplets": 0, "images_with": 0}
    assert found["planted"]["images_with"] > 0.8 * found["images"], "the counter sees what is planted in these faces"
