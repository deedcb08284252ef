"""What a training step costs: a record by the command, and the page made from records."""

import json

import pytest
import torch
from conftest import ROOT, TINY
from test_every_pair import SMALL
from torch import nn
from typer.testing import CliRunner

from benchmarks import cost, networks
from benchmarks.records import RECORDS
from faceforge import config
from faceforge.cli import app
from faceforge.engine import bench
from faceforge.errors import BadInput


def test_a_record_says_what_was_measured_and_where(tmp_path):
    words = [*TINY, *SMALL.get("dcgan_conventional", [])]
    done = CliRunner().invoke(app, ["bench", *words, "--seconds", "0.2", "--record", str(tmp_path / "a.json")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "a.json").read_text())
    chosen = config.compose(words)["data"]
    assert (found["model"], found["batch_size"]) == ("dcgan_conventional", chosen["batch_size"])
    assert found["images_per_second"] > 0
    assert found["host_bytes"] > 1e8  # torch alone
    assert found["operations_per_image"] > found["weights"] > 0
    assert 1e8 < found["operations_a_second"] < 1e16
    assert 1e8 < found["bytes_a_second"] < 1e14
    assert found["command"].startswith("faceforge bench data.")
    assert "images a second" in done.output


def test_operations_are_those_of_the_formula():
    """A convolution of 3 to 5 channels: forward, and the gradient of its weights, each 2 * 5 * 3 * 9 for each pixel."""
    network, images = nn.Conv2d(3, 5, 3, bias=False), torch.randn(2, 3, 8, 9)
    with bench._Operations() as counted:
        network(images).sum().backward()
    assert counted.total == 2 * (2 * 5 * 3 * 9) * 6 * 7 * 2


def test_operations_of_gradient_penalties_are_counted():
    words = [*TINY, "model.penalty_every=1"]
    without, weights = bench.arithmetic(config.compose([*words, "model.r1_gamma=0", "model.r2_gamma=0"]))
    found, _ = bench.arithmetic(config.compose(words))
    assert found > 1.3 * without
    assert weights == bench.arithmetic(config.compose([*words, "model.objective=hinge"]))[1]


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(BadInput, match="exists already"):
        bench.write(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").read_text() == "mine"


def record(model="dcgan_conventional", rate=100.0, **changes):
    known = {"model": model, "size": [64, 64], "channels": 3, "batch_size": 32, "device": "CPU, Some, 1 threads"}
    known |= {"threads": 1, "precision": "32", "images_per_second": rate, "host_bytes": 2e9, "device_bytes": None}
    return known | changes


def test_the_table_is_worked_out_from_the_records():
    known = {"mine-pix2pix": record("pix2pix", 10.0, size=[160, 128]), "mine-dcgan_cnn": record("dcgan_cnn", 50.0)}
    rows = [line for line in cost.listed(known.values()).splitlines() if line.startswith("| `")]
    assert rows == [
        "| `dcgan_cnn` | 64x64, colour | 32 | CPU, Some, 1 threads | 32 | 50.0 | 3.3 | 2.0 GB |",
        "| `pix2pix` | 160x128, colour | 32 | CPU, Some, 1 threads | 32 | 10.0 | 16.7 | 2.0 GB |",
    ]


def test_what_grows_is_a_curve_and_no_row():
    known = {f"mine-{cost.GROWN}-batch{n}": record(rate=10.0 * n, batch_size=n) for n in (4, 8)}
    assert set(cost.curves(known)) - {"processes", "pictures"} == {"batch"}
    assert "Not measured yet" in cost.text(known)


def test_limits_of_arithmetic_and_bytes():
    """1e9 operations at 1e11 a second are 10 ms an image; 40 bytes of 1e6 weights at 1e10 a second 4 ms a batch."""
    known = record(operations_per_image=1e9, operations_a_second=1e11, weights=1e6, bytes_a_second=1e10, batch_size=4)
    found = cost.most(known)
    assert found["limit of arithmetic"] == pytest.approx(100)
    assert found["limit of arithmetic and bytes"] == pytest.approx(1 / 0.011)
    (mine, *limits) = cost.grown({f"mine-{cost.GROWN}-size64": known}, "size", lambda of: of["size"][0])
    assert mine == ("mine", {"images": [64], "mean": [100.0]})
    assert [name for name, _ in limits] == ["mine, limit of arithmetic", "mine, limit of arithmetic and bytes"]
    assert cost.most(record()) == {}


def test_a_model_is_useful_from_the_first_validation_above_the_baselines():
    lines = {line.split("`")[1]: line for line in cost.useful().splitlines() if line.startswith("| `")}
    assert set(lines) == set(networks.MODELS)
    curve = json.loads((RECORDS / "results" / "sr-conv-modern-s1.json").read_text())["curves"]["val/psnr"]
    first = next(n for n, value in zip(curve["images"], curve["mean"], strict=True) if value > 34.17)
    assert f"| {first:,} |" in lines["conv_superres"]
    assert "| at most " in lines["dcgan_cnn"]


def test_the_settings_can_be_typed():
    for label, overrides, threads in cost.settings(1):
        assert config.check_overrides(overrides) == [], label
        assert threads >= 1


def test_the_page_is_made_from_its_records():
    assert cost.PAGE.read_text() == cost.text(cost.records())
    for name, drawn in cost.curves(cost.records()).items():
        assert (ROOT / "docs" / "pictures" / f"cost_{name}.svg").read_text() == drawn
