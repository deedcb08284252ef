"""Notebooks: stored without output, and every cell of each runs, on faces of a few pixels."""

import importlib.util
import json
import re
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from test_every_pair import FACES, SMALL

from faceforge import errors

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAIRED = [*FACES, "data.source.count=60", "trainer.max_images=8"]
GAN = [word for word in TINY if not word.startswith(("model.generator", "model.discriminator"))]
SMALLER = {  # what the cell of parameters says instead
    "01_first_face": {"DATA": TINY, "IMAGES": 16},
    "02_celeba_gan": {"DATA": [*GAN, "data.size=64"], "IMAGES": 8},
    "03_sharpen_your_photo": {"DATA": [*PAIRED, *SMALL["conv_superres"]], "IMAGES": 8},
    "04_latent_editor": {"DATA": [*PAIRED, *SMALL["latent_editor"], "data.channels=3"], "IMAGES": 8},
    "05_pix2pix_lab": {"DATA": [*PAIRED, *SMALL["pix2pix"]], "TASKS": ["contours"], "SIZE": 16, "IMAGES": 8},
    "06_reading_a_run_and_a_sweep": {"DATA": TINY, "RATES": ["1e-3"], "IMAGES": 16},
}


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_each_is_known_here():
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALLER)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_output_one_cell_installs_and_one_picks_the_data(path):
    found = cells(path)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in found)
    assert "%pip install -q $SOURCE" in "".join(found[0]["source"])
    assert found[1]["metadata"] == {"tags": ["parameters"]}
    assert "DATA = " in "".join(found[1]["source"])
    assert len(path.read_bytes()) < 20_000
    assert cells(path, "markdown")[0]["source"][0].startswith("# ")


@pytest.mark.parametrize(
    "path",
    [path if path.stem.startswith("01") else pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell()
    for cell in cells(path):
        done = shell.run_cell("".join(cell["source"]))
        assert done.success, (cell["id"], done.error_in_exec)
        if cell["metadata"].get("tags") == ["parameters"]:
            assert set(SMALLER[path.stem]) <= set(shell.user_ns)
            shell.push(SMALLER[path.stem])
    assert list(Path("runs").rglob("report.html"))


@pytest.fixture(autouse=True)
def _no_prompt_stays(monkeypatch):
    """IPython's shell leaves a prompt behind, by which later tests of this process would be taken for a notebook."""
    monkeypatch.setattr(sys, "ps1", None, raising=False)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A notebook's shell on a machine without faceforge; what it would install is in ``shell.installed``."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "faceforge" else found(name))
    shell = InteractiveShell()
    shell.installed = []
    shell.register_magic_function(shell.installed.append, "line", "pip")
    return shell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_without_faceforge_and_a_source_it_stops_with_a_sentence(path, shell, capsys):
    done = shell.run_cell("".join(cells(path)[0]["source"]))
    assert isinstance(done.error_in_exec, SystemExit)
    assert "faceforge is not installed: set SOURCE to" in str(done.error_in_exec)
    assert shell.installed == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_installs_the_source_that_was_named(path, shell):
    source = "".join(cells(path)[0]["source"])
    done = shell.run_cell(source.replace('SOURCE = ""', 'SOURCE = "dist/faceforge-0.1.0-py3-none-any.whl"'))
    assert done.success
    assert shell.installed == ["install -q dist/faceforge-0.1.0-py3-none-any.whl"]


def test_a_mere_folder_of_that_name_is_no_installed_package(shell, tmp_path, monkeypatch):
    """A clone beside the notebook: Python takes the folder for a package that holds nothing."""
    (tmp_path / "faceforge").mkdir()
    spec = PathFinder.find_spec("faceforge", [str(tmp_path)])
    assert spec is not None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: spec)
    assert not shell.run_cell("".join(cells(NOTEBOOKS[0])[0]["source"])).success


INSTALLS = re.compile(  # a package manager told to take `faceforge` or `faceforge[extra]` by its name
    r"\b(?:pip3?|pipx|uv|uvx|conda|mamba|poetry|pdm)\s+(?:install|add|run|tool\s+install)?\s*"
    r"(?:-[-\w]+\s+)*[\"'`]*faceforge(?:[\[=<>~!]|[\"'`]*(?:\s|\\n|$))"
)
WRITTEN = {".py", ".md", ".ipynb", ".yaml", ".yml", ".toml", ".html", ".js", ".css", ".cff", ".txt", ""}


def installs_from_the_index(text):
    return [match[0] for match in INSTALLS.finditer(text)]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install faceforge", True),
        ("%pip install -q faceforge\n", True),
        ("`pip install\n'faceforge[data]'`", True),
        ("pip install -U --pre 'faceforge==1'", True),
        ("uv tool install faceforge", True),
        ("pipx run faceforge app", True),
        ("pip install -e '.[data]'", False),
        ("pip install dist/faceforge-0.1.0-py3-none-any.whl", False),
        ("pip install git+https://example.org/faceforge", False),
        ("pip install ./faceforge", False),
    ],
)
def test_what_counts_as_installing_from_the_index(text, wrong):
    assert bool(installs_from_the_index(text)) is wrong


def test_nobody_is_told_to_install_another_project_of_that_name():
    """The package index knows the name, but not for this project."""
    folders = ("src", "conf", "docs", "notebooks", "benchmarks", "tests")
    files = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    told = {
        str(path.relative_to(ROOT)): found
        for path in files
        if path.is_file() and path.suffix in WRITTEN and path != Path(__file__)
        if (found := installs_from_the_index(path.read_text(encoding="utf-8")))
    }
    assert told == {}


@pytest.mark.parametrize("extra", ["people", "ray", "dask", "export", "data"])
def test_the_command_for_an_extra_works_in_a_checkout(extra):
    assert errors.to_install(extra) == f"in faceforge's checkout: pip install -e '.[{extra}]'"
    assert extra in metadata.metadata("faceforge").get_all("Provides-Extra")


def test_train_goes_on_where_it_was_interrupted_and_stops_where_it_is_done(tmp_path, monkeypatch, capsys):
    from faceforge import notebook

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    run = notebook.train("runs/a=1, b", *TINY, "trainer.max_images=16")
    about = (run / "run.json").read_bytes()
    assert notebook.train("runs/a=1, b", *TINY, "trainer.max_images=16") == run
    assert "is finished: 16 images" in capsys.readouterr().out
    assert (run / "run.json").read_bytes() == about
    assert notebook.train("runs/a=1, b", *TINY, "trainer.max_images=24") == run
    assert "is unfinished: continuing at image 16." in capsys.readouterr().out
    with pytest.raises(errors.BadInput, match="seed is 0 there, 7 here"):
        notebook.train("runs/a=1, b", *TINY, "trainer.max_images=24", "seed=7")
    images, losses = notebook.metrics(run)["loss/generator"]
    assert len(images) == len(losses) == 6
