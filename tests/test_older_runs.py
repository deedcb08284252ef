"""Runs and models of older versions go on and can be used: kept as they were written, read by this version."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from faceforge import config
from faceforge.engine import checkpoint, migration, training

OLDER = Path(__file__).parent / "older_runs"


@pytest.fixture(params=["gan", "superres"])
def run(request, tmp_path, monkeypatch):
    """A run of version 1, stopped at image 20, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(OLDER / request.param, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_version_1_goes_on_to_the_weights_it_would_have_come_to(run):
    overrides = [f"resume={run}", "trainer.max_images=40"]
    assert training.train(config.compose(overrides), overrides) == 0
    reached = checkpoint.read(run / "checkpoints" / "last.ckpt")
    expected = load_file(run / "after.safetensors")
    assert reached["version"] == migration.VERSION
    assert reached["state_dict"].keys() == expected.keys()
    # the same bits on the kind of processor that the run began on
    assert all(torch.allclose(reached["state_dict"][name], value, atol=1e-4) for name, value in expected.items())


def test_a_run_of_version_1_can_be_used(run):
    module = checkpoint.load(run)
    assert module.clock.images == 20
    assert str(module.config["model"]["_target_"]).startswith("faceforge.schemes.")


def test_what_version_1_called_otherwise_is_renamed_at_any_depth():
    older = {
        "model": {"_target_": "faceforge.modules.translation.TranslationModule", "schedule": None},
        "data": {"source": {"_target_": "faceforge.data.lfw.Lfw"}, "list": [{"_target_": "faceforge.loggers.X"}]},
        "own": {"_target_": "mine.data.lfw.Lfw"},
    }
    renamed = migration.migrate_config(older)
    assert renamed["model"]["_target_"] == "faceforge.schemes.translation.TranslationModule"
    assert renamed["data"]["source"]["_target_"] == "faceforge.data.sources.lfw.Lfw"
    assert renamed["data"]["list"] == [{"_target_": "faceforge.engine.loggers.X"}]
    assert renamed["own"] == older["own"]


def test_a_checkpoint_of_this_version_stays_as_it_is():
    present = {"version": migration.VERSION, "config": {"model": {"_target_": "faceforge.training.X"}}}
    assert migration.migrate(present) is present


def test_what_version_1_began_without_has_its_default():
    config = {"trainer": {"gpus": 0}, "logger": {"mode": "auto"}, "model": {"discriminator_steps": 1}}
    recorder = {"best": None, "timings": {"train": 1.0}}
    older = {"version": 1, "config": config, "state_dict": {}, "means": {}, "callbacks": {"Recorder": recorder}}
    now = migration.migrate(older)
    assert now["config"]["trainer"] == {
        "gpus": 0,
        "channels_last": False,
        "compile": False,
        "max_wait": 10,
        "extra": {},
    }
    assert now["config"]["model"]["reuse_fakes"] is False
    assert now["callbacks"] == {"Clock": {"timings": {"train": 1.0}}, "Validation": {"best": None}}
    assert config_of_today(now["config"]["callbacks"])


def config_of_today(callbacks):
    return callbacks == config.compose()["callbacks"]


def test_what_is_damaged_in_a_file_of_version_1_stays_for_its_reader_to_name():
    damaged = {"version": 1, "config": {}, "state_dict": {1: torch.zeros(1)}, "means": "x", "callbacks": [1]}
    kept = migration.migrate(damaged)
    assert (kept["means"], kept["callbacks"]) == ("x", [1])
    assert list(kept["state_dict"]) == [1]
