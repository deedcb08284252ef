"""What users do on a GPU, on a simulated one: each scheme from training to its use, to the CPU's bits in 32 bits."""

import json

import pytest
import torch
from conftest import TINY
from simulated import Simulated
from test_every_pair import FACES, SMALL
from test_training import Enough, same

from faceforge import checkpoint, config, devices, training
from faceforge.errors import BadInput

GPU = ["trainer.gpus=1"]
ON_CPU = ["trainer.gpus=0"]
PLAIN = ["model.r1_gamma=0", "model.r2_gamma=0"]  # a second derivative adds up in another order on another device
SCHEMES = {
    "gan": [*TINY, "data.size=16", "model.val_samples=4", "model.augment_policy=[color,translation,cutout]", *PLAIN],
    "cnn": ["model=dcgan_cnn", *FACES, *SMALL["dcgan_cnn"], *PLAIN],
    "sr": ["model=conv_superres", *FACES, *SMALL["conv_superres"]],
    "latent": ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.channels=3"],
    "colour": ["model=pix2pix", "task=colorize", *FACES, *SMALL["pix2pix"], "data.size=[24,16]"],
}


def record(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Train a scheme in this process: ``run("gan", "trainer.gpus=1")`` gives its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def train(scheme, *overrides, name=None, expect=0):
        folder = tmp_path / (name or f"{scheme}-{len(list(tmp_path.iterdir()))}")
        overrides = [*SCHEMES[scheme], "trainer.gpus=1", *overrides, f"run_dir={folder}"]
        assert training.train(config.compose(overrides), overrides) == expect
        return folder

    return train


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_trains_to_the_bits_of_the_cpu(sim, run, scheme):
    there = run(scheme, "trainer.gpus=null", "trainer.precision=32")
    about = record(there)
    assert (about["device"], about["precision"], about["status"]) == ("1 x Simulated Accelerator", "32", "finished")
    same(there, run(scheme, "trainer.gpus=0"))
