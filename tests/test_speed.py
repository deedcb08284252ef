"""No hidden waiting, the switches for layout and compilation, `faceforge bench`, benchmarks/speed, short forms."""

import shutil
import sys
from unittest import mock

import pytest
import torch
from conftest import TINY
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import measure as speed
from benchmarks.speed import pace
from faceforge import config
from faceforge.engine import bench, checkpoint, training
from faceforge.errors import BadInput
from faceforge.losses import gradient_penalty
from faceforge.schemes import ema

SLOW = bench.Choice("OMP_NUM_THREADS=9", 9, {})
LAYOUT = bench.Choice("trainer.channels_last=true", None, {"channels_last": True})
SMALL = [word for word in TINY if not word.startswith("model.")]
SCHEMES = {
    "adversarial": [w for w in TINY if w.startswith("model.")],
    "relativistic-augmented": [
        *(w for w in TINY if w.startswith("model.")),
        "model.augment_policy=[color,translation,cutout]",
        "model.reuse_fakes=true",
    ],
    "reconstruction": ["model=conv_superres", "data.size=16"],
    "latent": ["model=latent_editor", "model/code=gaussian", "data.size=16"],
    "translation": [
        *("model=pix2pix", "data.size=16", "model.generator.width=4", "model.discriminator.layers=1"),
        *("model/loss=l1", "model.adversarial_weight=1"),
    ],
}


@pytest.fixture(autouse=True)
def one_thread(_threads):
    """As the benchmark measures: a second thread that finds its core taken spins, and counts as work."""
    torch.set_num_threads(1)


def parts(tmp_path, *overrides):
    chosen = config.compose([*SMALL, f"run_dir={tmp_path / 'x'}", f"data.cache={tmp_path / 'cache'}", *overrides])
    module, data = training.build(chosen)
    data.prepare(progress=False)
    data.clock = module.clock
    return module, data


# --------------------------------------------------------------------------------------------------- hidden waiting

METHODS = ("tolist", "cpu")  # which torch dispatches nowhere, or not on the CPU
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "unique", "masked_select", "equal")


class Waits(TorchDispatchMode):
    """Counts what would make a host wait for its device."""

    def __init__(self):
        super().__init__()
        self.found = []
        self._patches = [mock.patch.object(torch.Tensor, name, self._noted(name)) for name in METHODS]

    def _noted(self, name):
        real = getattr(torch.Tensor, name)

        def method(tensor, *arguments, **more):
            if tensor.dtype != torch.int64:  # positions never were on a device
                self.found.append(name)
            return real(tensor, *arguments, **more)

        return method

    def __enter__(self):
        for patch in self._patches:
            patch.start()
        return super().__enter__()

    def __exit__(self, *error):
        for patch in self._patches:
            patch.stop()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if any(word in name for word in WAITS):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def counted(module, data, steps=4):
    """What waits in a few steps, from the loader to the averages, in the order that Lightning calls them."""
    loader, found = iter(data.train_dataloader()), Waits()
    with speed.driven(module):
        for number in range(steps + 1):
            batch = next(loader)
            with found if number else mock.MagicMock():  # an optimiser's first step makes its state
                module.training_step(data.on_after_batch_transfer(batch, 0), number)
    return found.found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_step_waits_for_no_device(tmp_path, scheme):
    module, data = parts(tmp_path, *SCHEMES[scheme])
    with mock.patch.object(torch.Tensor, "numpy", only_host(torch.Tensor.numpy)):
        found = counted(module, data)
    # the steps of single-tensor Adam are counted on the host, in a tensor of its own
    assert [name for name in found if name != "_local_scalar_dense"] == []
    with mock.patch.object(torch.optim.Adam, "step", return_value=None):
        assert counted(*parts(tmp_path, *SCHEMES[scheme])) == []


def only_host(numpy):
    """Arrays are made of positions alone, which never were on a device."""

    def checked(self, *arguments, **more):
        assert self.dtype == torch.int64
        return numpy(self, *arguments, **more)

    return checked


@pytest.mark.parametrize("wait", ["__float__", "__bool__", "item", "tolist", "cpu", "nonzero"])
def test_the_counter_sees_what_waits(wait):
    with Waits() as found:
        getattr(torch.ones(()), wait)()
    assert found.found


# --------------------------------------------------------------------------------------------------------- switches


def losses(module, data, steps=3):
    loader = iter(data.train_dataloader())
    found = []
    with speed.driven(module):
        for number in range(steps):
            module.training_step(data.on_after_batch_transfer(next(loader), 0), number)
            found.append(module.means.drain())
    return found


def assert_close(first, second):
    """Of the first step to rounding; from then on Adam makes a step of the sign of gradients that are nearly 0."""
    assert len(first) == len(second)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        assert one == pytest.approx(other, rel=2e-2 if number else 1e-4, abs=1e-3 if number else 1e-5)


PUBLISHED = ["experiment=published/dcgan_tutorial", "data.size=64", "data.source.count=40"]


@pytest.mark.slow
def test_channels_last_computes_the_same(tmp_path):
    plain, switched = (parts(tmp_path, *PUBLISHED, f"trainer.channels_last={on}") for on in ("false", "true"))
    last = {"memory_format": torch.channels_last}
    assert [m.generator.layers[3].weight.is_contiguous(**last) for m in (plain[0], switched[0])] == [False, True]
    assert_close(losses(*plain, steps=2), losses(*switched, steps=2))


@pytest.mark.slow
def test_channels_last_resumes_in_the_same_bits(tiny, resume):
    again = ["trainer.channels_last=true", "model.val_samples=0"]
    whole, half = tiny("whole", "trainer.max_images=40", *again), tiny("half", "trainer.max_images=20", *again)
    resume(half, "trainer.max_images=40")
    first, second = (checkpoint.read(folder / "checkpoints" / "last.ckpt") for folder in (whole, half))
    assert all(torch.equal(first["state_dict"][key], value) for key, value in second["state_dict"].items())


def test_penalties_are_in_float32_under_autocast():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = gradient_penalty(net, torch.rand(2, 3, 4, 4).bfloat16())
    assert penalty.dtype == torch.float32
    assert float(penalty) == pytest.approx(float(net[1].weight.square().sum()), rel=1e-6)


def test_penalties_never_meet_a_compiled_network(tmp_path):
    """What stands in for the compiled discriminator cannot be differentiated twice."""
    module, data = parts(tmp_path, *SCHEMES["adversarial"], "model.penalty_every=1", "trainer.compile=true")
    assert module.compiles
    called = []

    def stand_in(network):
        def run(*inputs):
            called.append(network)
            return network(*inputs)

        run.output_range = getattr(network, "output_range", None)
        return run

    with mock.patch.object(torch, "compile", stand_in):
        module.on_fit_start()
    penalised = []
    real = sys.modules["faceforge.schemes.adversarial"].gradient_penalty
    with mock.patch(
        "faceforge.schemes.adversarial.gradient_penalty",
        lambda network, images: penalised.append(network) or real(network, images),
    ):
        losses(module, data, steps=2)
    assert penalised == [module.discriminator] * 4
    assert {module.generator, module.discriminator} == set(called)
    assert not any("orig_mod" in key for key in module.state_dict())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.parametrize("scheme", ["adversarial", "reconstruction", "translation", "latent"])
def test_compiled_computes_the_same(tmp_path, scheme):
    plain, compiled = (parts(tmp_path, *SCHEMES[scheme], f"trainer.compile={on}") for on in ("false", "true"))
    compiled[0].on_fit_start()
    assert compiled[0]._compiled
    assert_close(losses(*plain), losses(*compiled))


def test_shared_fakes_are_judged_twice_and_drawn_once(tmp_path):
    module, data = parts(tmp_path, *SCHEMES["adversarial"], "model.reuse_fakes=true")
    drawn, draw = [], module.noise
    module.noise = lambda purpose, *more: drawn.append(purpose) or draw(purpose, *more)
    losses(module, data, steps=2)
    assert drawn == ["z/discriminator"] * 2
    assert module.clock.generator_steps == 2


# ---------------------------------------------------------------------------------------------------- faceforge bench


def test_bench_suggests_what_is_faster(monkeypatch):
    monkeypatch.setattr(bench, "candidates", lambda gpus, compiled: iter([SLOW, LAYOUT]))
    times = {"": 2.0, "OMP_NUM_THREADS=9": 2.1, "trainer.channels_last=true": 1.0}
    monkeypatch.setattr(bench, "step_seconds", lambda config, choice, seconds: times[choice.words])
    lines = bench.bench(["seed=1"], 1.0, False)
    assert [line.split()[0] for line in lines[1:3]] == ["OMP_NUM_THREADS=9", "trainer.channels_last=true"]
    assert lines[2].endswith("2.00 times as fast")
    assert lines[3] == "Suggested: python train.py seed=1 trainer.channels_last=true"


@pytest.mark.slow
def test_bench_times_a_real_step(capsys):
    lines = bench.bench([*TINY, "seed=1"], 0.05, False)
    assert lines[-1].startswith("Suggested: ")
    assert any("trainer.channels_last=true" in line for line in lines[1:-1])


def test_bench_refuses_what_train_would():
    with pytest.raises(BadInput, match="unknown"):
        bench.bench(["model.no_such_key=1"], 1.0, False)
    with pytest.raises(BadInput, match="--seconds=0"):
        bench.bench([], 0.0, False)


# ---------------------------------------------------------------------------------------------------------- averages


def test_averages_follow_tensors_that_were_replaced():
    """Moving a network puts other tensors into the places that the average looks at."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ema.averaged_copy(network)
    ema.update(average, network, 0.5)
    for module in (network, average):
        module[1].running_mean = torch.full((2,), float(module is network))
        module[0].weight.data = torch.full((2, 2), 2.0 * (module is network))
    network[1].num_batches_tracked += 7
    ema.update(average, network, 0.25)
    assert average[1].running_mean.tolist() == [0.75, 0.75]
    assert average[0].weight.tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert int(average[1].num_batches_tracked) == 7


# --------------------------------------------------------------------------------------------------- benchmarks/speed


def turns_of(**found):
    turns = pace.Turns()
    for name, seconds in found.items():
        for cpu in seconds:
            turns.add(name.replace("_", " ").replace("  ", ", "), pace.Turn(cpu, cpu))
    return turns


def test_the_least_of_clean_turns_counts():
    turns = pace.Turns()
    for cpu, wall in ((1.0, 2.0), (1.4, 1.4), (1.3, 1.3), (1.5, 1.5)):
        turns.add("a", pace.Turn(cpu, wall))
    assert turns.least("a") == 1.3
    assert turns.about()["a"] == {"turns": 4, "rejected": 1, "cpu_ms": 1300.0}


def test_where_nothing_was_clean_all_count():
    turns = pace.Turns()
    for cpu in (3.0, 2.0):
        turns.add("a", pace.Turn(cpu, 2 * cpu))
    assert turns.least("a") == 2.0
    assert speed.disturbed({"turns": turns.about()})  # and its line says so
    for _ in range(3):
        turns.add("a", pace.Turn(4.0, 4.0))
    assert not speed.disturbed({"turns": turns.about(), "batch": 3})


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (1, None),
        (2, None),
        (3, "plain"),
        (4, "logged"),
        (9, "plain, penalty"),
        (12, "saved"),
        (25, "plain, penalty"),
        (24, "saved"),
    ],
)
def test_kinds_of_steps(step, kind):
    assert speed.kind_of(step, log=4, save=12, penalty=8) == kind


def test_a_window_is_put_together_from_single_steps():
    turns = turns_of(plain=[1.0, 1.1], logged=[1.5], saved=[4.0], plain__penalty=[3.0])
    for name, cpu in (("bare plain", 0.9), ("bare logged", 0.8), ("bare plain, penalty", 2.5)):
        turns.add(name, pace.Turn(cpu, cpu))
    ours, bare = speed.window(turns, steps=16, logs=4, penalty=8)
    assert ours == pytest.approx(14 * 1.0 + 2 * 3.0 + 4 * 0.5 + 3.0)
    assert bare == pytest.approx(14 * 0.8 + 2 * 2.5)


TREE = """
def measure_training(name, folder, steps, lean=True):
    with open(folder.parent / "calls", "a") as file:
        file.write(f"{name} {folder.name} {steps} {lean}\\n")
    if name == "missing":
        raise KeyError(name)
    return len((folder.parent / "calls").read_text().splitlines()) / 10, {"batch": 3}
"""


@pytest.fixture
def tree(tmp_path):
    """Files of a commit in which measuring is counting."""
    for package in ("benchmarks", "benchmarks/speed"):
        (tmp_path / "tree" / package).mkdir(parents=True)
        (tmp_path / "tree" / package / "__init__.py").touch()
    (tmp_path / "tree" / "benchmarks" / "speed" / "measure.py").write_text(TREE)
    return tmp_path / "tree"


def test_each_figure_of_a_training_is_of_a_fresh_process_in_turns(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(speed.afresh, "ROOT", tree)
    monkeypatch.setattr(speed.afresh, "unpacked", lambda commit, folder: tree)
    (tmp_path / "place").mkdir()
    found = speed.afresh.measured("toy", tmp_path / "place", 4, 2, "abc")
    assert list(found) == ["ours", "lightnings_loop", "before"]
    assert [[ratio for ratio, _ in figures] for figures in found.values()] == [[0.2, 0.4]] * 3
    calls = (tmp_path / "place" / "lightnings_loop" / "calls").read_text().splitlines()
    assert calls == ["toy runs 2 False", "toy runs 4 False"] * 2
    assert speed.afresh.usual(found["ours"] + [(0.3, {"batch": 5})]) == (
        0.3,
        {"processes": [0.2, 0.4, 0.3], "batch": 5},
    )


def test_a_commit_or_a_setting_that_is_not_there_is_one_line(tree, tmp_path):
    with pytest.raises(BadInput, match=r"--beside nowhere: .*nowhere"):
        speed.afresh.unpacked("nowhere", tmp_path)
    (tmp_path / "place").mkdir()
    with pytest.raises(BadInput, match=r"(?s)measuring missing in .* ended with 1: .*KeyError"):
        speed.afresh.once(tree, "missing", tmp_path / "place" / "runs", 4, "lean")


def test_the_tutorial_step_has_our_losses():
    ratio, apart, _ = speed.measure_step(1, 2, ["model.reuse_fakes=true"])
    assert ratio > 0
    assert apart < 1e-5


@pytest.mark.slow
def test_feeding_is_much_cheaper_than_one_by_one(tmp_path):
    ratio, _ = speed.measure_feed(tmp_path, rounds=2, number=64, batch=16)
    assert ratio > 4


@pytest.mark.slow
def test_packing_is_cheaper_than_pillow(tmp_path):
    ratio, _ = speed.measure_pack(tmp_path, rounds=2, number=60)
    assert ratio > 0.8
    assert len(speed.first_packing(tmp_path / "packing", tmp_path / "again").array) == 60


@pytest.mark.slow
def test_averaging_is_cheaper_than_torchs():
    found = speed.measure_ema(5, times=5)
    assert found["avg_fn"] > 2 * found["ours"]
