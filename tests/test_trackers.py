"""Every tracker gets the same numbers, pictures and configuration; and W&B's own sweeps drive train.py."""

import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, TINY
from PIL import Image
from pytorch_lightning.loggers.logger import Logger
from test_loggers import inspect, offline, picture, records

from faceforge import config
from faceforge.engine.loggers import make_loggers
from faceforge.engine.loggers.beside import Beside
from faceforge.errors import BadInput
from faceforge.io.metrics_csv import read_rows

NUMBERS = "loss/generator"


@pytest.fixture
def run(tiny):
    """A run with every tracker at once."""
    return tiny("a", "logger=all", "logger.mode=offline", "model.val_samples=8")


def test_tensorboard_and_mlflow_hold_what_the_run_holds(run, monkeypatch):
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = {images: values[NUMBERS] for images, values in read_rows(run / "metrics.csv") if NUMBERS in values}
    grids = {int(path.stem): np.asarray(Image.open(path)) for path in (run / "samples").glob("*.png")}
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert {e.step: pytest.approx(e.value, rel=1e-6) for e in events.Scalars(NUMBERS)} == written
    shown = {e.step: decoded(e.encoded_image_string) for e in events.Images("samples")}
    assert shown.keys() == grids.keys()
    assert all(np.array_equal(shown[step], grids[step]) for step in grids)
    (text,) = events.Tensors("configuration/text_summary")
    assert "| model.optimizer_g.lr | 0.001 |" in text.tensor_proto.string_val[0].decode()

    client = MlflowClient((run / "mlruns").as_uri())
    (found,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "faceforge"])
    history = client.get_metric_history(found.info.run_id, NUMBERS)
    assert {m.step: pytest.approx(m.value, rel=1e-6) for m in history} == written
    assert found.data.params["model.optimizer_g.lr"] == "0.001"
    names = {Path(file.path).name for file in client.list_artifacts(found.info.run_id, "samples")}
    assert names == {path.name for path in (run / "samples").glob("*.png")}


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_aim_gets_numbers_pictures_and_configuration(tiny, monkeypatch):
    """With a stand-in for aim, whose class lies where Aim's does."""
    kept = {"numbers": [], "pictures": [], "settings": {}}

    class AimLogger(Logger):
        def __init__(self, repo=None, experiment=None, capture_terminal_logs=True):
            super().__init__()
            self.given = repo, experiment, capture_terminal_logs

        name, version = "aim", ""

        @property
        def experiment(self):
            return types.SimpleNamespace(track=lambda value, name, step: kept["pictures"].append((value, name, step)))

        def log_metrics(self, metrics, step=None):
            kept["numbers"].append((step, metrics))

        def log_hyperparams(self, params):
            kept["settings"].update(params)

    AimLogger.__module__ = "aim.sdk.adapters.pytorch_lightning"
    aim, inner = types.ModuleType("aim"), types.ModuleType("aim.pytorch_lightning")
    aim.Image, inner.AimLogger, aim.pytorch_lightning = str, AimLogger, inner
    monkeypatch.setitem(sys.modules, "aim", aim)
    monkeypatch.setitem(sys.modules, "aim.pytorch_lightning", inner)
    folder = tiny("a", "logger=aim", "logger.mode=disabled")
    assert [step for step, values in kept["numbers"] if NUMBERS in values] == list(range(4, 41, 4))
    grids = sorted((folder / "samples").glob("*.png"))
    assert kept["pictures"] == [(str(path), "samples", int(path.stem)) for path in grids]
    assert kept["settings"]["model.optimizer_g.lr"] == 0.001


def test_without_aim_one_line_names_the_package(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "aim", None)
    with pytest.raises(BadInput, match=r"AimLogger' needs aim; .*aim"):
        tiny("a", "logger=aim", "logger.mode=disabled")


class Fails(Logger):
    name, version = "fails", ""
    calls = 0

    def log_metrics(self, metrics, step=None):
        """Numbers go on."""

    def log_hyperparams(self, params):
        Fails.calls += 1
        raise OSError("the server\nis gone")


def test_an_error_of_a_tracker_is_told_once_and_ends_nothing(tmp_path, caplog):
    beside = Beside(tmp_path, [Fails()], {"a": 1}, {"generated"}, "generated")
    beside.start()
    beside.start()
    beside.log_picture(picture(tmp_path, 4), 4)
    assert Fails.calls == 1
    assert [r.getMessage() for r in caplog.records] == [
        "Fails gets no more pictures or settings (the server is gone); the run goes on"
    ]


@pytest.mark.parametrize(
    ("policy", "kind", "sent"),
    [
        ("generated", "generated", 1),
        ("generated", "real-derived", 0),
        ("all", "real-derived", 1),
        ("none", "generated", 0),
    ],
)
def test_pictures_of_real_people_go_to_other_trackers_only_where_asked(tmp_path, policy, kind, sent):
    from pytorch_lightning.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    own = config.compose([])["logger"]
    given = {name: value for name, value in own.items() if not name.startswith("_")}
    board = TensorBoardLogger(str(tmp_path), name="board", version="")
    given |= {"mode": "disabled", "images": policy, "also": {"board": board}}
    loggers = make_loggers(**given, folder=tmp_path, config={}, kind=kind)
    loggers[-1].log_picture(picture(tmp_path, 4), 4)
    board.log_metrics({"x": 1.0}, 1)
    board.finalize("success")
    assert len(EventAccumulator(str(tmp_path / "board")).Reload().Tags()["images"]) == sent


# ------------------------------------------------------------------------------------------------------------------ W&B


@pytest.mark.parametrize("which", ["none", "best", "last"])
def test_a_checkpoint_becomes_an_artifact_where_asked(tmp_path, which):
    (tmp_path / "checkpoints").mkdir()
    for name in ("best", "last"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").write_bytes(name.encode())
    log = offline(tmp_path, checkpoints=which)
    log.log_metrics({NUMBERS: 0.5}, 64)
    log.finish()
    found = re.findall(r'"name": ?"(model-abcd1234)"', inspect(tmp_path))
    assert bool(found) == (which != "none")


def test_a_policy_of_checkpoints_that_cannot_be_is_one_line(tiny):
    with pytest.raises(BadInput, match=r"logger.checkpoints: .*best"):
        tiny("a", "logger.checkpoints=all")


@pytest.mark.parametrize("hyphens", [True, False])
def test_an_agent_of_wandb_trains_what_its_sweep_asks_for(tmp_path, hyphens):
    """As W&B's agent starts it: the command of the sweep's yaml, its parameters as arguments, and its variables."""
    sweep = yaml.safe_load((ROOT / "examples" / "sweeps" / "wandb.yaml").read_text())
    chosen = {"model.optimizer_g.lr": 0.0007, "model.r1_gamma": 0.2, "trainer.max_images": 8}
    assert chosen.keys() == sweep["parameters"].keys()
    words = [f"{'--' if hyphens else ''}{key}={value}" for key, value in chosen.items()]
    given = {"${env}": ["/usr/bin/env"], "${program}": [str(ROOT / sweep["program"])], "${args}": words}
    command = [word for part in sweep["command"] for word in given.get(part, [part])]
    small = [word for word in TINY if not word.startswith(("trainer.max_images", "logger"))]
    variables = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1234567", "WANDB_MODE": "offline", "WANDB_PROJECT": "p"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **variables, "PATH": path, "FACEFORGE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([*command, *small], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    about = json.loads((folder / "run.json").read_text())["wandb"]
    assert (about["id"], about["project"]) == ("r1234567", "p")
    used = yaml.safe_load((folder / "config.yaml").read_text())
    assert (used["model"]["optimizer_g"]["lr"], used["model"]["r1_gamma"]) == (0.0007, 0.2)
    metric = {name for row in records(folder, "history") for name in row["item"]}
    assert "loss/generator" in metric
