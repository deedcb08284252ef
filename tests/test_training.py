"""The spine: clock, exact resume, run folders, init_from, limits, signals, precision."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import TINY

from faceforge import config
from faceforge.engine import checkpoint, devices, training
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput, GuardStop
from faceforge.report import write_curves
from faceforge.schemes.adversarial import AdversarialModule

ROOT = Path(__file__).parents[1]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def record(folder):
    return json.loads((folder / "run.json").read_text())


def same(a, b):
    """Two checkpoints agree in every bit that matters: weights, averages, optimisers, clock, best score."""
    first, second = (checkpoint.read(folder / "checkpoints" / "last.ckpt") for folder in (a, b))
    for part in ("state_dict", "optimizers", "callbacks", "means"):
        left, right = _flat(first[part]), _flat(second[part])
        assert left.keys() == right.keys()
        for key, value in left.items():
            if "timings" in key:
                continue
            equal = torch.equal(value, right[key]) if isinstance(value, torch.Tensor) else value == right[key]
            assert equal, (part, key)
    assert [first["clock"][k] for k in ("images", "generator_steps")] == [
        second["clock"][k] for k in ("images", "generator_steps")
    ]


def _flat(node, prefix=""):
    if isinstance(node, dict):
        return {k: v for name, child in node.items() for k, v in _flat(child, f"{prefix}/{name}").items()}
    if isinstance(node, list | tuple):
        return {k: v for i, child in enumerate(node) for k, v in _flat(child, f"{prefix}/{i}").items()}
    return {prefix: node}


def measured(folder):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows(folder)]


def test_a_run_folder_is_complete(tiny, monkeypatch):
    monkeypatch.setattr("faceforge.engine.callbacks.checkpointing.write_curves", write_curves)
    folder = tiny("a", "model.val_samples=4")
    names = {p.name for p in folder.iterdir()} - {".lock"}
    assert names == {
        "config.yaml",
        "run.json",
        "metrics.csv",
        "curves.png",
        "report.html",
        "samples",
        "checkpoints",
        "skipped.csv",
    }
    assert sorted(p.name for p in (folder / "samples").iterdir()) == ["000000000.png", "000000020.png", "000000040.png"]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "best.ckpt",
        "hashes.txt",
        "last.ckpt",
        "previous.ckpt",
    ]
    kept = checkpoint.read(folder / "checkpoints" / "last.ckpt")
    assert {"state_dict", "config", "version", "clock", "optimizers"} <= kept.keys()
    assert kept["config"] == {
        k: v for k, v in yaml.safe_load((folder / "config.yaml").read_text()).items() if k in kept["config"]
    }
    assert any(name.startswith("average.") for name in kept["state_dict"])
    about = record(folder)
    assert (about["status"], about["images"], about["seed"], about["precision"]) == ("finished", 40, 0, "32")
    assert about["data"]["counts"]["train"] > 0
    assert about["networks"]["generator"]["parameters"] == sum(
        v.numel()
        for k, v in kept["state_dict"].items()
        if k.startswith("generator.") and "running" not in k and "tracked" not in k
    )
    best = min((float(r["val/kid"]), int(r["images"])) for r in rows(folder) if r["val/kid"])
    assert (about["best"]["value"], about["best"]["images"]) == (pytest.approx(best[0]), best[1])
    assert checkpoint.read(folder / "checkpoints" / "best.ckpt")["clock"]["images"] == best[1]


def test_every_batch_is_logged_where_asked(tiny):
    images = [int(r["images"]) for r in rows(tiny("a")) if r["loss/generator"]]
    assert images == list(range(4, 41, 4))


@pytest.mark.parametrize(("n", "half_life"), [(1, 8), (2, 0), (5, 1), (2, 1000)])
def test_one_clock(tiny, n, half_life):
    """Limits, generator steps, logs, checkpoints and averaging follow the images whatever the number of steps."""
    folder = tiny(
        "a",
        f"model.discriminator_steps={n}",
        f"model.ema_half_life={half_life}",
        "model.ema_ramp=null",
        "trainer.log_every=8",
    )
    kept = checkpoint.read(folder / "checkpoints" / "last.ckpt")
    assert kept["clock"]["images"] == 40
    assert kept["clock"]["generator_steps"] == 40 // 4 // n
    assert [int(o["state"][0]["step"]) for o in kept["optimizers"]] == [40 // 4 // n, 10]
    assert [int(r["images"]) for r in rows(folder) if r["loss/discriminator"]] == [8, 16, 24, 32, 40]
    torch.manual_seed(training.counter_rng.key(0, "init") >> 1)
    start = config.build(kept["config"]["model"]).state_dict()
    weights = kept["state_dict"]
    assert not torch.equal(weights["average.expand.weight"], start["average.expand.weight"])
    if half_life == 0:
        assert torch.equal(weights["average.expand.weight"], weights["generator.expand.weight"])


@pytest.mark.parametrize(
    ("limit", "images"),
    [
        ("trainer.max_steps=3", 12),
        ("trainer.max_epochs=1", 32),
        ("trainer.max_images=10", 12),
        ("trainer.max_minutes=1e-6", 4),
    ],
)
def test_the_first_limit_ends_the_run(tiny, limit, images):
    folder = tiny("a", "trainer.max_images=null", limit)
    assert record(folder)["images"] == images


def test_resumed_is_the_same_as_never_stopped(tiny, resume):
    whole = tiny("whole", "trainer.max_images=60", "model.val_samples=4")
    parts = tiny("parts", "trainer.max_images=28", "model.val_samples=4")
    assert resume(parts, "trainer.max_images=60") == 0
    same(whole, parts)
    # The last row at 28 exists once more, since the first part ended there.
    assert [r for r in measured(whole) if r["val/kid"] == ""][-5:] == [
        r for r in measured(parts) if r["val/kid"] == ""
    ][-5:]
    for grid in ("000000040.png", "000000060.png"):
        assert (whole / "samples" / grid).read_bytes() == (parts / "samples" / grid).read_bytes()


@pytest.mark.slow  # test_survival.py kills every day
@pytest.mark.parametrize(
    "extra",
    [["model.objective=hinge", "model.augment_policy=[color,translation,cutout]", "model.discriminator_steps=2"]],
)
def test_killed_at_any_moment_and_resumed_ends_in_the_same_bits(tmp_path, extra):
    """SIGKILL in mid-epoch, twice, at moments nobody chose; then to the end."""
    settings = ["trainer.max_images=400", "trainer.checkpoint_every=16", "trainer.sample_every=80", *extra]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    once, first = ([sys.executable, str(ROOT / "train.py"), *TINY, *settings, f"run_dir={f}"] for f in (whole, folder))
    subprocess.run(once, check=True, capture_output=True)
    again = [sys.executable, str(ROOT / "train.py"), f"resume={folder}"]
    for command, target in ((first, 60), (again, 200)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and _images(folder) < target:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert target <= _images(folder) < 400
    subprocess.run(again, check=True, capture_output=True)
    same(whole, folder)
    assert measured(whole) == measured(folder)
    assert {p.name: p.read_bytes() for p in (whole / "samples").iterdir()} == {
        p.name: p.read_bytes() for p in (folder / "samples").iterdir()
    }


def _images(folder):
    try:
        return max(int(r["images"]) for r in rows(folder))
    except (OSError, ValueError, TypeError):
        return -1


@pytest.mark.slow  # every day test_survival.py sends signals
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_a_checkpoint_and_the_line_that_continues(tmp_path, number, code):
    folder = tmp_path / "run"
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *TINY,
        "trainer.max_images=1000000",
        "trainer.checkpoint_every=1000000",
        f"run_dir={folder}",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FACEFORGE_CACHE": str(tmp_path)},
    )
    while _images(folder) < 20:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    images = record(folder)["images"]
    assert images >= 20
    assert f"Stopped after {images:,} images" in out
    assert "python train.py resume=" in out
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["clock"]["images"] == images
    assert record(folder)["status"] == "interrupted"
    assert (folder / "report.html").exists()


def test_a_finished_run_says_so(tiny, resume, capsys):
    folder = tiny("a")
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    assert resume(folder) == 0
    assert "is finished: 40 images" in capsys.readouterr().out
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_resumed_run_keeps_its_configuration(tiny, resume):
    folder = tiny("a")
    for override, said in (
        ("model.optimizer_g.lr=0.5", "model.optimizer_g.lr is 0.001 in this run, 0.5 was given"),
        ("seed=3", "seed is 0 in this run, 3"),
        ("data.batch_size=8", "data.batch_size is 4 in this run, 8"),
        ("model.generator.width=8", "model.generator.width is 4"),
        ("data=lfw", "data is 'drawn' in this run, 'lfw'"),
    ):
        with pytest.raises(BadInput, match="resume: ") as error:
            resume(folder, override)
        assert said in str(error.value)


def test_a_resumed_run_takes_its_own_number_of_threads(tiny, resume, monkeypatch):
    torch.set_num_threads(1)
    folder = tiny("a")
    torch.set_num_threads(2)
    seen, step = set(), AdversarialModule.training_step

    def noting(self, batch, number):
        seen.add(torch.get_num_threads())
        step(self, batch, number)

    monkeypatch.setattr(AdversarialModule, "training_step", noting)
    assert resume(folder, "trainer.max_images=44") == 0
    assert seen == {1}
    assert record(folder)["threads"] == 1
    assert torch.get_num_threads() == 2  # whoever called goes on as before


def test_a_limit_named_on_resume_replaces_the_run_s(tiny, resume):
    folder = tiny("a")
    assert resume(folder, "trainer.max_steps=12") == 0
    assert record(folder)["images"] == 48
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_images"] is None


def test_resume_names_what_is_not_there(tmp_path, resume):
    with pytest.raises(BadInput, match="no such run folder"):
        resume(tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"holds no checkpoints/last\.ckpt"):
        resume(tmp_path)


def test_two_processes_in_one_folder(tiny, resume):
    from faceforge.engine.run import lock_run

    folder = tiny("a")
    with lock_run(folder), pytest.raises(BadInput, match="another process is training"):
        resume(folder, "trainer.max_images=80")


def test_init_from_says_what_matched(tiny, capsys):
    first = tiny("a")
    second = tiny("b", f"init_from={first}", "seed=5", "trainer.max_images=4")
    said = capsys.readouterr().out
    assert "21 of 21 tensors matched (average 9/9; discriminator 3/3; generator 9/9)" in said
    assert "init_from" in record(second)
    third = tiny(
        "c", f"init_from={first}", "model.generator.width=6", "model.generator.max_width=6", "trainer.max_images=4"
    )
    assert "new: generator." in record(third)["init_from"]


def test_gpus_that_are_not_there(tiny, tmp_path):
    there = devices.count()
    has = f"{there} {devices.best().type.upper()} GPU" if there else "no GPU that torch can use"
    with pytest.raises(BadInput, match=rf"trainer\.gpus: {there + 1} requested, this machine has {has}s?; use"):
        tiny("a", f"trainer.gpus={there + 1}")
    assert not (tmp_path / "a").exists()
    with pytest.raises(BadInput, match=r"trainer\.precision: bf16 is emulated on the CPU"):
        tiny("a", "trainer.precision=bf16")


def test_sizes_that_cannot_be_made(tiny, tmp_path):
    with pytest.raises(BadInput, match=r"^model\.generator: cannot upsample a small seed to 9x9; .* 8x8 or 10x10"):
        tiny("a", "data.size=9")
    assert not (tmp_path / "a").exists()


def test_numbers_that_are_no_longer_finite_stop_the_run(tiny, tmp_path):
    with pytest.raises(GuardStop, match="NaN or infinite at image"):
        tiny(
            "a",
            "model.optimizer_g.lr=1e30",
            "model.optimizer_d.lr=1e30",
            "model.objective=least_squares",
            "trainer.max_images=4000",
        )
    state = checkpoint.read(tmp_path / "a" / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.isfinite(v).all() for v in state.values())
    assert record(tmp_path / "a")["status"] == "failed"


class Spy(pl.Callback):
    """What stands in the gradients after each step, and what the optimisers were given."""

    def __init__(self):
        self.left_over, self.norms = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.left_over += [name for name, p in pl_module.named_parameters() if p.grad is not None]


def _parts(tmp_path, *overrides, tiny=TINY):
    chosen = config.compose([*tiny, f"run_dir={tmp_path / 'x'}", f"data.cache={tmp_path / 'cache'}", *overrides])
    module, data = config.build(chosen["model"]), config.build(chosen["data"])
    data.prepare(progress=False)
    data.clock = module.clock
    return module, data


def _fit(module, data, *callbacks, steps=6, **trainer):
    loader = data.train_dataloader()
    pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **trainer,
    ).fit(module, datamodule=data)
    return loader


def test_no_gradient_is_left_between_steps(tmp_path):
    module, data = _parts(tmp_path)
    spy = Spy()
    _fit(module, data, spy)
    assert spy.left_over == []


class Enough(pl.Callback):
    """Ends training after some steps, as the clock does."""

    lean = True

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = batch_idx + 1 == self.steps


@pytest.mark.parametrize("model", [[], ["model=conv_superres", "data.size=16"]])
def test_the_plain_loop_trains_as_lightnings_own(tmp_path, model):
    words = [w for w in TINY if not (model and w.startswith("model."))] + model
    torch.manual_seed(0)
    own = _parts(tmp_path, *model, tiny=words)
    torch.manual_seed(0)
    plain = _parts(tmp_path, *model, tiny=words)
    _fit(*own)
    plan = make_plan(config.compose([*words, "trainer.gpus=0"]))
    training.make_trainer(plan, [Enough(6)]).fit(plain[0], datamodule=plain[1])
    assert own[0].clock.images == plain[0].clock.images == 24
    theirs = own[0].state_dict()
    assert all(torch.equal(values, theirs[name]) for name, values in plain[0].state_dict().items())


def test_the_module_keys_its_noise_to_the_positions_that_were_drawn(tmp_path):
    module, data = _parts(tmp_path)
    drawn, keyed = [], []
    step, noise = module.training_step, module.noise

    def training_step(batch, batch_idx):
        drawn.append(batch["position"].tolist())
        step(batch, batch_idx)

    def keyed_noise(purpose, counters, *more):
        keyed.append(list(counters))
        return noise(purpose, counters, *more)

    module.training_step, module.noise = training_step, keyed_noise
    _fit(module, data, steps=3)
    assert drawn == [list(range(n, n + 4)) for n in (0, 4, 8)]
    assert keyed == [d for d in drawn for _ in range(2)]


def test_clipping_really_clips(tmp_path, monkeypatch):
    """What the optimiser sees has at most the stated norm, though the raw gradient is larger."""
    seen = []
    module, data = _parts(tmp_path, "model.clip_norm=0.001")
    real = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        seen.append(torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"]]).norm().item())
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    _fit(module, data)
    assert len(seen) == 12
    assert max(seen) == pytest.approx(0.001, rel=1e-3)


def test_the_scaler_scales_unscales_and_skips_overflow(tmp_path):
    """fp16 with a loss scaler, on the CPU: both optimisers step, the scale halves when something overflows."""
    from pytorch_lightning.plugins.precision import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=10**6)
    module, data = _parts(tmp_path, "model.clip_norm=1.0")
    before = {k: v.clone() for k, v in module.state_dict().items()}
    _fit(module, data, steps=40, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() < 2.0**40
    after = module.state_dict()
    for name in ("generator.expand.weight", "discriminator.judge.weight"):
        assert not torch.equal(before[name], after[name])
        assert torch.isfinite(after[name]).all()


def test_penalties_stay_in_fp32_under_autocast(tmp_path):
    module, data = _parts(tmp_path)
    images = data.images("train", [0, 1, 2])
    from faceforge.losses import gradient_penalty

    plain = gradient_penalty(module.discriminator, images)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradient_penalty(module.discriminator, images)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_every_parameter_gets_a_gradient(tmp_path):
    module, data = _parts(tmp_path)
    before = {k: v.clone() for k, v in module.named_parameters()}
    _fit(module, data, steps=1)
    still = [k for k, v in module.named_parameters() if not k.startswith("average.") and torch.equal(before[k], v)]
    assert still == []


def test_samples_do_not_depend_on_the_batch(tmp_path):
    module, _ = _parts(tmp_path)
    one = module.eval().sample(7, seed=3, batch=1)
    many = module.sample(7, seed=3, batch=5)
    assert (one - many).abs().max() <= 2 / 255
    assert torch.allclose(module.sample(3, seed=3, start=4), one[4:], atol=2 / 255)
    assert not torch.allclose(module.sample(7, seed=4), one, atol=2 / 255)


def test_the_average_is_what_the_half_life_says(tmp_path):
    """Against a plain loop over the generator's weights."""
    from faceforge.schemes import ema

    module, _ = _parts(tmp_path)
    average, network = ema.averaged_copy(module.generator), module.generator
    expected = {k: v.clone().double() for k, v in network.state_dict().items()}
    keep = ema.decay(4, 100, half_life=8, ramp=None)
    assert keep == pytest.approx(0.5**0.5)
    assert ema.decay(4, 100, half_life=8, ramp=0.02) == pytest.approx(0.25)
    for _ in range(3):
        with torch.no_grad():
            for value in network.state_dict().values():
                value.add_(1)
        ema.update(average, network, keep)
        for k, v in network.state_dict().items():
            expected[k] = keep * expected[k] + (1 - keep) * v.double() if v.is_floating_point() else v.double()
    for k, v in average.state_dict().items():
        assert torch.allclose(v.double(), expected[k], atol=1e-5), k


@pytest.mark.slow  # test_processes.py looks into two processes every day
def test_ranks_share_a_batch_and_no_z(tiny):
    """Two processes on the CPU: the run ends, and its clock and files are those of one."""
    folder = tiny("a", "trainer.processes=2", "trainer.max_images=16", "trainer.checkpoint_every=8")
    assert record(folder)["images"] == 16
    kept = checkpoint.read(folder / "checkpoints" / "last.ckpt")
    assert kept["clock"] == {**kept["clock"], "images": 16, "generator_steps": 4}
    assert [int(r["images"]) for r in rows(folder) if r["loss/generator"]] == [4, 8, 12, 16]


def test_processes_must_divide_the_batch(tiny):
    with pytest.raises(BadInput, match=r"data\.batch_size: 4 cannot be shared evenly by 3 processes"):
        tiny("a", "trainer.processes=3")
