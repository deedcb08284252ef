"""A run that no longer answers is ended, whoever it is that does not: what is judged, and what is done about it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY

from faceforge.engine import checkpoint, watchdog
from faceforge.engine.run import Run
from faceforge.engine.signals import Signals
from faceforge.engine.watchdog import GRACE_SECONDS, Watchdog, give_up, unanswered
from faceforge.errors import GuardStop

BOUND = 600.0


def judged(world=2):
    """Signals and a judge of them, at times that a test says."""
    signals = Signals(world)
    judge = Watchdog(signals, BOUND, lambda why: None)
    start = max(judge._moved)
    return signals, lambda seconds: judge.judge(start + seconds)


def test_a_rank_that_waits_too_long_is_named_with_the_step():
    signals, judge = judged()
    signals.beat(0, 6, "waiting")
    signals.beat(1, 6, "training")
    assert judge(1) is None
    assert judge(BOUND) is None
    assert judge(BOUND + 2) == "rank 0 has waited 601 s at step 7 for rank 1 (training)"
    signals.beat(0, 8, "training")  # it waits for what rank 1 broadcasts
    assert judge(BOUND + 3) is None
    assert judge(2 * BOUND + 4) == "rank 0 has waited 601 s at step 9 for rank 1 (training)"


def test_a_rank_that_moves_is_waited_for():
    signals, judge = judged()
    for step in range(5):
        signals.beat(0, step, "training")
        assert judge(step * BOUND) is None
    signals.beat(0, 5, "validating")
    assert judge(5 * BOUND) is None
    signals.beat(0, 5, "finishing")  # a service may take long to receive the last of a run
    assert judge(5 * BOUND + 1) is None
    assert judge(9 * BOUND) is None


@pytest.mark.parametrize(("phase", "bound"), [("training", GRACE_SECONDS), ("saving", BOUND), ("validating", BOUND)])
def test_a_signal_is_answered_within_its_grace(phase, bound):
    signals, judge = judged(world=1)
    signals.beat(0, 3, phase)
    assert judge(10 * BOUND) is None  # alone, it waits for nobody
    signals._handle(signal.SIGTERM, None)
    heard = 10 * BOUND + 1
    assert judge(heard) is None
    assert judge(heard + bound - 1) is None
    assert judge(heard + bound + 1) == f"no step has completed for {bound + 1:.0f} s since the signal"


def test_time_is_up_when_rank_0_says_so():
    signals = Signals(2)
    assert signals.ends(1, 4, late=True) is None  # another rank's clock does not count
    assert signals.ends(0, 4, late=True) is None
    assert [signals.ends(1, 5), signals.ends(0, 5), signals.ends(1, 6), signals.ends(0, 6)] == [
        None,
        None,
        *["time"] * 2,
    ]
    signals._handle(signal.SIGTERM, None)
    assert signals.ends(1, 6) == "time"  # what was decided stays
    signals.begin()
    assert signals.ends(1, 6) is None
    assert Signals().ends(0, 1, late=True) == "time"


STUCK = """
from faceforge.engine import watchdog
from faceforge.main import main
from faceforge.schemes.adversarial import AdversarialModule
from spies import hang

watchdog.GRACE_SECONDS = 1.0
step = AdversarialModule.training_step

def stuck(self, batch, number):
    if self.clock.images >= 24:
        print("STUCK", flush=True)
        hang()
    step(self, batch, number)

AdversarialModule.training_step = stuck
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_step_that_never_ends_does_not_outlive_a_signal(tmp_path):
    """Stuck in foreign code, where no handler of Python runs."""
    folder = tmp_path / "run"
    script = tmp_path / "stuck_train.py"
    script.write_text(STUCK)
    command = [sys.executable, str(script), *TINY, "trainer.checkpoint_every=8", f"run_dir={folder}"]
    environment = {**os.environ, "FACEFORGE_CACHE": str(tmp_path), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if "STUCK" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "no step has completed for" in said
    assert Run.reopen(folder).record["status"] == "interrupted"
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["clock"]["images"] == 24


@pytest.fixture
def sleeper():
    """Start a process that sleeps."""
    processes = []

    def start():
        processes.append(multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(600,)))
        processes[-1].start()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def test_ranks_are_ended_and_no_other_child(sleeper, tmp_path):
    """Libraries keep workers too, and some of them cannot be killed by this call."""
    stranger, ranks = sleeper(), [sleeper(), sleeper()]
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=ranks)))
    give_up(tmp_path, Signals(2), trainer, None, "a rank waits")
    assert [rank.join(60) or rank.exitcode for rank in ranks] == [-signal.SIGKILL] * 2
    assert stranger.is_alive()


def test_a_signal_to_ranks_that_are_ended_is_no_request():
    signals = Signals(2)
    given_up = threading.Event()

    def give_up(why):
        signals._handle(signal.SIGTERM, None)  # what torch sends to the ranks that are left
        given_up.set()

    judge = Watchdog(signals, -1.0, give_up)
    signals.beat(0, 6, "waiting")
    signals.beat(1, 6, "training")
    judge.start()
    assert given_up.wait(60)
    assert judge.asked is None
    assert signals.received == signal.SIGTERM
    assert isinstance(unanswered(judge.asked, judge.why, Path("run")), GuardStop)


@pytest.mark.slow
def test_a_rank_that_is_stuck_ends_all(tiny, sleeper, tmp_path, monkeypatch):
    stranger = sleeper()
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.1)
    overrides = [
        "trainer.processes=2",
        "trainer.max_wait=0.1",
        "trusted_packages=[spies]",
        "model._target_=spies.StuckRank",
        "trainer.checkpoint_every=8",
    ]
    began = time.monotonic()
    with pytest.raises(
        GuardStop, match=r"rank 0 has waited \d+ s at step 6 for rank 1 \(training\); all processes were"
    ):
        tiny("a", *overrides)
    assert time.monotonic() - began < 240
    assert checkpoint.read(tmp_path / "a" / "checkpoints" / "last.ckpt")["clock"]["images"] == 16
    assert Run.reopen(tmp_path / "a").record["status"] == "failed"
    assert stranger.is_alive()
