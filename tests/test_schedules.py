"""Schedules by the clock: against torch's own, at their ends, in a run, and through a resume."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from test_every_pair import FACES, SMALL
from torch import nn

from faceforge import config
from faceforge.engine import checkpoint, training
from faceforge.engine.guard import slow_down
from faceforge.errors import BadInput
from faceforge.io.metrics_csv import read_rows
from faceforge.losses import gradient_penalty
from faceforge.networks.dcgan import ConventionalDiscriminator, ConventionalGenerator
from faceforge.report.charts import read_panels
from faceforge.schedules import Decay, Moving, OneCycle, at
from faceforge.schemes.adversarial import AdversarialModule

ADAM = partial(torch.optim.Adam, lr=0.1, betas=(0.0, 0.99))
GAN = {
    "objective": "relativistic", "discriminator_steps": 1, "r1_gamma": 0.0, "r2_gamma": 0.0, "penalty_every": 1,
    "augment_policy": [], "clip_norm": None, "ema_half_life": 0.0, "ema_ramp": None, "val_samples": 0, "seed": 5,
    "reuse_fakes": False,
}  # fmt: skip


def torchs(schedule, steps):
    """Learning rates of a scheduler of torch, relative to the first of Adam's own."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_as_torchs_own_schedules():
    batches, of = 40, 16  # a batch is 16 images
    cosine = torchs(partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=batches, eta_min=0.1), batches)
    ours = Decay("cosine", batches * of, 0, 0.0, 0.1)
    assert [ours.factor(n * of) for n in range(batches)] == pytest.approx(cosine)
    straight = partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.25, total_iters=batches)
    ours = Decay("linear", batches * of, 0, 0.0, 0.25)
    assert [ours.factor(n * of) for n in range(batches)] == pytest.approx(torchs(straight, batches))
    cycle = partial(
        torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=41, pct_start=0.3, cycle_momentum=False
    )
    ours = OneCycle(40, (0.3 * 41 - 1) / 40, 0.04, 4e-6)  # torch's phases end on the steps 0.3 * 41 - 1 and 40
    assert [ours.factor(n) for n in range(40)] == pytest.approx(torchs(cycle, 40))


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_warm_up_a_plateau_a_fall_and_then_the_last_rate(shape):
    schedule = Decay(shape, images=1000, warmup=100, hold=0.5, end=0.2)
    assert [schedule.factor(n) for n in (0, 25, 100, 499, 500)] == [0.0, 0.25, 1.0, 1.0, 1.0]
    assert schedule.factor(750) == pytest.approx(0.6)
    assert schedule.factor(1000) == schedule.factor(10**9) == pytest.approx(0.2)


def test_an_amount_moves_and_stays():
    gamma = Moving(2.0, 0.2, images=300, shape="linear")
    assert [at(gamma, n) for n in (0, 100, 300, 900)] == pytest.approx([2.0, 1.4, 0.2, 0.2])
    assert Moving(0.0, 1.0, 100).at(25) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert at(0.3, 10**6) == 0.3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["model/schedule=cosine", "trainer.max_images=null", "trainer.max_steps=2"],
            "images=null: must be the length",
        ),
        (["model/schedule=cosine", "model.schedule.warmup=300"], "warmup=300, hold=0, end=0: warmup must be from 0"),
        (["model/schedule=linear", "model.schedule.hold=1"], "hold=1, end=0: warmup must"),
        (["model/schedule=one_cycle", "model.schedule.rise=0"], "rise must lie between 0 and 1"),
        (["model/schedule=plateau"], "must be cosine, linear or one_cycle"),
        (["model=pix2pix", "model/schedule=plateau"], "must be cosine, linear or one_cycle"),
        (["model/schedule=cosine", "model.schedule.shape=square"], "one of ['cosine', 'linear']"),
        (["model.r1_gamma={_target_:faceforge.schedules.Moving,start:-1,end:2,images:9}"], "must be at least 0"),
        (
            ["model.beta2=0.9", "model.optimizer_d._target_=torch.optim.SGD", "~model.optimizer_d.betas"],
            "model.beta2: must",
        ),
    ],
)
def test_a_wrong_schedule_is_one_line_that_names_its_key(train_typed, tmp_path, words, reason):
    code, _, told = train_typed("data=drawn", "data.source.count=12", "trainer.gpus=0", "run_dir=x",
                                "trainer.max_images=300", *words)  # fmt: skip
    assert code == 2
    assert reason in told
    assert "model." in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


MOVING = [
    "model/schedule=cosine",
    "model.schedule.warmup=10",
    "model.r1_gamma={_target_:faceforge.schedules.Moving,start:1.0,end:0.1,images:30}",
    "model.r2_gamma=null",
    "model.penalty_every=1",
    "model.beta2={_target_:faceforge.schedules.Moving,start:0.9,end:0.99,images:40}",
    "model.augment_policy=[translation]",
    "model.augment_strength={_target_:faceforge.schedules.Moving,start:0.0,end:0.8,images:40}",
    "model.ema_half_life={_target_:faceforge.schedules.Moving,start:1,end:100,images:40}",
    "model.ema_ramp=null",
    "trainer.log_every=1",
]


def last(folder):
    return checkpoint.read(folder / "checkpoints" / "last.ckpt")


def test_everything_moves_by_the_clock_and_a_resume_changes_no_bit(tiny, resume):
    whole = tiny("whole", *MOVING, "trainer.max_images=48")
    parts = tiny("parts", *MOVING, "trainer.max_images=48", "trainer.max_steps=2")
    assert resume(parts, "trainer.max_images=48", "trainer.max_steps=null") == 0
    one, other = last(whole), last(parts)
    assert one["clock"]["images"] == other["clock"]["images"] == 48
    assert all(torch.equal(weights, other["state_dict"][name]) for name, weights in one["state_dict"].items())
    size = one["config"]["data"]["batch_size"]
    rows = [(images, row) for images, row in read_rows(whole / "metrics.csv") if "loss/generator" in row]
    decay = Decay("cosine", 48, 10, 0.0, 0.0)
    for images, row in rows:
        rate = one["config"]["model"]["optimizer_g"]["lr"] * decay.factor(images - size)  # that of the batch
        assert row["learning_rate/generator"] == row["learning_rate/discriminator"] == pytest.approx(rate)
        assert row["r1_gamma"] == pytest.approx(Moving(1.0, 0.1, 30).at(images))
        assert row["beta2"] == pytest.approx(Moving(0.9, 0.99, 40).at(images))
        assert row["ema_half_life"] == pytest.approx(Moving(1, 100, 40).at(images))
        assert row["augment_strength"] == pytest.approx(Moving(0.0, 0.8, 40).at(images))
    assert len(rows) == 48 // size > 3
    titles = {panel.title for panel in read_panels(whole / "metrics.csv")}
    assert {"Learning rates", "r1 gamma", "beta2", "augment strength", "ema half life"} <= titles


@pytest.mark.parametrize("model", ["conv_superres", "latent_editor", "pix2pix", "dcgan_cnn"])
def test_every_model_takes_a_schedule_whose_length_a_longer_run_keeps(tmp_path, monkeypatch, resume, model):
    monkeypatch.chdir(tmp_path)
    words = [f"model={model}", *FACES, *SMALL[model], "model/schedule=linear", "run_dir=x", "trainer.max_images=16"]
    assert training.train(config.compose(words), words) == 0
    assert resume("x", "trainer.max_images=32") == 0
    saved = last(tmp_path / "x")
    assert saved["config"]["model"]["schedule"]["images"] == 16
    assert all(group["lr"] == 0 for optimizer in saved["optimizers"] for group in optimizer["param_groups"])
    assert all(group["initial_lr"] > 0 for optimizer in saved["optimizers"] for group in optimizer["param_groups"])


def gan(**changes):
    torch.manual_seed(0)
    networks = ConventionalGenerator(32, 3, 8, 4, 8), ConventionalDiscriminator(32, 3, 4, 8)
    module = AdversarialModule(*networks, ADAM, ADAM, **{**GAN, **changes})
    made = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer=True: made
    return module


def test_rates_that_the_guard_lowered_stay_lower():
    module = gan(schedule=Decay("linear", 100, 0, 0.0, 0.0))
    module.clock.images = 50
    module.begin_batch()
    slow_down(module.optimizers(), {"rollbacks": [{"to": 50}, {"to": 50}]}, 50)
    module.begin_batch()
    assert [o.param_groups[0]["lr"] for o in module.optimizers()] == pytest.approx([0.1 * 0.5 / 2] * 2)


def test_a_penalty_by_size_is_that_of_its_paper():
    """0.0002 * 32 * 32 / 4, half of it times the squared gradient norm."""
    module = gan(r1_gamma=None)
    real, fake = torch.rand(2, 4, 3, 32, 32) * 2 - 1
    plain = gan()._discriminator_loss(real, fake, range(4), slice(None), True)
    penalised = module._discriminator_loss(real, fake, range(4), slice(None), True)
    expected = 0.5 * 0.0002 * 32 * 32 / 4 * gradient_penalty(module.discriminator, real)
    assert (penalised - plain).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_strength_is_the_share_of_augmented_images():
    images = torch.rand(400, 3, 32, 32) * 2 - 1
    module = gan(augment_policy=["cutout"], augment_strength=0.25)
    module.begin_batch()
    seen = module._seen(images, "real", range(400), slice(None))
    changed = (seen != images).flatten(1).any(1)
    assert pytest.approx(int(changed.sum()), abs=4 * math.sqrt(400 * 0.25 * 0.75)) == 0.25 * 400
    whole = gan(augment_policy=["cutout"])
    whole.begin_batch()
    assert torch.equal(seen[changed], whole._seen(images, "real", range(400), slice(None))[changed])


def test_the_published_linear_decay_of_pix2pix_is_a_yaml():
    composed = config.compose(["model=pix2pix", "model/schedule=linear", "trainer.max_images=1000"])
    schedule = config.build(composed["model"]["schedule"], at="model.schedule")
    assert [schedule.factor(n) for n in (0, 500, 750, 1000)] == pytest.approx([1, 1, 0.5, 0])


def test_bad_amounts_of_a_moving_value():
    with pytest.raises(ValueError, match="images at least 1"):
        Moving(0.0, 1.0, images=0)
    with pytest.raises(BadInput, match=r"^x: rise=2"):
        config.build({"_target_": "faceforge.schedules.OneCycle", "images": 5, "rise": 2, "start": 0, "end": 0}, at="x")
