"""`make gpu-check`, rehearsed on the CPU: the same parts, a record that no GPU made, failures that stop nothing."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT

from benchmarks.speed import gpu_check
from benchmarks.speed.gpu_check import Check, NotHere, Part, in_child, in_process
from faceforge.errors import BadInput

PLAYED = {part.name: part for part in gpu_check.PARTS}


@pytest.fixture
def check(tmp_path):
    return Check("cpu", tmp_path, tiny=True)


def units(results, part):
    return {unit["unit"]: unit for unit in results[part]["units"]}


@pytest.mark.slow
def test_a_scheme_trains_and_is_measured_beside_its_bare_loop(check):
    part = Part("train", 1, ("32", "bf16", "host time"), PLAYED["train conv_superres"].work)
    found = units(gpu_check.run(check, 1e4, in_process, [part]), "train")
    for unit, batch in (("32", 4), ("host time", 2)):
        for side in ("ours", "bare"):
            pace = found[unit]["found"][side]
            assert pace["steps"] >= gpu_check.MARK
            assert pace["images_per_second"] == pytest.approx(1e3 * batch / pace["wall_ms"], rel=0.01)
    assert found["32"]["found"]["images"] == 4 * 4 * gpu_check.MARK
    assert "emulated on the CPU" in found["bf16"]["not_here"]


@pytest.mark.slow
@pytest.mark.simulated
def test_an_accelerator_trains_in_every_precision_and_is_waited_for(sim, tmp_path):
    part = Part("train", 1, ("32", "bf16", "16"), PLAYED["train conv_superres"].work)
    results = gpu_check.run(Check("sim", tmp_path, tiny=True), 1e4, in_process, [part])
    assert gpu_check.listed(results, "failed") == []
    assert [unit["found"]["ours"]["steps"] >= gpu_check.MARK for unit in units(results, "train").values()] == [True] * 3


def test_every_scheme_has_a_part_and_a_bare_loop():
    models = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml"))
    assert sorted(gpu_check.MODELS) == models == sorted(gpu_check.TINY)
    assert {f"train {model}" for model in models} <= PLAYED.keys()
    assert sum(part.seconds for part in gpu_check.PARTS) <= gpu_check.SECONDS <= 480


@pytest.mark.slow
def test_resume_compares_every_bit(check):
    found = gpu_check.resume(check, "mlp_autoencoder")
    assert found["equal"]
    whole, parts = (check.folder / "runs" / f"{name}-mlp_autoencoder-0" for name in ("whole", "parts"))
    assert gpu_check.differing(whole, parts) == []
    path = parts / "checkpoints/last.ckpt"
    kept = torch.load(path, weights_only=True)
    name = next(name for name, value in kept["state_dict"].items() if value.is_floating_point())
    kept["state_dict"][name].view(-1)[0] += 1
    torch.save(kept, path)
    (parts / "checkpoints/hashes.txt").unlink()
    assert gpu_check.differing(whole, parts) == [f"/state_dict/{name}"]


def fails(check, unit):
    if unit == "b":
        raise RuntimeError(f"CUDA error in {check.folder}/x/kernel.cu\nmore lines")
    if unit == "c":
        raise NotHere("one device")
    return {"holds": True}


def test_what_fails_is_recorded_with_its_reason_and_stops_nothing(check):
    parts = [Part("first", 1, ("a", "b", "c"), fails), Part("second", 1, ("a",), fails)]
    results = gpu_check.run(check, 100, in_process, parts)
    assert gpu_check.listed(results, "failed") == ["first, b: RuntimeError: CUDA error in WORK/x/kernel.cu"]
    assert gpu_check.listed(results, "not_here") == ["first, c: one device"]
    assert units(results, "second")["a"]["found"] == {"holds": True}


def test_parts_without_time_are_named(check):
    parts = [Part("slow", 1, ("a", "b"), lambda *_: time.sleep(0.3) or {}), Part("late", 1, ("c",), fails)]
    results = gpu_check.run(check, 0.2, in_process, parts)
    assert gpu_check.listed(results, "dropped") == ["slow, b: no time left of 0.1 s", "late, c: no time was left"]


def test_a_hang_ends_with_its_slice(check, monkeypatch):
    """The process of a part never answers: its first unit has failed, the others are named."""
    start_process = subprocess.Popen
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(gpu_check.subprocess, "Popen", lambda _, **given: start_process(sleep, **given))
    start = time.monotonic()
    outcomes = list(in_child(PLAYED["exact resume"], check, 0.5))
    assert time.monotonic() - start < 10
    assert outcomes[0].failed == "did not end within 0.5 s"
    assert all(outcome.dropped for outcome in outcomes[1:])


def test_a_rehearsal_is_no_record():
    with pytest.raises(BadInput, match="--out: a rehearsal must name its file"):
        gpu_check.place_of(None, rehearsal=True)
    with pytest.raises(BadInput, match="must lie outside docs/results/records"):
        gpu_check.place_of(gpu_check.RECORDS / "gpu_me.json", rehearsal=True)


def test_records_of_gpus_are_no_rehearsals():
    for path in gpu_check.RECORDS.glob("gpu_*.json"):
        assert json.loads(path.read_text())["rehearsal"] is False, path


def test_a_record_names_no_folder_of_the_machine(check, tmp_path):
    results = gpu_check.run(check, 100, in_process, [Part("first", 1, ("a", "b"), fails)])
    gpu_check.write(tmp_path / "x.json", gpu_check.record_of(check, 100, results))
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text)["rehearsal"] is True
    assert not re.search(r"[\s\"=](/\w+){2}", text)
    assert str(tmp_path) not in text


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_without_an_accelerator_it_is_one_line():
    with pytest.raises(BadInput, match=r"^no accelerator that torch can use; --device cpu --out FILE rehearses"):
        gpu_check.main(None, 1.0, None, None, None, None, False)
    with pytest.raises(BadInput, match=r"^--device xpu: must be cpu or the accelerator here, none$"):
        gpu_check.main("xpu", 1.0, None, None, None, None, False)


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path):
    """Every part in processes of their own, as `make gpu-check` runs them."""
    out = tmp_path / "rehearsal.json"
    command = [sys.executable, "-m", "benchmarks.speed.gpu_check", "--device", "cpu", "--seconds", "3000"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert (record["rehearsal"], record["failures"], record["dropped"]) == (True, [], [])
    assert record["parts"].keys() == PLAYED.keys()
