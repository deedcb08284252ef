"""Large batches and large networks: micro-batches, batch statistics of all ranks, activations computed twice."""

import threading
from functools import partial
from weakref import finalize

import pytest
import pytorch_lightning as pl
import torch
from conftest import TINY
from test_doors import Spies
from test_every_pair import FACES, SMALL
from test_processes import SPIED
from test_schemes import alone
from test_training import Enough
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.models import memory
from faceforge import config
from faceforge.engine import checkpoint, migration, training
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput
from faceforge.networks.dcgan import Variety
from faceforge.networks.recompute import recomputed
from faceforge.networks.unet import PublishedUNet, UNet
from faceforge.networks.wide import CnnGenerator, PublishedCnnGenerator
from faceforge.schemes import batch_statistics

# ------------------------------------------------------------------------------------------------- micro-batches

GAN = ["data.batch_size=12", "model.r2_gamma=0.1", "model.r1_gamma=0.1", "model.penalty_every=2"]
WHOLE = {
    "reconstruction": ["model=conv_superres", "model.clip_norm=0.01"],
    "latent": ["model=latent_editor", "data.channels=3"],
    "gan": [*GAN, "model.augment_policy=[color,translation,cutout]", "model.clip_norm=0.01"],
    "two to one": [*GAN, "model.discriminator_steps=2", "model.objective=hinge"],
    "shared fakes": [*GAN, "model.reuse_fakes=true", "model.discriminator.spectral_norm=true"],
    "noise image": [*GAN, "model=dcgan_cnn"],
    "translation": [
        *("model=pix2pix", "task=colorize", "data.size=[24,16]", "model/loss=l1"),
        *("model.adversarial_weight=1", "model.feature_weight=1"),
    ],
}


class Zero(nn.Module):
    def forward(self, features):
        return features.new_zeros(len(features), 1, *features.shape[-2:])


def without_statistics(network):
    """The network in double precision and with nothing that depends on a whole batch."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm | Variety):
                setattr(parent, name, Zero() if isinstance(child, Variety) else nn.Identity())
    for module in (network, *network.children()) if isinstance(network, nn.ModuleDict) else (network,):
        module.register_forward_pre_hook(lambda module, inputs: tuple(x.double() for x in inputs))
    return network.double()


def words_of(scheme, *more):
    chosen = WHOLE[scheme]
    model = next((word.partition("=")[2] for word in chosen if word.startswith("model=")), None)
    if model:
        return [*FACES, *SMALL[model], "data.batch_size=12", *chosen, *more]
    return [*TINY, *chosen, *more]


def after_steps(tmp_path, scheme, accumulate, lean=True, steps=4):
    """The module after some steps in double precision."""
    words = words_of(scheme, f"trainer.accumulate={accumulate}", "trainer.gpus=0", f"data.cache={tmp_path / 'c'}")
    chosen = config.compose(words)
    module, data = training.build(chosen)
    for name in ("network", "generator", "discriminator", "average"):
        if (network := getattr(module, name, None)) is not None:
            without_statistics(network)
    data.prepare(progress=False)
    data.clock = module.clock
    spy = pl.Callback() if lean else Spies()
    training.make_trainer(make_plan(chosen), [spy, Enough(steps)], module).fit(module, datamodule=data)
    assert module.lean == lean
    return module


def assert_alike(one, other, tolerance=1e-9):
    assert one.clock.state_dict() == other.clock.state_dict()
    theirs = other.state_dict()
    for name, value in one.state_dict().items():
        assert (value.double() - theirs[name].double()).abs().max() <= tolerance, name
    means = other.means.drain()
    assert one.means.drain() == {name: pytest.approx(mean, rel=1e-5, abs=1e-6) for name, mean in means.items()}


@pytest.mark.parametrize("scheme", WHOLE)
def test_micro_batches_add_up_to_their_batch(tmp_path, scheme):
    whole = after_steps(tmp_path, scheme, 1)
    moved = [name for name, weight in whole.named_parameters() if weight.dtype == torch.float64]
    assert len(moved) > 4
    assert_alike(whole, after_steps(tmp_path, scheme, 3))


def test_micro_batches_add_up_in_lightning_s_own_loop(tmp_path):
    assert_alike(after_steps(tmp_path, "gan", 1), after_steps(tmp_path, "gan", 2, lean=False))


def test_a_scaler_of_16_bits_steps_once_a_batch(tmp_path):
    """Micro-batches are scaled alike, the sum is unscaled once: with powers of two, the same as without a scaler."""
    from pytorch_lightning.plugins.precision import MixedPrecision

    class Scaled(MixedPrecision):
        def forward_context(self):
            return torch.autocast("cpu", enabled=False)

    steps = []

    def after(*plugins):
        words = words_of("gan", "trainer.accumulate=3", "trainer.gpus=0", f"data.cache={tmp_path / 'c'}")
        module, data = training.build(config.compose(words))
        module.step_optimizer = counted(module.step_optimizer, steps)
        data.prepare(progress=False)
        data.clock = module.clock
        settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        fitted = pl.Trainer(accelerator="cpu", limit_train_batches=4, max_epochs=1, plugins=list(plugins), **settings)
        fitted.fit(module, datamodule=data)
        return module.state_dict()

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=8)
    scaled, plain = after(Scaled("16-mixed", "cpu", scaler)), after()
    assert scaler.get_scale() == 2.0**11  # eight optimiser steps, not 24
    assert len(steps) == 16
    assert all(torch.allclose(scaled[name], value, atol=1e-6) for name, value in plain.items())


def counted(function, calls):
    def call(*args, **more):
        calls.append(args)
        return function(*args, **more)

    return call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.accumulate=3"], r"data\.batch_size=4: .* trainer\.accumulate=3 equal micro-batches"),
        (["trainer.accumulate=4", "trainer.processes=2"], r"batch_size=4 on 2 processes: .* trainer\.accumulate=4 "),
        (["trainer.accumulate=0"], r"trainer\.accumulate: 0 must be at least 1"),
        (["+trainer.extra.accumulate_grad_batches=2"], r"trainer\.extra\.accumulate_grad_batches: is decided"),
        (["+trainer.extra.sync_batchnorm=true"], r"trainer\.extra\.sync_batchnorm: is decided"),
    ],
)
def test_counts_that_contradict_each_other(tiny, tmp_path, words, said):
    with pytest.raises(BadInput, match=said):
        tiny("a", *words)
    assert not (tmp_path / "a").exists()


def test_a_floor_of_the_divergence_needs_the_whole_batch(tmp_path):
    words = words_of("latent", "model.free_nats=0.5", "trainer.accumulate=2")
    with pytest.raises(BadInput, match=r"trainer\.accumulate=2: model\.free_nats=0\.5 .* must be 0 or accumulate 1"):
        training.build(config.compose(words))


def test_a_scheme_with_one_loss_for_the_whole_batch_is_told():
    module, _ = training.build(config.compose([*TINY, "trainer.accumulate=2"]))
    module._trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(
        BadInput, match=r"trainer\.accumulate=2: AdversarialModule computes one loss for the whole batch"
    ):
        module.step_optimizer(module.configure_optimizers()[0], torch.zeros(()), None)


def test_a_resumed_run_keeps_its_micro_batches(tiny, resume):
    folder = tiny("a", "trainer.accumulate=2", "trainer.max_images=8")
    with pytest.raises(BadInput, match=r"trainer\.accumulate is 2 in this run, 4 was given"):
        resume(folder, "trainer.accumulate=4", "trainer.max_images=16")
    assert resume(folder, "trainer.max_images=16") == 0
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["config"]["trainer"]["accumulate"] == 2


def test_a_checkpoint_from_before_had_whole_batches():
    older = {"version": 3, "config": {"trainer": {"gpus": 0}}}
    trainer = migration.migrate(older)["config"]["trainer"]
    assert (trainer["accumulate"], trainer["sync_batchnorm"]) == (1, False)


# ------------------------------------------------------------------------------------- statistics of all ranks


class Ranks:
    """Stands in for torch.distributed: ranks are threads, and a sum waits for all of them."""

    def __init__(self, count):
        self.count, self.given, self.messages = count, {}, 0
        self.barrier = threading.Barrier(count, timeout=20)

    def get_world_size(self):
        return self.count

    def all_reduce(self, values):
        self.given[threading.get_ident()] = values.clone()
        self.barrier.wait()
        total = sum(self.given.values())
        self.barrier.wait()
        values.copy_(total)
        self.messages += 1

    def run(self, function, *parts):
        """``function(*part)`` on each rank; their results in order."""
        results, errors = [None] * self.count, []

        def work(rank):
            try:
                results[rank] = function(*(part[rank] for part in parts))
            except Exception as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


@pytest.fixture
def ranks(monkeypatch):
    made = Ranks(3)
    monkeypatch.setattr(batch_statistics, "distributed", made)
    return made


def normed(kind, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    norm = kind(4, **settings).to(dtype)
    with torch.no_grad():
        for weight in norm.parameters():
            weight.uniform_(0.5, 2)
    return norm


def passed(norm, x, target):
    """Output, gradients, and gradients of a penalty on the gradient, of the mean loss."""
    x = x.clone().requires_grad_(True)
    made = norm(x)
    loss = (made - target).square().mean()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    (loss + slope.square().sum()).backward()
    return [made.detach(), x.grad, *(weight.grad for weight in norm.parameters())]


KINDS = {
    "1d": (nn.BatchNorm1d, (6, 4), {}),
    "images": (nn.BatchNorm2d, (6, 4, 3, 5), {"momentum": 0.01, "eps": 1e-3}),
    "no weights": (nn.BatchNorm2d, (9, 4, 2, 2), {"affine": False, "momentum": None}),
    "no statistics": (nn.BatchNorm2d, (6, 4, 2, 3), {"track_running_stats": False}),
}


@pytest.mark.parametrize("case", KINDS)
def test_three_ranks_normalise_as_one(ranks, case):
    """Against torch on the whole batch: outputs, first and second derivatives, running statistics."""
    kind, shape, settings = KINDS[case]
    x, target = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = 3 * x + 50  # far from the running mean
    whole, each = normed(kind, **settings), [normed(kind, **settings) for _ in range(3)]
    batch_statistics.synchronise(each)
    expected = passed(whole, x, target)
    found = ranks.run(passed_by_share, each, x.chunk(3), target.chunk(3))
    assert ranks.messages > 0
    torch.testing.assert_close(torch.cat([one[0] for one in found]), expected[0])
    torch.testing.assert_close(torch.cat([one[1] for one in found]), expected[1])
    for number in range(2, len(expected)):  # weights' gradients add up, as each rank has a share of the loss
        torch.testing.assert_close(sum(one[number] for one in found), expected[number])
    for norm in each:
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(value, whole.state_dict()[name])


def passed_by_share(norm, x, target):
    """As ``passed``, for a rank whose loss is a third of the whole one."""
    x = x.clone().requires_grad_(True)
    made = norm(x)
    loss = (made - target).square().mean() / 3
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    (loss + slope.square().sum()).backward()
    return [made.detach(), x.grad, *(weight.grad for weight in norm.parameters())]


def test_variety_is_that_of_all_ranks(ranks):
    features = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(1)) + 2
    each = [Variety() for _ in range(3)]
    batch_statistics.synchronise(each)
    found = ranks.run(lambda variety, part: variety(part), each, features.chunk(3))
    torch.testing.assert_close(torch.cat(found), Variety()(features))


def test_only_networks_in_training_wait_for_each_other(ranks):
    norm, variety, x = nn.BatchNorm1d(4).eval(), Variety().eval(), torch.randn(3, 4)
    batch_statistics.synchronise([norm, variety])
    assert torch.equal(norm(x), nn.BatchNorm1d(4).eval()(x))  # alone: another rank would be waited for
    assert torch.equal(variety(x[..., None, None]), Variety()(x[..., None, None]))
    batch_statistics.release([norm, variety])
    assert torch.equal(norm.train()(x), nn.BatchNorm1d(4)(x))
    assert ranks.messages == 0


def test_sixteen_bits_keep_their_type_and_single_precision_sums(ranks):
    each = [nn.BatchNorm2d(4) for _ in range(3)]
    batch_statistics.synchronise(each)
    x = (torch.randn(6, 4, 8, 8) * 3 + 10).bfloat16()
    made = torch.cat(ranks.run(lambda norm, part: norm(part), each, x.chunk(3)))
    assert made.dtype == torch.bfloat16
    assert (made - nn.BatchNorm2d(4)(x.float())).abs().max() < 0.02


def weights(folder):
    return checkpoint.read(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.slow
def test_micro_batches_of_two_processes_add_up_to_their_batch(tiny, tmp_path, monkeypatch):
    """Whole runs in double precision; the networks note what they see, so each has a folder for it."""
    made = []
    for name, words in (("one", []), ("two", ["trainer.processes=2", "trainer.accumulate=4"])):
        (tmp_path / f"spy-{name}").mkdir()
        monkeypatch.setenv("FACEFORGE_SPY", str(tmp_path / f"spy-{name}"))
        made.append(weights(tiny(name, *SPIED, *words)))
    assert len(list((tmp_path / "spy-two").glob("seen-1-*"))) > 12  # four times as often as a whole batch
    doubles = [name for name, value in made[0].items() if value.dtype == torch.float64]
    assert len(doubles) > 6
    assert all((made[0][name] - made[1][name]).abs().max() <= 1e-6 for name in doubles)


BATCH = ["data.batch_size=12", "trainer.max_images=36", "trainer.checkpoint_every=36"]
BATCH += ["+model.optimizer_g.eps=1e-3", "+model.optimizer_d.eps=1e-3"]  # no steps along the signs of rounding errors


def distance(one, other):
    first, second = weights(one), weights(other)
    return max(float((value - second[name]).abs().max()) for name, value in first.items())


@pytest.mark.slow
def test_two_processes_with_shared_statistics_train_as_one(tiny):
    """Whole runs: the default networks, whose statistics are of the batch, and a batch of which each has a part."""
    two = tiny("two", *BATCH, "trainer.processes=2", "trainer.sync_batchnorm=true")
    assert distance(tiny("one", *BATCH), two) < 1e-5


@pytest.mark.slow
def test_two_processes_with_their_own_statistics_do_not(tiny):
    assert distance(tiny("one", *BATCH), tiny("apart", *BATCH, "trainer.processes=2")) > 1e-4


# ------------------------------------------------------------------------------------ activations computed twice


class Peak(TorchDispatchMode):
    """The most bytes of tensors, besides those of a network, that were alive at one time."""

    def __init__(self, network):
        super().__init__()
        self.now = self.most = 0
        self.known = {weight.untyped_storage()._cdata for weight in network.state_dict().values()}

    def __torch_dispatch__(self, function, types, arguments=(), more=None):
        made = function(*arguments, **(more or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage):
        place = storage._cdata
        if place not in self.known:
            self.known.add(place)
            self.now += storage.nbytes()
            finalize(storage, self.gone, place, storage.nbytes())
            self.most = max(self.most, self.now)

    def gone(self, place, size):
        self.known.discard(place)
        self.now -= size


def test_micro_batches_take_less_memory():
    """A step of pix2pix, whose outputs serve two networks: a quarter of the images at a time, less than half of it."""
    batch = {name: torch.rand(16, 3, 64, 48) * 2 - 1 for name in ("input", "target")}
    most = {}
    for parts in (1, 4):
        words = ["model=pix2pix", "data.size=[64,48]", "data.channels=3", "task=autoencode", *SMALL["pix2pix"]]
        module = alone(config.build(config.compose(words)["model"]))
        module.divide(parts)
        with Peak(module) as peak:
            module.training_step(batch, 0)
        most[parts] = peak.most
    assert most[4] < 0.45 * most[1]


NETWORKS = {
    "unet": (partial(UNet, [64, 48], width=8, dropout=0.5, norm="batch"), (3, 64, 48)),
    "published unet": (partial(PublishedUNet, [64, 64]), (3, 64, 64)),
    "wide": (partial(CnnGenerator, 64, width=8), (3, 64, 64)),
    "published wide": (partial(PublishedCnnGenerator, 24), (3, 24, 24)),
    "depthwise": (partial(PublishedCnnGenerator, 24, depthwise=True), (3, 24, 24)),
}


def stepped(network, x):
    """Output, gradients and statistics of one pass there and back; bytes kept between, and at most."""
    torch.manual_seed(5)
    with Peak(network) as peak:
        made = network(x)
        kept = peak.now
        made.square().mean().backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    return {"made": made.detach(), **gradients, **dict(network.named_buffers())}, kept, peak.most


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_computed_twice_change_nothing_but_the_memory(name):
    kind, shape = NETWORKS[name]
    x, found = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1)), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = kind(gradient_checkpointing=checkpointing)
        found.append(stepped(network, x))
    (once, kept, most), (twice, less, least) = found
    assert once.keys() == twice.keys()
    assert all(torch.equal(value, twice[name]) for name, value in once.items())
    assert less < 0.6 * kept
    assert least < most * (1 if "published" in name else 0.8)  # at this size, gradients of weights weigh more


def test_in_eval_mode_and_without_gradients_nothing_is_computed_twice():
    network, calls = UNet([32, 32], width=4, gradient_checkpointing=True), []
    network.down[0].register_forward_pre_hook(lambda *_: calls.append(1))
    x = torch.rand(2, 3, 32, 32)
    network.eval()(x).sum().backward()
    with torch.no_grad():
        network.train()(x)
    assert len(calls) == 2
    network(x).sum().backward()
    assert len(calls) == 4


class Spectral(nn.Sequential):
    def __init__(self):
        super().__init__(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_blocks_within_blocks_move_their_buffers_once():
    """Batch norm counts one pass, and the power iteration of spectral norm goes one step, as without it."""
    x, states, slopes = torch.randn(8, 4), [], []
    for nested in (False, True):
        torch.manual_seed(0)
        inner = Spectral()
        outer = Within(inner)
        torch.manual_seed(1)
        made = recomputed(outer, x) if nested else inner(x)
        made.square().sum().backward()
        states.append({name: value.clone() for name, value in inner.state_dict().items()})
        slopes.append([weight.grad for weight in inner.parameters()])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert states[1]["1.num_batches_tracked"] == 1
    assert all(map(torch.equal, *slopes))


class Within(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return recomputed(self.block, x)


def test_bytes_of_the_largest_published_network():
    """By hand: four bytes a weight, as many for its gradient, and twice as many for Adam."""
    found = memory.bytes_of("latent_mse")
    assert found["parameters"] == 81_286_339
    assert found["weights"] == found["gradients"] == found["average"] == 4 * 81_286_339
    assert 0 < found["optimiser"] - 8 * 81_286_339 < 1000  # the counts of steps
    assert found["activations"] > 32 * 128 * 128 * 32 * 4  # one map of 32 channels of 32 images
    with_blocks = memory.bytes_of("pix2pix", "model.generator.gradient_checkpointing=true")
    assert with_blocks["activations"] < 0.8 * memory.bytes_of("pix2pix")["activations"]
