import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from faceforge import config
from faceforge.config import building, parameters
from faceforge.errors import BadInput

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(
    p.relative_to(ROOT / "conf/experiment").with_suffix("").as_posix()
    for p in (ROOT / "conf/experiment").rglob("*.yaml")
)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=dcgan_conventional", "modle: unknown; did you mean 'model'?"),
        ("model=dcgan_convetional", "model: there is no 'dcgan_convetional'; did you mean 'dcgan_conventional'?"),
        ("data=lwf", "data: there is no 'lwf'; did you mean 'lfw'?"),
        ("trainer.gpu=1", "trainer.gpu: unknown; did you mean 'trainer.gpus'?"),
        ("model.optimiser_g.lr=1", "model.optimiser_g.lr: unknown; did you mean 'model.optimizer_g.lr'?"),
        ("data.batch_size=sixteen", "data.batch_size: 'sixteen' is not a number"),
        ("data.batch_size=2.5", "data.batch_size: 2.5 is not a whole number"),
        ("trainer.gpus=true", "trainer.gpus: True is not a whole number or null"),
        ("model.optimizer_g.lr=fast", "model.optimizer_g.lr: 'fast' is not a number"),
        ("model.objective=minmax", "model.objective: 'minmax' is not one of ['minimax'"),
        ("seed=two", "seed: 'two' is not a whole number"),
        ("data.flip", "data.flip: not understood"),
        ("+model.colour=red", "model.colour: unknown"),
    ],
)
def test_one_line_for_each_mistake(override, said):
    problems = config.check_overrides([override], types=True)
    assert len(problems) == 1
    assert problems[0].startswith(said)


def test_all_mistakes_at_once():
    problems = config.check_overrides(["modle=x", "data=lwf", "seed=abc", "trainer.precision=fp8", "data.size=64"])
    assert [p.split(":")[0] for p in problems] == ["data", "modle", "seed", "trainer.precision"]
    wrong = ["data.batch_size=x", "model.r1_gamma=true", "model.optimizer_g.lr=fast", "guard.action=no", "+model.a=1"]
    assert [p.split(":")[0] for p in config.check_overrides(wrong)] == [word.split("=")[0].strip("+") for word in wrong]


@pytest.mark.parametrize(
    "override",
    ["data.size=[64,48]", "data.size=64", "seed=1e3", "trainer.gpus=null", "run_dir=a/b", "trainer.precision=16"],
)
def test_right_overrides_pass(override):
    assert config.check_overrides([override], types=True) == []


def test_mistakes_are_found_without_torch():
    code = "import sys; from faceforge import config, main; config.check_overrides(['a.b=3']);"
    code += "print(any(name in sys.modules for name in ('torch', 'matplotlib', 'optuna')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def _seconds(*command: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, cwd=ROOT)
        return time.perf_counter() - start

    return min(once() for _ in range(3))


@pytest.mark.slow
def test_answers_take_a_third_of_importing_torch():
    slow = _seconds("-c", "import torch, pytorch_lightning")
    assert _seconds("train.py", "--cfg", "job") <= slow / 3
    assert _seconds("train.py", "modle=x") <= slow / 3


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_passes_both_stages(experiment):
    composed = config.compose([f"experiment={experiment}"])
    assert config.check_targets({k: composed[k] for k in ("model", "data", "trainer", "logger")}) == []


def test_every_parameter_of_ours_is_listed_in_yaml():
    """Rule 3: the yaml lists every parameter of a constructor of ours, so that --cfg job shows all there is."""
    composed = config.compose()
    for path, node in building.targets({k: composed[k] for k in ("model", "data", "trainer", "logger")}):
        if node["_target_"].startswith("faceforge."):
            runtime = {"root", "folder", "config", "earlier", "resumed_at", "kind"}
            assert set(parameters.of(building.find(node["_target_"]))) - runtime <= set(node), path


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "pathlib.Path.write_text",
        "torch.load",
        "torch.hub.load",
        "torch.optim.sys.exit",
        "torch.nn.Module.apply",
        "torch.nn.functional.relu",
        "faceforge.main.main",
        "faceforge.engine.training.train",
        "faceforge.io.archives.open_store",
        "faceforge.engine.checkpoint.Path",
        "faceforge.engine.training.os.system",
        "faceforge.data.datamodule.np.load",
        "faceforge.config.building.hydra.utils.instantiate",
        "faceforge.config.composing.Library",
        "faceforge.engine.callbacks.checkpointing.checkpoint.load",
        "subprocess.run",
        "albumentations.load",
    ],
)
def test_foreign_targets_are_refused(target, tmp_path):
    with pytest.raises(BadInput, match=r"allow-list|does not exist|is not a network"):
        config.build({"_target_": target, "_args_": [str(tmp_path / "canary")]})
    with pytest.raises(BadInput):
        config.build({"_target_": "torch.nn.Sequential", "inner": [{"x": {"_target_": target, "_partial_": True}}]})


def test_own_packages_must_be_named(tmp_path, monkeypatch):
    (tmp_path / "my_faces.py").write_text(
        "class Net:\n    def __init__(self, width: int) -> None:\n        self.width = width\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_faces.Net", "width": 3}
    with pytest.raises(BadInput, match="trusted_packages"):
        config.build(node)
    assert config.build(node, ["my_faces"]).width == 3


def test_signatures_are_bound_before_anything_is_built():
    node = {
        "a": {"_target_": "torch.optim.Adam", "_partial_": True, "learning_rate": 1},
        "b": {"_target_": "torch.nn.Linear", "in_features": 1},
    }
    lines = config.check_targets(node)
    assert [line.split(";")[0] for line in lines] == [
        "a.learning_rate: torch.optim.Adam has no such parameter",
        "b.out_features: missing",
    ]


def test_a_limit_named_by_hand_replaces_the_default_one():
    assert config.compose(["trainer.max_epochs=3"])["trainer"]["max_images"] is None
    both = config.compose(["trainer.max_epochs=3", "trainer.max_images=10"])["trainer"]
    assert (both["max_epochs"], both["max_images"]) == (3, 10)


def test_composed_config_is_plain_data():
    composed = config.compose(["model=dcgan_conventional", "data=drawn"])
    assert yaml.safe_load(yaml.safe_dump(composed)) == composed
    assert composed["choices"]["model"] == "dcgan_conventional"
    assert composed["model"]["generator"]["size"] == composed["data"]["size"]
