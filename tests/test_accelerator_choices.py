"""Every objective, loss, task and code on a simulated accelerator: a few steps, validation, and the grid."""

import pytest
import torch
from on_accelerator import SCHEMES, machine  # noqa: F401
from picture_makers import on_pairs
from test_every_pair import MODELS
from test_training import Enough

from faceforge import config
from faceforge.engine import devices, training
from faceforge.engine.plan import make_plan

pytestmark = pytest.mark.simulated


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Faces are packed once for all choices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _stepped(tmp_path, steps, *overrides):
    """A module after some steps, without a run; and its data."""
    chosen = config.compose([*overrides, f"run_dir={tmp_path / 'x'}"])
    module, data = training.build(chosen)
    data.prepare(progress=False)
    data.clock = module.clock
    training.make_trainer(make_plan(chosen), [Enough(steps)]).fit(module, datamodule=data)
    return module, data


CHOICES = {
    **{f"objective {name}": ["gan", f"model.objective={name}"] for name in (
        "minimax", "non_saturating", "hinge", "least_squares", "relativistic")},
    **{f"loss {path.stem}": ["sr", f"model/loss={path.stem}", "data.channels=3"]
       for path in sorted((config.conf_dir() / "model" / "loss").glob("*.yaml"))},
    **{f"task {name}": ["colour", f"task={name}"] for name in MODELS["pix2pix"] if name != "colorize"},
    **{f"code {name}": ["latent", f"model/code={name}"] for name in ("relu", "sigmoid")},
    "fewer generator steps": ["gan", "model.discriminator_steps=2"],
    "shared fakes": ["gan", "model.reuse_fakes=true"],
    "augmented on the way": ["sr", "data.augment=light"],
    "clipped": ["sr", "model.clip_norm=0.01"],
    "plateau": ["sr", "model/schedule=plateau"],
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_steps_and_validates_to_the_numbers_of_the_cpu(machine, tmp_path, choice):
    scheme, *words = CHOICES[choice]
    given = on_pairs(SCHEMES[scheme], tmp_path) if choice == "task pairs" else SCHEMES[scheme]
    ends = []
    for gpus in (0, 1):
        module, data = _stepped(tmp_path, 2, *given, f"trainer.gpus={gpus}", "trainer.precision=32", *words)
        module.to(devices.best() if gpus else "cpu")
        scores, grid = module.validate(data), module.pictures(data)
        assert grid.device.type == "cpu"
        ends.append((scores, grid, {name: value.cpu() for name, value in module.state_dict().items()}))
    (scores, grid, weights), (others, another, theirs) = ends
    assert scores == pytest.approx(others, rel=1e-3, abs=1e-5, nan_ok=True)
    assert (grid - another).abs().max() <= 2 / 255
    # the gradients of faces that two networks share add up in either order; Adam makes a step of the least difference
    close = 5e-3 if choice == "shared fakes" else 1e-5
    assert all(torch.allclose(weights[name], value, atol=close) for name, value in theirs.items())


def test_mixed_precision_really_is(tmp_path):
    module, _ = _stepped(tmp_path, 1, *SCHEMES["sr"], "trainer.gpus=1", "trainer.precision=bf16")
    image = torch.zeros(1, 3, 16, 16, device="sim")
    with torch.autocast("sim", dtype=torch.bfloat16):
        assert module.to("sim").network.head(image[:, :1]).dtype is torch.bfloat16


EXPERIMENTS = sorted(
    path.relative_to(config.conf_dir() / "experiment").with_suffix("").as_posix()
    for path in (config.conf_dir() / "experiment").rglob("*.yaml")
)


@pytest.mark.slow  # at their real sizes
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_a_step_on_it(machine, tmp_path, experiment):
    small = ["data.batch_size=2", "data.source.count=40", "trainer.gpus=1", "logger.mode=disabled"]
    module, _ = _stepped(tmp_path, 1, f"experiment={experiment}", *small)
    assert module.clock.images == 2
