"""Runs on a simulated accelerator, which two files of tests share."""

import json

import pytest
import torch
from conftest import TINY
from test_every_pair import FACES, SMALL
from test_studio import FACE

from faceforge import config, counter_rng_torch
from faceforge.cut.detect import Detection
from faceforge.engine import training
from faceforge.studio import photo

# a gradient penalty is differentiated twice, and its sums are taken in another order on another device
PLAIN = ["model.r1_gamma=0", "model.r2_gamma=0"]
SCHEMES = {
    "gan": [*TINY, *PLAIN, "data.size=16", "model.val_samples=4", "model.augment_policy=[color,translation,cutout]"],
    "cnn": ["model=dcgan_cnn", *FACES, *SMALL["dcgan_cnn"], *PLAIN],
    "sr": ["model=conv_superres", *FACES, *SMALL["conv_superres"]],
    "latent": ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.channels=3", "data.source.count=80"],
    "colour": ["model=pix2pix", "task=colorize", *FACES, *SMALL["pix2pix"], "data.size=[24,16]"],
    "lines": ["model=pix2pix", "task=contours", *FACES, *SMALL["pix2pix"]],
}
LIMIT = "trainer.max_images=16"
EACH = ["trainer.checkpoint_every=8"]
ON_IT = ["trainer.gpus=1", "trainer.precision=32"]


@pytest.fixture(scope="module", autouse=True)
def machine():
    """This machine has one accelerator; noise comes from the host, so that its numbers are those of the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.sim, "count", 1)
        patch.setattr(counter_rng_torch, "exact", lambda device: False)
        yield torch.sim


@pytest.fixture(scope="module")
def place(tmp_path_factory, machine):
    """A folder with a run of each scheme, trained on the accelerator as by the published command."""
    place = tmp_path_factory.mktemp("accelerator")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        patch.setattr(photo, "finder", lambda: lambda pixels: [Detection((20.0, 15.0, 40.0, 50.0), 0.9, FACE)])
        for scheme in SCHEMES:
            train(scheme, place / scheme, "trainer.gpus=null", "trainer.precision=32")
        yield place


def train(scheme, folder, *overrides):
    overrides = [*SCHEMES[scheme], *EACH, LIMIT, *overrides, f"run_dir={folder}"]
    assert training.train(config.compose(overrides), overrides) == 0
    return folder


def again(folder, *overrides):
    overrides = [f"resume={folder}", *overrides]
    assert training.train(config.compose(overrides), overrides) == 0


def record(folder):
    return json.loads((folder / "run.json").read_text())
