"""The command line as a person meets it: every source trains, bad input gets its one line and exit code 2."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import REAL_FACES, TINY
from picture_makers import (
    celeba_files,
    celeba_tables,
    encode,
    lfw_files,
    make_crops,
    picture,
    put,
    put_tgz,
    put_zip,
    write,
)
from PIL import Image

from faceforge.io.storage import cache_root

ROOT = Path(__file__).parents[1]
FILES = [o for o in TINY if not o.startswith("data.source.")]


@pytest.fixture
def command(train_typed):
    """Run `python train.py ...` in this process; gives (exit code, lines on stderr that are faceforge's)."""

    def run(*words):
        code, run.out, err = train_typed(*words)
        assert "Traceback" not in err
        return code, [line.removeprefix("faceforge: ") for line in err.splitlines() if line.startswith("faceforge: ")]

    return run


def files_in(folder):
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file() and "cache" not in p.parts}


# ------------------------------------------------------------------------------------------------ every source trains


def crops(root):
    return ["data=crops", f"data.root={make_crops(root / 'faces', 30)}"]


def crops_of_people(root):
    for person in range(9):
        make_crops(root / "my faces, (2)" / f"person {person}", 3)
    return ["data=crops", f"data.root={root / 'my faces, (2)'}"]


def lfw_folder(root):
    return ["data=lfw", f"data.root={put(lfw_files(12), root / 'lfw')}"]


def lfw_archive(root):
    return ["data=lfw", f"data.root={put_tgz(lfw_files(12), root / 'lfw.tgz', 'lfw/')}"]


def celeba_folder(root):
    put(celeba_files(30), root / "celeba", "img_align_celeba")
    put(celeba_tables(30), root / "celeba")
    return ["data=celeba", f"data.root={root / 'celeba'}", "data.split=official"]


def celeba_zip(root):
    put_zip(celeba_files(30), root / "celeba" / "img_align_celeba.zip", "img_align_celeba/")
    put(celeba_tables(30), root / "celeba")
    return ["data=celeba", f"data.root={root / 'celeba'}"]


def celeba_published(root):
    archive = put_zip(celeba_files(30), root / "img_celeba_dataset.zip", "img_celeba_dataset/")
    return ["data=celeba", f"data.root={archive}", "data.crop=published", "data.fraction=0.5"]


def celeba_plain(root):
    return ["data=celeba", f"data.root={put(celeba_files(30), root / 'jpgs')}"]


LAYOUTS = [crops, crops_of_people, lfw_folder, lfw_archive, celeba_folder, celeba_zip, celeba_published, celeba_plain]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_trains(command, tmp_path, layout):
    code, said = command(*FILES, "trainer.max_images=8", "run_dir=run", *layout(tmp_path))
    assert (code, said) == (0, [])
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["status"], record["images"]) == ("finished", 8)
    assert record["data"]["counts"]["train"] >= 8


@pytest.mark.slow
@pytest.mark.real_faces
@pytest.mark.skipif(not REAL_FACES.is_dir(), reason="no photographs beside the checkout")
def test_real_photographs_train(command, tmp_path):
    photos = [f"data.root={REAL_FACES / 'photos_color'}", "data=crops", "data.crop=center"]
    assert command(*FILES, "trainer.max_images=8", "run_dir=run", *photos) == (0, [])
    labels = [
        "data=lfw",
        f"data.root={REAL_FACES / 'lfw_gray'}",
        f"data.attributes={REAL_FACES / 'lfw_gray_labels.csv'}",
    ]
    assert command(*FILES, "trainer.max_images=8", "run_dir=grey", *labels) == (0, [])
    shares = json.loads((tmp_path / "grey/run.json").read_text())["data"]["attributes"]
    assert shares["emotion=happiness"] == pytest.approx(2610 / 5982, abs=0.01)


EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))  # test_published.py: the others


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_every_experiment_trains_a_step(command, tmp_path, experiment):
    small = [
        "data.batch_size=2",
        "data.source.count=40",
        "trainer.gpus=0",
        "logger.mode=disabled",
        *(["model.val_samples=0"] if experiment.startswith("gan") else []),
    ]
    assert command(f"experiment={experiment}", *small, "trainer.max_steps=1", "run_dir=run") == (0, [])
    assert json.loads((tmp_path / "run/run.json").read_text())["images"] == 2


def test_odd_pictures_are_read_rightly_or_listed(command, tmp_path):
    folder = make_crops(tmp_path / "faces", 24)
    colour = Image.fromarray(picture(3))
    write(folder / "16bit.png", encode(Image.fromarray(np.full((20, 20), 40000, np.uint16)), "PNG"))
    write(folder / "cmyk.jpg", encode(colour.convert("CMYK")))
    write(folder / "palette.png", encode(colour.convert("P"), "PNG"))
    write(folder / "alpha.png", encode(colour.convert("RGBA"), "PNG"))
    write(folder / "one.png", encode(colour.resize((1, 1)), "PNG"))
    write(folder / "text.jpg", b"I am no picture.")
    write(folder / "cut.jpg", encode(colour)[:-40])
    write(folder / "cut.png", encode(colour, "PNG")[:-40])
    assert command(*FILES, "trainer.max_images=8", "run_dir=run", "data=crops", f"data.root={folder}") == (0, [])
    assert "3 images could not be used; see run/skipped.csv" in command.out
    listed = dict(line.split(",", 1) for line in (tmp_path / "run/skipped.csv").read_text().splitlines()[1:])
    assert set(listed) == {"text.jpg", "cut.jpg", "cut.png"}
    report = (tmp_path / "run/report.html").read_text()
    assert all(name in report for name in listed)


# ------------------------------------------------------------------------------------------------ bad input


def nothing(root):
    return ["data=crops"], "data.root"


def no_such_folder(root):
    return ["data=crops", f"data.root={root / 'nowhere'}"], "nowhere"


def empty_folder(root):
    (root / "empty").mkdir()
    return ["data=crops", f"data.root={root / 'empty'}"], "empty"


def folder_without_images(root):
    write(root / "texts" / "a.txt", b"hello")
    return ["data=crops", f"data.root={root / 'texts'}"], "texts"


def one_image(root):
    return ["data=crops", f"data.root={make_crops(root / 'one', 1)}"], "1 different people"


def only_broken(root):
    for n in range(8):
        write(root / "broken" / f"{n}.jpg", b"text")
    return ["data=crops", f"data.root={root / 'broken'}"], "8 of 8 images (100%) cannot be used"


def half_broken(root):
    make_crops(root / "half", 6)
    for n in range(6):
        write(root / "half" / f"text{n}.jpg", b"text")
    return ["data=crops", f"data.root={root / 'half'}"], "data.max_corrupt_fraction"


def cut_zip(root):
    archive = put_zip(celeba_files(12), root / "img_celeba_dataset.zip", "img_celeba_dataset/")
    archive.write_bytes(archive.read_bytes()[:-400])
    return ["data=celeba", f"data.root={archive}"], "img_celeba_dataset.zip"


def page_for_a_zip(root):
    return [
        "data=celeba",
        f"data.root={write(root / 'celeba.zip', b'<!DOCTYPE html><html>Quota exceeded</html>')}",
    ], "celeba.zip"


def zip_that_escapes(root):
    with zipfile.ZipFile(root / "bad.zip", "w") as archive:
        archive.writestr("../../escaped.jpg", encode(Image.fromarray(picture(0))))
    return ["data=crops", f"data.root={root / 'bad.zip'}"], "bad.zip"


def batch_larger_than_the_set(root):
    return ["data=crops", f"data.root={make_crops(root / 'few', 10)}", "data.batch_size=500"], "data.batch_size"


def no_such_crop(root):
    return ["data=crops", f"data.root={make_crops(root / 'c', 10)}", "data.crop=centre"], "data.crop"


def no_such_labels(root):
    return [
        "data=crops",
        f"data.root={make_crops(root / 'l', 10)}",
        f"data.attributes={root / 'labels.csv'}",
    ], "labels.csv"


BAD_DATA = [
    nothing, no_such_folder, empty_folder, folder_without_images, one_image, only_broken, half_broken, cut_zip,
    page_for_a_zip, zip_that_escapes, batch_larger_than_the_set, no_such_crop, no_such_labels,
]  # fmt: skip


@pytest.mark.parametrize("case", BAD_DATA, ids=lambda f: f.__name__)
def test_bad_data_gets_one_line_and_nothing_is_written(command, tmp_path, case):
    words, named = case(tmp_path)
    before = files_in(tmp_path)
    code, said = command(*FILES, "run_dir=run", *words)
    assert code == 2
    assert len(said) == 1, said
    assert named in said[0], said
    assert files_in(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert not (tmp_path.parent / "escaped.jpg").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=dcgan_convention"], "model: there is no 'dcgan_convention'; did you mean 'dcgan_conventional'?"),
        (["data=celebra"], "data: there is no 'celebra'; did you mean 'celeba'?"),
        (["trainer.max_image=3"], "trainer.max_image: unknown; did you mean 'trainer.max_images'?"),
        (
            ["trainer.gpus=1"],
            "trainer.gpus: 1 requested, this machine has no GPU that torch can use; use trainer.gpus=0 (the CPU)",
        ),
        (["trainer.gpus=-1"], "trainer.gpus: -1 must be 0 (the CPU), a number of GPUs, or null for every GPU"),
        (
            ["trainer.precision=16"],
            "trainer.precision: 16 is emulated on the CPU and many times slower; use 32 or auto",
        ),
        (["data.size=[60,61]"], "model.generator: cannot upsample a small seed to 60x61; the nearest sizes are 56x56"),
        (["experiment=published/gan_conventional", "data.size=32"], "model.generator: this network supports only"),
        (["resume=nowhere"], "nowhere: no such run folder or checkpoint"),
        (["init_from=nowhere"], "nowhere: no such run folder or checkpoint"),
        (["trainer.max_images=0"], "trainer.max_images: 0 must be a positive number, or null for no limit"),
        (
            ["trainer.max_images=null"],
            "trainer: no limit is set; give max_images, max_epochs, max_steps or max_minutes",
        ),
        (["data.fraction=2"], "data.fraction=2"),
        (["model._target_=os.system"], "model._target_: 'os.system' is not on the allow-list"),
        (
            ["model.optimizer_g._target_=torch.load"],
            "model.optimizer_g._target_: 'torch.load' is not on the allow-list",
        ),
    ],
)
def test_bad_settings_get_one_line(command, tmp_path, words, said):
    if words[0] in ("trainer.gpus=1", "trainer.precision=16") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    tiny = [o for o in TINY if "trainer.gpus" not in o] if "gpus" in words[0] else TINY
    tiny = [o for o in tiny if not o.startswith("model.") and "size=8" not in o] if "experiment" in words[0] else tiny
    code, lines = command(*tiny, "run_dir=run", *words)
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith(said), lines
    assert not (tmp_path / "run").exists()


def test_a_sweep_is_checked_before_its_first_job(command, tmp_path):
    code, said = command("-m", *TINY, "run_dir=sweep", "seed=1,two", "model.r1_gamma=0.1,no")
    assert (code, len(said)) == (2, 2), said
    code, said = command("-m", *TINY, "run_dir=sweep", "data.batch_size=4,2.5", "model.objective=hinge,hing")
    assert (code, len(said)) == (2, 2), said
    assert not (tmp_path / "sweep").exists()


# ------------------------------------------------------------------------------------------------ sweeps


@pytest.mark.slow
def test_a_sweep_leaves_whole_runs_and_readable_wandb_runs(tmp_path):
    """Two learning rates by two seeds: four run folders, four offline W&B runs that W&B's own tool reads."""
    quick = [o for o in TINY if not o.startswith(("logger.", "trainer.max_images"))]
    sweep = [
        "-m",
        "model.optimizer_g.lr=1e-3,5e-4",
        "seed=1,2",
        f"run_dir={tmp_path / 'sweep'}",
        "trainer.max_images=8",
    ]
    environment = {**os.environ, "WANDB_MODE": "offline", "FACEFORGE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(ROOT / "train.py"), *quick, *sweep]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment)
    jobs = sorted(p for p in (tmp_path / "sweep").iterdir() if p.is_dir())
    assert [p.name[:-9] for p in jobs] == [
        f"model.optimizer_g.lr={lr}-seed={seed}" for lr in ("0.0005", "0.001") for seed in (1, 2)
    ]
    ids = set()
    for job in jobs:
        record = json.loads((job / "run.json").read_text())
        assert record["status"] == "finished"
        assert (job / "report.html").is_file()
        ids.add(record["wandb"]["id"])
        offline = list((job / "wandb").glob("offline-run-*"))
        assert len(offline) == 1
        inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", offline[0]]
        shown = subprocess.run(inspect, capture_output=True, text=True, env=environment)
        assert shown.returncode == 0, shown.stderr
        assert "loss/generator" in shown.stdout
        chosen = yaml.safe_load((job / "config.yaml").read_text())
        assert job.name[:-9].endswith(f"lr={chosen['model']['optimizer_g']['lr']}-seed={chosen['seed']}")
        assert chosen["logger"]["group"] == "sweep"  # one group a sweep
    assert len(ids) == 4
    again = [sys.executable, str(ROOT / "train.py"), f"resume={jobs[3]}", "trainer.max_images=12"]
    subprocess.run(again, check=True, capture_output=True, cwd=tmp_path, env=environment)
    assert json.loads((jobs[3] / "run.json").read_text())["images"] == 12


def test_the_installed_command_is_the_same_entry():
    done = subprocess.run(
        [Path(sys.executable).with_name("faceforge"), "train", "modle=x"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "faceforge: modle: unknown; did you mean 'model'?\n")


def test_the_cache_is_where_it_is_said_to_be(command, tmp_path):
    assert command(*TINY, "trainer.max_images=4", "run_dir=run") == (0, [])
    assert Path(cache_root(None)) == tmp_path / "cache"
    assert list((tmp_path / "cache").iterdir())
