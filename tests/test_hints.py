"""Colour hints: dabs in training are functions of the position, those on a photo look alike; both reach the model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from faceforge import config
from faceforge.data.tasks import Colorize, dab_radius, luma
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.networks.blocks import chroma_of, coloured
from faceforge.studio import hints, translate
from faceforge.studio.model import open_model


def faces(count: int = 6, height: int = 40, width: int = 33) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def coloured_places(images: torch.Tensor) -> torch.Tensor:
    return (images - images.mean(1, keepdim=True)).abs().amax(1) > 1e-3


def test_dabs_show_the_mean_colour_around_them_and_nothing_else_is_coloured():
    """A face of one colour: each dab has that colour, at the lightness of its own pixels."""
    flat = torch.tensor([0.5, -0.2, -0.6])[:, None, None].expand(3, 40, 33)[None].repeat(64, 1, 1, 1)
    made = Colorize(3, "chroma", hints=4, seed=3).input_for(flat, torch.arange(64), "train")
    torch.testing.assert_close(luma(made), luma(flat), atol=1e-5, rtol=0)
    inside = coloured_places(made)
    torch.testing.assert_close(made.permute(0, 2, 3, 1)[inside], flat.permute(0, 2, 3, 1)[inside], atol=1e-5, rtol=0)
    none = (~inside).flatten(1).all(1).float().mean()
    assert 0.05 < none < 0.4, "a fifth of the faces have no dab"
    disc = sum(y * y + x * x <= 1 for y in range(-1, 2) for x in range(-1, 2))
    assert 0 < inside.flatten(1).sum(1).max() <= 4 * disc


def test_dabs_are_a_function_of_seed_stream_and_position():
    task, batch = Colorize(3, "chroma", hints=4, seed=3), faces()
    whole = task.input_for(batch, torch.arange(6), "train")
    parts = [task.input_for(batch[n : n + 1], torch.tensor([n]), "train") for n in range(6)]
    assert torch.equal(whole, torch.cat(parts))
    others = [Colorize(3, "chroma", 4, seed=4).input_for(batch, torch.arange(6), "train")]
    others.append(task.input_for(batch, torch.arange(6), "fixed"))
    others.append(task.input_for(batch, torch.arange(6, 12), "train"))
    assert not any(torch.equal(whole, other) for other in others)
    assert not coloured_places(task.input_for(batch)).any(), "an image from outside has none"
    assert not coloured_places(Colorize(3).input_for(batch, torch.arange(6), "train")).any()


def test_a_dab_on_a_photo_has_the_chroma_asked_for_and_the_lightness_of_the_photo():
    pixels = np.full((30, 50, 3), (200, 150, 90), np.uint8)
    (hint,) = hints.parse(["20,10,#c08060"])
    assert hint == hints.Hint(20, 10, (0xC0, 0x80, 0x60))
    made = hints.painted(pixels, [hint], 3.0)
    rows, columns = np.ogrid[:30, :50]
    inside = (rows - 10) ** 2 + (columns - 20) ** 2 <= 9
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    assert (abs(made.astype(int) - grey[..., None])[~inside] <= 1).all()
    of_opencv = cv2.cvtColor(made, cv2.COLOR_RGB2YCrCb)[inside]
    asked = cv2.cvtColor(np.array([[hint.colour]], np.uint8), cv2.COLOR_RGB2YCrCb)[0, 0]
    assert abs(of_opencv[:, 0].astype(int) - grey[inside]).max() <= 1
    assert abs(of_opencv[:, 1:].astype(int) - asked[1:]).max() <= 2


def test_chroma_and_lightness_are_the_whole_picture():
    batch = faces()
    torch.testing.assert_close(coloured(batch, chroma_of(batch)), batch, atol=1e-5, rtol=0)


@pytest.mark.parametrize("word", ["20,10", "x,1,#ffffff", "1,1,#fff", "-1,2,#ffffff", "1,2,3"])
def test_a_hint_that_cannot_be_read_is_named(word):
    with pytest.raises(BadInput, match=f"--hint {word}: must be X,Y,#COLOUR"):
        hints.parse([word])


def test_tasks_that_cannot_be():
    with pytest.raises(BadInput, match=r"input.channels=1: must be 3 for task.hints=2"):
        Colorize(1, "chroma", 2)
    with pytest.raises(BadInput, match=r"task.hints=-1: must be at least 0"):
        Colorize(3, "chroma", -1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("hints")
    words = [
        *("model=pix2pix", "task=colorize", "data.size=[24,16]", "data.batch_size=4", "data.source.count=40"),
        *("trainer.gpus=0", "trainer.max_images=8", "logger.mode=disabled", f"data.cache={place / 'cache'}"),
        *("model.generator.width=4", "model.discriminator.width=4", "model.discriminator.layers=1"),
    ]
    for name, more in {"hinted": ["input.channels=3", "task.hints=4"], "plain": []}.items():
        chosen = [*words, *more, f"run_dir={place / name}"]
        assert training.train(config.compose(chosen), chosen) == 0
    return place


def test_hints_and_strength_reach_the_model(runs):
    found = open_model(runs / "hinted")
    pixels = np.random.default_rng(0).integers(60, 200, (24, 16, 3), np.uint8)
    plain = translate.translate(found, pixels, whole=True)
    red = translate.translate(found, pixels, True, hints=hints.parse(["8,12,#ff4040"]))
    shown = red.faces[0]["input"].astype(int)
    dab = (shown.max(2) - shown.min(2)) > 8
    assert dab[12, 8]
    assert dab.sum() == 5, f"a disc of radius {dab_radius(24, 16)}"
    assert (red.photo != plain.photo).any()
    grey = translate.translate(found, pixels, True, strength=0.0).photo.astype(int)
    assert (grey.max(2) - grey.min(2)).max() <= 1
    strong = translate.translate(found, pixels, True, strength=2.0).photo.astype(int)
    assert np.ptp(strong, axis=2).mean() > np.ptp(plain.photo.astype(int), axis=2).mean()
    with pytest.raises(BadInput, match=r"--hint 16,1: must lie in the photo of 16x24 pixels"):
        translate.translate(found, pixels, True, hints=hints.parse(["16,1,#ff0000"]))


def test_a_run_without_hints_says_so(runs):
    pixels = np.zeros((24, 16, 3), np.uint8)
    with pytest.raises(BadInput, match=r"takes no colour hints; must be a run of task=colorize with task.hints=8"):
        translate.translate(open_model(runs / "plain"), pixels, True, hints=hints.parse(["1,1,#ff0000"]))
