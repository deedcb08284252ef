"""Other people's habits: paths of any name, command lines as others type them, stale variables, odd places."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from faceforge import config, words
from faceforge.config import composing
from faceforge.data.sources.drawn import Drawn
from faceforge.engine import cluster
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io.files import atomic_path, short_name, temporary

CROPS = [word for word in TINY if not word.startswith("data.source")]
NAMES = [
    "üñ",
    "写真",
    "صور",
    "👩 x",
    "2024",
    "1e3",
    "007",
    "0x10",
    "true",
    "nan",
    "-x",
    "a b",
    "it's",
    'say "hi"',
    "a,b",
]
NAMES += ["[a]", "{a: 1}", "(2)", "a=b", "$HOME", "#1", "100%", "a;b&c", "a\\b", "b\\", "'", "choice(a,b)", "a:b", "?*"]


@pytest.fixture
def command(train_typed):
    """As train_typed; no traceback is ever printed."""

    def run(*typed):
        code, out, err = train_typed(*typed)
        assert "Traceback" not in err
        return code, out, err

    return run


def faces(folder, count=24):
    folder.mkdir(parents=True)
    for n in range(count):
        Image.fromarray(Drawn(count=count).read(n, (12, 12))).save(folder / f"{n:02d}.png")
    return folder


def parsed(word):
    (override,), problems = composing.parse([word])
    assert not problems
    return override.value()


# ------------------------------------------------------------------------------------------------ paths

paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: "${" not in text
)


@given(paths, st.sampled_from(words.PATHS), st.booleans())
@example("null", "data.root", True)
@example("'a'", "run_dir", True)
@example("~", "resume", False)
@example("-x\\", "data.root", False)
def test_what_is_printed_can_be_typed_again(path, key, multirun):
    """In any shell word: a path as printed is the same path when it is typed, also in a sweep."""
    printed = words.train(*["-m"] * multirun, words.word(key, path, multirun))
    *_, typed = shlex.split(printed)
    home = path.startswith("~")
    assert parsed(words.override(typed, multirun)) == (f"./{path}" if home else path)


@given(paths, st.sampled_from(words.PATHS), st.sampled_from(["", "+", "++"]))
@example("it's 'quoted'", "data.root", "")
def test_a_path_is_taken_as_typed(path, key, plus):
    if words.word(key, path) == f"{key}={path}" and not path.startswith("~"):
        typed = words.override(f"{plus}{key}={path}")
        assert parsed(typed) == path
        assert words.override(typed) == typed


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_folders(name):
    root = config.compose(["data=crops", f"data.root={name}", f"run_dir=runs/{name}", f"data.cache={name}"])
    assert (root["data"]["root"], root["run_dir"]) == (name, f"runs/{name}")
    assert root["data"]["source"]["cache"] == name


def test_words_of_yaml_are_folders_in_quotes():
    for name in ("null", "NULL", ""):
        assert config.compose(["data=crops", f"data.root='{name}'"])["data"]["root"] == name
        assert words.word("data.root", name) == f"data.root='{name}'"
    assert config.compose(["resume=null"])["resume"] is None


def test_a_tilde_that_the_shell_left_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    composed = config.compose(["run_dir=~/x", "data.cache='~/c d'"])
    assert (composed["run_dir"], composed["data"]["cache"]) == (f"{tmp_path}/x", f"{tmp_path}/c d")
    assert words.expanded(["--config-dir=~/x", "~model", "a=~/x"]) == [f"--config-dir={tmp_path}/x", "~model", "a=~/x"]
    assert words.override("hydra.searchpath=[~/x, y z]") == f"hydra.searchpath=[{tmp_path}/x,'y z']"


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("logger.name=Übung 3", "Übung 3"),
        ("logger.tags=[größe, b,写真]", ["größe", "b", "写真"]),
        ("data.augment=[{Rotate: {limit: é}}]", [{"Rotate": {"limit": "é"}}]),
        ("logger.name='größe'", "größe"),
    ],
)
def test_other_values_in_any_script(typed, value):
    assert parsed(words.override(typed)) == value


def test_a_sweep_over_paths():
    assert words.override("data.root=a b,2024,'x,y'", multirun=True) == "data.root='a b','2024','x,y'"
    assert words.override("data.root=choice(ü,b)", multirun=True) == "data.root=choice('ü',b)"
    jobs = composing.jobs_of([words.override("data.root=写真,a b", multirun=True)])
    assert [parsed(word) for (word,) in jobs] == ["写真", "a b"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("写真 (2)", "2024", "it's, ü=b")]
)
def test_a_sweep_in_a_folder_of_any_name(command, tmp_path, name):
    for folder in (f"{name} one", f"{name} two"):
        faces(tmp_path / folder)
    roots = ",".join(words.quoted(f"{name} {which}") for which in ("one", "two"))
    code, out, said = command("-m", *CROPS, "data=crops", f"data.root={roots}", f"run_dir={words.quoted(name)}")
    assert code == 0, said
    assert "2 of 2 jobs finished." in out
    assert len(list((tmp_path / name).glob("*/report.html"))) == 2


@pytest.mark.parametrize("name", ["写真 (2)", "2024", "it's, a=b"])
def test_check_prints_a_command_that_trains_and_training_one_that_continues(command, tmp_path, name):
    faces(tmp_path / name)
    printed = shlex.split(check(Path(name)).command)[2:]
    code, _, said = command(
        *CROPS, *(w for w in printed if "batch" not in w), f"run_dir=runs/{name}", "trainer.max_images=8"
    )
    assert (code, said.count("faceforge: ")) == (0, 0), said
    record = json.loads((tmp_path / "runs" / name / "run.json").read_text())
    assert shlex.split(record["command"])[:2] == ["python", "train.py"]
    again, out, _ = command(f"resume=runs/{name}", "trainer.max_images=12", "trainer.gpus=0")
    line = next(line for line in out.splitlines() if line.startswith("To continue:"))
    assert again == 0
    code, out, said = command(*shlex.split(line.partition("python train.py")[2]))
    assert code == 0, said
    assert "Finished after 24 images" in out


def test_a_search_path_of_any_name(command, tmp_path):
    folder = tmp_path / "mein Ordner, 写真"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    for typed in (f"hydra.searchpath=['{folder.name}']", f"hydra.searchpath=['{folder}']"):
        code, out, said = command(typed, "experiment=mine", "--cfg", "job")
        assert (code, said) == (0, "")
        assert "\nseed: 7" in f"\n{out}"


# ------------------------------------------------------------------------------------------------ runs that move


def test_a_run_is_continued_from_another_folder(command, tmp_path, monkeypatch):
    faces(tmp_path / "start" / "my faces")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    places = ["data=crops", "data.root=my faces", "data.cache=cache", "run_dir=run"]
    assert command(*CROPS, *places, "trainer.max_images=8")[0] == 0
    monkeypatch.chdir(tmp_path / "other")
    code, _, said = command("resume=../start/run", "trainer.max_images=12")
    assert code == 0, said
    assert not any((tmp_path / "other").iterdir())
    config_of_run = (tmp_path / "start/run/config.yaml").read_text()
    assert "root: my faces" in config_of_run


def test_a_project_that_moved_is_found_in_its_new_place(command, tmp_path, monkeypatch):
    faces(tmp_path / "project" / "faces")
    monkeypatch.chdir(tmp_path / "project")
    assert command(*CROPS, "data=crops", "data.root=faces", "run_dir=runs/a", "trainer.max_images=8")[0] == 0
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").rename(tmp_path / "deep" / "renamed")
    assert command("resume=deep/renamed/runs/a", "trainer.max_images=12")[0] == 0


def test_paths_refer_to_where_the_command_was_typed_if_hydra_changes_the_folder(command, tmp_path):
    faces(tmp_path / "faces")
    words = ["data=crops", "data.root=faces", "run_dir=run", "hydra.job.chdir=true", "hydra.run.dir=elsewhere"]
    code, _, said = command(*CROPS, *words, "trainer.max_images=8")
    assert code == 0, said
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_command_for_a_folder_like_a_flag_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words.faceforge("cut", Path("-x"), "my_faces") == "faceforge cut ./-x my_faces"
    assert words.faceforge("cut", Path("a b"), Path("~")) == "faceforge cut 'a b' './~'"


def test_faces_that_moved_are_named_from_where_one_is(command, tmp_path, monkeypatch):
    faces(tmp_path / "start" / "faces")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    assert command(*CROPS, "data=crops", "data.root=faces", "run_dir=run", "trainer.max_images=8")[0] == 0
    (tmp_path / "start" / "faces").rename(tmp_path / "other" / "2024")
    monkeypatch.chdir(tmp_path / "other")
    assert command("resume=../start/run", "trainer.max_images=12")[0] == 2
    assert command("resume=../start/run", "data.root=2024", "trainer.max_images=12")[0] == 0
    monkeypatch.chdir(tmp_path)
    assert command("resume=start/run", "trainer.max_images=16")[0] == 0


# ------------------------------------------------------------------------------------------------ nodes and flags


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("logger=null", "logger.mode=disabled"),
        ("logger=false", "logger.mode=disabled"),
        ("callbacks=null", "callbacks.NAME=null"),
        ("model.generator=unet", "did you mean model/generator=unet?"),
        ("model.discriminator=ptach", "did you mean 'model/discriminator=patch'?"),
        ("model=unet", "did you mean model/generator=unet?"),
        ("data.source=lfw", "did you mean data=lfw?"),
        ("trainer=fast", "did you mean 'default'?"),
        ("guard=stop", "such as guard.action"),
        ("model.optimizer_g=adam", "such as model.optimizer_g.lr"),
        ("hydra.job=x", "such as hydra.job.name"),
    ],
)
def test_a_node_replaced_by_a_value_is_one_line_with_the_nearest_form(command, word, form):
    code, _, said = command(word)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"faceforge: {word.partition('=')[0]}: ")
    assert form in said


def test_a_glob_over_models_is_a_sweep():
    assert config.check_overrides(["model=glob(dcgan*)"], multirun=True, types=True) == []


def test_overrides_with_dashes_as_agents_type_them(command):
    typed = ["--data=drawn", "--model.optimizer_g.lr=1e-4", "--seed=3", "--data.root=null", "--cfg=job"]
    code, out, said = command(*typed)
    assert (code, said) == (0, "")
    assert "lr: 0.0001" in out
    assert "\nseed: 3" in f"\n{out}"


@pytest.mark.parametrize("flags", [["--foo"], ["-z"], ["--data", "crops"], ["--cfg", "foo"], ["--config-dir"]])
def test_an_unknown_flag_is_one_line(command, flags):
    code, out, said = command(*flags)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert said.startswith("faceforge: ")
    assert "key=value" in said


def test_commands_name_what_is_installed(monkeypatch, tmp_path):
    assert words.train("seed=1") == "python train.py seed=1"
    assert words.typed(["faceforge train", "seed=1"]) == "python train.py seed=1"
    monkeypatch.setattr(words, "CHECKOUT", tmp_path)
    assert words.train("run_dir=a b") == "faceforge train 'run_dir=a b'"
    assert words.typed(["faceforge train", "seed=1"]) == "faceforge train seed=1"
    assert words.typed(["train.py", "seed=1"]) == "python train.py seed=1"


def test_nobody_else_writes_how_to_train():
    for path in (ROOT / "src").rglob("*.py"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "python train.py" in line]
        assert not lines or path.name in ("words.py", "main.py", "cli.py", "notebook.py"), (path, lines)


# ------------------------------------------------------------------------------------------------ variables

STALE = ["SLURM_PROCID=1", "RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=4", "SLURM_NTASKS=4", "PMI_RANK=3"]
STALE += ["OMPI_COMM_WORLD_RANK=2", "RANK=none", "MASTER_PORT=x", "NODE_RANK=1", "TORCHELASTIC_RUN_ID=a"]


@pytest.mark.parametrize("stale", [*([one] for one in STALE[:5]), STALE])
def test_stale_ranks_of_the_environment_change_nothing(tiny, monkeypatch, stale):
    for variable in stale:
        monkeypatch.setenv(*variable.split("="))
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning sets it, if RANK=1 when it is imported
    folder = tiny("a", "trainer.max_images=8")
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert (folder / "metrics.csv").is_file()
    assert list((folder / "samples").glob("*.png"))
    for variable in stale:
        name = variable.split("=")[0]
        assert os.environ[name] == dict(v.split("=") for v in stale)[name]


def test_a_rank_that_faceforge_starts_keeps_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with cluster.own_ranks():
        assert "LOCAL_RANK" not in os.environ
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    with cluster.own_ranks() as launch:
        assert launch == cluster.Launch()
        assert os.environ["LOCAL_RANK"] == "1"


def run_python(code, folder, *arguments, **environment):
    known = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'src'}",
        "FACEFORGE_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=known | environment, capture_output=True, text=True, timeout=300)


TRAIN = "from faceforge.main import main; main()"


@pytest.mark.slow
def test_a_command_line_with_every_stale_variable(tmp_path):
    environment = dict(variable.split("=") for variable in STALE)
    done = run_python(TRAIN, tmp_path, *TINY, "trainer.max_images=8", "run_dir=run", **environment)
    assert done.returncode == 0, done.stderr
    assert {"metrics.csv", "run.json", "report.html", "config.yaml"} <= {p.name for p in (tmp_path / "run").iterdir()}


@pytest.mark.slow
def test_the_run_of_a_sweep_s_agent_is_recorded_and_continued(tmp_path):
    """Under WANDB_SWEEP_ID W&B takes the id of the environment, not that of its caller."""
    environment = {"WANDB_SWEEP_ID": "a", "WANDB_RUN_ID": "b", "WANDB_NAME": "mine", "WANDB_MODE": "offline"}
    quick = [*(w for w in TINY if not w.startswith(("logger", "trainer.max"))), "run_dir=run"]
    done = run_python(TRAIN, tmp_path, *quick, "trainer.max_images=8", **environment)
    assert done.returncode == 0, done.stderr
    for images in (12, 16):
        used = json.loads((tmp_path / "run/run.json").read_text())["wandb"]
        assert (used["id"], used["name"], Path(used["folder"]).is_dir()) == ("b", "mine", True)
        done = run_python(
            TRAIN,
            tmp_path,
            "resume=run",
            f"trainer.max_images={images}",
            **environment | {"WANDB_RUN_ID": f"c{images}"},
        )
        assert done.returncode == 0, done.stderr
        assert [p.name.rpartition("-")[2] for p in (tmp_path / "run/wandb").glob("offline-run-*")] == ["b"]


# ------------------------------------------------------------------------------------------------ places

REFUSING = """
import errno, os, stat
number = getattr(errno, os.environ["REFUSE"])
try:
    import fcntl
    def flock(file, how): raise OSError(number, os.strerror(number))
    fcntl.flock = flock
except ImportError:
    pass
real = os.fsync
def fsync(handle):
    if stat.S_ISDIR(os.fstat(handle).st_mode) or os.environ.get("REFUSE_FILES"):
        raise OSError(number, os.strerror(number))
    real(handle)
os.fsync = fsync
"""
REFUSALS = [("ENOLCK", "1"), ("ENOSYS", "1"), ("EINVAL", ""), ("EOPNOTSUPP", "1"), ("EPERM", "")]
CLI = "import sys; sys.argv[0] = 'faceforge'; from faceforge.cli import run; run()"


@pytest.mark.slow
@pytest.mark.parametrize(("refusal", "files"), REFUSALS)
def test_without_locks_and_syncs_work_goes_on_with_a_line(tmp_path, refusal, files):
    (tmp_path / "sitecustomize.py").write_text(REFUSING)
    refused = {"REFUSE": refusal, "REFUSE_FILES": files}
    done = run_python(TRAIN, tmp_path, *TINY, "trainer.max_images=8", "run_dir=run", **refused)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("faceforge: ")]
    assert sum("cannot sync" in line for line in lines) == 1
    assert any(line.startswith("faceforge: run: this file system has no locks") for line in lines)
    assert any(line.startswith(f"faceforge: {tmp_path / 'cache'}") and "no locks" in line for line in lines)
    assert not list(tmp_path.rglob("*.pid"))
    done = run_python(CLI, tmp_path, "generate", "run", "--count", "2", "--out", "made.png", **refused)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "made.png").is_file()


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_that_cannot_be_synced_is_written(tmp_path, monkeypatch, refusal):
    def fsync(handle):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(tmp_path / "a") as beside:
        beside.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_a_failing_disk_names_the_file(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output") as failed, atomic_path(tmp_path / "a") as beside:
        beside.write_text("lost")
    assert Path(str(failed.value.filename)).parent == tmp_path


def test_a_home_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    from faceforge.io import portable, storage

    monkeypatch.delenv("FACEFORGE_CACHE", raising=False)
    monkeypatch.setattr(portable, "_told", set())
    monkeypatch.setattr(storage, "is_writable", lambda folder: False)
    first, second = storage.cache_root(), storage.cache_root()
    said = capsys.readouterr().err
    assert first == second
    assert said.count("\n") == 1
    assert "not writable; packed data goes to" in said
    with pytest.raises(BadInput, match=r"data\.cache=x: not writable"):
        storage.cache_root("x")


@pytest.mark.slow
def test_a_run_without_a_home_says_it_in_one_line(tmp_path):
    nowhere = {"HOME": str(tmp_path / "none"), "USERPROFILE": str(tmp_path / "none"), "TMPDIR": str(tmp_path)}
    (tmp_path / "none").touch()
    quick = [*(w for w in TINY if not w.startswith(("logger", "trainer.max"))), "run_dir=run", "trainer.max_images=8"]
    done = run_python(TRAIN, tmp_path, *quick, **nowhere, FACEFORGE_CACHE="", WANDB_MODE="offline", XDG_CONFIG_HOME="")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "none" in line]
    assert len(said) == 1, done.stderr
    (line,) = said
    assert "not writable; packed data goes to" in line
    assert "created a temporary cache directory" not in done.stderr
    assert "INFO" not in done.stderr


# ------------------------------------------------------------------------------------------------ names of outputs


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=300))
def test_a_name_is_never_longer_than_a_file_system_allows(name):
    made = short_name(name, ".png")
    assert len(os.fsencode(made)) <= 255
    assert made.endswith(".png")
    assert made == f"{name}.png" or short_name(f"x{name[1:]}" if name[0] != "x" else f"y{name[1:]}", ".png") != made
    assert len(os.fsencode(temporary(Path("a") / short_name(name)).name)) <= 255


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ü" * 125 + ".jpg", "x" * 251 + ".jpg"])
def test_filters_of_a_name_as_long_as_can_be(tmp_path, name):
    from faceforge.cut.panel import write_panels

    (tmp_path / "d").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "d" / name)
    assert write_panels(tmp_path / "d", tmp_path / "out", False)[0] == 1
    assert write_panels(tmp_path / "d" / name, tmp_path / "one", False)[0] == 1
    assert [len(list((tmp_path / folder).iterdir())) for folder in ("out", "one")] == [1, 1]
