"""Averages chosen after the training: the paper's numbers, sums by hand, a run, a resume, and the command."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from test_schedules import last
from torch import nn

from faceforge import cli
from faceforge.engine import checkpoint
from faceforge.schemes.power_averages import PowerAverages, Stored, exponent, overlap, shares

KEPT = ["model.ema_kept=[0.05,0.1]", "model.val_samples=0", "trainer.checkpoint_every=8", "trainer.max_images=40"]


@pytest.mark.parametrize(("length", "gamma"), [(0.05, 16.97), (0.1, 6.94), (0.25, 0.72)])
def test_exponents_are_those_of_the_paper(length, gamma):
    """16.97 and 6.94 are printed there; the deviation of the density (g + 1) t^g on [0, 1] gives the length back."""
    found = exponent(length)
    assert found == pytest.approx(gamma, abs=0.01)
    mean, square = (found + 1) / (found + 2), (found + 1) / (found + 3)
    assert math.sqrt(square - mean**2) == pytest.approx(length, rel=1e-9)


def profile(length, images, times):
    power = exponent(length)
    return np.where(times <= images, (power + 1) / images * (np.minimum(times, images) / images) ** power, 0)


def test_overlaps_are_integrals():
    times = (np.arange(400_000) + 0.5) / 4_000  # up to 100
    for one, other in [((0.05, 40), (0.1, 100)), ((0.1, 100), (0.05, 40)), ((0.2, 70), (0.2, 70))]:
        product = profile(*one, times) * profile(*other, times)
        assert overlap(one, other) == pytest.approx(product.sum() / 4_000, rel=1e-3)


def test_a_kept_length_is_itself_and_others_add_up():
    stored = [(length, images) for images in range(10, 101, 10) for length in (0.05, 0.1)]
    own = shares(stored, (0.1, 100))
    assert own == pytest.approx([0.0] * 19 + [1.0], abs=1e-6)
    times = (np.arange(100_000) + 0.5) / 1_000
    for length in (0.03, 0.07, 0.15, 0.2):
        made = sum(
            share * profile(*place, times) for share, place in zip(shares(stored, (length, 100)), stored, strict=True)
        )
        wanted = profile(length, 100, times)
        assert np.abs(made - wanted).sum() / wanted.sum() < (0.1 if length > 0.03 else 0.35)
        assert shares(stored, (length, 100)).sum() == pytest.approx(1, abs=0.02)


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run a command of faceforge in this process: the exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


def test_variances_stay_above_zero_where_shares_are_negative(tmp_path):
    """Sums of stored averages may overshoot."""
    network = nn.BatchNorm1d(1)
    kept = PowerAverages(network, [0.05, 0.1])
    for seen in range(4, 401, 4):
        network.running_var.fill_(10.0 if seen < 390 else 0.0)
        kept.update(network, 4, seen)
        if not seen % 40:
            kept.store(tmp_path, seen)
    assert all(Stored(tmp_path).average(length)["running_var"].min() >= 0 for length in (0.01, 0.02, 0.25))


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("steps", torch.tensor(0))


def test_what_is_stored_gives_the_average_of_another_length(tmp_path):
    """A weight that wanders, averaged over a length that was not kept, against that average followed all along."""
    network, rng = Number(), np.random.default_rng(0)
    kept, followed = PowerAverages(network, [0.05, 0.1]), PowerAverages(network, [0.08])
    for seen in range(4, 2001, 4):
        with torch.no_grad():
            network.value += float(rng.normal())
        network.steps += 1
        for averages in (kept, followed):
            averages.update(network, 4, seen)
        if not seen % 200:
            kept.store(tmp_path, seen)
    stored = Stored(tmp_path)
    assert stored.images == 2000
    assert len(stored.places) == 20
    made, right = stored.average(0.08), followed.networks[0]
    spread = abs(float(kept.networks[0].value - kept.networks[1].value))
    assert float(made["value"]) == pytest.approx(float(right.value), abs=0.02 * spread)
    assert int(made["steps"]) == int(network.steps)
    again = stored.average(0.05)
    assert float(again["value"]) == pytest.approx(float(kept.networks[0].value), rel=1e-5)


def test_a_stopped_run_stores_the_same(tiny, resume):
    whole = tiny("whole", *KEPT)
    parts = tiny("parts", *KEPT, "trainer.max_steps=5")
    assert resume(parts, "trainer.max_steps=null", "trainer.max_images=40") == 0
    names = sorted(path.name for path in (whole / "averages").iterdir())
    assert [int(name.split(".")[0]) for name in names] == [8, 16, 24, 32, 40]
    for name in names:
        assert (whole / "averages" / name).read_bytes() == (parts / "averages" / name).read_bytes()
    saved = last(whole)["state_dict"]
    made = Stored(whole / "averages").average(0.1)
    for name, value in made.items():
        torch.testing.assert_close(value, saved[f"powers.networks.1.{name}"], rtol=1e-4, atol=1e-5)


def test_averages_after_the_checkpoint_are_removed(tiny, resume):
    run = tiny("run", *KEPT, "trainer.max_images=24")
    later = run / "averages" / "000000032.safetensors"
    later.write_bytes((run / "averages" / "000000024.safetensors").read_bytes())
    assert resume(run, "trainer.max_images=28") == 0
    assert not later.exists()


def test_the_command_writes_a_checkpoint_that_commands_take(tiny, typed):
    run = tiny("run", *KEPT)
    code, said, told = typed("ema", run, "--length", "0.05", "--length", "0.2", "--count", "6")
    assert (code, told) == (0, "")
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["as", "0.05", "0.2"]
    values = {line.split()[0]: float(line.split()[-1]) for line in lines[2:4]}
    best = min(values, key=values.get)
    assert lines[-2].startswith(f"the average of length {best} is in {run / 'checkpoints' / 'ema.ckpt'}")
    module = checkpoint.load(run / "checkpoints" / "ema.ckpt")
    wanted = Stored(run / "averages").average(float(best))
    assert all(torch.equal(value, wanted[name]) for name, value in module.average.state_dict().items())
    assert typed("generate", run / "checkpoints" / "ema.ckpt", "--count", "2", "--out", "made.png")[0] == 0


def test_wrong_uses_are_one_line(tiny, typed, train_typed, tmp_path):
    run = tiny("none", "trainer.max_images=8")
    kept = tiny("kept", *KEPT, "trainer.max_images=8")
    for words, reason in [
        (("ema", run), "none/averages: holds no averages; a GAN that is trained with model.ema_kept=[0.05,0.1]"),
        (("ema", kept, "--length", "0.3"), "--length 0.3: must be above 0 and at most 0.28"),
        (("ema", kept, "--count", "2"), "--count 2: must be at least 3"),
    ]:
        code, _, told = typed(*words)
        assert (code, told.count("\n")) == (2, 1)
        assert reason in told
    other = tiny("other", *KEPT, "trainer.max_images=8", "model.generator.width=2")
    stored = kept / "averages" / "000000008.safetensors"
    stored.write_bytes((other / "averages" / stored.name).read_bytes())
    code, _, told = typed("ema", kept)
    assert (code, told.count("\n")) == (2, 1)
    assert "averages of another network" in told
    stored.write_bytes(b"cut off")
    code, _, told = typed("ema", kept)
    assert (code, told.count("\n")) == (2, 1)
    assert "not a file of averages" in told
    for lengths, reason in [("[0.5]", "0.5 must be a length above 0"), ("[0.1,0.1]", "must be lengths that differ")]:
        code, _, told = train_typed("data=drawn", "data.source.count=12", "run_dir=x", f"model.ema_kept={lengths}",
                                    "trainer.gpus=0", "trainer.max_images=8")  # fmt: skip
        assert (code, told.count("\n")) == (2, 1)
        assert reason in told
    assert not (tmp_path / "x").exists()
