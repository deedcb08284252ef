"""`faceforge doctor`: each fault, played by a stand-in, is one finding with the command that mends it."""

from __future__ import annotations

import shutil
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from faceforge import cli, doctor
from faceforge.cut.detect import YUNET
from faceforge.doctor import ONE_OPENCV, findings, report
from faceforge.engine import devices
from faceforge.engine.loggers import wandb_logger


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    """No network and no login; a cache of its own."""
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACEFORGE_WEIGHTS", raising=False)
    monkeypatch.setattr(doctor, "reachable", lambda url, seconds=2.0: False)
    monkeypatch.setattr(wandb_logger, "find_login", lambda settings: None)


GROUP = {"accelerator": "torch", "cache disk": "disk", "disk here": "disk"}


def one(name):
    """One finding, by its own check alone."""
    (found,) = (finding for finding in doctor.CHECKS[GROUP.get(name, name)]() if finding.what == name)
    return found


def test_a_healthy_machine_has_nothing_wrong():
    lines, code = report()
    assert code == 0
    assert lines[-1].startswith("Nothing is wrong.")
    assert {finding.state for finding in findings()} <= {"ok", "note"}
    named = [
        "Python",
        "packages",
        "accelerator",
        "OpenCV",
        "ffmpeg",
        "W&B",
        "cache",
        "cache disk",
        "disk here",
        "YuNet",
    ]
    assert [finding.what for finding in findings()] == [*named, "network", "clocks"]


def test_two_builds_of_opencv_are_found(monkeypatch):
    versions = {"opencv-python": "4.13.0", "opencv-python-headless": "4.14.0"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    found = one("OpenCV")
    assert (found.state, found.mend) == ("wrong", ONE_OPENCV)
    assert "opencv-python and opencv-python-headless share one folder" in found.said


def test_an_opencv_without_cascades_is_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="5.0.0", FaceDetectorYN=object))
    assert "5.0.0: lacks the face detectors" in one("OpenCV").said
    assert one("OpenCV").state == "wrong"


def test_a_python_that_is_not_supported(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert one("Python").state == "wrong"
    assert one("Python").said.endswith("must be 3.10 to 3.13")


def test_a_gpu_that_this_torch_cannot_use(monkeypatch):
    monkeypatch.setattr(devices, "count", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", None)
    found = one("accelerator")
    assert found.state == "wrong"
    assert "built without CUDA" in found.said
    assert found.mend.startswith("pip install --force-reinstall torch")


def test_a_gpu_is_named_with_its_memory_and_precision(monkeypatch):
    monkeypatch.setattr(devices, "count", lambda: 2)
    monkeypatch.setattr(devices, "name", lambda number: f"{number} x Some GPU")
    monkeypatch.setattr(devices, "best", lambda: torch.device("cuda"))
    monkeypatch.setattr(devices, "precision", lambda asked, number: "bf16")
    about = lambda index: SimpleNamespace(total_memory=24 * 2**30)  # noqa: E731
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(get_device_properties=about))
    assert one("accelerator").said == "2 x Some GPU, 24 GiB; trainer.precision=auto is bf16"


def test_films_need_ffmpeg(monkeypatch):
    import imageio_ffmpeg

    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    assert (one("ffmpeg").state, one("ffmpeg").mend) == ("note", "pip install --force-reinstall imageio-ffmpeg")


@pytest.mark.parametrize(
    ("login", "answers", "state", "said"),
    [
        (None, True, "note", "no login"),
        ("key", False, "note", "cannot be reached"),
        ("key", True, "ok", "logged in at"),
    ],
)
def test_runs_are_logged_online_only_with_a_login_and_a_network(monkeypatch, login, answers, state, said):
    monkeypatch.setattr(wandb_logger, "find_login", lambda settings: login)
    monkeypatch.setattr(doctor, "reachable", lambda url, seconds=2.0: answers)
    assert one("W&B").state == state
    assert said in one("W&B").said
    assert (one("network").state == "ok") == answers


def test_a_full_disk_and_the_size_of_the_cache(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "packed").write_bytes(bytes(3_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9))
    assert ": 3 MB;" in one("cache").said
    assert (one("cache disk").state, one("disk here").state) == ("note", "note")
    assert "1.0 GB free" in one("disk here").said


def test_damaged_weights_are_found_with_the_command_that_removes_them(tmp_path):
    path = tmp_path / "cache" / "weights" / YUNET[0].name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    found = one("YuNet")
    assert (found.state, found.mend) == ("wrong", f"rm {path}")
    assert "its SHA-256 is" in found.said


def test_a_file_system_with_another_clock(monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert one("clocks").state == "wrong"
    assert "differs by +3600 s" in one("clocks").said


def test_a_check_that_fails_hides_no_other(monkeypatch):
    def broken():
        raise ImportError("libGL.so.1: cannot open shared object file")
        yield

    monkeypatch.setitem(doctor.CHECKS, "OpenCV", broken)
    lines, code = report()
    assert code == 1
    assert any("cannot be checked: ImportError: libGL.so.1" in line for line in lines)
    assert any(line.startswith("ok     clocks") for line in lines)
    assert lines[-1] == "One thing is wrong."


def test_the_command_ends_with_1_if_something_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_version", {"opencv-python": "4.13.0", "opencv-contrib-python": "4.14.0"}.get)
    monkeypatch.setattr(sys, "argv", ["faceforge", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "WRONG  OpenCV" in said
    assert f"mend: {ONE_OPENCV}" in said
