"""Kills, signals and broken disks: the short forms of benchmarks/survival, and what they found."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from benchmarks.survival import faults, stops
from faceforge.engine import checkpoint
from faceforge.engine.progress import Progress
from faceforge.engine.run import lock_run
from faceforge.engine.signals import Signals
from faceforge.errors import BadInput
from faceforge.io import files


def state(number):
    return {
        "state_dict": {"w": torch.full((100,), float(number))},
        "config": {"model": {}},
        "version": 1,
        "clock": {"images": number, "generator_steps": 0, "seconds": 0.0},
        "optimizer_states": [],
    }


def save(folder, *numbers):
    for number in numbers:
        checkpoint.AtomicCheckpointIO().save_checkpoint(state(number), folder / "last.ckpt")


def images(path):
    return checkpoint.read(path)["clock"]["images"]


# ---------------------------------------------------------------------------------------------- the short forms


def test_killed_while_it_saves_samples_validates_trains_and_starts_it_ends_in_the_same_bits(tmp_path):
    found = stops.kill_often(tmp_path, count=5, images=60, seed=0)
    assert sum(found["fell"].values()) == 5
    assert len(found["fell"]) >= 3
    assert (found["identical"], found["different"]) == (found["runs"], [])


@pytest.mark.slow
def test_signals_are_answered_by_a_save_at_the_next_step_and_change_no_bit(tmp_path):
    found = stops.stop_often(tmp_path, count=3, images=80, seed=0)
    assert [(stop["signal"], stop["code"]) for stop in found["stops"]] == [
        ("SIGTERM", 143),
        ("SIGUSR1", 138),
        ("SIGTERM", 143),
    ]
    assert [stop for stop in found["stops"] if not stop["right"]] == []
    assert (found["identical"], found["different"]) == (found["runs"], [])


@pytest.fixture(scope="module")
def injector(tmp_path_factory):
    return faults.Injector(tmp_path_factory.mktemp("faults"), seed=0)


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    return faults.can_mount(tmp_path_factory.mktemp("mounts"))


@pytest.mark.slow
@pytest.mark.parametrize("name", faults.SHARES)
def test_a_fault_leaves_a_valid_checkpoint_and_one_line(injector, mounts, name):
    if name in faults.NEEDS_MOUNT and not mounts:
        pytest.skip("only root may mount a small file system")
    assert getattr(injector, name)(1, 3) == []


def test_the_injector_finds_what_a_save_in_place_loses(injector, monkeypatch):
    """A save over the old file, killed half way through its third write: all names of the file go with it."""

    def in_place(self, content, path, storage_options=None):
        content["optimizers"] = content.pop("optimizer_states")
        torch.save(content, buffer := io.BytesIO())
        checkpoint._record(Path(path).parent, hashlib.sha256(buffer.getvalue()).hexdigest())
        Path(path).write_bytes(buffer.getvalue())

    monkeypatch.setattr(checkpoint.AtomicCheckpointIO, "save_checkpoint", in_place)
    run = injector.fresh()
    watch = faults.Watched(run / "checkpoints" / "last.ckpt", 4 + 4 + 3, faults.die)
    child = faults.start(injector.words(run), injector.log, watch.install)
    assert child.wait() == -signal.SIGKILL
    assert injector.kept(run, child.images) == ["no valid checkpoint at 40"]


def test_the_judge_sees_age_and_other_bits(injector):
    assert injector.kept(injector.begun, 80) == []
    assert injector.kept(injector.begun, 84) == ["the newest valid checkpoint is of 40, at 84"]
    other = dict(injector.expected)
    name = next(name for name in other if name.startswith("/state_dict/average."))
    other[name] = other[name] + 1e-7
    assert faults.differences(injector.expected, other) == [name]


def test_faults_are_shared_out_whole():
    assert sum(faults.plan(200, mounts=True).values()) == 200
    assert sum(faults.plan(50, mounts=False).values()) == 50


# ------------------------------------------------------------------------------------------------- checkpoints


class Killed(BaseException):
    """The process is gone: no handler may do anything more to the disk."""


@pytest.mark.parametrize("call", range(4))
def test_a_damaged_last_never_takes_the_place_of_a_good_previous(tmp_path, monkeypatch, call):
    save(tmp_path, 1, 2)
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    real, calls = Path.replace, iter(range(10))

    def replace(*args):
        if next(calls) == call:
            raise Killed
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with suppress(Killed):
            save(tmp_path, 3)
    with pytest.warns(UserWarning, match="previous") if call < 2 else monkeypatch.context():
        assert images(tmp_path / "last.ckpt") == (1 if call < 2 else 3)


def test_the_best_keeps_its_hash_however_many_saves_follow(tmp_path):
    save(tmp_path, 1)
    checkpoint.link(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    save(tmp_path, *range(2, 2 * checkpoint.LISTED))
    assert images(tmp_path / "best.ckpt") == 1
    assert len((tmp_path / checkpoint.HASHES).read_text().split()) <= checkpoint.LISTED + 1


def test_with_last_and_previous_damaged_the_best_is_left(tmp_path):
    save(tmp_path, 1)
    checkpoint.link(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    save(tmp_path, 2, 3)
    for name in ("last", "previous"):
        (tmp_path / f"{name}.ckpt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"damaged file.*; using .*best\.ckpt instead"):
        assert images(tmp_path / "last.ckpt") == 1


def test_orphans_go_and_what_a_living_process_writes_stays(tmp_path):
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    here, elsewhere = files.HOST_KEY, "0123abcd"
    gone = [f".a.{here}-{dead}.tmp", f".a.{here}-{os.getpid()}.tmp", f".old.{elsewhere}-1.tmp", ".old.tmp"]
    kept = [f".b.{here}-{os.getppid()}.tmp", f".c.{here}-1.tmp", f".new.{elsewhere}-{dead}.tmp", ".new.tmp", "c.tmp"]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
        if ".old" in name:  # of a machine that nobody can ask
            os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


# -------------------------------------------------------------------------------------------- starting, stopping


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tiny, resume, tmp_path):
    folder = tmp_path / "a"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "run.json", f".run.json.{files.HOST_KEY}-99999999.tmp"):
        (folder / name).write_text("{}")
    with pytest.raises(BadInput, match="training had not started; start it again with run_dir="):
        resume(folder)
    assert tiny("a", "trainer.max_images=8") == folder
    assert images(folder / "checkpoints" / "last.ckpt") == 8
    assert not list(folder.glob(".*.tmp"))


def test_a_held_folder_is_not_written_before_it_is_refused(tiny, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.yaml").write_text("another trainer has just begun")
    with lock_run(folder), pytest.raises(BadInput, match="another process is training in this folder"):
        tiny("a")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", ".lock"}
    assert (folder / "config.yaml").read_text() == "another trainer has just begun"


def test_processes_must_divide_the_batch_before_anything_is_packed(tiny, resume, tmp_path):
    with pytest.raises(BadInput, match=r"data\.batch_size: 4 cannot be shared evenly by 3 processes"):
        tiny("a", "trainer.processes=3")
    assert not (tmp_path / "cache").exists()
    folder = tiny("b", "trainer.max_images=8")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match=r"data\.batch_size: 4 cannot be shared evenly by 8 processes"):
        resume(folder, "trainer.processes=8", "trainer.max_images=16")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_second_signal_is_harmless_and_a_second_ctrl_c_stops_at_once():
    signals = Signals()
    signals.install()
    try:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert signals.received == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signals.restore()


def test_a_disk_that_is_full_at_the_end_does_not_hide_what_was_trained(tiny, tmp_path, monkeypatch):
    def full(run):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("faceforge.engine.run.write_report", full)
    with pytest.raises(BadInput, match=r"No space left on device.*the last checkpoint is valid.*resume=a") as error:
        tiny("a", "trainer.max_images=8")
    assert "\n" not in str(error.value)
    assert images(tmp_path / "a" / "checkpoints" / "last.ckpt") == 8
    assert json.loads((tmp_path / "a" / "run.json").read_text())["images"] == 8


def test_a_lost_terminal_does_not_end_a_run():
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    progress = Progress(100, Gone())
    progress.start()
    progress.say("something")
    progress.update(50)
    progress.close()
    assert progress.describe().startswith("50/100")
