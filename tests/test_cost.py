"""What a training step costs: a record by the command, and the page made from records."""

import json

import pytest
from conftest import ROOT, TINY
from test_every_pair import SMALL
from typer.testing import CliRunner

from benchmarks import cost
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
    assert found["command"].startswith("faceforge bench data.")
    assert "images a second" in done.output


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
    rows = [line for line in cost.text(known).splitlines() if line.startswith("| `")]
    assert rows == [
        "| `dcgan_cnn` | 64x64, colour | 32 | CPU, Some, 1 threads | 32 | 50.0 | 3.3 | 2.0 GB |",
        "| `pix2pix` | 160x128, colour | 32 | CPU, Some, 1 threads | 32 | 10.0 | 16.7 | 2.0 GB |",
    ]


def test_what_grows_is_a_curve_and_no_row():
    known = {f"mine-{cost.GROWN}-batch{n}": record(rate=10.0 * n, batch_size=n) for n in (4, 8)}
    assert set(cost.curves(known)) == {"cost_batch"}
    assert "Not measured yet" in cost.text(known)


def test_the_settings_can_be_typed():
    for label, overrides, threads in cost.settings(1):
        assert config.check_overrides(overrides) == [], label
        assert threads >= 1


def test_the_page_is_made_from_its_records():
    assert cost.PAGE.read_text() == cost.text(cost.records())
    for name, drawn in cost.curves(cost.records()).items():
        assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text() == drawn
