import errno
import hashlib
import os
import pickle
import shutil

import pytest
import torch

from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.schemes.base import Scheme


def state(number: float) -> dict:
    return {
        "state_dict": {"w": torch.full((100,), number)},
        "config": {"model": {}},
        "version": 1,
        "clock": {"images": int(number), "generator_steps": 0, "seconds": 0.0},
        "optimizer_states": [],
    }


def save(folder, *numbers):
    for number in numbers:
        checkpoint.AtomicCheckpointIO().save_checkpoint(state(number), folder / "last.ckpt")


def images(path) -> int:
    return checkpoint.read(path)["clock"]["images"]


def test_last_and_previous_are_kept_and_hashed(tmp_path):
    save(tmp_path, 1, 2, 3)
    assert (images(tmp_path / "last.ckpt"), images(tmp_path / "previous.ckpt")) == (3, 2)
    recorded = (tmp_path / checkpoint.HASHES).read_text().split()
    assert recorded[-1] == hashlib.sha256((tmp_path / "last.ckpt").read_bytes()).hexdigest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hashes.txt", "last.ckpt", "previous.ckpt"]


def test_lightning_sees_its_own_names(tmp_path):
    save(tmp_path, 1)
    assert "optimizer_states" in checkpoint.AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert "optimizers" in checkpoint.read(tmp_path / "last.ckpt")


OPERATIONS = ["write", "fsync", "replace", "link"]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("call", range(6))
def test_dying_at_any_moment_of_a_save_leaves_a_good_checkpoint(tmp_path, monkeypatch, operation, call):
    """The process is taken away at the n-th system operation: what lies there must load and be recent."""
    save(tmp_path, 1, 2)
    calls = 0

    class Killed(BaseException):
        pass

    def guarded(real):
        def call_or_die(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > call:
                raise Killed
            return real(*args, **kwargs)

        return call_or_die

    owner, name = {
        "write": (checkpoint.Path, "write_bytes"),
        "fsync": (os, "fsync"),
        "replace": (checkpoint.Path, "replace"),
        "link": (os, "link"),
    }[operation]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, guarded(getattr(owner, name)))
        try:
            save(tmp_path, 3)
            assert calls <= call
        except Killed:
            pass
    assert images(tmp_path / "last.ckpt") in (2, 3)
    assert images(tmp_path / "previous.ckpt") in (1, 2)
    checkpoint.sweep_orphans(tmp_path)
    save(tmp_path, 4)
    assert images(tmp_path / "last.ckpt") == 4
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_keeps_the_old_one_and_is_loud(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert images(tmp_path / "last.ckpt") == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OSError, match="0 MB free"):
        save(tmp_path, 2)
    assert images(tmp_path / "last.ckpt") == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_last_falls_back_to_previous_and_says_so(tmp_path, damage):
    save(tmp_path, 1, 2)
    content = bytearray((tmp_path / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[damage]
    (tmp_path / "last.ckpt").write_bytes(damaged)
    with pytest.warns(UserWarning, match="damaged file"):
        assert images(tmp_path / "last.ckpt") == 1


def test_a_pickled_object_never_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/canary",))

    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    torch.save({"state_dict": Evil()}, tmp_path / "y.ckpt")
    for name in ("x.ckpt", "y.ckpt"):
        with pytest.raises(BadInput, match="not a faceforge checkpoint"):
            checkpoint.read(tmp_path / name)
    assert not (tmp_path / "canary").exists()


def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "z.ckpt")
    with pytest.raises(BadInput, match="lacks clock, config, optimizers, version"):
        checkpoint.read(tmp_path / "z.ckpt")
    newer = state(1) | {"optimizers": [], "version": 99}
    torch.save(newer, tmp_path / "n.ckpt")
    with pytest.raises(BadInput, match="newer faceforge"):
        checkpoint.read(tmp_path / "n.ckpt")
    with pytest.raises(BadInput, match="no such run folder"):
        checkpoint.find(tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"holds no checkpoints/last\.ckpt"):
        checkpoint.find(tmp_path)


def test_a_checkpoint_naming_a_foreign_target_executes_nothing(tmp_path):
    hostile = state(1) | {"optimizers": []}
    hostile["config"] = {"model": {"_target_": "os.system", "command": f"touch {tmp_path}/canary"}}
    torch.save(hostile, tmp_path / "h.ckpt")
    with pytest.raises(BadInput, match="allow-list"):
        checkpoint.load(tmp_path / "h.ckpt")
    assert not (tmp_path / "canary").exists()


def scheme(**parts):
    """A scheme that holds networks and does nothing."""
    made = Scheme(0)
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def test_initialise_copies_what_fits_and_says_so(tmp_path):
    torch.manual_seed(0)
    source = scheme(generator=torch.nn.Linear(3, 4), discriminator=torch.nn.Linear(4, 1))
    torch.save(state(1) | {"optimizers": [], "state_dict": source.state_dict()}, tmp_path / "s.ckpt")
    target = scheme(generator=torch.nn.Linear(3, 4), discriminator=torch.nn.Linear(5, 1))
    said = checkpoint.initialise(target, tmp_path / "s.ckpt")
    assert "3 of 4 tensors matched" in said
    assert "generator 2/2" in said
    assert "discriminator 1/2, new: discriminator.weight" in said
    assert torch.equal(target.generator.weight, source.generator.weight)
    with pytest.raises(BadInput, match="another architecture"):
        checkpoint.initialise(scheme(other=torch.nn.Linear(2, 2)), tmp_path / "s.ckpt")
