"""The same command typed again: it continues the run in its `run_dir`, finds it finished, or names what differs."""

import json
import random
import re
import shutil
import signal

import pytest
from conftest import TINY
from PIL import Image
from test_training import record, same

from benchmarks.survival import child, stops
from faceforge import config
from faceforge.data.sources.drawn import Drawn
from faceforge.engine import resume as resuming
from faceforge.engine import training
from faceforge.errors import BadInput


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_told_at_once_and_nothing_is_touched(tiny, monkeypatch, capsys):
    folder = tiny("a")
    before = files(folder)
    monkeypatch.setattr(training, "build", lambda *_: pytest.fail("nothing is left to train"))
    tiny("a")
    assert f"{folder} is finished: 40 images" in capsys.readouterr().out
    assert files(folder) == before


def test_a_higher_limit_continues_with_the_bits_of_one_run(tiny, capsys):
    whole = tiny("whole", "trainer.max_images=60")
    parts = tiny("parts")
    tiny("parts", "trainer.max_images=60")
    assert "parts is unfinished: continuing at image 40.\n" in capsys.readouterr().out
    same(whole, parts)
    assert record(parts)["resumed"] == [40]


def test_without_a_checkpoint_it_starts_again_in_the_same_folder(tiny):
    whole, folder = tiny("whole"), tiny("a")
    shutil.rmtree(folder / "checkpoints")
    same(whole, tiny("a"))


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (["seed=1"], ["seed is 0 there, 1 here"]),
        (["data.size=10", "data.flip=false"], ["data.size is 8 there, 10 here", "data.flip is True there"]),
        (["model.optimizer_g.lr=0.5"], ["model.optimizer_g.lr is 0.001 there, 0.5 here"]),
        (["trainer.checkpoint_every=40"], ["trainer.checkpoint_every is 20 there, 40 here"]),
        (["trainer.precision=bf16"], ["trainer.precision is '32' there, 'bf16' here"]),
        (["+model.schedule.g.gamma=0.5"], ["model.schedule.g.gamma is None there, 0.5 here"]),
    ],
)
def test_another_configuration_is_refused_and_every_key_named(tiny, typed, named):
    folder = tiny("a", "trainer.max_images=4")
    before = files(folder)
    words = [word for word in TINY if word.partition("=")[0] not in {t.partition("=")[0] for t in typed}]
    overrides = [*words, "trainer.max_images=4", f"run_dir={folder}", *typed]
    with pytest.raises(BadInput, match=re.escape(f"run_dir: {folder} holds a run of another")) as error:
        training.train(config.compose(overrides) if "+" not in typed[0] else added(overrides), overrides)
    assert "\n" not in str(error.value)
    assert f"resume={folder}" in str(error.value)
    assert all(text in str(error.value) for text in named), str(error.value)
    assert files(folder) == before


def added(overrides):
    """A configuration with a key that the run's lacks; Hydra would refuse this one as unknown."""
    composed = config.compose([word for word in overrides if not word.startswith("+")])
    composed["model"]["schedule"] = {"g": {"gamma": 0.5}}
    return composed


def test_many_differences_are_counted():
    there = {"choices": {}, "data": {"source": {}}, **{f"k{n}": n for n in range(20)}}
    with pytest.raises(BadInput, match=r"k0 is 0 there, 1 here; .*k5 is 5 there, 6 here; and 14 more\."):
        resuming.merge_same(there, {**there, "run_dir": "a", **{f"k{n}": n + 1 for n in range(20)}}, [])


def test_a_group_is_named_and_not_all_that_it_holds():
    there = {"choices": {"model/net": "mlp"}, "data": {"source": {}}, "model": {"net": {"width": 1}}}
    here = {**there, "run_dir": "a", "choices": {"model/net": "conv"}, "model": {"net": {"width": 2}}}
    with pytest.raises(BadInput, match=r"configuration: model/net is 'mlp' there, 'conv' here\. Name"):
        resuming.merge_same(there, here, [])


@pytest.mark.parametrize("key", [*resuming.RESUMABLE, "logger.tags", "guard.action", "callbacks.progress"])
def test_what_may_change_is_taken_from_the_command(tiny, key):
    folder = tiny("a", "trainer.max_images=4")
    saved = resuming.checkpoint.read(folder / "checkpoints" / "last.ckpt")["config"]
    asked = config.compose([*TINY, "trainer.max_images=4", f"run_dir={folder}"])
    node, _, name = key.partition(".")
    asked[node] = {**asked[node], name: "new"}
    merged = resuming.merge_same(saved, asked, [])
    assert merged[node][name] == "new"
    assert merged["trainer"]["precision"] == "32"  # resolved once, and kept


def test_defaults_typed_and_other_words_for_the_same_are_the_same_configuration(tiny, capsys):
    tiny("a", "trainer.max_images=4")
    tiny("a", "trainer.max_images=8", "seed=0", "data=drawn", "trainer.precision=32", "logger.tags=[x]")
    assert "continuing at image 4" in capsys.readouterr().out


def test_from_another_folder_with_relative_paths(tmp_path, monkeypatch, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "faces").mkdir(parents=True)
    there.mkdir()
    for n in range(40):
        Image.fromarray(Drawn(count=40).read(n, (12, 12))).save(here / "faces" / f"{n:02d}.png")

    def train(start, root, images):
        monkeypatch.chdir(start)
        words = [word for word in TINY if not word.startswith("data.source")]
        words += ["data=crops", f"data.root={root}", f"data.cache={root}/../cache", f"trainer.max_images={images}"]
        overrides = [*words, f"run_dir={tmp_path / 'run'}"]
        assert training.train(config.compose(overrides), overrides) == 0

    train(here, "faces", 8)
    train(there, "../here/faces", 16)
    assert "continuing at image 8" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_five_times_and_typed_again_it_is_one_run_with_one_wandb_run(tmp_path):
    child.to_the_end(child.new_run(tmp_path / "whole", 100), tmp_path / "log")
    run, dice = tmp_path / "run", random.Random(0)
    typed = [*child.new_run(run, 100), "logger.mode=offline"]
    for aim in ("starting", "training", "saving", "sampling", "validating"):
        doomed = child.start(typed, tmp_path / "log", child.without_curves)
        assert doomed.wait_for(aim, int(aim != "starting")), doomed.said
        doomed.rest(dice.uniform(0, 0.02))
        doomed.send(signal.SIGKILL)
        assert doomed.wait() == -signal.SIGKILL
    child.to_the_end(typed, tmp_path / "log")
    assert child.runs.last(run)["clock"]["images"] == 100
    assert stops.differences(child.contents(tmp_path / "whole"), child.contents(run)) == []
    assert [path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")] == [
        json.loads((run / "run.json").read_text())["wandb"]["id"]
    ]


def test_a_start_killed_before_it_recorded_its_wandb_run_continues_that_one(tiny):
    folder = tiny("a", "logger.mode=offline", "trainer.max_images=4")
    begun = record(folder)["wandb"]["id"]
    shutil.rmtree(folder / "checkpoints")
    (folder / "run.json").unlink()
    tiny("a", "logger.mode=offline", "trainer.max_images=4")
    assert record(folder)["wandb"]["id"] == begun
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
