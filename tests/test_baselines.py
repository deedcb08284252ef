"""Baselines against OpenCV, Pillow and hand computation; which rows a task gets."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from faceforge.data import tasks
from faceforge.evaluation import baselines
from faceforge.evaluation.baselines import Fitting, for_task


def smooth(n, channels, height, width, seed=0):
    coarse = torch.rand(n, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 2 - 1


class Faces:
    """A datamodule of tensors."""

    def __init__(self, task, faces, others=None):
        self.task, self.faces, self.counts = task, faces, {"train": len(faces)}
        self.others = faces if others is None else others
        self.channels, self.height, self.width = faces.shape[1:]

    def pairs(self, split, places):
        faces, keys = self.faces[places], torch.as_tensor(places)
        return {"input": self.task.input_for(faces, keys, "fixed"), "target": self.others[places]}


def rows(task, faces, chunk=4, code=None, **options):
    data = Faces(task, faces, **options)
    made = for_task(task, Fitting(data, 0, chunk), code)
    return {row.name: row for row in made}, task.remarks, data.pairs("train", np.arange(len(faces)))


# Which rows


@pytest.mark.parametrize(
    ("task", "channels", "names"),
    [
        (tasks.SuperResolution(2, "mean", 2), 1, ["nearest", "bilinear", "bicubic -0.75", "bicubic -0.5", "Lanczos"]),
        (tasks.Colorize(1), 3, ["mean face", "mean colour", "copy input", "linear map 3x3"]),
        (tasks.Deblur(3, 1.0, 0, False, 0), 1, ["mean face", "copy input", "linear map 3x3"]),
        (tasks.Thresholds("meant", [50, 100]), 1, ["mean face", "mean colour", "copy input", "linear map 3x3"]),
        (tasks.Canny("image", 10, 20), 3, ["mean face", "mean colour", "copy input", "linear map 3x3"]),
        (tasks.Noise("normal", 0), 3, ["mean face", "mean colour", "copy input", "linear map 3x3"]),
        (tasks.Average("all", None), 3, ["mean face", "mean colour", "copy input", "linear map 3x3"]),
        (tasks.Autoencode(), 3, ["PCA 3", "mean face"]),
    ],
)
def test_a_task_has_its_rows_and_they_fit_the_targets(task, channels, names):
    found, notes, batch = rows(task, smooth(7, channels, 12, 16), code=3)
    assert list(found)[: len(names)] == names
    if isinstance(task, tasks.SuperResolution):
        assert list(found)[-2:] == ["linear filter 7x7", "mean face"]
    for row in found.values():
        assert row.outputs(batch).shape == batch["target"].shape
        one = {name: images[:1] for name, images in batch.items()}
        assert torch.allclose(row.outputs(one), row.outputs(batch)[:1], atol=1e-5)
    said = " ".join(notes)
    assert ("optimum is the mean face;" in said) == isinstance(task, tasks.Average)
    assert ("left out" in said) == isinstance(task, tasks.Autoencode)


def test_a_network_that_takes_the_input_enlarged_has_the_same_rows():
    faces = smooth(6, 3, 12, 16)
    small, _, batch = rows(tasks.SuperResolution(2, "bicubic", 2), faces)
    large, _, enlarged = rows(tasks.SuperResolution(2, "bicubic", 1), faces)
    assert enlarged["input"].shape == faces.shape
    for name, row in small.items():
        assert torch.allclose(row.outputs(batch), large[name].outputs(enlarged), atol=1e-5), name


# How they are made


def enlarged(name, faces, factor=2):
    found, _, batch = rows(tasks.SuperResolution(factor, "mean", factor), faces)
    return found[name].outputs(batch), batch["input"]


@pytest.mark.parametrize("factor", [2, 4])
def test_nearest_repeats_pixels(factor):
    made, small = enlarged("nearest", smooth(3, 1, 8, 12), factor)
    assert torch.equal(made, small.repeat_interleave(factor, 2).repeat_interleave(factor, 3))


@pytest.mark.parametrize(("name", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic -0.75", cv2.INTER_CUBIC)])
def test_opencv_agrees(name, flag):
    made, small = enlarged(name, smooth(2, 1, 10, 14))
    for image, source in zip(made, small, strict=True):
        expected = cv2.resize(source[0].numpy(), (14, 10), interpolation=flag)
        assert image[0].numpy() == pytest.approx(expected, abs=1e-5)


def test_pillow_agrees_on_bicubic():
    made, small = enlarged("bicubic -0.5", smooth(2, 1, 10, 14))
    for image, source in zip(made, small, strict=True):
        expected = np.asarray(Image.fromarray(source[0].numpy()).resize((14, 10), Image.Resampling.BICUBIC))
        assert image[0].numpy() == pytest.approx(expected, abs=1e-5)


def test_lanczos_is_the_windowed_sinc():
    """a = 3, at the two phases of an enlargement by 2, far from the borders; each channel by itself."""
    made, small = enlarged("Lanczos", smooth(2, 3, 4, 32), factor=2)
    places = np.arange(16)
    for column in (14, 15, 16):
        distance = (column + 0.5) / 2 - 0.5 - places
        weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
        line = small.numpy() @ (weights / weights.sum())  # (2, 3, 2)
        assert made[:, :, :, column].mean(2).numpy() == pytest.approx(line.mean(2), abs=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_fitted_filter_is_the_best_linear_one_on_its_faces(factor):
    faces = smooth(40, 3, 16, 24)
    found, _, batch = rows(tasks.SuperResolution(factor, "mean", factor), faces, chunk=7)
    errors = {name: float((row.outputs(batch) - faces).square().mean()) for name, row in found.items()}
    assert min(errors, key=errors.__getitem__) == "linear filter 7x7"


def test_the_mean_face_is_the_mean_and_chunks_do_not_matter():
    faces = smooth(9, 3, 6, 8)
    for chunk in (1, 4, 9):
        found, _, batch = rows(tasks.Colorize(3), faces, chunk=chunk)
        assert torch.allclose(found["mean face"].outputs(batch)[3], faces.mean(0), atol=1e-6)


def test_mean_colour_keeps_the_luma_and_has_the_chroma_of_the_set():
    faces = smooth(9, 3, 6, 8)
    found, _, batch = rows(tasks.Colorize(1), faces)
    made = found["mean colour"].outputs(batch)
    assert torch.allclose(tasks.luma(made), tasks.luma(faces), atol=1e-5)
    chroma = made - tasks.luma(made)
    assert torch.allclose(chroma, chroma[:1, :, :1, :1].expand_as(chroma), atol=1e-5)
    expected = (faces - tasks.luma(faces)).mean((0, 2, 3))
    assert torch.allclose(chroma[0, :, 0, 0], expected, atol=1e-5)


def test_drawn_inputs_get_one_colour():
    faces = smooth(9, 3, 6, 8)
    found, _, batch = rows(tasks.Contours("meant", [100]), faces)
    assert torch.allclose(found["mean colour"].outputs(batch)[0, :, 2, 3], faces.mean((0, 2, 3)), atol=1e-5)


def test_copies_have_as_many_channels_as_the_target():
    colour, grey = smooth(4, 3, 6, 8), smooth(4, 1, 6, 8)
    found, _, batch = rows(tasks.Colorize(1), colour)
    assert torch.equal(found["copy input"].outputs(batch), tasks.luma(colour).expand(-1, 3, -1, -1))
    found, _, batch = rows(tasks.Thresholds("meant", [50, 100]), grey)
    assert torch.allclose(found["copy input"].outputs(batch), batch["input"][:, :1], atol=1e-6)


def test_the_linear_map_undoes_what_is_linear():
    faces = smooth(6, 3, 9, 11)
    turned = torch.stack([faces[:, 1] * 0.5 + 0.1, -faces[:, 0], faces[:, 2]], 1)
    found, _, batch = rows(tasks.Deblur(1, 1.0, 0, False, 0), faces, others=turned)
    assert torch.allclose(found["linear map 3x3"].outputs(batch), turned, atol=1e-4)


def test_pca_is_as_long_as_the_code_or_as_there_are_faces():
    faces = smooth(9, 1, 6, 8)
    assert "PCA 4" in rows(tasks.Autoencode(), faces, code=4)[0]
    assert "PCA 8" in rows(tasks.Autoencode(), faces, code=64)[0]
    assert "PCA 8" in rows(tasks.Autoencode(), faces)[0]


def test_fitting_takes_no_more_than_memory_allows(monkeypatch):
    data = Faces(tasks.Autoencode(), smooth(30, 1, 6, 8))
    monkeypatch.setattr(baselines, "FITTED", 12)
    fitting = Fitting(data, 0, 5)
    assert fitting.count == 12
    assert sorted(set(fitting.chosen)) == list(fitting.chosen)
    assert np.array_equal(fitting.chosen, Fitting(data, 0, 1).chosen)
    assert not np.array_equal(fitting.chosen, Fitting(data, 1, 1).chosen)
    monkeypatch.setattr(baselines, "VALUES", 48 * 7)
    assert Fitting(data, 0, 5).count == 7


# Sampling


def test_the_gaussian_has_the_spread_of_the_faces_and_a_keyed_start():
    faces = 0.3 * smooth(60, 1, 5, 7)
    data = SimpleNamespace(**vars(Faces(tasks.NoInput(), faces)), pairs=lambda split, places: {"target": faces[places]})
    mean, gaussian = baselines.samplers(Fitting(data, 0, 16), seed=0)
    assert torch.allclose(mean.sample(3)[2], faces.mean(0), atol=1e-6)
    made = gaussian.sample(4000)
    assert torch.allclose(made[:7], gaussian.sample(7), atol=1e-5)  # products of other shapes round differently
    assert torch.allclose(made.mean(0), faces.mean(0), atol=0.02)
    assert float(made.var(0).sum()) == pytest.approx(float(faces.var(0).sum()), rel=0.05)
