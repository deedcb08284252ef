"""Features of real faces are kept, and never taken for those of other faces or another extractor."""

import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from faceforge import config
from faceforge.evaluation import judged as chosen
from faceforge.evaluation.generated import Reals
from faceforge.evaluation.real_features import FOLDER, KEPT, RealFeatures
from faceforge.metrics.features import Extractor
from faceforge.metrics.features.squeezenet import SqueezeNetFeatures


class Means(Extractor):
    """Means of colours; counts the images that it was given."""

    name, width, network_name, resize, seen, weights_sha256 = "means", 3, "means", "own", "bytes", "0" * 64

    def __init__(self, weights_sha256="0" * 64, resize="own"):
        super().__init__()
        self.weights_sha256, self.resize, self.given = weights_sha256, resize, 0

    def _make(self):
        return torch.nn.Identity()

    def _features(self, network, images):
        self.given += len(images)
        return network(images).mean((2, 3)).expand(-1, 3)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    return made()


def made(*more):
    found = config.build(config.compose([*TINY, "data.source.count=90", *more])["data"])
    found.prepare(progress=False)
    return found


def reals(judged, extractor):
    return Reals(judged, [extractor], torch.device("cpu"), 0, lambda count: None)


def test_a_second_call_reads_what_the_first_computed(data):
    judged, extractor = chosen.all_faces(data, "test"), Means()
    ticks = []
    first = Reals(judged, [extractor], torch.device("cpu"), 0, ticks.append)
    assert extractor.given == len(judged.places) == sum(ticks)
    again = Reals(judged, [extractor], torch.device("cpu"), 0, ticks.append)
    assert extractor.given == len(judged.places) == sum(ticks) / 2
    assert torch.equal(first.features[extractor.key], again.features[extractor.key])
    (file,) = (data.packed_folder / FOLDER).iterdir()
    assert file.name.startswith("means-00000000-own-")


def test_whatever_differs_is_computed_anew(data):
    judged = chosen.all_faces(data, "test")
    reals(judged, Means())
    train = chosen.all_faces(data, "train")
    others = {
        "split": (train, Means()),
        "count": (judged.some(8, 0), Means()),
        "seed": (judged.some(8, 1), Means()),
        "order": (replace(judged, places=judged.places[::-1].copy()), Means()),
        "weights": (judged, Means("1" * 64)),
        "resize": (judged, Means(resize="half")),
        "size": (chosen.all_faces(made("data.size=24"), "test"), Means()),
        "source": (chosen.all_faces(made("data.source.seed=5"), "test"), Means()),
    }
    for what, (faces, extractor) in others.items():
        reals(faces, extractor)
        assert extractor.given == len(faces.places), what
    for what, (faces, extractor) in others.items():
        extractor.given = 0
        reals(faces, extractor)
        assert extractor.given == 0, what


def test_other_pixels_under_the_same_name_are_noticed(data):
    """As after a change of the packed file itself."""
    judged, extractor = chosen.all_faces(data, "test"), Means()
    images = data.images("test", judged.places)
    kept = RealFeatures(judged, images, extractor, "cpu")
    kept.write(extractor(images))
    assert kept.read() is not None
    assert RealFeatures(judged, images.flip(-1), extractor, "cpu").read() is None
    assert RealFeatures(judged, images, extractor, "cuda").read() is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other values"])
def test_a_damaged_file_is_replaced(data, damage):
    judged, extractor = chosen.all_faces(data, "test"), Means()
    right = reals(judged, extractor).features[extractor.key]
    (file,) = (data.packed_folder / FOLDER).iterdir()
    whole = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(whole[:-5])
    elif damage == "emptied":
        file.write_bytes(b"")
    elif damage == "flipped":
        whole[-3] ^= 64
        file.write_bytes(whole)
    else:
        other = RealFeatures(judged, data.images("test", judged.places), extractor, "cpu")
        other.write(torch.zeros(3, 3))
    extractor.given = 0
    assert torch.equal(reals(judged, extractor).features[extractor.key], right)
    assert extractor.given == len(judged.places)
    assert torch.equal(reals(judged, extractor).features[extractor.key], right)
    assert extractor.given == len(judged.places)
    assert len(list((data.packed_folder / FOLDER).iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(data, monkeypatch):
    judged, extractor = chosen.all_faces(data, "test"), Means()
    folder = data.packed_folder
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):  # root may write anywhere, so the system's answer is simulated
            monkeypatch.setattr("faceforge.io.files.Path.mkdir", refuse)
        first, second = reals(judged, extractor), reals(judged, extractor)
    finally:
        folder.chmod(mode)
    assert extractor.given == 2 * len(judged.places)
    assert torch.equal(first.features[extractor.key], second.features[extractor.key])


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_the_oldest_files_go(data):
    judged = chosen.all_faces(data, "test")
    images = data.images("test", judged.places)
    for n in range(KEPT + 3):
        extractor = Means(f"{n:064x}")
        RealFeatures(judged, images, extractor, "cpu").write(extractor(images))
    assert len(list((data.packed_folder / FOLDER).iterdir())) == KEPT
    assert RealFeatures(judged, images, extractor, "cpu").read() is not None


def test_scores_from_kept_features_are_the_same_bits(data):
    judged, extractor = chosen.all_faces(data, "test").some(12, 0), SqueezeNetFeatures(size=32)
    fakes = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (12, data.channels, data.height, data.width)))
    rows = [reals(judged, extractor).row("model", "model", fakes.float()) for _ in range(2)]
    assert rows[0] == rows[1]
    assert f"fid@{extractor.key}" in rows[0]["scores"]
