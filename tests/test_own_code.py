"""A folder of yaml and python outside the package, as docs/own-code.md has it, used by an installed wheel."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/own-code.md").read_text()
FILES = re.findall(r"^`(my_conf/\S+)`[^\n]*:\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^faceforge train (.*)$", PAGE, re.MULTILINE)
SMALL = {
    "model": ["data.source.count=60", "data.size=8", "data.batch_size=4", "trainer.max_images=12", "trainer.gpus=0"],
    "every": ["data.val_fraction=0.2", "data.test_fraction=0.2", "trainer.log_every=4", "logger.mode=disabled"],
}


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The wheel, installed where nothing else of the checkout is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def faceforge(site, tmp_path):
    """Run `faceforge ...` of the wheel in an empty folder that holds ``my_conf``."""
    for name, text in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def run(*words, code="from faceforge.cli import run; run()"):
        start = f"import sys; sys.path.insert(0, {str(site)!r}); {code}"
        env = {**os.environ, "FACEFORGE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""}
        command = [sys.executable, "-c", start, *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)

    return run


FORKING = """
import contextlib, json, os, sys
from faceforge import cli, config
import faceforge.engine.training

for number, words in enumerate(json.loads(sys.argv.pop())):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    sys.argv[1:] = words
    with open(f"{number}.out", "w") as out, open(f"{number}.err", "w") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.run()
            except SystemExit as end:
                open(f"{number}.code", "w").write(str(end.code or 0))
    os._exit(0)
"""


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "command",
    [c if "model=mine" in c else pytest.param(c, marks=pytest.mark.slow) for c in COMMANDS],
    ids=lambda c: c[-20:],
)
def test_what_the_page_shows_trains(faceforge, tmp_path, command):
    done = faceforge("train", *command.split(), *SMALL["model"], *SMALL["every"], "run_dir=run")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "finished"
    config = (tmp_path / "run/config.yaml").read_text()
    for word, target in {
        "network=plain": "Plain", "model=mine": "Plain", "loss=cubic": "Cubic", "data=stripes": "Stripes",
        "callbacks=mine": "WeightNorm", "logger=mine": "Shout",
    }.items():  # fmt: skip
        if word in command or "experiment=mine" in command:
            assert f"_target_: my_faces.{target}" in config
    if "callbacks=mine" in command:
        assert "4" in [row["images"] for row in rows(tmp_path / "run") if row["mine/norm"]]
    if "logger=mine" in command:
        assert "LOSS/GENERATOR 4" in (tmp_path / "run/shouted.txt").read_text()


@pytest.mark.slow
def test_a_run_of_ones_own_code_is_used_later(faceforge, tmp_path):
    done = faceforge("train", *COMMANDS[2].split(), *SMALL["model"], *SMALL["every"], "run_dir=run")
    assert done.returncode == 0, done.stderr
    again = shlex.split(re.search("^To continue: +faceforge (.*)$", done.stdout, re.MULTILINE)[1])
    assert faceforge(*again, "logger.mode=disabled").returncode == 0
    words = ["evaluate", "run", "--trusted-packages", "my_faces", "--count", "4"]
    missing = faceforge(*words)
    assert missing.returncode == 2
    assert re.search(r"'my_faces.Plain' does not exist \(No module named 'my_faces'\)", missing.stderr)
    (tmp_path / "my_conf/my_faces.py").rename(tmp_path / "my_faces.py")
    assert faceforge(*words).returncode == 0


def test_wrong_words_for_ones_own_code_are_one_line(faceforge, tmp_path):
    """Each in a process of its own, forked after the imports."""
    own = ["--config-dir", "my_conf", "trusted_packages=[my_faces]"]
    cases = [
        ([*own, "model=mien"], "model: there is no 'mien'; did you mean 'mine'?"),
        (
            [*own, "data=stripes", "data.source.cuont=3"],
            "data.source.cuont: unknown; did you mean 'data.source.c",
        ),
        ([*own, "data=stripes", "data.source.count=many"], "data.source.count: 'many' is not a whole number"),
        (["--config-dir", "my_conf", "data=stripes"], "data.source._target_: 'my_faces.Stripes' is not on the allow"),
        (["--config-dir", "mine", "data=stripes"], "--config-dir: mine must be a folder of yaml files"),
        (["hydra.searchpath=[mine]", "seed=1"], "hydra.searchpath: mine must be a folder of yaml files"),
        (["hydra/launcher=jolib", "-m", "seed=1,2"], "hydra/launcher: there is no 'jolib'; "),
    ]
    done = faceforge(json.dumps([["train", *words, "run_dir=run"] for words, _ in cases]), code=FORKING)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for number, (words, said) in enumerate(cases):
        code, out, err = ((tmp_path / f"{number}.{kind}").read_text() for kind in ("code", "out", "err"))
        assert (code, out) == ("2", ""), words
        assert err.startswith(f"faceforge: {said}"), err
        assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


LAUNCHER = '''
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict


class Backwards(Launcher):
    """Runs the jobs of a sweep in reverse."""

    def __init__(self, note: str) -> None:
        self.note = note

    def setup(self, *, hydra_context, task_function, config):
        self.config, self.context, self.task = config, hydra_context, task_function

    def launch(self, job_overrides, initial_job_idx):
        setup_globals()
        done = []
        for n, overrides in reversed(list(enumerate(job_overrides))):
            job = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(job):
                job.hydra.job.id, job.hydra.job.num = self.note, initial_job_idx + n
            done.insert(0, run_job(
                hydra_context=self.context, task_function=self.task, config=job,
                job_dir_key="hydra.sweep.dir", job_subdir_key="hydra.sweep.subdir",
            ))
            print(self.note, n, done[0].return_value)
        return done
'''  # fmt: skip


@pytest.mark.slow
def test_a_launcher_of_ones_own_runs_a_sweep(faceforge, tmp_path):
    (tmp_path / "my_conf/hydra_plugins").mkdir()
    (tmp_path / "my_conf/hydra_plugins/backwards.py").write_text(LAUNCHER)
    (tmp_path / "my_conf/hydra/launcher").mkdir(parents=True)
    yaml = "_target_: hydra_plugins.backwards.Backwards\nnote: mine\n"
    (tmp_path / "my_conf/hydra/launcher/backwards.yaml").write_text(yaml)
    words = ["--config-dir", "my_conf", "hydra/launcher=backwards", "hydra.launcher.note=job", "run_dir=sweep"]
    small = ["model=conv_superres", *SMALL["model"], *SMALL["every"], "data.size=32", "trainer.checkpoint_every=4"]
    done = faceforge("train", "-m", *words, *small, "seed=1,2")
    assert done.returncode == 0, done.stderr
    order = re.findall(r"^job (\d) (\S+)$", done.stdout, re.MULTILINE)
    assert [n for n, _ in order] == ["1", "0"]
    best = [json.loads(path.read_text())["best"]["value"] for path in sorted((tmp_path / "sweep").glob("*/run.json"))]
    assert [float(score) for _, score in order] == best[::-1]
    assert "2 of 2 jobs finished." in done.stdout


@pytest.mark.slow
def test_a_launcher_may_run_jobs_in_other_processes(faceforge, tmp_path):
    """joblib's: the table at the end has each job's outcome, wherever it ran."""
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "run_dir=sweep", "model.optimizer.lr=1e-3,-1"]
    done = faceforge("train", "-m", *words, "model=conv_superres", *SMALL["model"], *SMALL["every"], "data.size=32")
    assert done.returncode == 2, done.stderr
    assert re.search(r"^0 +model.optimizer.lr=0.001 +sweep/\S+ +finished$", done.stdout, re.MULTILINE)
    assert re.search(r"^1 +model.optimizer.lr=-1 +- +failed: model.optimizer: Invalid", done.stdout, re.MULTILINE)
    assert "1 of 2 jobs finished." in done.stdout
