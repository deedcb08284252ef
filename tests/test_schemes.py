"""Reconstruction, latent and translation: what a step does, by hand; ends, schedules, and what testing leaves alone."""

import copy
import json
import math
import random
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_every_pair import FACES, SMALL
from torch import nn

from faceforge import config, counter_rng, counter_rng_torch, losses
from faceforge.config import composing
from faceforge.engine import checkpoint, training
from faceforge.engine.callbacks.session import Session
from faceforge.engine.callbacks.validation import Validation
from faceforge.engine.guard import slow_down
from faceforge.errors import BadInput
from faceforge.metrics.linear import Pca
from faceforge.networks.latent import Decoder, Encoder, GaussianCode, LinearCode, ReluCode
from faceforge.networks.patch import ImagePatchDiscriminator, PatchDiscriminator
from faceforge.networks.principal import PrincipalDecoder, PrincipalEncoder
from faceforge.networks.superres import PublishedSuperres, PublishedSuperresDiscriminator
from faceforge.schemes.base import _noise_there, optimizer_of
from faceforge.schemes.early_stopping import EarlyStop, Threshold
from faceforge.schemes.latent import LatentModule
from faceforge.schemes.reconstruction import ReconstructionModule
from faceforge.schemes.running_means import RunningMeans
from faceforge.schemes.scales import rescale
from faceforge.schemes.translation import TranslationModule

SHARED = {"schedule": None, "stop": None, "clip_norm": None, "ema_half_life": 0.0, "ema_ramp": None, "seed": 3}
SGD = partial(torch.optim.SGD, lr=0.1)


class Halves(nn.Module):
    """A network in [0, 1] with one weight: what comes in times it."""

    input_range = output_range = (0.0, 1.0)

    def __init__(self, start=0.5):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return self.weight * x


def alone(module):
    """The module steps without a trainer: gradients are taken as they are."""
    made = module.configure_optimizers()
    module.optimizers = lambda use_pl_optimizer=True: made

    def step(optimizer, loss, clip_norm, meanwhile=None):
        for share in module._shares(loss):
            share.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return meanwhile and meanwhile()

    module.step_optimizer = step
    return module


def descend(network):
    """A step of SGD at the rate of ``SGD``, by hand."""
    with torch.no_grad():
        for weight in network.parameters():
            weight -= 0.1 * weight.grad


def pair(count=5, height=9, width=7, channels=3):
    generator = torch.Generator().manual_seed(0)
    made = torch.rand(2, count, channels, height, width, generator=generator) * 2 - 1
    return {"input": made[0], "target": made[1]}


# ------------------------------------------------------------------------------------------------- reconstruction


@pytest.mark.parametrize("count", [1, 5])
def test_a_step_of_reconstruction_by_hand(count):
    module = alone(ReconstructionModule(Halves(), SGD, losses.MSE(), **SHARED))
    batch = pair(count)
    x, y = ((batch[name] + 1) / 2 for name in ("input", "target"))
    expected_loss = ((0.5 * x - y) ** 2).mean()
    gradient = (2 * (0.5 * x - y) * x).mean()
    module.training_step(batch, 0)
    assert module.means.drain()["loss/train"] == pytest.approx(float(expected_loss), rel=1e-6)
    assert float(module.network.weight) == pytest.approx(float(0.5 - 0.1 * gradient), rel=1e-6)
    assert torch.equal(module.average.weight, module.network.weight)
    assert (module.clock.images, module.clock.generator_steps) == (count, 1)


def test_a_prediction_is_of_the_average_and_on_the_scale_of_the_batch():
    module = ReconstructionModule(Halves(), SGD, losses.MSE(), **SHARED)
    with torch.no_grad():
        module.average.weight.fill_(0.25)
    inputs = pair()["input"]
    by_hand = (inputs + 1) / 2 * 0.25 * 2 - 1
    assert torch.allclose(module.predict(inputs), by_hand, atol=1e-6)
    assert torch.allclose(module.predict(inputs, averaged=False), (inputs + 1) / 2 - 1, atol=1e-6)
    assert module.training
    assert module.network.training


# --------------------------------------------------------------------------------------------------------- latent


def latent(code=GaussianCode, **changes):
    torch.manual_seed(0)
    settings = {"kl_weight": 0.7, "kl_anneal": 0, "free_nats": 0.0, "reduction": "value", "freeze_statistics": None}
    return LatentModule(
        Encoder(16, 3, 4), partial(code, latent_size=6), Decoder(6, 16, 3, 4), SGD, losses.MSE(),
        **{**SHARED, **settings, **changes},
    )  # fmt: skip


def principal(seed=0):
    torch.manual_seed(seed)
    parts = PrincipalEncoder(6, 16, width=4), partial(LinearCode, latent_size=6), PrincipalDecoder(6, 16, width=4)
    settings = {"kl_weight": 0.0, "kl_anneal": 0, "free_nats": 0.0, "reduction": "value", "freeze_statistics": None}
    return LatentModule(*parts, SGD, losses.MSE(), **settings, **SHARED)


class Shown:
    """What preparing asks of a datamodule."""

    flip = False

    def __init__(self, count):
        self.pictures, self.counts = pair(count, 16, 16)["target"], {"train": count}

    def images(self, split, indices):
        return self.pictures[indices]


def test_a_new_run_starts_at_principal_components_of_its_training_faces():
    module, data = principal(), Shown(20)
    module.prepare(data)
    pca = Pca(data.pictures, 6)
    expected = pca.decode(pca.encode(data.pictures))
    assert torch.allclose(module.decode(module.encode(data.pictures)), expected.clamp(-1, 1), atol=2e-3)
    assert torch.allclose(module.predict(data.pictures, averaged=False), expected.clamp(-1, 1), atol=2e-3)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.prepare(Shown(9))
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items()), "prepared once only"
    other = principal(seed=1)
    other.load_state_dict(kept)
    other.prepare(Shown(9))
    assert torch.equal(other.encode(data.pictures), module.encode(data.pictures)), "with weights, no faces are needed"


def judged(**changes):
    """With a discriminator; without a posterior, so that an outcome can be written out."""
    torch.manual_seed(1)
    judge = ImagePatchDiscriminator(16, 3, layers=1, width=4)
    settings = {"adversarial_weight": 0.3, "sampled_weight": 0.5, "r1_gamma": 2.0, "penalty_every": 1}
    settings |= {"discriminator": judge, "optimizer_d": SGD, **changes}
    return alone(latent(LinearCode, **settings))


def test_a_step_with_a_discriminator_by_hand():
    module, batch = judged(), faces()
    first = copy.deepcopy(module)
    softplus = nn.functional.softplus
    z = torch.from_numpy(counter_rng.normal(3, "sampled", range(4), (6,))).float()
    network, judge = first.network, first.discriminator
    made, drawn = network["decoder"](network["code"](network["encoder"](batch["input"]))), network["decoder"](z)
    pixels = ((made - batch["target"]) / 2).square().mean()
    loss = pixels + 0.3 * (softplus(-judge(made)).mean() + 0.5 * softplus(-judge(drawn)).mean())
    weights = list(network.parameters())
    after = [p - 0.1 * g for p, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
    real = batch["target"].clone().requires_grad_(True)
    logits, wrong = judge(real), torch.cat([judge(made.detach()), judge(drawn.detach())])
    (slope,) = torch.autograd.grad(logits.flatten(1).mean(1).sum(), real, create_graph=True)
    theirs = softplus(-logits).mean() + softplus(wrong).mean() + slope.square().flatten(1).sum(1).mean()
    own = list(judge.parameters())
    then = [p - 0.1 * g for p, g in zip(own, torch.autograd.grad(theirs, own), strict=True)]
    module.training_step(batch, 0)
    for found, expected in zip(
        [*module.network.parameters(), *module.discriminator.parameters()], [*after, *then], strict=True
    ):
        assert torch.allclose(found, expected, atol=1e-6)
    means = module.means.drain()
    assert means["loss/train"] == pytest.approx(float(pixels), rel=1e-5)
    assert (module.clock.images, module.clock.generator_steps) == (4, 1)
    assert len(module.optimized) == len(module.configure_optimizers()) == 2
    assert module.monitor == ("val/loss", "min")


def test_the_discriminator_waits_for_its_first_image():
    plain, module, batch = alone(latent(LinearCode)), judged(adversarial_from=4), faces()
    before = copy.deepcopy(module.discriminator.state_dict())
    for each in (plain, module):
        each.training_step(batch, 0)
    assert all(map(torch.equal, plain.network.parameters(), module.network.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in module.discriminator.state_dict().items())
    module.training_step(batch, 1)
    assert not all(torch.equal(value, before[name]) for name, value in module.discriminator.state_dict().items())


def test_a_discriminator_that_cannot_be_used_is_refused():
    with pytest.raises(BadInput, match=r"model.optimizer_d: null"):
        judged(optimizer_d=None)
    with pytest.raises(BadInput, match=r"model.sampled_weight=0.5: must be 0 with a code that has a range"):
        latent(ReluCode, discriminator=nn.Identity(), optimizer_d=SGD, sampled_weight=0.5)


def faces(count=4):
    batch = pair(count, 16, 16)
    return {"input": batch["target"], "target": batch["target"]}


def by_hand(module, batch, position):
    """Loss of pixels and divergence of the evidence lower bound, written out."""
    network = module.network
    mean, log_variance = network["code"](network["encoder"](batch["input"]))
    noise = torch.from_numpy(counter_rng.normal(3, "posterior", range(position, position + len(mean)), (6,))).float()
    made = network["decoder"](mean + torch.exp(log_variance / 2) * noise)
    error = (((made + 1) / 2 - (batch["target"] + 1) / 2) ** 2).mean()
    prior = torch.distributions.Normal(torch.zeros(6), torch.ones(6))
    posterior = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    return error, torch.distributions.kl_divergence(posterior, prior).sum(1).mean()


@pytest.mark.parametrize("count", [1, 4])
def test_the_objective_is_the_evidence_lower_bound_by_its_named_reduction(count):
    batch, values = faces(count), 3 * 16 * 16
    module = latent()
    error, divergence = by_hand(module, batch, 0)
    assert float(module.objective(batch)) == pytest.approx(float(error + 0.7 * divergence / values), rel=1e-5)
    logged = module.means.drain()
    assert logged["loss/kl"] == pytest.approx(float(divergence), rel=1e-5)
    assert logged["loss/train"] == pytest.approx(float(error), rel=1e-5)
    whole = latent(reduction="face").objective(batch)
    assert float(whole) == pytest.approx(float(values * error + 0.7 * divergence), rel=1e-5)


def test_the_weight_of_the_divergence_grows_over_the_first_images():
    batch, values = faces(), 3 * 16 * 16
    module = latent(kl_anneal=100)
    for images, share in ((0, 0.0), (25, 0.25), (100, 1.0), (400, 1.0)):
        module.clock.images = images
        error, divergence = by_hand(module, batch, images)
        expected = error + share * 0.7 * divergence / values
        assert float(module.objective(batch)) == pytest.approx(float(expected), rel=1e-5)


def test_quiet_units_cost_what_they_have_for_free_and_learn_nothing_from_it():
    module, batch = latent(free_nats=1000.0), faces()
    loss = module.objective(batch)
    error, _ = by_hand(module, batch, 0)
    assert float(loss) == pytest.approx(float(error + 0.7 * 6 * 1000 / (3 * 16 * 16)), rel=1e-5)
    loss.backward()
    free = module.network["code"].mean.weight.grad.clone()
    other = latent(kl_weight=0.0)
    other.objective(batch).backward()
    assert torch.allclose(free, other.network["code"].mean.weight.grad, atol=1e-9)


def test_a_plain_code_has_no_divergence():
    module, batch = latent(ReluCode), faces()
    assert module.code_range == (0.0, float("inf"))
    assert module.posterior(batch["input"]) is None
    loss = module.objective(batch)
    assert set(module.means.drain()) == {"loss/train"}
    z = module.network["code"](module.network["encoder"](batch["input"]))
    assert float(loss) == pytest.approx(
        float((((module.network["decoder"](z) - batch["target"]) / 2) ** 2).mean()), rel=1e-5
    )


def test_codes_are_those_of_the_average_in_eval_mode():
    module, batch = latent(), faces()
    mean, log_variance = module.posterior(batch["input"])
    assert torch.equal(module.encode(batch["input"]), mean)
    assert mean.shape == log_variance.shape == (4, 6)
    assert torch.allclose(module.decode(mean), module.predict(batch["input"]), atol=1e-6)
    assert torch.allclose(module.encode(batch["input"][:1]), mean[:1], atol=1e-6)
    assert module.training


def test_statistics_stay_as_they_are_after_the_images_named():
    module, batch = latent(ReluCode, freeze_statistics=4), faces()
    norm = module.network["code"].layers[1]
    module.objective(batch)
    moved = norm.running_mean.clone()
    assert moved.abs().sum() > 0
    module.clock.images = 4
    module.objective(batch)
    assert torch.equal(norm.running_mean, moved)


@pytest.mark.parametrize("wrong", [{"reduction": "sum"}, {"kl_weight": -1.0}, {"kl_anneal": -5}, {"free_nats": -0.1}])
def test_settings_of_the_code_that_cannot_be(wrong):
    with pytest.raises(BadInput, match=f"{next(iter(wrong))}.*{next(iter(wrong.values()))}"):
        latent(**wrong)


# ---------------------------------------------------------------------------------------------------- translation


class Blurred(nn.Module):
    """A tiny generator with everything that behaves otherwise in training."""

    input_range = output_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 3, 1)
        )

    def forward(self, x):
        return torch.tanh(self.layers(x))


def translation(generator=None, discriminator=None, **changes):
    torch.manual_seed(1)
    settings = {
        "objective": "non_saturating",
        "discriminator_weight": 0.5,
        "adversarial_weight": 1.0,
        "loss_weight": 200.0,
        "test_dropout": False,
        "test_batch_statistics": False,
    }
    settings = {**SHARED, **settings, **changes}
    del settings["schedule"]
    judge = discriminator or PatchDiscriminator(16, 3, 3, layers=1, width=4, norm="none")
    return TranslationModule(generator or Blurred(), judge, SGD, SGD, loss=losses.L1(), **settings)


def test_a_step_of_translation_by_hand():
    """Isola et al. 2017: half of eq. 1 for the discriminator; then -log D + 100 L1 in [-1, 1] with the new one."""
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    network.input_range = network.output_range = (-1.0, 1.0)
    module, batch = alone(translation(network)), pair(2, 16, 16)
    generator, judge = copy.deepcopy(module.generator), copy.deepcopy(module.discriminator)
    x, y = batch["input"], batch["target"]
    made = generator(x)
    probability = torch.sigmoid(judge(x, y)), torch.sigmoid(judge(x, made.detach()))
    loss = -0.5 * (probability[0].log().mean() + (1 - probability[1]).log().mean())
    loss.backward()
    descend(judge)
    (-torch.sigmoid(judge(x, made)).log().mean() + 100 * (made - y).abs().mean()).backward()
    descend(generator)
    module.training_step(batch, 0)
    for mine, its in ((module.generator, generator), (module.discriminator, judge)):
        for a, b in zip(mine.parameters(), its.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert module.means.drain()["loss/discriminator"] == pytest.approx(float(2 * loss), rel=1e-5)
    assert all(weight.grad is None for weight in module.parameters())


def test_a_step_with_feature_matching_by_hand():
    """Wang et al. 2018, eq. 3: the discriminator's maps of the output, once it has learned, are those of the target."""
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    network.input_range = network.output_range = (-1.0, 1.0)
    module, batch = alone(translation(network, feature_weight=7.0)), pair(2, 16, 16)
    generator, judge = copy.deepcopy(module.generator), copy.deepcopy(module.discriminator)
    x, y = batch["input"], batch["target"]
    made = generator(x)
    probability = torch.sigmoid(judge(x, y)), torch.sigmoid(judge(x, made.detach()))
    (-0.5 * (probability[0].log().mean() + (1 - probability[1]).log().mean())).backward()
    descend(judge)
    layers = list(judge.layers)
    hidden = [nn.Sequential(*layers[: n + 1]) for n, layer in enumerate(layers) if isinstance(layer, nn.LeakyReLU)]
    assert len(hidden) == 2
    apart = [(of(torch.cat([x, made], 1)) - of(torch.cat([x, y], 1)).detach()).abs().mean() for of in hidden]
    matching = sum(apart) / 2
    (-torch.sigmoid(judge(x, made)).log().mean() + 7 * matching + 100 * (made - y).abs().mean()).backward()
    descend(generator)
    module.training_step(batch, 0)
    for mine, its in ((module.generator, generator), (module.discriminator, judge)):
        for a, b in zip(mine.parameters(), its.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert module.means.drain()["loss/features"] == pytest.approx(float(matching.detach()), rel=1e-5)
    with pytest.raises(ValueError, match=r"feature_weight=1.0: must be 0 unless model/discriminator=patch"):
        translation(discriminator=PublishedSuperresDiscriminator([16, 12]), feature_weight=1.0)


def test_a_discriminator_without_weight_is_left_alone():
    module, batch = alone(translation(adversarial_weight=0.0)), pair(2, 16, 16)
    runs = []
    module.discriminator.register_forward_hook(lambda *_: runs.append(1))
    judge, generator = (copy.deepcopy(n.state_dict()) for n in (module.discriminator, module.generator))
    module.training_step(batch, 0)
    assert runs == []
    assert all(torch.equal(judge[key], value) for key, value in module.discriminator.state_dict().items())
    assert not torch.equal(generator["layers.0.weight"], module.generator.layers[0].weight)
    assert set(module.means.drain()) == {"loss/train"}


def test_objectives_that_translation_cannot_have_are_refused_before_a_step():
    with pytest.raises(ValueError, match="objective=relativistic: must use each image separately"):
        translation(objective="relativistic")
    with pytest.raises(ValueError, match="unknown objective 'wasserstein'"):
        translation(objective="wasserstein")


def test_dropout_and_batch_statistics_at_test_time_are_settings():
    inputs = pair(4, 16, 16)["input"]
    module = translation()
    plain = module.predict(inputs)
    assert torch.allclose(module.predict(inputs[:1]), plain[:1], atol=1e-6), "a face alone is the face in a batch"
    for name in ("test_dropout", "test_batch_statistics"):
        module = translation(**{name: True})
        before = copy.deepcopy(module.average.state_dict())
        first = module.predict(inputs)
        assert torch.equal(first, module.predict(inputs)), "the same each time"
        assert not torch.allclose(first, plain, atol=1e-3), name
        after = module.average.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before), "without a trace"
    with_statistics = translation(test_batch_statistics=True)
    by_hand = copy.deepcopy(with_statistics.average).train()
    by_hand.layers[2].eval()
    assert torch.allclose(with_statistics.predict(inputs), by_hand(inputs), atol=1e-6)


def test_the_random_state_outside_is_left_alone_by_dropout_at_test_time():
    module, inputs = translation(test_dropout=True), pair(2, 16, 16)["input"]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    module.predict(inputs)
    assert torch.equal(torch.rand(3), expected)


def test_the_adversarial_form_of_super_resolution_steps():
    judge = PublishedSuperresDiscriminator([16, 12])
    module = alone(translation(PublishedSuperres([16, 12]), judge))
    module.training_step({"input": pair(2, 8, 6)["input"], "target": pair(2, 16, 12)["target"]}, 0)
    assert module.predict(pair(1, 8, 6)["input"]).shape == (1, 3, 16, 12)


# -------------------------------------------------------------------------------------------------------- devices


@pytest.fixture
def elsewhere(monkeypatch, sim):
    """A device, and a list of how many numbers numpy has drawn since."""
    drawn = []
    for name in ("normal", "uniform"):
        real = getattr(counter_rng, name)

        def counted(seed, purpose, counters, shape=(), real=real):
            found = real(seed, purpose, counters, shape)
            drawn.append(found.size)
            return found

        monkeypatch.setattr(counter_rng, name, counted)
    assert counter_rng_torch.exact(torch.device("sim"))
    drawn.clear()
    return torch.device("sim"), drawn


@pytest.mark.simulated
@pytest.mark.parametrize("counters", [range(4, 8), torch.arange(4)])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_noise_comes_from_the_device_that_uses_it(elsewhere, counters, kind):
    device, drawn = elsewhere
    module = ReconstructionModule(Halves(), SGD, losses.MSE(), **SHARED).to(device)
    made = module.noise("x", counters, (3, 5), kind)
    assert (made.shape, made.dtype, made.device.type) == ((4, 3, 5), torch.float32, device.type)
    assert drawn == []


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_noise_of_a_device_is_that_of_the_cpu(kind):
    """To one unit in the last place of a float32; uniform numbers to the bit."""
    module = ReconstructionModule(Halves(), SGD, losses.MSE(), **SHARED)
    host = module.noise("x", range(100, 164), (3, 33), kind)
    there = _noise_there(3, "x", (3, 33), kind, torch.arange(100, 164))
    assert (host == there).all() if kind == "uniform" else torch.allclose(host, there, rtol=1.2e-7, atol=0)


@pytest.mark.simulated
@pytest.mark.parametrize("model", ["dcgan_cnn", "dcgan_conventional"])
def test_the_host_draws_no_more_for_larger_pictures(elsewhere, model):
    """Numbers drawn by numpy in a step on a device, augmentation included: none, at any size."""
    device, drawn = elsewhere
    for side in (16, 32):
        overrides = [f"model={model}", *SMALL[model], f"data.size={side}", "model.augment_policy=[color,translation]"]
        module = config.build(config.plain(composing.Library().compose(overrides), overrides)["model"])
        alone(module)
        on_host = {"target": torch.zeros(2, 3, side, side)}
        module.training_step(on_host, 0)
        assert sum(drawn) >= 2 * module.generator.latent_shape[0], "on the CPU it is numpy that draws"
        drawn.clear()
        alone(module.to(device)).training_step({"target": on_host["target"].to(device)}, 1)
        assert drawn == []


class Elsewhere(torch.Tensor):
    """A tensor on a device of its own, as far as a loss can tell."""

    @staticmethod
    def of(tensor):
        return tensor.as_subclass(Elsewhere)


class Demanding(nn.Module):
    """A loss that refuses what was not brought to its device."""

    def forward(self, prediction, target):
        assert isinstance(prediction, Elsewhere)
        assert isinstance(target, Elsewhere)
        assert len(prediction) <= 64
        return (prediction - target).abs().mean().as_subclass(torch.Tensor)


def test_in_validation_the_loss_sees_tensors_of_the_module_s_device(monkeypatch):
    module = ReconstructionModule(Halves(), SGD, Demanding(), **SHARED)
    monkeypatch.setattr(ReconstructionModule, "device", torch.device("meta"))
    real = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda x, place, *a, **k: Elsewhere.of(x) if place == module.device else real(x, place, *a, **k),
    )
    batch = pair(100, 3, 3)
    assert module._loss_of(batch["input"], batch["target"]) / 100 == pytest.approx(
        float((batch["input"] - batch["target"]).abs().mean()), rel=1e-5
    )


def test_what_a_checkpoint_brings_joins_what_the_device_adds():
    """A run interrupted between two rows: its losses are read on the CPU, those to come lie on the device."""
    before = RunningMeans()
    before.add(loss=torch.tensor(1.0))
    before.keep("logits", torch.ones(2))
    means = RunningMeans()
    means.load_state_dict(before.state_dict())
    means._sums, means._counts = {"other": torch.tensor(2.0)}, {"other": 1}
    means.to(torch.device("meta"))
    assert {tensor.device.type for tensor in means.numbers().values()} == {"meta"}


PERCEPTUAL = [
    "model/loss=l1_perceptual",
    "model.loss.losses=[{_target_:faceforge.losses.L1},{_target_:faceforge.losses.Perceptual,"
    "features:{_target_:torch.nn.Conv2d,in_channels:1,out_channels:2,kernel_size:3}}]",
]


def frozen(folder):
    """The checkpoint as it was written when it held the features of its loss."""
    path = folder / "checkpoints/last.ckpt"
    kept = torch.load(path, weights_only=True)
    extra = {f"loss.losses.1.features.{name}": torch.ones(3) for name in ("weight", "bias")}
    kept |= {"state_dict": {**kept["state_dict"], **extra}, "version": 1}
    torch.save(kept, path)
    (folder / "checkpoints/best.ckpt").unlink()
    (folder / "checkpoints/hashes.txt").unlink()
    return path


def test_frozen_features_are_in_no_checkpoint_and_those_of_before_load(run):
    folder = run("perceptual", *PERCEPTUAL, "trainer.max_images=8")
    assert not [name for name in checkpoint.read(folder / "checkpoints/last.ckpt")["state_dict"] if "features" in name]
    path = frozen(folder)
    module = checkpoint.load(path)
    assert module.loss.losses[1].features.weight.shape == (2, 1, 3, 3)
    whole = len(module.state_dict())
    assert f"{whole} of {whole} tensors matched" in checkpoint.initialise(module, path)
    overrides = [f"resume={folder}", "trainer.max_images=16"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert json.loads((folder / "run.json").read_text())["images"] == 16


def test_frozen_features_follow_their_loss():
    """To a device and a memory format, in copies and in eval mode; no gradient, no parameter, no state of their own."""
    loss = losses.Weighted([losses.L1(), losses.Perceptual(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()))], [1, 1])
    features = loss.losses[1].features
    loss.train()
    assert not features.training
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    assert not any(weight.requires_grad for weight in features.parameters())
    assert copy.deepcopy(loss).losses[1].features is not features
    loss.to(torch.device("meta"))
    assert {weight.device.type for weight in features.parameters()} == {"meta"}


# ------------------------------------------------------------------------------------------------ ends and schedules
# ------------------------------------------------------------------------------------------------ ends and schedules


def ended_by_keras(values, min_delta, patience):
    """Keras' EarlyStopping, mode min, told by its documentation: the validation after which training ends, or None."""
    best, wait = float("inf"), 0
    for number, value in enumerate(values):
        wait += 1
        if value + min_delta < best:
            best, wait = value, 0
        elif wait >= patience:
            return number
    return None


def test_the_early_stop_counts_as_keras_does():
    draw = random.Random(0)
    for _ in range(200):
        values = [draw.choice([0.5, 0.4999, 0.49985, 0.48, 0.45]) for _ in range(30)]
        patience = draw.randint(1, 6)
        stop = EarlyStop("val/mae", 1e-4, patience)
        found = next((n for n, v in enumerate(values) if stop.update({"val/mae": v})), None)
        assert found == ended_by_keras(values, 1e-4, patience)


def test_a_threshold_ends_at_or_below_its_value():
    stop = Threshold("val/mse", 0.01)
    assert stop.update({"val/mse": 0.0101}) is None
    assert "val/mse is 0.01" in stop.update({"val/mse": 0.01})


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def train(name, *overrides):
        overrides = [*FACES, "model=conv_superres", *SMALL["conv_superres"], f"run_dir={name}", *overrides]
        assert training.train(config.compose(overrides), overrides) == 0
        return tmp_path / name

    return train


LOSSES = sorted(path.stem for path in (config.conf_dir() / "model/loss").glob("*.yaml"))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_the_network_and_nothing_else(name):
    """Every weight of the network has a gradient, the loss has none to train, and is less for what is right."""
    overrides = ["model=conv_superres", *SMALL["conv_superres"], "data.size=16", f"model/loss={name}"]
    module = config.build(config.plain(composing.Library().compose(overrides), overrides)["model"])
    trained = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.network.parameters()}
    batch = pair(2, 16, 16, channels=1)
    batch["input"] = batch["input"][:, :, :8, :8]
    loss = module.objective(batch)
    loss.backward()
    assert all(p.grad is not None for p in module.network.parameters())
    right = (batch["target"] + 1) / 2
    assert float(module.loss(right, right)) < float(loss)


def test_grids_of_real_faces_stay_here(run):
    """They hold inputs and targets, so that logger.images=generated keeps them from W&B."""
    kept = {
        images: list(
            (run(images, "trainer.max_images=4", "logger.mode=offline", f"logger.images={images}") / "wandb").rglob(
                "*.png"
            )
        )
        for images in ("generated", "all")
    }
    assert kept["all"]
    assert not kept["generated"]


def test_a_run_ends_early_and_says_why(run, capsys):
    folder = run(
        "early", "model/stop=early", "model.stop.min_delta=1.0", "model.stop.patience=2", "trainer.max_images=80"
    )
    assert json.loads((folder / "run.json").read_text())["images"] == 24
    assert checkpoint.read(folder / "checkpoints/last.ckpt")["stop"]["waited"] == 2
    capsys.readouterr()
    overrides = [f"resume={folder}", "trainer.max_images=200"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert "is finished: val/mae has not fallen by more than 1 for 2 validations" in capsys.readouterr().out


def test_the_count_to_an_early_end_survives_a_resume(run):
    settings = ["model/stop=early", "model.stop.min_delta=1.0", "model.stop.patience=3"]
    folder = run("halved", *settings, "trainer.max_images=16")
    overrides = [f"resume={folder}", "trainer.max_images=80"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert json.loads((folder / "run.json").read_text())["images"] == 32


def test_a_plateau_lowers_the_learning_rate_across_a_resume(run):
    settings = ["model/schedule=plateau", "model.schedule.patience=0", "+model.schedule.threshold=0.99"]

    def rate(folder):
        return checkpoint.read(folder / "checkpoints/last.ckpt")["optimizers"][0]["param_groups"][0]["lr"]

    whole = run("whole", *settings, "trainer.max_images=32")
    halved = run("halved", *settings, "trainer.max_images=16")
    assert rate(whole) < rate(halved) < 1e-3
    overrides = [f"resume={halved}", "trainer.max_images=32"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert rate(halved) == rate(whole)


SCHEDULES = {
    "CosineAnnealingLR": {"T_max": 8},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "StepLR": {"step_size": 3},
    "MultiStepLR": {"milestones": [2, 7]},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {},
    "ConstantLR": {},
    "PolynomialLR": {},
}


def scheduled(schedule, checkpoint=None):
    """A module and its optimiser, as a trainer makes them, anew or from a checkpoint."""
    module = alone(
        ReconstructionModule(
            Halves(), partial(torch.optim.Adam, lr=0.1), losses.MSE(), **{**SHARED, "schedule": schedule}
        )
    )
    optimizer = module.optimizers()
    if checkpoint:
        module.on_load_checkpoint(checkpoint)
        optimizer.load_state_dict(checkpoint["optimizer"])
        module.on_train_start()
    return module, optimizer


def rates(module, optimizer, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        module.training_step(pair(), 0)
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_counts_batches_and_goes_on_exactly(tmp_path, name):
    """As torch's own loop does, one step a batch; validations change nothing; a checkpoint takes up where it was."""
    schedule = partial(getattr(torch.optim.lr_scheduler, name), **SCHEDULES[name])
    alone_optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.1)
    by_torch, expected = schedule(alone_optimizer), []
    for _ in range(10):
        expected.append(alone_optimizer.param_groups[0]["lr"])
        alone_optimizer.step()
        by_torch.step()
    whole, optimizer = scheduled(schedule)
    first = rates(whole, optimizer, 4)
    whole.after_validation({"val/loss": 0.03})
    kept = {"optimizer": optimizer.state_dict()}
    whole.on_save_checkpoint(kept)
    torch.save(kept, tmp_path / "x")
    assert first + rates(whole, optimizer, 6) == expected
    again = scheduled(schedule, torch.load(tmp_path / "x", weights_only=True))
    assert first + rates(*again, 6) == expected


def test_rates_that_the_guard_lowered_stay_lower():
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, T_0=30)
    module, optimizer = scheduled(schedule)
    rates(module, optimizer, 2)
    kept = {"optimizer": copy.deepcopy(optimizer.state_dict())}
    module.on_save_checkpoint(kept)
    found = rates(module, optimizer, 3)
    lower, optimizer = scheduled(schedule, None)
    lower.on_load_checkpoint(kept)
    optimizer.load_state_dict(kept["optimizer"])
    slow_down([optimizer], {"rollbacks": [{"to": 10}, {"to": 10}]}, 10)
    lower.on_train_start()
    assert rates(lower, optimizer, 3) == pytest.approx([rate / 2 for rate in found])


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("torch.optim.lr_scheduler.CosineAnnealingLR", r"model\.schedule: CosineAnnealingLR cannot be made \(.*T_max"),
        ("torch.optim.lr_scheduler.LambdaLR", r"model\.schedule: LambdaLR cannot be made \(.*lr_lambda"),
        ("torch.optim.lr_scheduler.SequentialLR", r"model\.schedule: SequentialLR cannot be made"),
        ("torch.nn.Identity", r"model\.schedule: Identity must be a scheduler of torch\.optim\.lr_scheduler"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line_before_a_folder_is_made(run, tmp_path, target, reason):
    with pytest.raises(BadInput, match=reason) as told:
        run("wrong", f"model.schedule={{_target_:{target},_partial_:true}}")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "wrong").exists()


def test_a_schedule_that_ends_before_the_run_is_one_line():
    module, optimizer = scheduled(partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3))
    with pytest.raises(BadInput, match=r"model\.schedule: ends before the run does \(.*3"):
        rates(module, optimizer, 9)


def test_a_cosine_in_a_run_follows_its_batches(run):
    cosine = "model.schedule={_target_:torch.optim.lr_scheduler.CosineAnnealingLR,_partial_:true,T_max:8}"
    groups = checkpoint.read(run("cosine", cosine, "trainer.max_images=16") / "checkpoints/last.ckpt")["optimizers"][0]
    assert groups["param_groups"][0]["lr"] == pytest.approx(1e-3 / 2)  # half of the way after 4 of 8 batches


def test_a_score_of_nan_ends_and_lowers_as_one_that_is_no_better():
    stop = EarlyStop("val/mae", 0.0, 2)
    nan = {"val/mae": float("nan"), "val/loss": float("nan")}
    assert stop.update(nan) is None
    assert stop.update({"val/mae": 0.5}) is None
    assert (stop.best, stop.waited) == (0.5, 0)
    assert stop.update(nan) is None
    assert "has not fallen" in stop.update(nan)
    assert Threshold("val/mae", 1.0).update(nan) is None
    module, optimizer = scheduled(partial(torch.optim.lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0))
    for loss, rate in ((nan["val/loss"], 0.05), (0.5, 0.05), (0.4, 0.05), (nan["val/loss"], 0.025)):
        module.after_validation({"val/loss": loss})
        assert optimizer.param_groups[0]["lr"] == rate


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_the_best_score_and_is_always_beaten(mode):
    module = ReconstructionModule(Halves(), SGD, losses.MSE(), **SHARED)
    module.monitor = ("val/x", mode)
    plan = SimpleNamespace(config={"data": {"batch_size": 4}}, options=None)
    recorder = Validation(session=Session(plan, None, None))
    for value, best in ((math.nan, None), (math.inf, None), (0.5, 0.5), (math.nan, 0.5), (-math.inf, 0.5)):
        recorder.compare(module, {"val/x": value})
        assert (recorder.session.best or {}).get("value") == best
    recorder.session.best = {
        "metric": "val/x",
        "mode": mode,
        "value": math.nan,
        "images": 0,
    }  # of an older run
    recorder.compare(module, {"val/x": 0.7})
    assert recorder.session.best["value"] == 0.7


def test_a_metric_that_is_not_scored_is_named(run):
    with pytest.raises(BadInput, match=r"model.stop.metric=val/nothing: not scored; must be one of .*val/mae"):
        run("wrong", "model/stop=threshold", "model.stop.metric=val/nothing", "trainer.max_images=16")


def test_rescaling_knows_ranges_without_an_end():
    values = torch.tensor([0.0, 0.5, 1.0, 3.0])
    assert torch.equal(rescale(values, (0.0, float("inf")), (-1.0, 1.0)), torch.tensor([-1.0, 0.0, 1.0, 5.0]))


def test_means_are_those_of_all_batches_and_survive_a_save():
    """Beyond what is kept before it is added up; figures of whole batches too."""
    draw = torch.Generator().manual_seed(0)
    values, logits = torch.randn(150, generator=draw), torch.randn(150, 4, generator=draw)
    means = RunningMeans(logits=lambda x: {"logit/mean": x.mean(), "logit/large": (x > 1).float().mean()})
    for n, value in enumerate(values):
        if n in (10, 70):
            taken, means = means, RunningMeans(**means._figures)
            means.load_state_dict(taken.state_dict())
        means.add(value=value)
        means.keep("logits", logits[n])
        assert set(means.numbers()) <= {"value", "logits", "logit/mean", "logit/large"}
    found = means.drain()
    expected = {"value": values.mean(), "logit/mean": logits.mean(), "logit/large": (logits > 1).float().mean()}
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-6)
    assert means.drain() == {}
    means.add(value=torch.tensor(1.0))
    means.add(value=torch.tensor(float("nan")))
    assert not means.numbers()["value"].isfinite().all()


def test_optimisers_step_in_one_kernel_unless_told_otherwise():
    net = torch.nn.Linear(2, 2)
    for factory, fused in (
        (partial(torch.optim.Adam, lr=0.1), True),
        (partial(torch.optim.Adam, lr=0.1, fused=False), False),
        (partial(torch.optim.Adam, lr=0.1, foreach=True), None),
        (partial(torch.optim.Adamax, lr=0.1), None),
        (lambda parameters: torch.optim.Adam(parameters, 0.1), None),
    ):
        assert optimizer_of(factory, net).param_groups[0].get("fused") is fused


def test_the_kernel_steps_as_the_plain_optimiser():
    def trained(**keywords):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(1))
        images = torch.randn(5, 3, 7, 9)
        net(images)
        optimizer = optimizer_of(partial(torch.optim.Adam, lr=1e-2, **keywords), net)
        for _ in range(20):
            optimizer.zero_grad()
            (net(images) - 1).square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    assert torch.allclose(trained(), trained(fused=False), atol=1e-5)
