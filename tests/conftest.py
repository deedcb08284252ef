import copy
import os
import sys
from pathlib import Path

import pytest

from benchmarks.tiny import TINY

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

ROOT = Path(__file__).parents[1]
REAL_FACES = ROOT.parent / "shared" / "data"


def pytest_configure(config):
    """Add the simulated accelerator, where its tests run: they have processes of their own, since torch counts devices
    once, at the first backward pass, and no process may fork and train after that.
    """
    if "simulated" in config.option.markexpr.replace("not simulated", ""):
        import simulated

        simulated.setup()


LONG = ["studio_export", "own_code", "habits", "sweeps", "slurm", "cluster", "audit", "processes", "loggers"]
LONG += ["resume_elsewhere", "hostile", "survival", "studio_workers", "studio_browser", "studio_web", "every_pair"]
LONG += ["results", "command", "training", "project"]


def pytest_collection_modifyitems(items):
    """The longest files first: a worker that begins one last is waited for."""
    first = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _no_curves(_inline):
    """Runs draw no curves.png, and reports name their charts without drawing them: this takes longer than all else of a
    tiny run. ``drawn_charts`` draws them.
    """
    from markupsafe import Markup

    from faceforge.report import svg

    def named(drawing, name, told, titles=None):
        return Markup('<svg role="img" aria-label="{}"><desc>{}</desc></svg>').format(name, told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceforge.engine.callbacks.checkpointing.write_curves", lambda folder: None)
        patch.setattr(svg, "inline", named)
        yield


@pytest.fixture(scope="session")
def _inline():
    """``svg.inline`` itself."""
    from faceforge.report import svg

    return svg.inline


@pytest.fixture(scope="module")
def drawn_charts(_inline):
    """Charts of reports are drawn, as users see them, from here to the end of the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faceforge.report.svg.inline", _inline)
        yield


@pytest.fixture(scope="session", autouse=True)
def _each_face_painted_once():
    """Painting the 60 faces of a tiny run takes longer than training on them."""
    from faceforge.data.sources import drawn

    known, paint = {}, drawn.paint

    def painted(factors, size):
        key = (tuple(factors.values()), tuple(size))
        if key not in known:
            known[key] = paint(factors, size)
        return known[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "paint", painted)
        yield


@pytest.fixture(scope="session", autouse=True)
def _each_choice_composed_once():
    """Hydra takes half a second to compose what tests compose hundreds of times: a choice of groups, in a folder."""
    from hydra.core.hydra_config import HydraConfig

    from faceforge.config import composing

    known, whole = {}, composing.Library.compose

    def compose(library, overrides):
        key = (composing.conf_dir(), *library.folders, *overrides)
        if key not in known:
            known[key] = whole(library, overrides)
        composed = copy.deepcopy(known[key])
        HydraConfig.instance().set_config(composed)
        return composed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composing.Library, "compose", compose)
        yield


@pytest.fixture(autouse=True)
def _threads():
    """What a test does to torch's threads ends with it: sums of floats depend on them."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Train a tiny run in this process: ``tiny("name", "key=value", ...)`` gives its folder."""
    from faceforge import config
    from faceforge.engine import training

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def run(name, *overrides, expect=0):
        overrides = [*TINY, f"run_dir={tmp_path / name}", *overrides]
        assert training.train(config.compose(overrides), overrides) == expect
        return tmp_path / name

    return run


@pytest.fixture
def train_typed(tmp_path, monkeypatch, capsys):
    """Run `python train.py WORDS` in this process, in ``tmp_path``; gives the exit code, stdout and stderr."""
    from faceforge import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def resume(tmp_path):
    """Go on with a run in this process: ``resume(folder, "trainer.max_images=80")``; gives the exit code."""
    from faceforge import config
    from faceforge.engine import training

    def again(folder, *overrides):
        overrides = [f"resume={folder}", *overrides]
        return training.train(config.compose(overrides), overrides)

    return again


@pytest.fixture
def sim(monkeypatch):
    """This machine has one accelerator, simulated."""
    import torch

    monkeypatch.setattr(torch.sim, "count", 1)
    return torch.sim
