"""What needs a CUDA GPU: `make test-gpu`. Each test skips with a reason where there is none."""

import json

import pytest
import torch
from test_training import _parts, same

from faceforge import checkpoint, config, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; this machine has none"),
]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_null_takes_the_gpu_and_its_own_precision(tiny):
    folder = tiny("a", "trainer.gpus=null")
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert record(folder)["precision"] == ("bf16" if native else "16")
    assert torch.cuda.get_device_name(0) in record(folder)["device"]


@pytest.mark.parametrize("precision", ["32", "bf16", "16"])
def test_every_precision_trains_to_finite_weights(tiny, precision):
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no native bf16")
    folder = tiny(
        "a", "trainer.gpus=1", f"trainer.precision={precision}", "model.clip_norm=1.0", "trainer.max_images=200"
    )
    kept = checkpoint.read(folder / "checkpoints/last.ckpt")
    assert kept["config"]["trainer"]["precision"] == precision
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values())
    assert ("MixedPrecision" in kept) == (precision == "16")


@pytest.mark.parametrize("precision", ["32", "auto"])
def test_resumed_on_cuda_is_the_same_as_never_stopped(tiny, resume, precision):
    settings = ["trainer.gpus=1", "trainer.deterministic=true", f"trainer.precision={precision}"]
    whole = tiny("whole", *settings, "trainer.max_images=60")
    parts = tiny("parts", *settings, "trainer.max_images=28")
    assert resume(parts, "trainer.max_images=60") == 0
    same(whole, parts)


def test_the_gpu_draws_what_the_cpu_draws(tmp_path):
    """The same z for a seed on either device, and pixels within 1/255 in fp32."""
    module, _ = _parts(tmp_path)
    on_cpu = module.eval().sample(9, seed=2)
    on_gpu = module.cuda().sample(9, seed=2, batch=4)
    assert (on_cpu - on_gpu).abs().max() <= 2 / 255


def test_a_gpu_run_goes_on_on_the_cpu(tiny, resume):
    folder = tiny("a", "trainer.gpus=1", "trainer.precision=32")
    assert resume(folder, "trainer.gpus=0", "trainer.max_images=60") == 0
    assert record(folder)["images"] == 60


def test_one_gpu_too_many_is_one_line():
    asked = torch.cuda.device_count() + 1
    options = training.Options(
        **{k: v for k, v in config.compose([f"trainer.gpus={asked}"])["trainer"].items() if k != "_target_"}
    )
    with pytest.raises(
        training.BadInput, match=rf"trainer\.gpus: {asked} asked for, this machine has {asked - 1} CUDA GPU"
    ):
        training.gpus_of(options)
