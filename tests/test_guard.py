"""Numbers that are no longer finite, signals, and several processes: found, told, and the same on all ranks."""

import math
import signal
import threading

import pytest
import torch
import yaml

from benchmarks.runs import not_finite
from benchmarks.survival.guard import PLACES, Fault, same
from faceforge.engine import checkpoint, guard
from faceforge.engine.run import Run
from faceforge.engine.signals import Signals
from faceforge.errors import BadInput, GuardStop
from faceforge.schemes.running_means import RunningMeans

NAN, INF = math.nan, math.inf
EVERY = ["trainer.log_every=1000", "trainer.max_images=80", "trainer.checkpoint_every=16", "guard.every=3"]


def record(folder):
    return Run.reopen(folder).record


@pytest.mark.parametrize(("place", "value"), [*zip(PLACES, (NAN, INF, NAN, -INF), strict=True), ("input", INF)])
def test_the_run_stops_within_a_few_batches_and_its_last_checkpoint_is_finite(tiny, tmp_path, place, value):
    with (
        Fault(place, value, 40).planted(),
        pytest.raises(GuardStop, match="NaN or infinite at image") as said,
    ):
        tiny("a", *EVERY)
    found = int(str(said.value).split("at image ")[1].split(";")[0])
    assert 40 < found <= 40 + 3 * 4 + 4
    assert not not_finite(tmp_path / "a")
    assert record(tmp_path / "a")["status"] == "failed"
    assert "(image 32) is valid" in str(said.value)


@pytest.mark.parametrize(
    "place", ["gradient", *(pytest.param(p, marks=pytest.mark.slow) for p in PLACES if p != "gradient")]
)
def test_a_fault_that_comes_once_leaves_no_trace_where_the_run_goes_back(tiny, tmp_path, capsys, place):
    whole = tiny("whole", *EVERY)
    fault = Fault(place, NAN, 40)
    with fault.planted():
        folder = tiny("a", *EVERY, "guard.action=rollback")
    assert fault.struck == [40]
    (entry,) = record(folder)["rollbacks"]
    assert entry["to"] == 32
    assert "NaN or infinite" in entry["what"]
    assert "back to image 32 (rollback 1 of 3)" in capsys.readouterr().out
    assert record(folder)["status"] == "finished"
    assert same(whole, folder)


def test_going_back_is_bounded_and_each_further_time_learns_at_half_the_rate(tiny, tmp_path, monkeypatch):
    rates = []
    slow_down = guard.slow_down

    def seen(optimizers, *words):
        slow_down(optimizers, *words)
        rates.append(optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr("faceforge.engine.callbacks.finite.slow_down", seen)
    with (
        Fault("weight", NAN, 40, times=9).planted(),
        pytest.raises(GuardStop, match="after 3 rollbacks"),
    ):
        tiny("a", *EVERY, "guard.action=rollback")
    assert [entry["to"] for entry in record(tmp_path / "a")["rollbacks"]] == [32, 32, 32]
    assert rates == pytest.approx([rates[0], rates[0], rates[0] / 2, rates[0] / 4])


def test_a_lower_rate_stays_for_the_rest_of_the_run(tiny):
    fault = Fault("weight", NAN, 40, times=2)
    with fault.planted():
        folder = tiny("a", *EVERY, "guard.action=rollback")
    assert fault.struck == [40, 40]
    assert len(record(folder)["rollbacks"]) == 2
    asked = yaml.safe_load((folder / "config.yaml").read_text())["model"]["optimizer_g"]["lr"]
    kept = checkpoint.read(folder / "checkpoints" / "last.ckpt")["optimizers"]
    assert kept[0]["param_groups"][0]["lr"] == asked / 2


@pytest.mark.slow
def test_looking_changes_nothing(tiny):
    assert same(tiny("a", "guard.every=1"), tiny("b", "guard.every=1000"))


def test_what_is_not_finite_is_named():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    module.means = RunningMeans()
    module.means.add(**{"loss/x": torch.tensor(1.0)})
    assert guard.find_nonfinite(module) is None
    module[1].running_var[1] = INF
    assert guard.find_nonfinite(module) == "1.running_var"
    module.means.add(**{"loss/x": torch.tensor(NAN)})
    assert guard.find_nonfinite(module) == "loss/x"
    module[1].running_var[1] = torch.finfo(torch.float32).max  # large, and yet a number
    module.means.drain()
    module.means.add(**{"loss/x": torch.tensor(-3e38)})
    assert guard.find_nonfinite(module) is None


def test_a_storm_of_overflows_is_told():
    scaler = torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    for step in range(40):
        assert (guard.overflowing(scaler) is None) == (step <= 29)
        scaler.scale((weight * INF).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert weight.item() == 1
    assert "trainer.precision=32" in guard.overflowing(scaler)
    assert guard.overflowing(None) is None


@pytest.mark.parametrize(
    ("override", "said"), [("guard.every=0", "guard.every"), ("guard.action=hope", "guard.action")]
)
def test_a_guard_that_cannot_be_is_refused(tiny, override, said):
    with pytest.raises(BadInput, match=said):
        tiny("a", override)


# Signals


def test_ranks_end_after_the_same_step():
    """Whoever looks first, and whenever the signal comes between two looks."""
    for late in (False, True):
        signals = Signals(2)
        assert not signals.ends(0, 1)
        assert not signals.ends(1, 1)
        if late:
            assert not signals.ends(0, 2)
        signals._handle(signal.SIGUSR1, None)
        last = 5 if late else 4
        assert [signals.ends(1, 2), signals.ends(0, last - 2), signals.ends(1, last - 1)] == [None] * 3
        assert [signals.ends(0, last), signals.ends(1, last)] == ["signal", "signal"]
        assert signals.received == signal.SIGUSR1


def test_one_process_ends_at_once_and_a_second_signal_ends_it_where_it_is():
    signals = Signals()
    assert not signals.ends(0, 1)
    signals._handle(signal.SIGTERM, None)
    assert signals.ends(0, 1)
    signals._handle(signal.SIGTERM, None)  # a scheduler that repeats itself
    with pytest.raises(KeyboardInterrupt):
        signals._handle(signal.SIGINT, None)
    assert signals.received == signal.SIGTERM


def test_handlers_are_given_back_however_often_they_were_taken():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    signals = Signals()
    signals.install()
    signals.install()
    listens = [thread for thread in threading.enumerate() if thread.name == "signals"]
    signals.restore()
    assert len(listens) == 1
    listens[0].join(5)
    assert not listens[0].is_alive()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before
