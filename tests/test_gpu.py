"""What needs a GPU, of whatever kind torch has: `make test-gpu`. Each test skips with a reason where there is none."""

import json

import pytest
import torch
from test_training import _parts, same

from faceforge.engine import checkpoint
from faceforge.errors import BadInput

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs a GPU; torch finds none on this machine"),
]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def module():
    """The torch module of the accelerator here: torch.cuda, torch.xpu, torch.mps, ..."""
    return torch.get_device_module(torch.accelerator.current_accelerator())


def native_bf16():
    """None where torch does not say."""
    supported = getattr(module(), "is_bf16_supported", None)
    return None if supported is None else supported(including_emulation=False)


def test_null_takes_the_gpu_and_its_own_precision(tiny):
    folder = tiny("a", "trainer.gpus=null")
    assert record(folder)["precision"] == {True: "bf16", False: "16", None: "32"}[native_bf16()]
    named = getattr(module(), "get_device_name", None)
    if named:
        assert named(0) in record(folder)["device"]


@pytest.mark.parametrize("precision", ["32", "bf16", "16"])
def test_every_precision_trains_to_finite_weights(tiny, precision):
    if precision == "bf16" and not native_bf16():
        pytest.skip("this GPU has no native bf16")
    folder = tiny(
        "a", "trainer.gpus=1", f"trainer.precision={precision}", "model.clip_norm=1.0", "trainer.max_images=200"
    )
    kept = checkpoint.read(folder / "checkpoints/last.ckpt")
    assert kept["config"]["trainer"]["precision"] == precision
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values())
    assert ("MixedPrecision" in kept) == (precision == "16")


@pytest.mark.parametrize("precision", ["32", "auto"])
def test_resumed_on_a_gpu_is_the_same_as_never_stopped(tiny, resume, precision):
    settings = ["trainer.gpus=1", "trainer.deterministic=true", f"trainer.precision={precision}"]
    whole = tiny("whole", *settings, "trainer.max_images=60")
    parts = tiny("parts", *settings, "trainer.max_images=28")
    assert resume(parts, "trainer.max_images=60") == 0
    same(whole, parts)


def test_the_gpu_draws_what_the_cpu_draws(tmp_path):
    """The same z for a seed on either device, and pixels within 1/255 in fp32."""
    model, _ = _parts(tmp_path)
    on_cpu = model.eval().sample(9, seed=2)
    on_gpu = model.to(torch.accelerator.current_accelerator()).sample(9, seed=2, batch=4).cpu()
    assert (on_cpu - on_gpu).abs().max() <= 2 / 255


def test_a_gpu_run_goes_on_on_the_cpu(tiny, resume):
    folder = tiny("a", "trainer.gpus=1", "trainer.precision=32")
    assert resume(folder, "trainer.gpus=0", "trainer.max_images=60") == 0
    assert record(folder)["images"] == 60


def test_one_gpu_too_many_is_one_line(tiny):
    found = torch.accelerator.device_count()
    with pytest.raises(BadInput, match=rf"trainer\.gpus: {found + 1} requested, this machine has {found} \w+ GPU"):
        tiny("a", f"trainer.gpus={found + 1}")
