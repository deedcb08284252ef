"""What users train on a GPU, on a simulated one: every scheme and choice, to the CPU's bits in 32 bits."""

import math
import sys

import pytest
import simulated
import torch
from on_accelerator import LIMIT, ON_IT, SCHEMES, again, machine, place, record, train  # noqa: F401
from test_training import same

from benchmarks.survival.guard import Fault
from faceforge import config, counter_rng_torch
from faceforge.engine import checkpoint, cluster, devices, training
from faceforge.engine.cluster import Launch
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput, GuardStop

pytestmark = pytest.mark.simulated


# ------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_trains_to_the_bits_of_the_cpu(place, scheme):
    about = record(place / scheme)
    assert (about["device"], about["precision"], about["status"]) == ("1 x Simulated Accelerator", "32", "finished")
    on_cpu = train(scheme, place / f"{scheme}-cpu", "trainer.gpus=0")
    same(place / scheme, on_cpu)


def test_micro_batches_and_activations_computed_twice_train_to_the_bits_of_the_cpu(place):
    words = ["trainer.accumulate=2", "model.generator.gradient_checkpointing=true", "model.generator.dropout=0"]
    same(train("colour", place / "large", *ON_IT, *words), train("colour", place / "large-0", *words, "trainer.gpus=0"))


@pytest.mark.parametrize("scheme", ["gan", "latent", "colour"])
def test_resumed_is_the_same_as_never_stopped(place, scheme):
    parts = train(scheme, place / f"{scheme}-parts", *ON_IT, "trainer.max_images=8")
    again(parts, LIMIT)
    same(place / scheme, parts)


@pytest.mark.parametrize(
    ("asked_for", "native", "resolved"), [("auto", True, "bf16"), ("auto", False, "16"), ("auto", None, "32")]
)
def test_a_precision_trains_resumes_and_goes_on_on_the_cpu(place, monkeypatch, asked_for, native, resolved):
    monkeypatch.setattr(torch.sim, "native_bf16", native)
    if native is None:  # torch does not say, as of Apple's GPUs
        monkeypatch.delattr(simulated.Sim, "is_bf16_supported")
    words = [f"trainer.precision={asked_for}", "model.clip_norm=1.0", "model.r1_gamma=0.05", "model.penalty_every=2"]
    whole, parts = (place / f"{name}-{native}" for name in ("whole", "parts"))
    train("gan", whole, "trainer.gpus=null", *words)
    kept = checkpoint.read(whole / "checkpoints" / "last.ckpt")
    assert kept["config"]["trainer"]["precision"] == record(whole)["precision"] == resolved
    assert ("MixedPrecision" in kept) == (resolved == "16")
    assert all(v.isfinite().all() for v in kept["state_dict"].values())
    if resolved == "32":
        return
    train("gan", parts, "trainer.gpus=1", *words, "trainer.max_images=8")
    again(parts, LIMIT)
    same(whole, parts)
    again(parts, "trainer.gpus=0", "trainer.max_images=20")
    assert (record(parts)["precision"], record(parts)["images"]) == ("32", 20)


def test_a_fault_that_comes_once_leaves_no_trace_where_the_run_goes_back(place, capsys):
    fault = Fault("weight", math.nan, 12)
    with fault.planted():
        folder = train("gan", place / "rolled", *ON_IT, "guard.action=rollback", "guard.every=1")
    assert "(rollback 1 of 3)" in capsys.readouterr().out
    same(place / "gan", folder)


def test_noise_of_the_device_trains_and_resumes(place, monkeypatch):
    """In bf16, with all draws where the network is, as on CUDA."""
    monkeypatch.undo()
    monkeypatch.setattr(torch.sim, "count", 1)
    counter_rng_torch.exact.cache_clear() if hasattr(counter_rng_torch.exact, "cache_clear") else None
    words = ["trainer.gpus=1", "trainer.deterministic=true"]
    whole = train("cnn", place / "whole-noise", *words)
    parts = train("cnn", place / "parts-noise", *words, "trainer.max_images=8")
    again(parts, LIMIT)
    torch.use_deterministic_algorithms(False)
    same(whole, parts)


def test_numbers_that_are_no_longer_finite_stop_the_run(place):
    with Fault("loss", math.inf, 12).planted(), pytest.raises(GuardStop, match="NaN or infinite"):
        train("gan", place / "stopped", *ON_IT, "guard.every=1")


# ------------------------------------------------------------------------------------------------ what it is asked


def test_null_takes_all_and_no_more_than_share_a_batch(monkeypatch):
    for found, batch, used in ((1, 64, 1), (4, 64, 4), (3, 64, 2), (8, 4, 4), (2, 1, 1), (0, 64, 0)):
        monkeypatch.setattr(torch.sim, "count", found)
        assert devices.gpus(None, batch) == used
    monkeypatch.setattr(torch.sim, "count", 4)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert devices.gpus(None, 64) == 1


def test_a_notebook_with_two_gpus_trains_on_one_and_says_what_to_type_for_both(monkeypatch, place, capsys):
    monkeypatch.setattr(torch.sim, "count", 2)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    instead = r"a notebook trains in one process; type !python train\.py \.\.\. trainer\.gpus=2$"
    with pytest.raises(BadInput, match=rf"^trainer\.gpus: 2 requested, but {instead}"):
        train("gan", place / "both", "trainer.gpus=2")
    capsys.readouterr()
    train("gan", place / "notebook", "trainer.gpus=null", "trainer.precision=32")
    said = capsys.readouterr().out
    assert (
        "This machine has 2 GPUs, a notebook trains on one; to use all, stop and type !python train.py resume=" in said
    )


def test_a_rank_from_outside_uses_the_gpu_of_its_local_rank(monkeypatch, place):
    """Or the only one that a scheduler shows it; the device that its Trainer is given."""
    monkeypatch.setattr(torch.sim, "count", 4)
    ranks = [Launch("torchrun", local_rank=rank, processes=4) for rank in range(4)]
    assert [devices.gpus_of_ranks(None, rank) for rank in ranks] == [4] * 4
    assert [devices.index(rank) for rank in ranks] == [0, 1, 2, 3]
    monkeypatch.setattr(cluster, "_in_force", ranks[2:3])
    monkeypatch.setattr("torch.distributed.get_default_backend_for_device", lambda device: "gloo")
    plan = make_plan(config.compose([*SCHEMES["gan"], LIMIT, "trainer.gpus=null", "trainer.precision=32"]))
    trainer = training.make_trainer(plan, [], group=object())
    assert (plan.world, trainer.strategy.root_device, trainer.num_devices) == (4, torch.device("sim", 2), 1)
    with pytest.raises(
        BadInput, match=r"trainer\.gpus: 2 requested, but torchrun started 4 .* use --nproc-per-node=2 or"
    ):
        devices.gpus_of_ranks(2, ranks[0])
    monkeypatch.setattr(torch.sim, "count", 3)
    with pytest.raises(BadInput, match=r"trainer\.gpus: torchrun started 4 processes on a machine with 3 GPUs"):
        devices.gpus_of_ranks(None, ranks[0])
    monkeypatch.setattr(torch.sim, "count", 1)
    assert (devices.gpus_of_ranks(None, ranks[3]), devices.index(ranks[3])) == (4, 0)
    assert devices.gpus_of_ranks(0, ranks[0]) == 0


def test_more_than_there_are_is_one_line():
    with pytest.raises(
        BadInput, match=r"^trainer\.gpus: 2 requested, this machine has 1 SIM GPU; use trainer\.gpus=1$"
    ):
        devices.gpus(2, 64)
    with pytest.raises(BadInput, match=r"^trainer\.gpus: -1 must be 0 \(the CPU\), a number of GPUs, or null"):
        devices.gpus(-1, 64)


def test_precision_by_static_rules(monkeypatch):
    monkeypatch.setattr(torch.sim, "native_bf16", False)
    with pytest.raises(BadInput, match=r"trainer\.precision: this GPU has no native bf16"):
        devices.precision("bf16", 1)
    with pytest.raises(BadInput, match=r"trainer\.precision: 16 is emulated on the CPU"):
        devices.precision("16", 0)
    assert devices.precision("auto", 0) == "32"


def test_seeds_and_forks_reach_the_device():
    device = devices.best()
    counter_rng_torch.seed(device, 5)
    first = torch.rand(3, device=device).cpu()
    with counter_rng_torch.fork_rng(device):
        torch.rand(3, device=device)
    second = torch.rand(3, device=device).cpu()
    counter_rng_torch.seed(device, 5)
    assert torch.equal(torch.rand(3, device=device).cpu(), first)
    assert torch.equal(torch.rand(3, device=device).cpu(), second)


def test_the_simulation_raises_where_a_gpu_would():
    there, here = torch.ones(2, device="sim"), torch.ones(2)
    with pytest.raises(RuntimeError, match=r"aten::add: all tensors must be on sim:0, found tensors of the CPU"):
        there + here
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    assert float((there + torch.tensor(1.0)).sum()) == 4  # a number without dimensions is welcome
