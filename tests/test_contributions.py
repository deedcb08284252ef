"""The diffs of docs/adding.md: each applies to these sources, and what all of them add is trained, scored and used."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

DIFFS = sorted((ROOT / "examples" / "contributions").glob("*.diff"))
SMALL = ["data.size=16", "data.batch_size=4", "trainer.max_images=16", "trainer.gpus=0", "logger.mode=disabled"]
SMALL += ["trainer.log_every=4", "trainer.checkpoint_every=8"]
GAN = ["model.generator.width=4", "model.generator.latent_size=4", "model.discriminator.width=4", "model.val_samples=0"]
UNET = ["model.generator.width=4", "model.generator.max_width=8", "data.source.count=60", "data.channels=3"]


@pytest.fixture
def checkout(tmp_path):
    """A copy of what a diff may change."""
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "train.py", tmp_path)
    return tmp_path


def apply(checkout, diff):
    subprocess.run(["git", "apply", "--whitespace=error", str(diff)], cwd=checkout, check=True)


def test_they_are_those_that_the_page_names():
    page = (ROOT / "docs" / "adding.md").read_text()
    assert {path.stem for path in DIFFS} == {"network", "task", "source", "loss", "callback", "metric"}
    assert all(f"(../examples/contributions/{path.name})" in page for path in DIFFS)


@pytest.mark.parametrize("diff", DIFFS, ids=lambda path: path.stem)
def test_each_applies_to_these_sources(diff, checkout):
    apply(checkout, diff)


@pytest.mark.slow
def test_what_they_add_works(checkout):
    for diff in DIFFS:
        apply(checkout, diff)
    faces = np.random.default_rng(0).integers(0, 256, (60, 20, 20, 3), np.uint8)
    np.save(checkout / "faces.npy", faces)
    known = {**os.environ, "PYTHONPATH": str(checkout / "src"), "FACEFORGE_CACHE": str(checkout / "cache")}

    def typed(*words):
        done = subprocess.run([sys.executable, *words], cwd=checkout, env=known, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    array = ["data=array", "data.root=faces.npy", "model/generator=plain"]
    typed("train.py", "model=dcgan_conventional", *array, *SMALL, *GAN, "run_dir=runs/gan")
    assert (checkout / "runs/gan/heartbeat").read_text() == "16\n"
    pixels = ["model=pix2pix", "task=pixelate", "task.side=4", "model/loss=huber"]
    typed("train.py", *pixels, *SMALL, *UNET, "run_dir=runs/pixels")
    program = "from faceforge.cli import run; run()"
    told = typed("-c", program, "evaluate", "runs/pixels")
    assert "edges" in told
    scores = json.loads((checkout / "runs/pixels/evaluation.json").read_text())["rows"][0]["scores"]
    assert 0 < scores["edges"]["value"] < 1
