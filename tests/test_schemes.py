"""Reconstruction, latent and translation: what a step does, by hand; ends, schedules, and what testing leaves alone."""

import copy
import json
import random
from functools import partial

import pytest
import torch
from test_every_pair import FACES, SMALL
from torch import nn

from faceforge import checkpoint, config, losses, streams, training
from faceforge.errors import BadInput
from faceforge.modules.latent import LatentModule
from faceforge.modules.reconstruction import ReconstructionModule
from faceforge.modules.scheme import Means, optimizer_of, rescale
from faceforge.modules.stops import EarlyStop, Threshold
from faceforge.modules.translation import TranslationModule
from faceforge.networks.latent import Decoder, Encoder, GaussianCode, ReluCode
from faceforge.networks.patch import PatchDiscriminator
from faceforge.networks.superres import PublishedSuperres, PublishedSuperresDiscriminator

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

    def step(optimizer, loss, clip_norm):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    module.step_optimizer = step
    return module


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


def faces(count=4):
    batch = pair(count, 16, 16)
    return {"input": batch["target"], "target": batch["target"]}


def by_hand(module, batch, position):
    """Loss of pixels and divergence of the evidence lower bound, written out."""
    network = module.network
    mean, log_variance = network["code"](network["encoder"](batch["input"]))
    noise = torch.from_numpy(streams.normal(3, "posterior", range(position, position + len(mean)), (6,))).float()
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
    with torch.no_grad():
        for weight in judge.parameters():
            weight -= 0.1 * weight.grad
    (-torch.sigmoid(judge(x, made)).log().mean() + 100 * (made - y).abs().mean()).backward()
    with torch.no_grad():
        for weight in generator.parameters():
            weight -= 0.1 * weight.grad
    module.training_step(batch, 0)
    for mine, its in ((module.generator, generator), (module.discriminator, judge)):
        for a, b in zip(mine.parameters(), its.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert module.means.drain()["loss/discriminator"] == pytest.approx(float(2 * loss), rel=1e-5)
    assert all(weight.grad is None for weight in module.parameters())


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
    monkeypatch.setattr("faceforge.modules.callbacks.write_curves", lambda folder: None)  # tested elsewhere, and slow

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
    module = config.build(config.plain(config._compose(overrides), overrides)["model"])
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


def test_a_metric_that_is_not_scored_is_named(run):
    with pytest.raises(BadInput, match=r"model.stop.metric=val/nothing: not scored; one of .*val/mae.* is"):
        run("wrong", "model/stop=threshold", "model.stop.metric=val/nothing", "trainer.max_images=16")


def test_rescaling_knows_ranges_without_an_end():
    values = torch.tensor([0.0, 0.5, 1.0, 3.0])
    assert torch.equal(rescale(values, (0.0, float("inf")), (-1.0, 1.0)), torch.tensor([-1.0, 0.0, 1.0, 5.0]))


def test_means_are_those_of_all_batches_and_survive_a_save():
    """Beyond what is kept before it is added up; figures of whole batches too."""
    draw = torch.Generator().manual_seed(0)
    values, logits = torch.randn(150, generator=draw), torch.randn(150, 4, generator=draw)
    means = Means(logits=lambda x: {"logit/mean": x.mean(), "logit/large": (x > 1).float().mean()})
    for n, value in enumerate(values):
        if n in (10, 70):
            taken, means = means, Means(**means._figures)
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
