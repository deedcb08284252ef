"""Sweeps with Optuna: the space, the study in its storage, what jobs tell it; and the page that a sweep leaves."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import TINY
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from test_report import Page
from test_sweeps import rows_of

from faceforge.config.searching import space_of
from faceforge.engine import study
from faceforge.engine.jobs import TRIAL, Record
from faceforge.engine.study import Options, Outcome, Search
from faceforge.errors import BadInput
from faceforge.report import sweep as page
from faceforge.types import JobRow

SCORED = ["model.val_samples=8", "trainer.checkpoint_every=8", "trainer.max_images=40"]
SPACE = {"x": FloatDistribution(0, 1), "y": CategoricalDistribution(["a", "b"])}


def options(storage, **other):
    given = {"objectives": (("val/kid", "min"),), "sampler": "tpe", "pruner": "median", "startup": 2, "seed": 0}
    return Options(**{"storage": str(storage), "study_name": "mine", **given, **other})


# ------------------------------------------------------------------------------------------------ the space


def test_words_of_hydra_are_distributions_of_optuna():
    fixed, space = space_of([
        "model=pix2pix", "seed=3", "hydra.sweeper.n_trials=3", "a=interval(0.5,2)", "b=tag(log,interval(1e-4,1))",
        "c=int(interval(1,8))", "d=range(2,9,3)", "e=x,y", "f=choice(1,'a b',[1,2])", "model/loss@model.loss=l1,mse",
    ])  # fmt: skip
    assert fixed == ["model=pix2pix", "seed=3"]
    assert space == {
        "a": FloatDistribution(0.5, 2),
        "b": FloatDistribution(1e-4, 1, log=True),
        "c": IntDistribution(1, 8),
        "d": IntDistribution(2, 8, step=3),
        "e": CategoricalDistribution(["x", "y"]),
        "f": CategoricalDistribution(["1", "a\\ b", "[1,2]"]),
        "model/loss@model.loss": CategoricalDistribution(["l1", "mse"]),
    }


# ------------------------------------------------------------------------------------------------ the study


@pytest.fixture(scope="module")
def postgres():
    """The address of a database of a real PostgreSQL of its own, which runs as user postgres."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.skip("no PostgreSQL here (apt-get install postgresql)")
    name = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
    user = pwd.getpwnam(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chown(folder, user.pw_uid, user.pw_gid)

        def run(program, *words):
            command = [programs[-1].with_name(program), *words]
            subprocess.run(
                command, user=name if os.geteuid() == 0 else None, cwd=folder, check=True, stdout=subprocess.DEVNULL
            )

        run("initdb", "-D", f"{folder}/data", "--auth=trust", "--no-sync", "-U", "postgres")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", f"{folder}/data", "-w", "-o", settings, "-l", f"{folder}/log", "start")
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


@pytest.fixture(params=["a.db", "a.log", "postgresql"])
def storage(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")
    return study.located(str(tmp_path / request.param), tmp_path)


def test_a_study_goes_on_where_a_killed_sweep_left_it(storage, tmp_path):
    here, elsewhere = tmp_path / "sweep", tmp_path / "other"
    first = Search(options(storage), SPACE, here, 4).batch(2)
    assert sorted(first) == [0, 1]
    again = Search(options(storage), SPACE, here, 4)  # the sweep was killed
    assert again.batch(2) == first
    assert sorted(Search(options(storage), SPACE, elsewhere, 4).batch(1)) == [2]  # of another machine, in its folder
    again.tell(0, Outcome("finished", (0.5,)))
    again.tell(1, Outcome("failed"))
    left = again.batch(2)
    assert sorted(left) == [3]  # four in all
    again.tell(3, Outcome("stopped"))
    assert again.batch(2) == left
    again.tell(3, Outcome("finished", (0.25,)))
    assert again.batch(2) == {}
    told = {trial.number: (trial.state, trial.value) for trial in options(storage).open().trials}
    assert told == {
        0: (TrialState.COMPLETE, 0.5), 1: (TrialState.FAIL, None), 2: (TrialState.RUNNING, None),
        3: (TrialState.COMPLETE, 0.25),
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"study_name: the study 'mine' exists and wants to minimize; .* must maximize"):
        options(storage, objectives=(("val/ssim", "max"),)).open()
    with pytest.raises(BadInput, match=r"study_name: the study 'mine' has another search space"):
        Search(options(storage), {"y": CategoricalDistribution(["c", "d"])}, here, 9).batch(1)


def test_draws_after_a_kill_differ_from_those_before(tmp_path):
    storage = study.located(None, tmp_path)
    drawn = [next(iter(Search(options(storage), SPACE, tmp_path / str(n), 9).batch(1).values())) for n in range(5)]
    assert len({values["x"] for values in drawn}) == 5


def test_a_trial_like_an_earlier_one_takes_over_its_outcome(tmp_path):
    storage, space = study.located(None, tmp_path), {"y": CategoricalDistribution(["a", "b"])}
    search, launched = Search(options(storage, startup=20), space, tmp_path, 8), []
    while batch := search.batch(1):
        launched += [values["y"] for values in batch.values()]
        for number, values in batch.items():
            search.tell(number, Outcome("finished", (float(values["y"] == "a"),)))
    assert sorted(launched) == ["a", "b"]  # eight trials, no job twice
    assert {(t.params["y"], t.value) for t in search.study.trials} == {("a", 1.0), ("b", 0.0)}
    assert len(search.study.trials) == 8


def test_several_objectives(tmp_path):
    both = study.objectives(["val/kid:min", "val/ssim:max"], ("x", "min"))
    assert both == (("val/kid", "min"), ("val/ssim", "max"))
    assert study.objectives(None, ("val/mae", "min")) == (("val/mae", "min"),)
    search = Search(options(study.located(None, tmp_path), objectives=both), SPACE, tmp_path, 3)
    assert isinstance(search.study.pruner, optuna.pruners.NopPruner)
    for number, values in enumerate([(0.5, 0.5), (0.4, 0.6), (0.9, 0.1)]):
        assert sorted(search.batch(1)) == [number]
        search.tell(number, Outcome("finished", values))
    assert [trial.number for trial in search.study.best_trials] == [1]


def test_the_values_of_a_job_are_those_of_its_best_checkpoint(tmp_path):
    record, row = Record(tmp_path / "jobs.jsonl"), JobRow(0, "a", {}, "finished")
    (tmp_path / "a").mkdir()
    table = "images,val/kid,val/ssim,loss/g\n8,0.5,0.7,\n8,,,3\n16,0.25,0.6,\n24,0.75,0.9,2\n"
    (tmp_path / "a/metrics.csv").write_text(table)
    (tmp_path / "a/run.json").write_text(json.dumps({"best": {"metric": "val/kid", "value": 0.25, "images": 16}}))
    wanted = [("val/ssim", "max"), ("val/kid", "min"), ("loss/g", "min")]
    assert study.outcome_of(record, row, wanted) == (Outcome("finished", (0.6, 0.25, 2.0)), row)
    outcome, told = study.outcome_of(record, row, [("val/mae", "min")])
    assert outcome == Outcome("failed")
    assert told.outcome == "failed: hydra.sweeper.objectives: the run has no val/mae; it has val/kid, val/ssim"
    assert study.outcome_of(record, replace(row, code=1), wanted)[0] == Outcome("failed")
    assert study.outcome_of(record, replace(row, outcome="pruned"), wanted)[0] == Outcome("pruned")
    assert study.outcome_of(record, replace(row, outcome="stopped by SIGTERM", code=143), wanted)[0].state == "stopped"


# ------------------------------------------------------------------------------------------------ pruning


def trial_of(folder, values, monkeypatch):
    """An open trial of a study in which others reached ``values`` after 8, 16, ... images."""
    about = options(study.located(None, folder), startup=1)
    opened = about.open()
    for _ in range(2):
        other = opened.ask(SPACE)
        for step, value in enumerate(values, 1):
            other.report(value, 8 * step)
        opened.tell(other, values[-1])
    trial = opened.ask(SPACE)
    monkeypatch.setenv(TRIAL, json.dumps({"options": asdict(about), "trial": trial.number}))
    return opened, trial.number


def in_order(words):
    from faceforge import config
    from faceforge.engine import jobs

    composed = config.compose(words)
    return {**composed, "callbacks": jobs.with_pruning(composed["callbacks"])}


def test_a_job_that_does_badly_ends_as_pruned(tmp_path, monkeypatch):
    from faceforge.engine import training

    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    opened, number = trial_of(tmp_path, [-9.0, -9.0, -9.0, -9.0, -9.0], monkeypatch)  # nobody is as good
    words = [*TINY, *SCORED, f"run_dir={tmp_path / 'run'}"]
    assert training.train(in_order(words), words) == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["status"], record["images"], record["pruned"]) == ("finished", 8, 8)
    steps = opened.trials[number].intermediate_values
    assert list(steps) == [8]
    assert steps[8] == record["best"]["value"]
    assert training.train(in_order(words), words) == 0  # the same command finds it finished
    assert json.loads((tmp_path / "run/run.json").read_text())["images"] == 8


def test_a_job_that_does_well_or_cannot_reach_its_study_ends_as_any_run(tmp_path, monkeypatch, capsys):
    from faceforge.engine import training

    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    opened, number = trial_of(tmp_path, [9.0, 9.0, 9.0, 9.0, 9.0], monkeypatch)
    words = [*TINY, *SCORED, f"run_dir={tmp_path / 'run'}"]
    assert training.train(in_order(words), words) == 0
    assert list(opened.trials[number].intermediate_values) == [8, 16, 24, 32, 40]
    (tmp_path / "optuna.db").write_text("no database")
    other = [*words[:-1], f"run_dir={tmp_path / 'other'}"]
    assert training.train(in_order(other), other) == 0
    for folder in ("run", "other"):
        assert "pruned" not in json.loads((tmp_path / folder / "run.json").read_text())
    assert capsys.readouterr().err.count("was not reported to the sweep: hydra.sweeper.storage: ") == 5


# ------------------------------------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_a_search_goes_on_by_the_same_command(train_typed, tmp_path):
    words = ["-m", *TINY, *SCORED, "trainer.max_images=16", "hydra/sweeper=optuna", "hydra.sweeper.startup=1"]
    words += ["model.optimizer_g.lr=tag(log,interval(1e-4,1e-2))", "model.objective=hinge,minimax", "run_dir=sweep"]
    code, printed, said = train_typed(*words, "hydra.sweeper.n_trials=2")
    assert code == 0, said
    assert rows_of(printed)[1] == "2 of 2 jobs finished."
    code, printed, _ = train_typed(*words, "hydra.sweeper.n_trials=3")
    rows, last = rows_of(printed)
    assert (code, last, [row[0] for row in rows]) == (0, "3 of 3 jobs finished.", ["0", "1", "2"])
    trials = options(study.located(None, tmp_path / "sweep"), study_name="sweep").open().trials
    runs = [json.loads((tmp_path / row[2] / "run.json").read_text()) for row in rows]
    assert [trial.value for trial in trials if trial.state == TrialState.COMPLETE] == [
        run["best"]["value"] for run in runs if run.get("pruned") is None
    ]
    assert {"sweep.csv", "sweep.html", "optuna.db"} <= {path.name for path in (tmp_path / "sweep").iterdir()}


# ------------------------------------------------------------------------------------------------ the page


def test_the_key_that_decides_the_score_is_the_important_one():
    draws = np.random.default_rng(3)
    rates, seeds = 10 ** draws.uniform(-4, -2, 24), draws.integers(0, 9, 24)
    kinds = draws.choice(["a", "b"], 24)
    values = {"rate": [str(rate) for rate in rates], "seed": [str(seed) for seed in seeds], "kind": list(kinds)}
    found = page.importance(values, np.log10(rates) ** 2)
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert page.importance(values, np.where(kinds == "a", 1.0, 2.0))["kind"] > 0.8


def test_axes_of_the_parallel_coordinates():
    line = page.axis(["1", "2", "3"])
    assert list(line.heights) == [0, 0.5, 1]
    assert line.labels == [(0.0, "1"), (0.5, "2"), (1.0, "3")]
    steep = page.axis(["1e-4", "1e-3", "1e-2"])
    assert steep.heights == pytest.approx([0, 0.5, 1])
    assert steep.labels[1] == (0.5, "0.001")
    words = page.axis(["b", "a", "c", "a"])
    assert list(words.heights) == [0.5, 0, 1, 0]
    assert page.axis(["2", "2"]).heights == pytest.approx([0, 0])


def swept(tmp_path, count=8):
    """A sweep of jobs that never ran, as its files would say."""
    from PIL import Image

    rows = []
    for n in range(count):
        folder = tmp_path / f"job{n}"
        (folder / "samples").mkdir(parents=True)
        Image.new("RGB", (64, 32), (30 * n, 90, 120)).save(folder / "samples/000000100.png")
        best = {"metric": "val/mae", "mode": "min", "value": 0.1 + 0.01 * n, "images": 80}
        record = {"best": best, "images": 100, "seconds": 61.0}
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "report.html").write_text("")
        keys = {"model.lr": f"{1e-4 * 3**n:g}", "seed": str(n % 3), "model.objective": "ab"[n % 2]}
        rows.append(JobRow(n, f"job{n}", keys, "finished"))
    broken = JobRow(count, "broken", {"model.lr": "-1", "seed": "<b>"}, "failed: model: <script>alert(1)</script>", 2)
    return [*rows, broken]


@pytest.mark.usefixtures("drawn_charts")
def test_a_sweep_on_one_page(tmp_path):
    rows = swept(tmp_path)
    page.write_sweep(tmp_path, rows)
    text = (tmp_path / "sweep.html").read_text()
    read = Page(text)
    assert read.open == []
    said = " ".join(" ".join(read.text).split())
    assert "8 of 9 jobs finished, 1 did not." in said
    assert "failed: model: <script>alert(1)</script>" in said
    assert "<script>alert" not in text
    assert len(read.all("img")) == page.BEST
    assert next(link["href"] for link in read.all("a") if "report" in link["href"]) == "job0/report.html"
    ids = [section.get("id") for section in read.all("section")]
    assert ids == ["best", "failures", "coordinates", "importance", "jobs", "next"]
    assert len(read.all("path")) >= 8
    page.write_sweep(tmp_path, rows[:1])
    assert "importance" not in [
        section.get("id") for section in Page((tmp_path / "sweep.html").read_text()).all("section")
    ]
    page.write_sweep(tmp_path, [])
    assert "0 of 0 jobs finished." in (tmp_path / "sweep.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_screen(tmp_path, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    page.write_sweep(tmp_path, swept(tmp_path))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900})
        problems = []
        shown.on("console", lambda message: problems.append(message.text))
        shown.goto((tmp_path / "sweep.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        shown.screenshot(path=os.environ.get("SHOT", str(tmp_path / "shot.png")), full_page=True)
        browser.close()
    assert problems == []
