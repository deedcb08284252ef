"""Several processes train as one: the same images, the same z, the same gradients, one end for all."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY

from faceforge.engine import checkpoint
from faceforge.engine.run import Run
from faceforge.engine.strategy import raised_in_rank
from faceforge.errors import BadInput
from faceforge.io.workers import cores

SPIED = [
    "trusted_packages=[spies]",
    "model.generator._target_=spies.Generator",
    "model.discriminator._target_=spies.Discriminator",
    "model.optimizer_g._target_=spies.Sgd",
    "model.optimizer_d._target_=spies.Sgd",
    "~model.optimizer_g.betas",
    "~model.optimizer_d.betas",
    "model.augment_policy=[color,translation,cutout]",
    "model.penalty_every=2",
    "data.batch_size=32",
    "data.source.count=100",
    "trainer.max_images=96",
    "trainer.log_every=96",
    "trainer.sample_every=1000",
    "trainer.checkpoint_every=1000",
]


@pytest.fixture
def spied(tiny, tmp_path, monkeypatch):
    """What all ranks of a run saw: each kind by number, the ranks one after another."""

    def run(processes):
        folder = tmp_path / f"spy-{processes}"
        folder.mkdir()
        monkeypatch.setenv("FACEFORGE_SPY", str(folder))
        tiny(f"run-{processes}", *SPIED, f"trainer.processes={processes}")
        ranks = range(processes)
        counts = {kind: len(list(folder.glob(f"{kind}-0-*.pt"))) for kind in ("z", "seen", "gradient", "threads")}
        return {
            kind: [[torch.load(folder / f"{kind}-{rank}-{n}.pt") for rank in ranks] for n in range(count)]
            for kind, count in counts.items()
        }

    return run


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_sees_the_same_images_and_z_and_has_the_same_gradients(spied, processes):
    one, many = spied(1), spied(processes)
    assert len(one["z"]) == 6  # three batches, a z for each network's step
    for number, (alone, shared) in enumerate(zip(one["z"], many["z"], strict=True)):
        assert torch.equal(alone[0], torch.cat(shared)), number
    for number in range(2):  # real and generated images of the first step, before any weight moved
        alone, shared = one["seen"][number][0], torch.cat(many["seen"][number])
        assert torch.equal(alone, shared) if alone.dtype == torch.float32 else torch.allclose(alone, shared, atol=1e-12)
    reals = [n for n, seen in enumerate(one["seen"]) if seen[0].dtype == torch.float32]
    assert len(reals) >= 3
    for number in reals:
        assert torch.equal(one["seen"][number][0], torch.cat(many["seen"][number])), number
    assert len(one["gradient"]) == 6
    for alone, ranks in zip(one["gradient"][:2], many["gradient"][:2], strict=True):
        for rank in ranks:
            for mine, its in zip(alone[0], rank, strict=True):
                assert (mine - its).abs().max() <= 1e-6 * max(1.0, float(mine.abs().max()))


@pytest.mark.parametrize("told", [None, "1"])
def test_ranks_compute_on_as_many_cores_as_the_run_has_written_down(spied, tmp_path, monkeypatch, told):
    """Sums of floats depend on it, so whoever continues the run must know; by default the ranks share the cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    torch.set_num_threads(3)
    found = spied(2)["threads"]
    number = 3 if told else max(1, min(3, cores() // 2))
    assert {threads for ranks in found for threads in ranks} == {number}
    assert Run.reopen(tmp_path / "run-2").record["threads"] == number
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_a_signal_ends_all_processes_after_the_same_step(tmp_path):
    folder = tmp_path / "run"
    settings = ["trainer.max_images=10000000", "trainer.checkpoint_every=10000000", "trainer.processes=2"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, *settings, "trainer.log_every=4", f"run_dir={folder}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FACEFORGE_CACHE": str(tmp_path)},
    )
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() or len((folder / "metrics.csv").read_text().splitlines()) < 6:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 143, err
    images = Run.reopen(folder).record["images"]
    assert f"Stopped after {images:,} images" in out
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["clock"]["images"] == images
    assert Run.reopen(folder).record["status"] == "interrupted"


@pytest.mark.slow
def test_two_processes_stop_and_go_on_to_the_same_bits(tiny, resume):
    settings = ["trainer.processes=2", "trainer.checkpoint_every=8"]
    whole = tiny("whole", *settings, "trainer.max_images=32")
    parts = tiny("parts", *settings, "trainer.max_images=16")
    assert resume(parts, "trainer.max_images=32") == 0
    a, b = (checkpoint.read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_ended_a_rank_is_told_as_if_there_were_one():
    from torch.multiprocessing.spawn import ProcessRaisedException

    def raised(line):
        return raised_in_rank(ProcessRaisedException(f"\n\n-- Process 1 ...\n  File x\n{line}\n", 1, 1))

    found = raised("faceforge.errors.BadInput: data.root=x: no such folder")
    assert (type(found), str(found)) == (BadInput, "data.root=x: no such folder")
    assert isinstance(raised("OSError: [Errno 28] No space left on device"), OSError)
    assert type(raised("faceforge.engine.guard.NotFinite: loss")).__name__ == "NotFinite"
    assert isinstance(raised("ZeroDivisionError: division by zero"), ProcessRaisedException)
