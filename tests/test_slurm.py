"""The batch scripts of examples/ on a real SLURM of one machine, and requeues by the real scontrol."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY
from slurm import slurm
from test_cluster import AGENT, same, weights

__all__ = ["slurm"]
EXAMPLES = ROOT / "examples" / "slurm"
QUICK = [*TINY, "trainer.max_images=16"]


@pytest.fixture
def batch(slurm, tmp_path):
    """Submit an example in a folder of its own, with tiny settings; the number of its job.

    The cluster of the test has one machine without GPUs, so those are not asked for, nor more machines.
    """
    shutil.copy(ROOT / "train.py", tmp_path)

    def submit(example, *words, options=()):
        text = (EXAMPLES / example).read_text()
        text = re.sub(r"#SBATCH --gpus.*\n", "", text).replace("--cpus-per-task=8", "--cpus-per-task=1")
        text = re.sub(r"--nodes=. --ntasks-per-node=4", "--nodes=1 --ntasks-per-node=2", text)
        script = tmp_path / example
        script.write_text(text)
        known = {"PYTHONPATH": f"{ROOT / 'src'}", "FACEFORGE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        known["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return slurm.run(
            "sbatch", "--parsable", "--chdir", tmp_path, *options, script, *words, env={**slurm.environment, **known}
        ).stdout.strip()

    return submit


def said(folder):
    """What all jobs have printed."""
    return "\n".join(path.read_text() for path in sorted(folder.glob("slurm-*.out")))


def record(folder):
    return json.loads((folder / "run.json").read_text())


def wait_for_rows(slurm, place, pattern, rows=5):
    """Wait until a run below ``place`` has some rows; its folder."""
    deadline = time.monotonic() + 200
    while True:
        for table in place.glob(f"{pattern}/metrics.csv"):
            if len(table.read_text().splitlines()) > rows:
                return table.parent
        assert slurm.run("squeue", "-h").stdout.strip(), said(place)
        assert time.monotonic() < deadline, said(place)
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("example", "processes"), [("one_gpu.sbatch", 1), pytest.param("one_node.sbatch", 2, marks=pytest.mark.slow)]
)
def test_a_signal_requeues_the_job_once_and_the_next_start_continues_the_run(
    slurm, batch, tiny, tmp_path, example, processes
):
    """One run, with the bits of an undisturbed one."""
    words = [w for w in TINY if not w.startswith(("trainer.max", "trainer.ch"))]
    words += ["trainer.max_images=160", "trainer.checkpoint_every=1000"]
    job = batch(example, *words)
    folder = wait_for_rows(slurm, tmp_path, f"runs/{job}")
    slurm.run("scancel", "--signal=USR1", job)
    about = slurm.wait(job)
    text = said(tmp_path)
    assert (about["JobState"], about["Restarts"]) == ("COMPLETED", "1"), text
    assert text.count(f"SLURM job {job} is requeued") == 1
    (stopped,) = record(folder)["resumed"]
    assert f"Stopped after {stopped:,} images" in text
    assert f"continuing at image {stopped:,}" in text
    assert record(folder)["status"] == "finished"
    whole = tiny("whole", *words, f"trainer.processes={processes}")
    assert same(whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["one_gpu.sbatch", "one_node.sbatch", "many_nodes.sbatch"])
def test_each_example_trains(slurm, batch, tmp_path, example):
    job = batch(example, *QUICK)
    about = slurm.wait(job)
    assert about["JobState"] == "COMPLETED", said(tmp_path)
    assert record(tmp_path / "runs" / job)["status"] == "finished"
    assert said(tmp_path).count("Finished after 16 images.") == 1


@pytest.mark.slow
def test_each_task_of_an_array_trains_its_own_run(slurm, batch, tmp_path):
    job = batch("sweep.sbatch", *QUICK, options=["--array=0-1"])
    assert slurm.wait(f"{job}_0")["JobState"] == "COMPLETED", said(tmp_path)
    assert slurm.wait(f"{job}_1")["JobState"] == "COMPLETED", said(tmp_path)
    folders = [tmp_path / "runs" / job / f"seed-{seed}" for seed in range(2)]
    assert [record(folder)["seed"] for folder in folders] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("number", ["USR2", "TERM"])
def test_other_signals_and_arrays_are_requeued_too(slurm, batch, tmp_path, number):
    """One task of an array, whose job has the array's own number."""
    words = [w for w in TINY if not w.startswith("trainer.max")]
    job = batch("sweep.sbatch", *words, "trainer.max_images=400", options=["--array=1"])
    folder = wait_for_rows(slurm, tmp_path, f"runs/{job}/seed-1")
    slurm.run("scancel", f"--signal={number}", f"{job}_1")
    about = slurm.wait(f"{job}_1")
    assert (about["JobState"], about["Restarts"]) == ("COMPLETED", "1"), said(tmp_path)
    assert len(record(folder)["resumed"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancelled", "requeue=false", "no run_dir"])
def test_jobs_that_are_not_requeued(slurm, batch, tmp_path, how):
    words = [*TINY, "trainer.max_images=10000000"]
    if how == "requeue=false":
        words.append("trainer.requeue=false")
    if how == "no run_dir":
        words.append("run_dir=null")
    job = batch("one_gpu.sbatch", *words)
    folder = wait_for_rows(slurm, tmp_path, "runs/*")
    slurm.run("scancel", *([] if how == "cancelled" else ["--signal=USR1"]), job)
    about = slurm.wait(job)
    text = said(tmp_path)
    assert (about["JobState"], about["Restarts"]) == ("CANCELLED" if how == "cancelled" else "FAILED", "0"), text
    assert "is requeued" not in text
    assert ("run_dir is not named" in text) == (how == "no run_dir")
    assert weights(folder)
    assert record(folder)["status"] == "interrupted"


@pytest.mark.slow
def test_a_step_that_srun_started_is_one_run_and_resumes_by_spawn(slurm, tiny, resume, tmp_path):
    known = {**slurm.environment, "PYTHONPATH": str(ROOT / "src"), "FACEFORGE_CACHE": str(tmp_path / "cache")}
    known["OMP_NUM_THREADS"] = "1"
    command = ["srun", "-n2", sys.executable, ROOT / "train.py", *TINY, "trainer.checkpoint_every=8"]
    done = slurm.run(*command, "run_dir=run", "trainer.max_images=16", cwd=tmp_path, env=known)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Finished after") == 1
    assert resume(tmp_path / "run", "trainer.max_images=32", "trainer.processes=2") == 0
    whole = tiny("whole", "trainer.processes=2", "trainer.checkpoint_every=8", "trainer.max_images=32")
    assert same(whole, tmp_path / "run")
    done = slurm.run(*command, "run_dir=other", "trainer.processes=3", cwd=tmp_path, env=known)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("faceforge:")]
    assert done.returncode == 2
    assert line == "faceforge: trainer.processes: 3 requested, srun started 2 on each machine"
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_the_kubernetes_job_trains_as_two_pods_on_loopback(tmp_path):
    """Its command, with the addresses, folders and counts of this machine."""
    service, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text())
    assert (service["kind"], job["spec"]["completionMode"]) == ("Service", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (line,) = container["args"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        line = line.replace("29500", str(probe.getsockname()[1]))
    line = line.replace("faceforge-0.faceforge", "127.0.0.1").replace("--nproc-per-node=8", "--nproc-per-node=1")
    line = line.replace("torchrun", " ".join(AGENT)).replace("train.py", str(ROOT / "train.py"))
    line = line.replace("/runs/first", "first") + " " + " ".join(QUICK)
    known = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "FACEFORGE_CACHE": str(tmp_path / "cache")}
    pods = [
        subprocess.Popen([*container["command"], line], cwd=tmp_path, env={**known, "JOB_COMPLETION_INDEX": str(n)})
        for n in range(2)
    ]
    assert [pod.wait(200) for pod in pods] == [0, 0]
    assert record(tmp_path / "first")["status"] == "finished"
