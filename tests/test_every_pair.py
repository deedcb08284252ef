"""Every model with every task that it takes: trains, resumes exactly, samples, reports."""

import json

import pytest
import torch
import yaml
from picture_makers import on_pairs
from test_training import same

from faceforge import config
from faceforge.config import conf_dir
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.evaluation import command
from faceforge.io.images import decode

MODELS = {
    path.stem: yaml.safe_load(path.read_text())["tasks"] for path in sorted((conf_dir() / "model").glob("*.yaml"))
}
TASKS = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
PAIRS = [(model, task) for model, tasks in MODELS.items() for task in tasks]

# Networks of a few hundred weights and faces of 16x16.
GAN = ["model.discriminator.width=4", "model.discriminator.max_width=4", "model.val_samples=3"]
SMALL = {
    "mlp_autoencoder": ["model.network.width=8"],
    "conv_superres": ["model.network.width=4", "model.network.blocks=1"],
    "latent_editor": ["model.encoder.width=4", "model.decoder.width=4", "model.code.latent_size=5"],
    "dcgan_cnn": ["model.generator.width=4", "model.generator.max_width=4", *GAN],
    "dcgan_conventional": ["model.generator.width=4", "model.generator.max_width=4", *GAN],
    "pix2pix": [
        *("model.generator.width=4", "model.discriminator.width=4", "model.discriminator.layers=1"),
        *("model/loss=l1", "model.adversarial_weight=1", "model.feature_weight=1"),  # every part, at little cost
    ],
}
FACES = [
    "data=drawn",
    "data.size=16",
    "data.source.count=40",
    "data.batch_size=4",
    "data.val_fraction=0.2",
    "data.test_fraction=0.2",
    "trainer.gpus=0",
    "trainer.log_every=4",
    "trainer.sample_every=8",
    "trainer.checkpoint_every=8",
    "logger.mode=disabled",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture
def train(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("FACEFORGE_CACHE", str(place / "cache"))

    def run(*overrides):
        return training.train(config.compose(overrides), overrides)

    return run


def test_the_pairs_are_those_of_the_design():
    pairs = {
        "mlp_autoencoder": ["super_resolution", "autoencode", "deblur"],
        "conv_superres": ["super_resolution", "autoencode", "deblur", "colorize"],
        "latent_editor": ["autoencode"],
        "dcgan_cnn": ["none"],
        "dcgan_conventional": ["none"],
        "pix2pix": [
            *("autoencode", "super_resolution", "colorize", "thresholds", "contours"),
            *("canny", "average", "noise", "deblur", "pairs"),
        ],
    }
    assert pairs == MODELS


@pytest.mark.parametrize(
    ("model", "task", "size", "channels"),
    [
        ("mlp_autoencoder", "super_resolution", 70, 1),
        ("conv_superres", "super_resolution", 64, 1),
        ("latent_editor", "autoencode", 64, 3),
        ("dcgan_cnn", "none", 64, 3),
        ("dcgan_conventional", "none", 64, 3),
        ("pix2pix", "colorize", [160, 128], 3),
    ],
)
def test_defaults_are_those_of_the_design(model, task, size, channels):
    found = config.compose([f"model={model}"])
    assert (found["choices"]["task"], found["data"]["size"], found["data"]["channels"]) == (task, size, channels)


CANNOT = [(m, t) for m in MODELS for t in TASKS if t not in MODELS[m]]


@pytest.mark.parametrize(
    ("model", "task"),
    [pair if n % 4 == 0 else pytest.param(*pair, marks=pytest.mark.slow) for n, pair in enumerate(CANNOT)],
)
def test_a_pair_that_cannot_be_is_one_line_that_names_those_that_can(model, task):
    with pytest.raises(BadInput) as caught:
        config.compose([f"model={model}", f"task={task}"])
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"task={task}: model={model} takes ")
    assert all(legal in said for legal in MODELS[model])


DAILY = {("mlp_autoencoder", "super_resolution"), ("latent_editor", "autoencode"), ("pix2pix", "canny")}
DAILY |= {("dcgan_cnn", "none")}  # test_accelerator.py and test_accelerator_choices.py step the rest


@pytest.mark.parametrize(
    ("model", "task"),
    [pair if pair in DAILY else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS],
    ids=lambda name: name,
)
def test_a_pair_trains_resumes_exactly_samples_and_reports(train, place, model, task):
    given = on_pairs(FACES, place) if task == "pairs" else FACES
    settings = [*given, f"model={model}", f"task={task}", *SMALL[model]]
    whole, halved = (place / f"{model}-{task}-{name}" for name in ("whole", "halved"))
    assert train(*settings, "trainer.max_images=16", f"run_dir={whole}") == 0
    assert train(*settings, "trainer.max_images=8", f"run_dir={halved}") == 0
    assert train(f"resume={halved}", "trainer.max_images=16") == 0
    same(whole, halved)
    grids = sorted(path.stem for path in (whole / "samples").iterdir())
    assert grids == ["000000000", "000000008", "000000016"]
    first, last = (decode((whole / "samples" / f"{name}.png").read_bytes()) for name in (grids[0], grids[-1]))
    assert first.shape == last.shape
    assert (first != last).any()
    assert (whole / "report.html").stat().st_size > 10_000
    record = json.loads((whole / "run.json").read_text())
    assert record["images"] == 16
    assert all(network["layers"] for network in record["networks"].values())
    assert checkpoint.load(whole).clock.images in (8, 16)
    assert torch.isfinite(torch.tensor(record["best"]["value"]))
    evaluate(whole)


def evaluate(folder):
    """Scores of the model and of what it is measured against, in the folder and on its page."""
    command.evaluate(command.Options(folder, "test", "best", 4, 0, None, False, None, ()))
    found = json.loads((folder / "evaluation.json").read_text())
    kinds = {row["kind"] for row in found["rows"]}
    assert {"model", "baseline"} <= kinds
    assert all(row["scores"] for row in found["rows"])
    assert 'id="evaluation"' in (folder / "report.html").read_text()
