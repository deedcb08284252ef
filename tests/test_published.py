"""The published projects as they were: their parameters, their settings, and a step of each."""

import pytest
import torch

from faceforge import config
from faceforge.config import conf_dir
from faceforge.engine import training

COUNTS = {
    "sr_mlp": {"network": 6_702_001},
    "sr_conv": {"network": 2_367_873},
    "superres_x2": {"network": 68_099},
    "superres_x2_adversarial": {"generator": 68_099},
    "latent_mse": {"network": 81_286_339},
    "latent_bce": {"network": 82_329_539},
    "gan_cnn": {"generator": 1_961_859, "discriminator": 429_121},
    "gan_cnn_depthwise": {"generator": 395_395, "discriminator": 429_121},
    "gan_conventional": {"generator": 125_811, "discriminator": 429_121},
    "pix2pix": {"generator": 29_247_491, "discriminator": 6_965_441},
    "dcgan_tutorial": {},
}
ADAM = {"betas": [0.9, 0.999]}
SETTINGS = {
    "sr_mlp": {
        "data.size": 70,
        "data.batch_size": 16,
        "model.loss._target_": "faceforge.losses.MSE",
        "model.optimizer": {"_target_": "torch.optim.Adamax", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-7},
        "model.stop": {"metric": "val/mae", "min_delta": 1e-4, "patience": 10},
        "task": {"factor": 2, "kernel": "mean"},
    },
    "sr_conv": {
        "data.size": 64,
        "data.batch_size": 16,
        "model.loss._target_": "faceforge.losses.MSE",
        "model.optimizer": {"_target_": "torch.optim.Adamax", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-7},
        "model.stop": {"metric": "val/mae", "min_delta": 1e-4, "patience": 10},
        "task": {"factor": 2, "kernel": "mean"},
    },
    "superres_x2": {
        "data.size": [640, 512],
        "data.batch_size": 10,
        "model.loss._target_": "faceforge.losses.MSE",
        "model.optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3, **ADAM},
    },
    "superres_x2_adversarial": {"model.adversarial_weight": 1e-3, "data.size": [640, 512]},
    "latent_mse": {
        "data.size": 128,
        "data.batch_size": 32,
        "model.code.latent_size": 1024,
        "model.code._target_": "faceforge.networks.latent.ReluCode",
        "model.loss._target_": "faceforge.losses.MSE",
        "model.optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-4, **ADAM},
        "model.schedule": {"factor": 5e-5, "patience": 10},
    },
    "latent_bce": {
        "data.size": 128,
        "data.batch_size": 32,
        "model.code.latent_size": 1024,
        "model.code._target_": "faceforge.networks.latent.SigmoidCode",
        "model.loss._target_": "faceforge.losses.BCE",
        "model.optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-5, **ADAM},
        "model.schedule": {"factor": 1e-3, "patience": 5},
    },
    "gan_cnn": {
        "data.batch_size": 128,
        "model.objective": "minimax",
        "model.optimizer_g": {"lr": 1e-3, **ADAM},
        "model.optimizer_d": {"lr": 1e-5, **ADAM},
    },
    "gan_cnn_depthwise": {"model.objective": "minimax", "model.optimizer_d": {"lr": 1e-5, **ADAM}},
    "gan_conventional": {
        "data.batch_size": 128,
        "model.objective": "minimax",
        "model.optimizer_g": {"lr": 1e-3, **ADAM},
        "model.optimizer_d": {"lr": 1e-5, **ADAM},
    },
    "pix2pix": {
        "data.size": [320, 256],
        "data.batch_size": 64,
        "model.discriminator_weight": 0.5,
        "model.loss_weight": 200.0,
        "model.optimizer_g": {"lr": 2e-4, "betas": [0.5, 0.999]},
        "model.optimizer_d": {"lr": 2e-4, "betas": [0.5, 0.999]},
        "model.test_dropout": True,
        "model.test_batch_statistics": True,
        "model.generator.dropout": 0.5,
        "trainer.max_images": 200 * 64,
    },
    "dcgan_tutorial": {"data.batch_size": 64, "model.optimizer_g": {"lr": 2e-4, "betas": [0.5, 0.999]}},
}
LIGHT = ["gan_conventional"]


def at(node, dotted):
    for name in dotted.split("."):
        node = node[name]
    return node


def test_every_published_experiment_is_here():
    named = {path.stem for path in (conf_dir() / "experiment/published").glob("*.yaml")}
    assert named == set(COUNTS) == set(SETTINGS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_settings_are_the_published(name):
    composed = config.compose([f"experiment=published/{name}"])
    with torch.device("meta"):
        module = config.build(composed["model"])
    for part, count in COUNTS[name].items():
        assert sum(p.numel() for p in getattr(module, part).parameters() if p.requires_grad) == count
    for key, value in SETTINGS[name].items():
        found = at(composed, key)
        found = {k: found[k] for k in value} if isinstance(value, dict) else found
        assert found == value, key
    assert (composed["model"]["ema_half_life"], composed["data"]["flip"]) == (0, False)
    added = {key: composed["model"].get(key) for key in ("r1_gamma", "r2_gamma", "augment_policy", "clip_norm")}
    assert not any(added.values()), added  # what today's forms have beyond the published


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in LIGHT else (pytest.mark.slow,)) for n in sorted(COUNTS)]
)
def test_a_step_of_each_at_its_size(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    overrides = [f"experiment=published/{name}", "data=drawn", "data.source.count=20", "data.batch_size=2"]
    overrides += ["trainer.max_images=2", "trainer.gpus=0", "logger.mode=disabled", f"run_dir={tmp_path / 'run'}"]
    if "val_samples" in config.compose(overrides[:1])["model"]:
        overrides.append("model.val_samples=0")
    assert training.train(config.compose(overrides), overrides) == 0
    assert (tmp_path / "run/samples/000000002.png").is_file()
