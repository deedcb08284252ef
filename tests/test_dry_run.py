"""A dry run: what it measures, what it counts, and that nothing of it stays."""

import json
import re
from dataclasses import replace

import pytest
from conftest import TINY

from faceforge import config
from faceforge.engine import dry_run
from faceforge.engine.dry_run import Forecast, Measured
from faceforge.engine.plan import make_plan
from faceforge.errors import BadInput

FOUND = Measured(rate=100.0, validate=5.0, sample=1.0, checkpoint=0.5, checkpoint_bytes=1000, epoch=800)


def plan(*overrides):
    return make_plan(config.compose([*TINY, *overrides]))


def test_each_event_counts_as_often_as_the_training_has_it():
    """25,000 images: validations and checkpoints at 10,000, 20,000 and the end; grids at 0, 20,000 and the end."""
    every = ["trainer.max_images=25000", "trainer.checkpoint_every=10000", "trainer.sample_every=20000"]
    whole = Forecast.of(plan(*every), FOUND)
    assert whole.images == 25_000
    assert whole.parts == {"training": 250.0, "validations": 15.0, "grids": 3.0, "checkpoints": 1.5}
    assert whole.seconds == pytest.approx(269.5)
    assert whole.disk == 3000


def test_other_limits_count_too():
    assert Forecast.of(plan("trainer.max_images=null", "trainer.max_epochs=3"), FOUND).images == 2400
    steps = plan("trainer.max_images=null", "trainer.max_steps=50", "data.batch_size=4")
    assert Forecast.of(steps, FOUND).images == 200
    short = Forecast.of(plan("trainer.max_images=25000", "trainer.max_minutes=1"), FOUND)
    assert (short.images, short.seconds) == (6000, 60.0)


def test_times_and_lines_are_in_words(monkeypatch):
    monkeypatch.setattr(dry_run, "most_memory", lambda: 1_200_000_000)
    whole = Forecast.of(
        plan("trainer.max_images=900000", "trainer.checkpoint_every=900000", "trainer.sample_every=900000"), FOUND
    )
    lines = dry_run.told(plan(), FOUND, whole)
    assert lines[0].startswith("Dry run: 900,000 images take about 2.5 h (training 2.5 h")
    assert lines[1] == "  memory   1.2 GB"
    assert [dry_run._time(seconds) for seconds in (0.4, 89, 91, 5399, 7200)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "2.0 h",
    ]


def test_the_pace_is_that_of_the_steps_after_the_first_ones(tmp_path):
    """One value in four is left out at the start; the mean of seconds an image, not of images a second."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "samples").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"12345")
    for name in ("000000000.png", "000000032.png"):
        (tmp_path / "samples" / name).touch()
    rows = ["images,images_per_second", "8,1", "16,50", "24,100", "32,100"]
    (tmp_path / "metrics.csv").write_text("\n".join([*rows, ""]))
    record = {"timings": {"train": 9.0, "validate": 2.0, "sample": 3.0, "checkpoint": 0.25}, "images_per_second": 7.0}
    record |= {"data": {"counts": {"train": 40}}, "images": 32}
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = dry_run.measured(tmp_path)
    assert found.rate == pytest.approx(3 / (1 / 50 + 1 / 100 + 1 / 100))
    assert replace(found, rate=0) == Measured(0, 2.0, 1.5, 0.25, 5, 40)


def test_it_says_what_a_training_takes_and_keeps_nothing(train_typed, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "MINUTES", 0.02)
    code, out, _ = train_typed("dry_run=true", *TINY, "trainer.max_images=5000", f"run_dir={tmp_path / 'run'}")
    assert code == 0
    assert re.match(r"Dry run: 5,000 images take about \d+ (s|min) \(", out)
    assert re.search(r"memory +\d", out)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_resumed_and_a_sweep_are_refused_in_a_line(train_typed, tmp_path):
    with pytest.raises(BadInput, match="dry_run: a run that is resumed"):
        dry_run.dry_run({**config.compose(TINY), "resume": "runs/a"}, [])
    code, _, err = train_typed("-m", "dry_run=true", "seed=1,2")
    assert code == 2
    assert "dry_run: is for one training" in err


def test_a_run_does_not_hold_the_key(tiny):
    """A command that was tried dry is the same command afterwards."""
    folder = tiny("run", "dry_run=false")
    assert "dry_run" not in (folder / "config.yaml").read_text()
