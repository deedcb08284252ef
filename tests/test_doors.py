"""Lightning's doors are open: a user's callbacks, loggers, `self.log` and Trainer arguments work beside ours."""

import csv
import json
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import TINY
from on_accelerator import PLAIN
from test_every_pair import FACES, SMALL
from test_training import Enough

from faceforge import config
from faceforge.engine import checkpoint, loop, training
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput

MINE = ["trusted_packages=[test_doors]"]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Noting(pl.Callback):
    """Somebody's callback, which logs as Lightning's documentation shows."""

    def __init__(self, note: str = "begun") -> None:
        self.note, self.begun = note, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.begun += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("mine/begun", float(self.begun))

    def on_fit_end(self, trainer, pl_module):
        Path(trainer.loggers[0].save_dir, "mine.txt").write_text(f"{self.note} {self.begun}")


class NoCallback:
    """Of another kind."""


def test_a_users_callback_is_called_and_logs_at_the_images_seen(tiny):
    folder = tiny("a", *MINE, "+callbacks.mine._target_=test_doors.Noting", "+callbacks.mine.note=hello")
    assert (folder / "mine.txt").read_text() == "hello 10"
    logged = {int(row["images"]): float(row["mine/begun"]) for row in rows(folder) if row["mine/begun"]}
    assert logged == {4 * n: float(n) for n in range(1, 11)}
    assert "epoch" not in rows(folder)[0]
    plain = tiny("b")
    mine, ours = (checkpoint.read(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (folder, plain))
    assert all(torch.equal(mine[name], value) for name, value in ours.items())


def test_a_callback_stays_or_goes_when_a_run_goes_on(tiny, resume):
    folder = tiny("a", *MINE, "+callbacks.mine._target_=test_doors.Noting")
    assert resume(folder, *MINE, "trainer.max_images=60") == 0
    assert (folder / "mine.txt").read_text() == "begun 5"
    (folder / "mine.txt").unlink()
    assert resume(folder, "trainer.max_images=80", "~callbacks.progress") == 0
    assert not (folder / "mine.txt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+callbacks.mine._target_=test_doors.Noting"], r"callbacks\.mine\._target_: .* is not on the allow-list"),
        ([*MINE, "+callbacks.mine._target_=test_doors.NoCallback"], r"callbacks\.mine: .* must be a .*Callback"),
        (
            [*MINE, "+callbacks.mine._target_=test_doors.Noting", "+callbacks.mine.x=1"],
            r"callbacks\.mine\.x: .*no such",
        ),
        (["~callbacks.clock"], r"callbacks\.clock: must be among the callbacks"),
        (["+callbacks.mine._target_=pytorch_lightning.callbacks.Nothing"], r"callbacks\.mine\._target_: .*not exist"),
        (["+trainer.extra.nothing=1"], r"trainer\.extra\.nothing: Lightning's Trainer has no such argument"),
        (["+trainer.extra.devices=2"], r"trainer\.extra\.devices: is decided by faceforge"),
        (["+trainer.extra.profiler=nothing"], r"trainer\.extra: .*profiler"),
    ],
)
def test_what_is_wrong_with_them_is_one_line_before_a_folder_is_made(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=said) as refused:
        training.train(config.compose([*TINY, "run_dir=run", *words]))
    assert "\n" not in str(refused.value)
    assert not any(tmp_path.iterdir())


def test_callbacks_and_profiler_of_lightning_work(tiny):
    theirs = [f"+callbacks.{name.lower()}._target_=pytorch_lightning.callbacks.{name}" for name in (
        "LearningRateMonitor", "DeviceStatsMonitor", "ModelCheckpoint")]  # fmt: skip
    folder = tiny(
        "a",
        *theirs,
        "+callbacks.modelcheckpoint.dirpath=saved",
        "+trainer.extra.profiler=simple",
        "+trainer.extra.enable_model_summary=true",
    )
    rates = [name for name in rows(folder)[0] if name.startswith("lr-")]
    assert rates
    assert sum(bool(row[rates[0]]) for row in rows(folder)) >= 10
    assert any(name.startswith("DeviceStatsMonitor") for name in rows(folder)[0])
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_tensorboard_and_mlflow_get_what_metrics_csv_has(tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tiny("a", "logger=all", "logger.mode=disabled")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    at = [(event.step, event.value) for event in events.Scalars("loss/generator")]
    ours = [(int(row["images"]), float(row["loss/generator"])) for row in rows(folder) if row["loss/generator"]]
    assert [step for step, _ in at] == [step for step, _ in ours]
    assert [value for _, value in at] == pytest.approx([value for _, value in ours], rel=1e-6)
    assert list(folder.rglob("loss/generator"))  # a file of MLflow's own store


# -------------------------------------------------------------------------------------------------- the two loops


class Spies(pl.Callback):
    """Counts the calls of every hook."""

    def __init__(self):
        self.calls = {}


def _counting(hook):
    def call(self, *_, **__):
        self.calls[hook] = self.calls.get(hook, 0) + 1

    return call


HOOKS = [n for n in vars(pl.Callback) if n.startswith("on_") and "checkpoint" not in n and "exception" not in n]
for _hook in HOOKS:
    setattr(Spies, _hook, _counting(_hook))


def stepped(tmp_path, words, spy, steps=6):
    """A module after some steps of a trainer whose loop is chosen by what the spy says of itself."""
    chosen = config.compose([*words, "trainer.gpus=0", f"data.cache={tmp_path / 'c'}", f"run_dir={tmp_path / 'x'}"])
    module, data = training.build(chosen)
    data.prepare(progress=False)
    data.clock = module.clock
    training.make_trainer(make_plan(chosen), [spy, Enough(steps)], module).fit(module, datamodule=data)
    return module


def test_the_lean_loop_leaves_out_no_more_than_is_listed(tmp_path):
    calls = {}
    for lean in (True, False):
        spy = Spies()
        spy.lean = lean
        module = stepped(tmp_path, TINY, spy)
        assert module.lean == lean
        calls[lean] = spy.calls
    left_out = {hook for hook in calls[False] if calls[True].get(hook) != calls[False][hook]}
    assert left_out <= set(loop.LEFT_OUT)
    assert {"on_train_batch_start", "on_before_optimizer_step", "on_after_backward"} <= left_out
    assert calls[False]["on_before_optimizer_step"] == 12  # of both networks


@pytest.mark.parametrize("hook", [hook for hook in loop.LEFT_OUT if hasattr(pl.Callback, hook)])
def test_whoever_asks_for_a_hook_that_is_left_out_gets_lightnings_loop(hook):
    asking = type("Asking", (pl.Callback,), {hook: lambda self, *_: None})()
    assert loop.needs_lightnings_loop(None, [asking])
    assert not loop.needs_lightnings_loop(None, [pl.Callback()])


@pytest.mark.parametrize("hook", loop.LEFT_OUT)
def test_so_does_a_scheme(hook):
    from faceforge.schemes.base import Scheme

    inside = {"__module__": "faceforge.schemes.other"}
    assert loop.needs_lightnings_loop(type("Asking", (Scheme,), {hook: lambda self, *_: None, **inside})(0), [])
    assert not loop.needs_lightnings_loop(type("Plain", (Scheme,), inside)(0), [])
    assert loop.needs_lightnings_loop(type("Mine", (Scheme,), {"__module__": "mine"})(0), [])


SCHEMES = {
    "gan": [*TINY, *PLAIN],
    "sr": ["model=conv_superres", *FACES, *SMALL["conv_superres"]],
    "latent": ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.channels=3"],
    "colour": ["model=pix2pix", "task=colorize", *FACES, *SMALL["pix2pix"], "data.size=[24,16]"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_loops_train_to_the_same_bits(tmp_path, scheme):
    weights = []
    for lean in (True, False):
        spy = pl.Callback() if lean else Spies()
        module = stepped(tmp_path, SCHEMES[scheme], spy)
        assert module.lean == lean
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
