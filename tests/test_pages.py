"""Every block of code of the README and the pages is typed into a shell, on a machine where trainings are small."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import small_world
import yunet
from conftest import ROOT
from PIL import Image
from small_world import LACKS
from test_features import weights  # noqa: F401

from faceforge.data.sources.drawn import Drawn
from faceforge.io.images import write_png
from faceforge.studio.output import Recipe, save_video

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("faceforge", "python", "python3", "torchrun", "openssl", "for", "git", "mkdir", *LACKS)
SHOWN = {  # blocks that nobody types: what a command prints, folders, a site of nginx
    "audit.md": ["Copies of training faces"],
    "cluster.md": ["limit_conn_zone"],
    "compare.md": ["Outputs compared"],
    "edits.md": ["Edits of faces"],
    "failures.md": ["faceforge: loss/discriminator"],
    "train.md": ["runs/<time>", "$ python train.py"],
}
OTHERS = {  # what is typed on another machine, and the test in which it runs
    "make setup": ".ci/run",
    "make demo": "benchmarks/first_hour.py",
    "make app": "test_studio_web.py",
    "pip install": "matrix.py",
    "python3 -m venv": "matrix.py",
    "torchrun --nnodes=2": "test_cluster.py::test_spawn_torchrun_and_two_machines_end_in_the_same_bits",
    "srun": "test_slurm.py::test_a_step_that_srun_started_is_one_run_and_resumes_by_spawn",
    "sbatch": "test_slurm.py::test_each_example_trains",
    "hydra/launcher=submitit_slurm": "test_sweeps.py::test_jobs_of_a_real_slurm",
    "postgresql+psycopg": "test_sweep_search.py::test_a_study_goes_on_where_a_killed_sweep_left_it",
    "curl": "test_studio_proxy.py::test_the_commands_of_the_documentation_are_commands_of_ours",
    "docker compose": "test_studio_proxy.py::test_what_the_docker_example_copies_can_be_installed",
    "git apply": "test_contributions.py",
    "data get": "test_data_get.py",
    "--push": "test_hub_models.py::test_a_pushed_model_is_the_run",
    "hf://": "test_hub_models.py::test_a_pushed_model_is_the_run",
    "data=hub": "test_data_shards.py::test_a_data_set_of_the_hub_is_packed_with_people_labels_and_splits",
}
OWN = "own-code.md"  # test_own_code.py makes its folder and types its commands
PREPARED = """
python train.py run_dir=runs/gan model.ema_kept=[0.05,0.1]
cp -r runs/gan runs/GAN
python train.py run_dir=runs/told model.conditional=[Smiling,Eyeglasses]
python train.py run_dir=runs/SR model=conv_superres
python train.py run_dir=runs/PIX2PIX model=pix2pix task=contours
python train.py run_dir=runs/colours model=pix2pix task=colorize
python train.py run_dir=runs/hints model=pix2pix task=colorize input.channels=3 task.hints=8
python train.py run_dir=runs/editor model=latent_editor model.code.latent_size=16 data.source.count=1500
python train.py run_dir=runs/pairs model=pix2pix task=pairs data=pairs data.root=my_pairs.csv
python train.py run_dir=runs/lfw data=lfw data.root=lfw.tgz
for seed in 1 2 3; do
  python train.py run_dir=runs/$seed model=conv_superres seed=$seed
  faceforge evaluate runs/$seed
done
mv runs/1 runs/A; mv runs/2 runs/B; mv runs/3 runs/C
"""


def picture(path: Path, n: int, size: tuple[int, int], room: int = 0, grey: bool = False) -> None:
    """A drawn face, with a margin of one colour where ``room`` is more than 0."""
    face = np.pad(FACES.read(n, size), ((room, room), (room, room), (0, 0)), constant_values=200)
    write_png(face.mean(2).astype(np.uint8) if grey else face, made(path.parent, path.stem))


def made(folder: Path, name: str | int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.png"


FACES = Drawn(count=400, seed=3)
CALLBACK = """
import pytorch_lightning as pl

class MyCallback(pl.Callback):
    def __init__(self, every):
        self.every = every
"""


def files(home: Path) -> None:
    """What the pages take for granted: photos, sets of faces, folders of smiling and other faces."""
    shutil.copy(ROOT / "train.py", home)
    shutil.copytree(ROOT / "examples", home / "examples")
    (home / "my_faces.py").write_text(CALLBACK)
    for name in ("photo", "a", "b", "drawing"):
        picture(home / f"{name}.png", len(name), (320, 240), 60)
    for name in ("photo", "a", "b"):
        Image.open(home / f"{name}.png").convert("RGB").save(home / f"{name}.jpg")
    frames = (np.asarray(Image.open(home / "photo.png").convert("RGB")) for _ in range(6))
    save_video(frames, home / "clip.mp4", 12, Recipe(None, "walk", {}))
    smiling = FACES.attributes()[1][:, FACES.attributes()[0].index("Smiling")]
    for n in range(60):
        picture(home / "photos" / f"{n}.png", n, (320, 240), 60)
        picture(home / "my_faces" / f"{n}.png", n, (160, 120))
        picture(home / ("smiles" if smiling[n] else "others") / f"{n}.png", n, (128, 128))
        picture(home / "lfw" / f"Person_{n // 2}" / f"Person_{n // 2}_{n % 2 + 1:04d}.png", n, (250, 250))
        picture(home / "celeba" / "img_align_celeba" / f"{n + 1:06d}.png", n, (218, 178))
        for folder, grey in (("sketches", True), ("photos", False)):
            picture(home / "my_pairs" / folder / f"{n}.png", n, (64, 64), grey=grey)
        write_png(np.hstack([FACES.read(n, (64, 64)), 255 - FACES.read(n, (64, 64))]), made(home / "side_by_side", n))
    (home / "my_pairs.csv").write_text(
        "input,target\n" + "".join(f"my_pairs/sketches/{n}.png,my_pairs/photos/{n}.png\n" for n in range(60))
    )
    shutil.copy(home / "my_pairs" / "sketches" / "0.png", home / "sketch.png")
    for folder in ("lfw", "celeba"):
        for path in (home / folder).rglob("*.png"):
            Image.open(path).save(path.with_suffix(".jpg"), quality=95)
            path.unlink()
    with tarfile.open(home / "lfw.tgz", "w:gz") as archive:
        archive.add(home / "lfw", "lfw")
    shutil.copytree(home / "my_faces", home / "faces")
    shutil.copytree(home / "smiles", home / "real")
    shutil.copytree(home / "others", home / "generated")
    (home / "shards").mkdir()
    for n in range(100):
        with tarfile.open(home / "shards" / f"faces-{n:03d}.tar", "w") as archive:
            archive.add(home / "my_faces" / f"{n % 60}.png", f"{n:03d}.png")


@pytest.fixture(scope="module")
def world(tmp_path_factory, weights):  # noqa: F811
    """The machine: what types a text in a folder, and the folder of which each page gets a copy."""
    place = tmp_path_factory.mktemp("world")
    small_world.install(place / "bin")
    given = {"/shared/": "", "weights=PATH": f"weights={weights}", "lfw=PATH": "lfw=lfw", "PATH": "lfw.tgz"}
    env = {
        **os.environ,
        **{"SMALL_WORLD": str(place / "door"), "FACEFORGE_CACHE": str(place / "cache"), "TERM": "dumb"},
        **{"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        **({"FACEFORGE_WEIGHTS": str(yunet.WEIGHTS.parent)} if yunet.WEIGHTS.is_file() else {}),
    }
    command = [sys.executable, str(Path(small_world.__file__)), str(place / "door"), json.dumps(given)]
    with subprocess.Popen(command, env=env, cwd=place) as server:
        yield World(place, env, server)
        server.kill()


class World:
    def __init__(self, place: Path, env: dict[str, str], server: subprocess.Popen[bytes]) -> None:
        self.place, self.env, self.server = place, env, server
        while not (place / "door").exists():
            assert server.poll() is None
        (place / "home").mkdir()
        files(place / "home")
        done = self.type(PREPARED, place / "home")
        assert done.returncode == 0, done.stderr[-3000:]

    def type(self, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-e", "-c", text]
        return subprocess.run(command, cwd=folder, env=self.env, capture_output=True, text=True, timeout=900)

    def noted(self) -> list[str]:
        """The calls of programs that this machine lacks, since the last question."""
        file = self.place / "door.noted"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page that are typed: their language and text."""
    shown = SHOWN.get(page.name, [])
    found = BLOCK.findall(page.read_text())
    assert all(any(text.startswith(start) for _, text in found) for start in shown), page
    return [(language, text) for language, text in found if not text.startswith(tuple(shown or ["\0"]))]


def elsewhere(line: str) -> bool:
    return any(words in line for words in OTHERS)


def statements(text: str) -> list[str]:
    """What a shell runs at a time: a line with those it continues on, and the document that follows ``<<``."""
    found, end = [], None
    for line in text.splitlines():
        if end or (found and found[-1].endswith("\\")):
            found[-1] += f"\n{line}"
            end = None if line == end else end
        elif line.strip():
            found.append(line)
        if document := re.search(r"<<'(\w+)'", line):
            end = document[1]
    return found


def test_statements_of_a_block():
    text = "a b \\\n  c\n\npython - <<'END'\nx\n\ny\nEND\nd  # e\n"
    assert statements(text) == ["a b \\\n  c", "python - <<'END'\nx\n\ny\nEND", "d  # e"]


@pytest.mark.parametrize("words", OTHERS)
def test_what_is_typed_elsewhere_is_on_a_page_and_its_test_exists(words):
    assert any(words in text for page in PAGES for _, text in blocks(page))
    file, _, name = OTHERS[words].partition("::")
    path = next(path for path in (ROOT / file, ROOT / "tests" / file) if path.exists())
    assert f"def {name}" in path.read_text() or not name


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != OWN], ids=lambda page: page.name)
def test_every_block_begins_with_a_program(page):
    """So that none is left out by mistake."""
    for language, text in blocks(page):
        if language in ("", "bash"):
            for statement in statements(text):
                assert statement.split()[0] in PROGRAMS, (page.name, statement)
        else:
            assert language == "python"


def says_what_is_next(statement: str, printed: str) -> bool:
    """Whether the last line holds a command; pages, tables for programs and moving files need none."""
    if not statement.startswith(("faceforge", "python train.py")) or re.search(r" app| --json| --open", statement):
        return True
    return bool(
        re.search(r"\b(faceforge|python train\.py|the same command)\b", ["", *printed.strip().splitlines()][-1])
    )


MADE = re.compile(r"(?:run_dir=|--out |Path\(\")((?:runs/)?\w+)(?=[ \n\"])")  # what a block makes
TYPED = [page for page in PAGES if page.name != OWN and blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_every_block_of_a_page_works(page, world, tmp_path):
    """In the order of the page, in one folder: with exit code 0, and no warning of a library."""
    home = tmp_path / "home"
    shutil.copytree(world.place / "home", home)
    if "faceforge cut photos/ my_faces" in page.read_text():
        shutil.rmtree(home / "my_faces")
    failed = []
    for language, text in blocks(page):
        for made_here in MADE.findall(text):  # not one that is there, nor that of the block before
            shutil.rmtree(home / made_here, ignore_errors=True)
        for run in re.findall(r"runs/[ab]\b", text) if language == "python" else ():
            shutil.copytree(home / run.upper().replace("RUNS", "runs"), home / run)
        for statement in [f"python - <<'END'\n{text}END"] if language == "python" else statements(text):
            if elsewhere(statement):
                continue
            done = world.type(re.sub(r"^(python -m .*)runs/RUN", r"\1runs/PIX2PIX", statement), home)
            if done.returncode or "Warning" in done.stderr or not says_what_is_next(statement, done.stdout):
                failed.append(f"{statement}\n-> {done.returncode}\n{done.stdout[-600:]}\n{done.stderr[-1500:]}")
    assert not failed, "\n\n".join(failed)
    assert world.noted() == []


def test_what_a_mistake_prints_is_what_the_page_shows(train_typed):
    page = (ROOT / "docs" / "train.md").read_text()
    typed, *lines = re.search(r"^\$ python train\.py (.*?)\n```", page, re.MULTILINE | re.DOTALL)[1].splitlines()
    code, _, said = train_typed(*shlex.split(typed))
    assert (code, said.splitlines()) == (2, lines)
