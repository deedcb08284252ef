"""Photographs as people have them; they are no part of the repository."""

from pathlib import Path

import pytest
from picture_makers import face_data

from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lfw import Lfw

PHOTOS = Path(__file__).parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.real_faces,
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs at ../shared/data"),
]


def test_colour_photographs_of_any_size(tmp_path):
    data = face_data(PHOTOS / "photos_color", Crops, cache=str(tmp_path), size=32, batch_size=64)
    data.prepare(progress=False)
    assert sum(data.counts.values()) == 1456
    assert data.skipped == []
    colour = data.images("val")
    assert (colour[:, 0] - colour[:, 2]).mean() > 0.02  # skin is redder than blue
    assert colour.std(dim=0).mean() > 0.2


def test_grey_faces_with_names_and_labels(tmp_path):
    labels = str(PHOTOS / "lfw_gray_labels.csv")
    data = face_data(PHOTOS / "lfw_gray", Lfw, cache=str(tmp_path), channels=1, attributes=labels)
    data.prepare(progress=False)
    assert sum(data.counts.values()) == 6000
    summary = data.summary()
    assert sum(summary["identities"].values()) == 2877
    assert summary["attributes"]["emotion=happiness"] == pytest.approx(2610 / 5982, abs=1e-4)


def test_two_sets_become_an_attribute(tmp_path):
    data = face_data(PHOTOS / "lfw_color_smile_sad", Crops, cache=str(tmp_path), crop="c150")
    data.prepare(progress=False)
    names, values = data.attributes
    assert dict(zip(names, values.sum(axis=0).tolist(), strict=True)) == {"sad": 71, "smile": 73}
