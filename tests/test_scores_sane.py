"""Faces made worse by known amounts, and the scores' answer on drawn faces."""

from functools import partial

import numpy as np
import pytest
import torch
from test_baselines import smooth

from benchmarks.scores import sane
from faceforge import config
from faceforge.evaluation import generated
from faceforge.metrics.features import Features
from faceforge.metrics.swd import PatchSwd
from faceforge.metrics.table import metric_of


def test_pixels_are_made_worse_by_what_the_grades_say():
    flat = torch.full((2, 1, 9, 11), 0.25)
    assert torch.allclose(sane.blurred(flat, 5), flat, atol=1e-6)
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = sane.blurred(point, 4)[0, 0].double()
    away = torch.arange(33.0).double() - 16
    assert float((spread.sum(0) * away**2).sum() / spread.sum()) == pytest.approx(sane.BLUR[3] ** 2, rel=0.02)
    first, last = (sane.noisy(torch.zeros(4, 3, 32, 32), grade) for grade in (1, 3))
    assert float(first.std()) / 2 == pytest.approx(sane.NOISE[0], rel=0.05)
    assert torch.allclose(last, first * sane.NOISE[2] / sane.NOISE[0], atol=1e-6)  # the same noise, stronger


@pytest.mark.parametrize("shape", [(1, 1, 7, 5), (3, 3, 16, 24)])
def test_jpeg_keeps_shape_and_range_and_loses_more_at_lower_quality(shape):
    images = smooth(shape[0], *shape[1:])
    errors = [float((sane.compressed(images, grade) - images).abs().mean()) for grade in (1, 5)]
    assert sane.compressed(images, 1).shape == shape
    assert errors[0] < errors[1] < 0.5


@pytest.fixture
def pool():
    images = smooth(30, 1, 8, 8)
    return sane.Pool(images, np.arange(30) // 3, np.arange(30) + 2)


def test_modes_and_people_that_are_missing_are_missing(pool):
    where = {image.numpy().tobytes(): n for n, image in enumerate(pool.images)}

    def rows(images):
        return [where[image.numpy().tobytes()] for image in images]

    assert set(pool.modes[rows(pool.of_few_modes(12, 3))]) == {28, 29, 30, 31}  # four of 32 are left
    few = rows(pool.of_few_people(25, 1))  # 25 faces show nine people
    assert len(few) == 25
    assert set(pool.people[few]) == {0, 1, 2, 3}
    assert len(set(few)) == 12
    assert set(pool.people[rows(pool.of_few_people(25, 5))]) == {0, 1}  # never fewer than two
    assert set(pool.people[rows(pool.of_few_people(25, 1, draw=1))]) == {4, 5, 6, 7}  # other people
    assert set(pool.people[rows(pool.of_few_people(25, 3, draw=1))]) == {4, 5}  # some of the same
    kinds = [(kind, grade) for kind, grade, images in sane.sets(pool, 12) if len(images) == 12]
    once = [("real", 0), *((kind, grade) for kind in sane.KINDS for grade in range(1, 6))]
    assert list(dict.fromkeys(kinds)) == once
    assert len(kinds) == len(once) + 5 * (sane.DRAWS - 1)


@pytest.mark.parametrize(
    ("score", "values", "expected"),
    [
        ("kid", [0, 1, 2, 3], True),
        ("kid@lite0-57934424-bicubic224", [0, 1, 1, 3], False),
        ("recall", [0.9, 0.5, 0.4], True),
        ("diversity", [1.0, 1.2, 0.7], True),  # ever further from 1
        ("diversity", [1.0, 0.7, 1.2], False),
        ("psnr", [100, 40, None], True),
        ("psnr", [100, None, None], False),
    ],
)
def test_worse_is_worse_by_the_direction_of_the_score(score, values, expected):
    assert sane.worsens(score, values) is expected


def test_what_need_not_worsen_is_told_and_what_should_is_named():
    curves = {
        "kid": {"blur": [0, 1, 0.5, 2, 3, 4.0]},
        "precision": {"modes": [0.9] * 6, "blur": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]},
    }
    rows = sane.judged(curves)
    about = {"source": "drawn", "size": [32, 40]}
    grades = {**{key: [1, 2.5] for key in sane.KINDS}, "of modes": 10, "draws": 4}
    record = {"generated": rows, "images": [], "faces": 100, "data": about, "grades": grades}
    assert sane.failures(record) == ["kid, blur"]
    page = sane.page(record)
    assert "Unexpectedly not: kid, blur." in page
    assert "- precision, modes (does not): measures quality alone" in page
    assert "1 of 3 worsen strictly" in page
    assert "40x32" in page
    assert "1, 2.5 of 10 modes left; one of 1, 2.5 people left, means over 4 draws" in page


@pytest.mark.slow
def test_every_score_that_should_worsens_on_drawn_faces(tmp_path, monkeypatch):
    """Grades 3 and 5, 1 and 3 of modes and people, where at 5 all are repeated; small images and few patches."""
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path))
    monkeypatch.setattr(generated, "PatchSwd", partial(PatchSwd, patches=16))
    monkeypatch.setattr(sane, "PAIRED", 32)
    whole = sane.sets
    few = {"modes": (1, 3), "people": (1, 3), "real": (0,)}
    monkeypatch.setattr(sane, "sets", lambda *asked: (it for it in whole(*asked) if it[1] in few.get(it[0], (3, 5))))
    words = ["data.size=32", "data.source.count=320", "data.val_fraction=0", "data.test_fraction=0.5"]
    data = config.build(config.compose([*words, "data.batch_size=8"])["data"])
    data.prepare()
    record = sane.measured(data, 130, 0, [Features(96)])
    assert sane.failures(record) == []
    assert {metric_of(row["score"]) for row in record["images"]} >= {
        "psnr",
        "ssim",
        "mae",
        "mse",
        "ciede2000",
        "perceptual",
    }
    real = {metric_of(row["score"]): row["values"][0] for row in record["generated"] + record["images"]}
    assert (real["mae"], real["perceptual"], real["psnr"]) == (0, pytest.approx(0, abs=1e-6), 100)
    assert abs(real["kid"]) < 0.05
    assert real["diversity"] == pytest.approx(1, abs=0.1)
