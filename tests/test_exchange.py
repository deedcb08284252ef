"""Means over ranks through shared memory: the numbers that messages give, and messages where there is none."""

import os
from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn

from faceforge.schemes import exchange

RANKS = 3
STEPS = 5


def networks(rank, dtype=torch.float32):
    """Odd sizes, a channels-last weight, batch statistics; gradients are set by ``fill``."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5, 1))
    return made.to(dtype).to(memory_format=torch.channels_last)


def fill(network, rank, step):
    """Gradients and statistics of their own for each rank and step."""
    made = torch.Generator().manual_seed(100 * step + rank)
    for number, parameter in enumerate(network.parameters()):
        if number != 1:  # one without a gradient, as frozen weights are
            noise = torch.randn(parameter.shape, generator=made, dtype=parameter.dtype)
            parameter.grad = noise.to(memory_format=torch.preserve_format).as_strided(
                parameter.shape, parameter.stride()
            )
    network[1].running_mean.copy_(torch.randn(5, generator=made, dtype=network[1].running_mean.dtype))


def lines(network):
    grads = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return torch.cat([*grads, network[1].running_mean])


def shared(place, rank, dtype, steps=STEPS):
    """What this rank holds after each step, and what the plain mean over all ranks is."""
    network, found = networks(rank, dtype), []
    optimizer, way = torch.optim.SGD(network.parameters(), lr=0.1), exchange.Exchange()
    for step in range(steps):
        fill(network, rank, step)
        expected = lines(network).double()
        distributed.all_reduce(expected)
        way.start(optimizer, [network])()
        found.append((lines(network), expected / RANKS))
    return found, way


def work(rank, place):
    torch.set_num_threads(1)
    exchange.MEMORY = Path(place, "memory")
    distributed.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=RANKS)
    told = {}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        told[name], way = shared(place, rank, dtype)
        told[f"{name} memory"] = [slot is not None for slot in way._slots.values()]
    exchange.MEMORY = Path(place, "memory" if rank else "nowhere")  # rank 0 cannot make the file
    told["none"], way = shared(place, rank, torch.float32, 2)
    told["none memory"] = [slot is not None for slot in way._slots.values()]
    exchange.MEMORY = Path(place, "memory")
    if rank == 2:  # a rank on another machine does not see it
        exchange._opened = lambda *_: None
    told["far"], way = shared(place, rank, torch.float32, 2)
    told["far memory"] = [slot is not None for slot in way._slots.values()]
    torch.save(told, f"{place}/rank{rank}")
    distributed.destroy_process_group()


def test_each_rank_holds_the_mean_whatever_way_it_came(tmp_path):
    (tmp_path / "memory").mkdir()
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=RANKS)
    told = [torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in range(RANKS)]
    for name, memory in (("float32", True), ("float64", True), ("none", False), ("far", False)):
        assert all(set(each[f"{name} memory"]) == {memory} for each in told), name
        for steps in zip(*(each[name] for each in told), strict=True):
            means = [found for found, _ in steps]
            assert all(torch.equal(mean, means[0]) for mean in means), name
            torch.testing.assert_close(means[0].double(), steps[0][1], rtol=1e-6, atol=1e-6)
    assert list((tmp_path / "memory").iterdir()) == []


def test_space_that_is_not_there_is_not_written_into(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not exchange._reserved(tmp_path / "file", 1000)


def test_a_file_of_another_machine_is_not_made_here(tmp_path):
    assert exchange._opened(str(tmp_path / "file"), 10, torch.float32) is None
    assert not (tmp_path / "file").exists()
