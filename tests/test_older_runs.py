"""Runs and models of older versions go on and can be used: kept as they were written, read by this version."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from faceforge import config
from faceforge.config import composing
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


def test_a_run_of_version_2_goes_on_and_says_its_keys_as_they_are_today(tiny, resume):
    """Version 2 had other names of four keys and two nodes."""
    folder = tiny("a", "model.reuse_fakes=true")
    path = folder / "checkpoints" / "last.ckpt"
    kept = torch.load(path, weights_only=True)
    node = kept["config"]
    for old, new in composing.OLDER.items():
        (part, before), after = old.split("."), new.split(".")[1]
        node[part][before] = node[part].pop(after)
    node["trainer"]["_target_"] = "faceforge.engine.plan.TrainerOptions"
    node["guard"]["_target_"] = "faceforge.engine.guard.Guard"
    path.unlink()
    torch.save(kept | {"version": 2}, path)
    (path.parent / "hashes.txt").unlink()
    (path.parent / "previous.ckpt").unlink(missing_ok=True)
    assert resume(folder, "trainer.max_images=60") == 0
    now = checkpoint.read(path)["config"]
    assert (now["model"]["reuse_fakes"], now["data"]["val_fraction"]) == (True, 0.2)
    assert "share" not in str(now)


LATER = {  # keys that a translation run of before had not
    "model": ["feature_weight", "schedule"],
    "generator": ["blocks", "output"],
    "discriminator": ["spectral_norm", "scales"],
    "input": ["predict"],
}


def test_a_translation_run_of_before_chroma_and_blocks_gives_the_same_pictures_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    words = [
        *("model=pix2pix", "data.size=[24,16]", "data.batch_size=4", "data.source.count=40", "trainer.gpus=0"),
        *("trainer.max_images=8", "logger.mode=disabled", "run_dir=run"),
        *("model.generator.width=4", "model.generator.norm=instance", "model.generator.output=image"),
        *("model.discriminator.width=4", "model.discriminator.layers=1", "model.discriminator.norm=instance"),
        *("model.discriminator.spectral_norm=false", "model.feature_weight=0", "model/schedule=null"),
    ]
    assert training.train(config.compose(words), words) == 0
    run = tmp_path / "run"
    grey = torch.linspace(-1, 1, 2 * 24 * 16).view(2, 1, 24, 16)
    before = checkpoint.load(run).predict(grey)
    path = run / "checkpoints" / "last.ckpt"
    kept = torch.load(path, weights_only=True)
    model = kept["config"]["model"]
    nodes = {"model": model, "input": kept["config"]["input"], **{k: model[k] for k in ("generator", "discriminator")}}
    for name, keys in LATER.items():
        for key in keys:
            del nodes[name][key]
    for file in path.parent.iterdir():
        file.unlink()
    torch.save(kept, path)
    module = checkpoint.load(run)
    assert torch.equal(module.predict(grey), before)
    assert any(isinstance(layer, torch.nn.InstanceNorm2d) for layer in module.average.modules())
    assert len(module.average.last.weight) == 3, "it predicts the whole picture"
    words = [f"resume={run}", "trainer.max_images=16"]
    assert training.train(config.compose(words), words) == 0
    assert checkpoint.read(path)["clock"]["images"] == 16


def test_older_names_of_keys_and_choices_are_understood_with_a_line_each(capsys):
    words = ["data.val_share=0.3", "experiment=published/dcgan_taught", "model/generator=taught"]
    composed = config.compose(words)
    assert composed["data"]["val_fraction"] == 0.3
    assert composed["model"]["generator"]["_target_"].endswith("TutorialGenerator")
    assert capsys.readouterr().err.splitlines() == [
        "faceforge: data.val_share is called data.val_fraction now",
        "faceforge: experiment=published/dcgan_taught is called experiment=published/dcgan_tutorial now",
        "faceforge: model/generator=taught is called model/generator=tutorial now",
    ]


def test_older_names_in_ones_own_yaml_are_understood(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndata: {max_bad_share: 0.5}\nmodel: {share_fakes: true}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    composed = config.compose(["experiment=mine"], tmp_path)
    assert (composed["data"]["max_corrupt_fraction"], composed["model"]["reuse_fakes"]) == (0.5, True)


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
        "nodes": None,
        "requeue": "auto",
        "accumulate": 1,
        "sync_batchnorm": False,
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
