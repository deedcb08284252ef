"""Sweeps that survive: jobs in processes of their own, a folder that the same command completes, Optuna, the page."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from slurm import slurm  # noqa: F401

from faceforge import config, main
from faceforge.config import composing, multirun
from faceforge.engine import devices, jobs
from faceforge.engine.jobs import Job, Record, Share
from faceforge.engine.sweep import Sweep, job_name, score, swept
from faceforge.errors import BadInput
from faceforge.types import JobRow

QUICK = [*(word for word in TINY if not word.startswith("trainer.max_images")), "trainer.max_images=12"]


@pytest.fixture
def command(train_typed):
    """Run `python train.py ...`; gives the exit code, what it printed, and its lines on stderr."""
    return train_typed


def rows_of(printed):
    lines = printed.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("job  overrides"))
    last = next(n for n, line in enumerate(lines) if line.endswith("jobs finished."))
    return [re.split(r"\s{2,}", line) for line in lines[first + 1 : last]], lines[last]


# ------------------------------------------------------------------------------------------------ the same command


@pytest.mark.slow
def test_the_same_command_skips_finished_jobs_tries_failed_ones_again_and_adds_new_ones(command, tmp_path):
    words = ["-m", *QUICK, "guard.every=1", "run_dir=sweep", "model.optimizer_g.lr=1e-3,1e30,-1"]
    code, printed, _ = command(*words)
    rows, last = rows_of(printed)
    assert (code, last) == (1, "1 of 3 jobs finished.")
    assert [row[1] for row in rows] == [f"model.optimizer_g.lr={rate}" for rate in ("0.001", "1e+30", "-1")]
    assert [row[3].split(":")[0] for row in rows] == ["finished", "failed", "failed"]
    assert "NaN or infinite" in rows[1][3]
    assert rows[2][2:] == ["-", "failed: model.optimizer_g: Invalid learning rate: -1"]
    kept = tmp_path / rows[0][2] / "checkpoints/last.ckpt"
    assert re.fullmatch(r"model\.optimizer_g\.lr=0\.001-[0-9a-f]{8}", Path(rows[0][2]).name)
    told = json.loads((tmp_path / rows[0][2] / "run.json").read_text())["command"]
    assert "-m" not in told.split()
    assert f"run_dir={rows[0][2]}" in told.split()
    before = kept.stat().st_mtime_ns
    code, printed, _ = command(*words[:-1], "model.optimizer_g.lr=1e-3,-1,2e-3")
    again, last = rows_of(printed)
    assert (code, last) == (2, "2 of 4 jobs finished.")  # of this command only one fails, with code 2
    assert [(row[0], row[1].rpartition("=")[2], row[3].split(":")[0]) for row in again] == [
        ("0", "0.001", "finished"), ("1", "-1", "failed"), ("2", "0.002", "finished"), ("1", "1e+30", "failed"),
    ]  # fmt: skip
    assert kept.stat().st_mtime_ns == before
    with (tmp_path / "sweep/sweep.csv").open() as file:
        found = {row["model.optimizer_g.lr"]: row for row in csv.DictReader(file)}
    assert (found["0.002"]["outcome"], found["0.002"]["images"], found["-1"]["code"]) == ("finished", "12", "2")
    text = (tmp_path / "sweep/sweep.html").read_text()
    assert "2 of 4 jobs finished, 2 did not." in text
    assert "model.optimizer_g: Invalid learning rate: -1" in text


def test_the_name_of_a_job_is_what_it_is():
    constant = ["model", "trainer.gpus", "trainer.max_images", "run_dir"]
    words = ["model=pix2pix", "trainer.gpus=0", "trainer.max_images=8", "seed=1", "model.objective=hinge"]
    name = job_name(words, constant)
    assert re.fullmatch(r"seed=1-model\.objective=hinge-[0-9a-f]{8}", name)
    ending = name[-8:]
    assert job_name([*words[::-1]], constant)[-8:] == ending
    assert job_name([*words, "run_dir=elsewhere"], constant) == name
    assert job_name(["trainer.max_images=16" if "max" in word else word for word in words], constant) == name
    assert job_name(["seed=2" if "seed" in word else word for word in words], constant)[-8:] != ending
    assert job_name(["model=dcgan_cnn", *words[1:]], constant)[-8:] != ending
    longer = job_name(words, [key for key in constant if key != "trainer.max_images"])  # swept limits are other jobs
    assert longer[-8:] != ending
    assert "/" not in job_name(["data.root=a/b", "seed=1"], [])
    assert swept(words, constant) == {"seed": "1", "model.objective": "hinge"}


def test_two_sweeps_at_once_into_one_folder_are_refused(command, tmp_path):
    with Sweep(tmp_path / "sweep", {}):
        code, printed, said = command("-m", *QUICK, "seed=1,2", "run_dir=sweep")
    assert (code, printed) == (2, "")
    assert said == "faceforge: run_dir: another sweep runs in sweep; wait for it or name another\n"


# ------------------------------------------------------------------------------------------------ how jobs end


@pytest.fixture
def trained(monkeypatch):
    """Jobs that do at once what is named for a seed: raise it, or return it as the exit code."""
    seeds = []

    def use(ends):
        def run(job):
            seed = int(job.row.swept["seed"])
            seeds.append(seed)

            def train():
                end = ends.get(seed, 0)
                if isinstance(end, BaseException):
                    raise end
                return end

            row = jobs.outcome(job.record, job.row, train)
            job.record.keep(row)
            return row

        monkeypatch.setattr(jobs, "run", run)
        return seeds

    return use


def test_any_exception_is_a_row_and_keeps_its_traceback(command, trained, monkeypatch):
    """And Hydra's sweepers get the score of each job."""
    scores, job_of = [], main._job_of
    monkeypatch.setattr(main, "_job_of", lambda *job: scores.append(job_of(*job)) or scores[-1])
    monkeypatch.setattr("faceforge.engine.sweep.run_record", lambda folder: {"best": {"value": 0.5}})
    seeds = trained({1: RuntimeError("out of\nmemory"), 2: BadInput("data.root: nothing there")})
    code, printed, said = command("-m", "seed=range(1,4)", "run_dir=sweep")
    assert (code, seeds) == (1, [1, 2, 3])
    rows, last = rows_of(printed)
    assert [row[3] for row in rows] == [
        "failed: RuntimeError: out of memory",
        "failed: data.root: nothing there",
        "finished",
    ]
    assert last == "1 of 3 jobs finished."
    assert said.count("Traceback") == 1
    assert "faceforge: data.root: nothing there\n" in said
    assert [str(score) for score in scores] == ["nan", "nan", "0.5"]


def test_a_sweep_of_which_all_fail_alike_ends_with_their_code(tmp_path):
    folders = (tmp_path / str(n) for n in itertools.count())

    def code(*ends):
        with Sweep(next(folders), None) as sweep:
            for n, end in enumerate(ends):
                sweep.record.keep(jobs.outcome(sweep.record, JobRow(n, str(n)), lambda end=end: end))
            return sweep.code

    assert [code(0, 0), code(0, 2, 2), code(3, 0), code(2, 3)] == [0, 2, 3, 1]


def test_a_signal_to_a_job_ends_the_whole_sweep(command, trained):
    seeds = trained({2: 143})
    ended, printed, _ = command("-m", "seed=range(1,4)", "run_dir=sweep")
    assert (ended, seeds) == (143, [1, 2])
    rows, last = rows_of(printed)
    assert [row[1] for row in rows] == ["seed=1", "seed=2", "seed=3"]
    assert [row[3] for row in rows] == ["finished", "stopped by SIGTERM", "not started"]
    assert last == "1 of 3 jobs finished."


@pytest.mark.slow
def test_a_signal_between_two_trainings_ends_the_sweep_too(command, trained, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    trained({})
    told = []

    def best(folder):
        told.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr("faceforge.engine.sweep.run_record", best)
    code, printed, _ = command("-m", "seed=1,2,3", "run_dir=sweep")
    assert (code, len(told)) == (143, 1)
    assert printed.count("not started") == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_score_of_a_job_is_its_best(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.json").write_text(json.dumps({"best": {"metric": "val/mae", "value": 0.25, "images": 8}}))
    record = Record(tmp_path / "jobs.jsonl")
    assert score(record, JobRow(0, "a")) == 0.25
    assert score(record, JobRow(1, "none")) is None
    assert np.isnan(score(record, JobRow(2, "a", code=2)))


def kill(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def job(tmp_path, make, **other):
    return Job(JobRow(3, "job", {"seed": "1"}), Record(tmp_path / "jobs.jsonl"), make, [], ["train.py"], **other)


def test_a_job_that_the_system_kills_is_a_row(tmp_path):
    row = jobs.run(job(tmp_path, partial(kill, signal.SIGKILL)))
    assert row.outcome == "failed: its process was killed (SIGKILL), as the system does with what takes too much memory"
    assert row.code == 1
    row = jobs.run(job(tmp_path, partial(kill, signal.SIGTERM)))
    assert (row.outcome, row.code) == ("stopped by SIGTERM", 143)
    assert Record(tmp_path / "jobs.jsonl").rows() == [row]


def tell_place():
    Path("place.json").write_text(json.dumps([str(Path.cwd()), os.environ["MINE"], sys.argv]))
    raise BadInput("data.root: gone")


def test_a_job_runs_where_and_as_its_launcher_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE", "yes")  # set after the process was started from which jobs are forked
    row = jobs.run(job(tmp_path, tell_place))
    assert (row.outcome, row.code) == ("failed: data.root: gone", 2)
    assert json.loads((tmp_path / "place.json").read_text()) == [str(tmp_path), "yes", ["train.py"]]


def test_a_job_ends_when_its_sweep_is_gone(tmp_path):
    watched = os.fork()
    if not watched:
        time.sleep(1)
        os._exit(0)
    os.waitpid(watched, 0)
    row = jobs.run(job(tmp_path, partial(time.sleep, 60), watched=(watched,)))
    assert row.outcome == "stopped by SIGTERM"


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    record = Record(tmp_path / "jobs.jsonl")
    record.keep(JobRow(0, "a", {"seed": "1"}, "finished"))
    with record.path.open("a") as file:
        file.write('{"number": 1, "fol\n[]\n')
    record.keep(JobRow(1, "b", {}, jobs.RUNNING, process=1))
    assert [row.folder for row in record.rows()] == ["a", "b"]
    with Sweep(tmp_path, None) as sweep:  # begun anew: what ran has been killed with the sweep before
        assert [row.outcome for row in sweep.rows] == ["finished", "killed with the sweep"]


# ------------------------------------------------------------------------------------------------ shares of a machine


@pytest.mark.parametrize(
    ("share", "asked", "blocks"),
    [
        (Share(2, 2), None, [[0], [1]]),
        (Share(2, 8), None, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (Share(4, 2), None, [[0], [1]]),
        (Share(2, 5), 2, [[0, 1], [2, 3]]),
        (Share(2, 4), 0, []),
        (Share(2, 0), None, []),
        (Share(2, 1), 2, []),
    ],
)
def test_gpus_are_divided_into_blocks(share, asked, blocks):
    assert [list(block) for block in share.blocks(asked)] == blocks


def test_each_job_takes_a_block_that_is_free(tmp_path):
    from contextlib import ExitStack

    share = Share(2, 4)
    with ExitStack() as one, ExitStack() as two, ExitStack() as three:
        taken = [
            list(jobs._own_gpus(Job(JobRow(n, "x"), Record(tmp_path / "j"), dict, [], [], share), 1, stack))
            for n, stack in ((5, one), (1, two), (3, three))
        ]
        assert taken == [[1], [2], [3]]
    assert list(jobs._own_gpus(Job(JobRow(9, "x"), Record(tmp_path / "j"), dict, [], [], share), 1, ExitStack())) == [1]


def test_a_job_sees_its_own_gpus_only(monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,GPU-abc")
    devices.show_only(range(1, 3))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6,GPU-abc"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    devices.show_only(range(0))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    devices.show_only(range(2, 3))
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "2"


@pytest.mark.parametrize(
    ("words", "jobs_there", "number"),
    [
        ([], 12, 1),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], 12, 2),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=8"], 3, 3),
        (["hydra/launcher=submitit_local"], 5, 5),
        (["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"], 5, 2),
        (["hydra/launcher=submitit_slurm"], 5, 1),
        (["hydra/sweeper=optuna", "hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=3"], None, 3),
        (["hydra/sweeper=optuna", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"], None, 4),
    ],
)
def test_how_many_jobs_share_the_machine(words, jobs_there, number):
    assert multirun.at_once(composing.Library().first_job(words), jobs_there) == number


# ------------------------------------------------------------------------------------------------ launchers, spaces


def test_a_launcher_whose_extra_is_missing_names_the_pip_line(command, monkeypatch):
    monkeypatch.setattr(multirun, "find_spec", lambda name: None if "hydra_plugins" in name or name == "optuna" else 1)
    for words, extra in [
        (["hydra/launcher=joblib"], "sweep"), (["hydra/launcher=submitit_slurm"], "slurm"),
        (["hydra/launcher=ray"], "ray"), (["hydra/sweeper=optuna"], "sweep"), (["sweep=pix2pix"], "sweep"),
    ]:  # fmt: skip
        code, printed, said = command("-m", *words, "seed=1,2", "run_dir=sweep")
        assert (code, printed, said.count("\n")) == (2, "", 1), said
        assert said.endswith(f"is not installed; in faceforge's checkout: pip install -e '.[{extra}]'\n")
        assert not Path("sweep").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in (config.conf_dir() / "sweep").glob("*.yaml")))
def test_the_ends_of_every_ready_space_are_possible(name):
    library = composing.Library()
    first = library.first_job([f"sweep={name}"])
    assert first.hydra.runtime.choices.model == name
    words = composing.with_space([f"sweep={name}"], first)
    assert len(words) >= 5
    assert config.check_overrides(words, multirun=True, library=library, types=True) == []


def test_there_is_a_space_for_each_model():
    there = {group: {path.stem for path in (config.conf_dir() / group).glob("*.yaml")} for group in ("sweep", "model")}
    assert there["sweep"] == there["model"]


def test_what_cannot_be_searched_is_one_line_before_a_job(command, tmp_path):
    for words, said in [
        (["sweep=pix2pix"], "sweep: a search space needs -m"),
        (["-m", "sweep=pix2pix", "model.r1_gamma=interval(0,1)"], "model.r1_gamma: unknown; "),
        (["-m", "hydra/sweeper=optuna", "model.r1_gamma=interval(-1,1)"], "model.r1_gamma: -1.0 must be at least 0"),
        (["-m", "hydra/sweeper=optuna", "model.optimizer_g.lr=tag(log,interval(0,1))"], "model.optimizer_g.lr=tag("),
        (
            ["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.n_trials=many"],
            "hydra.sweeper.n_trials: 'many' is",
        ),
        (["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs: 0 must be at le"),
        (["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.sampler=best"], "hydra.sweeper.sampler: 'best' is"),
        (
            ["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.objectives=[val/kid]"],
            "hydra.sweeper.objectives: 'val/kid' must be a metric with its mode, such as val/mae:min",
        ),
        (["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.storage=x"], "hydra.sweeper.storage: "),
        (["-m", "hydra/sweeper=optuna", "seed=1,2", "hydra.sweeper.storage=no/x.db"], "hydra.sweeper.storage: "),
        (
            [
                "-m",
                "hydra/sweeper=optuna",
                "seed=1,2",
                "hydra.sweeper.storage='postgresql+psycopg://a:b@127.0.0.1:9/x'",
            ],
            "hydra.sweeper.storage: postgresql+psycopg://a:***@127.0.0.1:9/x cannot be reached (",
        ),
        (
            ["-m", "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "seed=1,2"],
            "hydra.launcher: nodes and tasks_per_node must be 1",
        ),
    ]:
        code, printed, lines = command(*words, "run_dir=sweep")
        assert (code, printed, lines.count("\n")) == (2, "", 1), (words, lines)
        assert lines.startswith(f"faceforge: {said}"), (words, lines)
        assert not list((tmp_path / "sweep").glob("*")), words


# ------------------------------------------------------------------------------------------------ SLURM


@pytest.mark.slow
def test_jobs_of_a_real_slurm(slurm, tmp_path):  # noqa: F811
    """Two jobs in the queue; then the command is killed while a third trains, and typed again waits for it."""
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1"]
    words = [sys.executable, str(ROOT / "train.py"), "-m", *words, *QUICK, "run_dir=sweep"]
    environment = {**slurm.environment, "FACEFORGE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def sweep(*more):
        done = subprocess.run([*words, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, *rows_of(done.stdout)

    done = sweep("seed=1,2")
    assert done == (0, rows_of_both(tmp_path), "2 of 2 jobs finished.")
    long = [*words, "seed=3", "trainer.max_images=2000"]
    begun = subprocess.Popen(long, cwd=tmp_path, env=environment)
    while not (running := [row for row in Record(tmp_path / "sweep/jobs.jsonl").rows() if row.outcome == jobs.RUNNING]):
        time.sleep(0.2)
    begun.kill()
    begun.wait()
    code, rows, _ = sweep("seed=3", "trainer.max_images=2000")
    assert (code, rows[0][1], rows[0][3]) == (0, "-", "finished")  # one value is no sweep
    record = json.loads((tmp_path / "sweep" / running[0].folder / "run.json").read_text())
    assert (record["images"], record["resumed"]) == (2000, [])  # it was left alone


def rows_of_both(tmp_path):
    names = sorted(path.name for path in (tmp_path / "sweep").glob("seed=*"))
    return [[str(n), f"seed={n + 1}", f"sweep/{name}", "finished"] for n, name in enumerate(names)]
