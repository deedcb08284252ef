"""Notebooks: stored without output, and every cell of each runs, on faces of a few pixels."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from test_every_pair import FACES, SMALL

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
    assert "%pip install" in "".join(found[0]["source"])
    assert found[1]["metadata"] == {"tags": ["parameters"]}
    assert "DATA = " in "".join(found[1]["source"])
    assert len(path.read_bytes()) < 20_000
    assert cells(path, "markdown")[0]["source"][0].startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
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


def test_train_goes_on_where_it_was_interrupted_and_stops_where_it_is_done(tmp_path, monkeypatch, capsys):
    from faceforge import notebook

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    run = notebook.train("runs/a=1, b", *TINY, "trainer.max_images=16")
    about = json.loads((run / "run.json").read_text())
    assert notebook.train(run, "no=matter") == run
    assert "trained already" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text()) == about
    (run / "run.json").write_text(json.dumps({**about, "status": "running"}))
    assert notebook.train(run, "no=matter") == run
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    images, losses = notebook.metrics(run)["loss/generator"]
    assert len(images) == len(losses) == 4
