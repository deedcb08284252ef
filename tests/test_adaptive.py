"""Adaptive augmentation: the measure by hand, the strength that follows it, a run, a resume, and what it shows."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from test_schedules import gan, last

from faceforge.io.metrics_csv import read_rows
from faceforge.report import write_report
from faceforge.schemes import adversarial
from faceforge.schemes.augmentation import Adaptive, overfitting

FAST = [
    "model.augment_strength={_target_:faceforge.schemes.augmentation.Adaptive,images:80,most:0.5}",
    *("model.val_samples=4", "trainer.checkpoint_every=16", "trainer.log_every=1", "trainer.max_images=64"),
]


def test_the_measure_is_that_of_the_paper():
    """(5 - 3) / (5 - 1), whatever is added to all logits, in any shape."""
    sets = [torch.tensor([4.0, 6.0]), torch.tensor([[3.0]]), torch.tensor([1.0, 0.0, 2.0])]
    assert overfitting(*sets) == 0.5
    assert overfitting(*(logits - 1000 for logits in sets)) == 0.5
    assert overfitting(sets[2], sets[1], sets[0]) == 0.0
    assert overfitting(sets[0], sets[0], sets[0]) == 0.0
    assert math.isnan(overfitting(sets[0], torch.tensor([math.nan]), sets[2]))


def test_the_strength_rises_while_it_overfits_and_stays_within_its_bounds():
    strength = Adaptive(target=0.6, images=100, most=0.25)
    found = []
    for images, measured in [(10, 0.7), (20, 0.61), (30, 0.59), (60, 0.9), (80, math.nan), (90, 0.1), (190, 0.0)]:
        strength.follow(measured, images)
        found.append(strength.strength)
    assert found == pytest.approx([0.1, 0.2, 0.1, 0.25, 0.25, 0.15, 0.0])
    again = Adaptive(target=0.6, images=100, most=0.25)
    again.load_state_dict(strength.state_dict())
    again.follow(1.0, 200)
    assert again.strength == pytest.approx(0.1)


def test_a_discriminator_that_knows_its_training_faces_is_found_out():
    """Logits are the brightness: training faces are bright, generated ones dark, held-out faces at a quarter."""
    module = gan(augment_policy=["translation"], augment_strength=Adaptive())
    module.discriminator.forward = lambda faces: faces.flatten(1).mean(1)
    module.sample = lambda count, averaged: torch.full((count, 3, 32, 32), -1.0)

    bright = {"train": lambda chosen: torch.full((len(chosen), 3, 32, 32), 1.0)}
    data = SimpleNamespace(counts={"train": 9}, batch_size=2, images=lambda split, chosen: bright[split](chosen))
    held_out = torch.full((5, 3, 32, 32), -0.5)
    module.discriminator.input_range = (-1.0, 1.0)
    assert module._overfitting(data, held_out) == pytest.approx(0.75)


def test_it_is_on_by_default_and_changes_nothing_before_it_overfits(tiny, monkeypatch):
    monkeypatch.setattr(adversarial, "overfitting", lambda *logits: 0.5)
    own = tiny("own", "model.val_samples=4")
    none = tiny("none", "model.val_samples=4", "model.augment_policy=[]")
    one, other = last(own)["state_dict"], last(none)["state_dict"]
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())
    assert not (own / "seen.png").exists()
    measured = [row["val/overfitting"] for _, row in read_rows(own / "metrics.csv") if "val/overfitting" in row]
    assert measured
    assert all(value == 0.5 for value in measured)


def test_a_run_augments_more_and_a_resume_changes_no_bit(tiny, resume, monkeypatch):
    monkeypatch.setattr(adversarial, "overfitting", lambda *logits: 0.9)
    whole = tiny("whole", *FAST)
    parts = tiny("parts", *FAST, "trainer.max_steps=8")
    assert resume(parts, "trainer.max_steps=null", "trainer.max_images=64") == 0
    one, other = last(whole), last(parts)
    assert one["clock"]["images"] == other["clock"]["images"] == 64
    assert one["augment"] == other["augment"] == {"strength": 0.5, "moved": 64}
    assert all(torch.equal(weights, other["state_dict"][name]) for name, weights in one["state_dict"].items())
    rows = read_rows(whole / "metrics.csv")
    strengths = {images: row["augment_strength"] for images, row in rows if "augment_strength" in row}
    assert strengths[8] == 0
    assert strengths[24] == pytest.approx(0.2)
    assert strengths[56] == 0.5


def test_what_the_discriminator_sees_is_in_the_report_and_not_uploaded(tiny, monkeypatch):
    """Training faces stay in the run's folder."""
    monkeypatch.setattr(adversarial, "overfitting", lambda *logits: 0.9)
    run = tiny("run", *FAST, "trainer.sample_every=16", "logger.mode=offline")
    with Image.open(run / "seen.png") as picture:
        assert picture.size[0] > picture.size[1] / 2 > 16
    page = write_report(run).read_text()
    assert "What the discriminator sees" in page
    assert "Grid of augmented training faces" in page
    assert not list((run / "wandb").rglob("*seen*"))
    (run / "seen.png").write_bytes(b"no picture")
    assert "What the discriminator sees" not in write_report(run).read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("target:2", "target=2, images=100000, most=0.8: target must lie between 0 and 1"),
        ("images:0", "images be at least 1"),
        ("most:1.5", "most from 0 to 1"),
        ("speed:3", "speed"),
    ],
)
def test_wrong_words_are_one_line(train_typed, tmp_path, words, reason):
    strength = f"model.augment_strength={{_target_:faceforge.schemes.augmentation.Adaptive,{words}}}"
    typed = ["data=drawn", "data.source.count=12", "trainer.gpus=0", "run_dir=x", "trainer.max_images=8", strength]
    code, _, told = train_typed(*typed)
    assert code == 2
    assert reason in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
