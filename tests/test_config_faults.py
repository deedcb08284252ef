"""Configurations that are wrong, each answered in one line that names the key before any folder is made; and sweeps."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from faceforge import config
from faceforge.config import building, composing, parameters
from faceforge.engine import training
from faceforge.errors import BadInput

ROOT = Path(__file__).parents[1]


@pytest.fixture
def command(train_typed):
    """Run `python train.py ...`; gives the exit code, what it printed, and its lines on stderr."""
    return train_typed


# ------------------------------------------------------------------------------------------------ who wins


@pytest.fixture
def own_experiment(tmp_path, monkeypatch):
    """The yaml files of the project, and an experiment of one's own among them."""
    folder = tmp_path / "conf"
    folder.mkdir()
    for file in config.conf_dir().iterdir():
        (folder / file.name).symlink_to(file) if file.name != "experiment" else (folder / "experiment").mkdir()
    text = "# @package _global_\nseed: 7\ninit_from: runs/a\nguard: {action: rollback}\ndata: {flip: false}\n"
    (folder / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.setattr(composing, "conf_dir", lambda: folder)


def test_an_experiment_wins_over_train_yaml_and_the_command_line_over_both(own_experiment):
    mine = config.compose(["experiment=mine"])
    assert (mine["seed"], mine["init_from"], mine["guard"]["action"]) == (7, "runs/a", "rollback")
    assert (mine["guard"]["every"], mine["data"]["flip"], mine["data"]["seed"]) == (25, False, 7)
    named = config.compose(["experiment=mine", "seed=3", "guard.action=stop"])
    assert (named["seed"], named["init_from"], named["guard"]["action"]) == (3, "runs/a", "stop")


def test_a_model_wins_over_data_task_and_trainer():
    composed = config.compose(["model=pix2pix"])
    assert (composed["data"]["size"], composed["choices"]["task"]) == ([160, 128], "colorize")
    assert (composed["trainer"]["max_images"], composed["tasks"][0]) == (10_000, "autoencode")


# ------------------------------------------------------------------------------------------------ one line each

BROKEN = [
    *[f"{group}=null" for group in ("data", "task", "trainer", "logger", "model")],
    *["guard=null", "guard.every=0", "guard.action=foo", "~model", "~model.generator"],
    *["model.generator=null", "model/generator=null", "model.optimizer_g=null", "model.optimizer_g=adam"],
    *["model.optimizer_g.lr=-1", "model.optimizer_g.betas=[0.5]", "model.optimizer_g.betas=null"],
    *["+model.optimizer_g.eps=-1", "+model.optimizer_g.weight_decay=abc", "+model.optimizer_g.differentiable=true"],
    *["model.optimizer_g._partial_=3", "model.generator._target_=torch.nn.ReLU", "+model.generator._args_=[1]"],
    *["model.generator.latent_size=-1", "model.generator.width=-4", "model.generator.max_width=0"],
    *["model.discriminator.width=0", "model.clip_norm=-1", "model.ema_half_life=-1", "model.augment_policy=[foo]"],
    *["data.size=[64]", "data.size=[]", "data.size=abc", "data.size=-8", "data.size=[8,8,8]", "data.source=null"],
    *["tasks=[]", "input=null", "logger.mode=foo", "logger.images=foo"],
    *["trainer.precision=64", "trainer.precision=8", "trainer.precision=16.5", "trainer.max_images=1.5"],
    *["trainer.max_images=nan", "trainer.max_minutes=nan", "trainer.max_minutes=inf", "model.r1_gamma=nan"],
    *["model.optimizer_g.lr=nan", "model.optimizer_g.betas=[0.5,nan]", "data.val_fraction=nan", "seed=inf"],
    *["seed=1,2", "seed=range(1,3)", "model.optimizer_g.lr=interval(1e-5,1e-2)", "experiment=glob(*)"],
    *["model=choice(dcgan_cnn,pix2pix)", "data=base", "data=[drawn,lfw]"],
]
NAMED_ABOVE = {  # the key that is said instead, where several act together
    "+model.optimizer_g.differentiable=true": "model",
    "model.generator._target_=torch.nn.ReLU": "model.generator.size",
    "model.optimizer_g._partial_=3": "model.optimizer_g._partial_",
    "model.augment_policy=[foo]": "model",
    "tasks=[]": "task",
    "model/generator=null": "model.generator",
}


@pytest.mark.parametrize("override", BROKEN)
def test_what_is_wrong_is_one_line_with_its_key_before_a_folder_is_made(tmp_path, monkeypatch, override):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as refused:
        training.train(config.compose([*TINY, "run_dir=run", override]))
    first = str(refused.value).splitlines()[0]
    key = override.lstrip("+~").split("=")[0]
    node = key.rpartition(".")[0] if key.startswith("model.optimizer_g.") else key
    assert first.startswith((str(NAMED_ABOVE.get(override, key)), str(node))), first
    assert len(str(refused.value).splitlines()) == 1 or "ReLU" in override
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["model=latent_editor", "model.code.latent_size=-1"],
        ["model=latent_editor", "model.code=null"],
        ["model=latent_editor", "model/schedule=plateau", "model.schedule.factor=2"],
        ["model=latent_editor", "model/stop=early", "model.stop.patience=0"],
        ["model=conv_superres", "model.loss=null"],
        ["model=conv_superres", "model/loss=null"],
        ["model=conv_superres", "model.network.blocks=-1"],
        ["model=pix2pix", "model.generator.norm=foo"],
        ["model=pix2pix", "model.loss_weight=-1"],
    ],
)
def test_the_other_models_too(words):
    key = words[-1].split("=")[0].replace("/", ".")
    with pytest.raises(BadInput) as refused:
        training.build(config.compose(words))
    assert str(refused.value).startswith((key, key.rpartition(".")[0])), refused.value
    assert "\n" not in str(refused.value)


def test_a_constructor_of_any_kind_of_error_is_one_line():
    for error in (ValueError, TypeError, RuntimeError, ZeroDivisionError, OverflowError, KeyError):
        with pytest.raises(BadInput, match=r"^model\.code: .*width"), config.naming("model.code"):
            raise error("the width\nis wrong")
    nodes = {"features": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": "x"}}
    with pytest.raises(BadInput, match=r"^model\.loss\.features: cannot be made \(TypeError"):
        config.build({"_target_": "faceforge.losses.Perceptual", **nodes}, at="model.loss")


def test_no_experiment_and_no_schedule_can_be_said_by_null(command):
    assert config.compose(["experiment=null"]) == config.compose()
    taken = config.compose(["experiment=published/latent_mse", "model/schedule=null"])
    assert taken["model"]["schedule"] is None
    code, printed, said = command("experiment=null", "--cfg", "job")
    assert (code, said) == (0, "")
    assert "seed: 0" in printed


@pytest.mark.parametrize("flags", [["model.optimizer_g.lr=interval(1e-5,1e-2)"], ["experiment=glob(*)"], ["data=null"]])
def test_the_command_says_it_in_one_line(command, tmp_path, flags):
    code, printed, said = command(*TINY, "run_dir=run", *flags)
    assert (code, printed) == (2, "")
    assert said.startswith(f"faceforge: {flags[0].split('=')[0]}")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------ types


def test_every_text_with_few_meanings_is_found():
    for words, said in [
        (["logger.images=foo"], "logger.images: 'foo' is not one of ['generated', 'all', 'none']"),
        (["model=latent_editor", "model.reduction=foo"], "model.reduction: 'foo' is not one of ['value', 'face']"),
        (["model=conv_superres", "model.network.base=foo"], "model.network.base: 'foo' is not one of ['bicubic'"),
        (["model=latent_editor", "model.decoder.upsampling=foo"], "model.decoder.upsampling: 'foo' is not one of ["),
        (["data=crops", "data.source.identity=foo"], "data.source.identity: 'foo' is not one of ['auto'"),
    ]:
        problems = config.check_overrides(words, types=True)
        assert len(problems) == 1
        assert problems[0].startswith(said)


def test_every_annotation_of_what_a_yaml_makes_can_be_read():
    """One that names what only a type checker imports would leave a constructor unchecked."""
    for path in composing.conf_dir().rglob("*.yaml"):
        for target in re.findall(r"_target_: (faceforge\.[\w.]+)", path.read_text()):
            kind = building.find(target)
            assert set(inspect.signature(kind).parameters) <= set(parameters.of(kind)), target


def test_a_whole_float_is_a_whole_number():
    composed = config.compose(["trainer.max_images=1e5", "data.size=[64.0,48.0]", "seed=2.0", "trainer.precision=32.0"])
    numbers = [composed["trainer"]["max_images"], *composed["data"]["size"], composed["seed"], composed["data"]["seed"]]
    numbers += [*composed["model"]["generator"]["size"], composed["trainer"]["precision"]]
    assert numbers == [100_000, 64, 48, 2, 2, 64, 48, 32]
    assert all(type(number) is int for number in numbers)
    assert config.compose(["trainer.max_minutes=2"])["trainer"]["max_minutes"] == 2


@pytest.mark.parametrize("precision", ["auto", "32", "'32'", "16", "bf16"])
def test_each_precision_passes(precision):
    assert config.check_overrides([f"trainer.precision={precision}"], types=True) == []


def test_what_a_yaml_leaves_out_is_added_with_a_plus():
    said = "model.optimizer_g.weight_decay: not in the yaml; add it with +model.optimizer_g.weight_decay=0.1"
    assert config.check_overrides(["model.optimizer_g.weight_decay=0.1"]) == [said]
    assert config.check_overrides(["+model.optimizer_g.weight_decay=0.1"], types=True) == []
    assert config.check_overrides(["model.optimizer_g.weigth=1"])[0].startswith("model.optimizer_g.weigth: unknown")


def test_older_names_in_ones_own_yaml_train_too_and_the_command_line_wins(command, tmp_path):
    (tmp_path / "conf/experiment").mkdir(parents=True)
    text = "# @package _global_\ndata: {max_bad_share: 0.5, val_share: 0.3}\nmodel: {share_fakes: true}\n"
    (tmp_path / "conf/experiment/mine.yaml").write_text(text)
    words = [word for word in TINY if "val_fraction" not in word]
    code, _, said = command("--config-dir", "conf", "experiment=mine", *words, "data.val_fraction=0.2", "run_dir=run")
    assert code == 0, said
    for line in ("data.max_bad_share is called data.max_corrupt_fraction now", "model.share_fakes is called"):
        assert said.count(f"faceforge: {line}") == 1
    kept = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (kept["data"]["max_corrupt_fraction"], kept["model"]["reuse_fakes"]) == (0.5, True)
    assert kept["data"]["val_fraction"] == 0.2


# ------------------------------------------------------------------------------------------------ a sweep's check


def test_every_job_is_checked_and_each_problem_said_once():
    words = ["model=dcgan_cnn,conv_superres", "model.optimizer_g.lr=1e-3,fast", "data.size=64,abc", "seed=range(0,3)"]
    assert config.check_overrides(words, multirun=True) == [
        "model.optimizer_g.lr: 'fast' is not a number (with model=dcgan_cnn)",
        "data.size: 'abc' is not a number",
        "model.optimizer_g.lr: unknown; did you mean 'model.optimizer.lr'? (with model=conv_superres)",
    ]
    assert config.check_overrides(["model=dcgan_cnn,pix2pix", "task=none"], multirun=True) == [
        "task=none: model=pix2pix takes autoencode, super_resolution, colorize, thresholds, contours, canny, average, "
        "noise, deblur or pairs (with model=pix2pix)"
    ]


def test_a_huge_sweep_is_checked_value_by_value():
    words = [f"model.{name}=range(0,40)" for name in ("r1_gamma", "r2_gamma", "penalty_every", "val_samples")]
    assert config.check_overrides([*words, "data.batch_size=2,x"], multirun=True) == [
        "data.batch_size: 'x' is not a number"
    ]
    assert config.check_overrides(["seed=range(0,1000000000)"], multirun=True)[0].endswith(
        "must name 1 to 10,000 values"
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=range(3,1)", "seed=range(3,1): must name 1 to 10,000 values"),
        ("seed=range(1,3,0)", "seed=range(1,3,0): "),
        ("experiment=glob(x*)", "experiment=glob(x*): matches no choice; there are demo, drawn/conv_superres, "),
        ("seed=glob(*)", "seed=glob(*): matches no choice; it is no group"),
        (
            "model.optimizer_g.lr=interval(0,1)",
            "model.optimizer_g.lr=interval(0,1): the basic sweeper takes no intervals",
        ),
        ("data=drawn,null", "data: null cannot be chosen"),
    ],
)
def test_a_sweep_over_nothing_is_refused(word, said):
    problems = config.check_overrides([word], multirun=True)
    assert len(problems) == 1
    assert problems[0].startswith(said)


def jobs_of(*words):
    return composing.jobs_of(composing.Library().plainly(words, multirun=True))


def test_globs_and_ranges_name_their_jobs():
    named = jobs_of("experiment=glob(published/gan*)", "seed=range(1,3)")
    published = [f"experiment=published/{name}" for name in ("gan_cnn", "gan_cnn_depthwise", "gan_conventional")]
    assert named == [[experiment, f"seed={seed}"] for experiment in published for seed in (1, 2)]
    everything = jobs_of("experiment=glob(*)")
    assert everything == [[f"experiment={name}"] for name in composing.Library().names("experiment")]
    assert jobs_of("data=glob(*)") == [
        [f"data={name}"] for name in ("arrays", "celeba", "crops", "drawn", "hub", "lfw", "lmdb", "pairs", "shards")
    ]


# ------------------------------------------------------------------------------------------------ other systems


def test_the_configuration_needs_nothing_of_unix_and_no_encoding_of_the_system():
    code = (
        "import signal, sys\n"
        "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios', 'torch'): sys.modules[name] = None\n"
        "del signal.SIGUSR1\n"
        "from faceforge import main\n"
        "main.main()\n"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, "--cfg", "job", "data.size=48"]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "size: 48" in done.stdout
