"""Faces of one person: how they are grouped, what is described when, what a kill leaves, what the network tells."""

import base64
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REAL_FACES, ROOT
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from test_cut_job import cut_haar, edit, photo, rows, save, tree

from faceforge.cut import identity_clusters, near_duplicates, work
from faceforge.cut.frame import HAAR_CENTRE, HAAR_WIDTH
from faceforge.cut.identity_clusters import MAX_DISTANCE, MAX_DISTANCE_OF_MEANS, UNIT, groups, joined, look_alikes
from faceforge.cut.work import Job, Settings
from faceforge.data.sources.crops import Crops
from faceforge.errors import BadInput
from faceforge.io.archives import Folder
from faceforge.io.manifest import Row

# --------------------------------------------------------------------------------------------------------- grouping


def partition(first):
    return {frozenset(np.flatnonzero(first == leader).tolist()) for leader in set(first.tolist())}


def in_units(values):
    return np.rint(np.asarray(values) * UNIT).astype(np.int16)


@pytest.fixture
def no_look_alikes(monkeypatch):
    monkeypatch.setattr(identity_clusters, "LOOKALIKE_BIAS", -9.0)


def people_of(count, faces, seed):
    """Descriptions of people with some faces each, shuffled, some of them twice."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(count, 128)) * 0.08, faces, axis=0)
    spread = rng.gamma(4, 0.008, size=(len(centres), 1))
    found = rng.permutation(centres + rng.normal(size=centres.shape) * spread)
    found[: len(found) // 10] = found[len(found) // 10 : 2 * (len(found) // 10)]
    return in_units(found)


@pytest.mark.parametrize("same", [0.1, 0.2, 0.36, 0.8, 9.0])
@pytest.mark.parametrize(("count", "faces"), [(60, 5), (200, 1), (1, 230), (7, 23)])
def test_faces_are_joined_as_average_linkage_does(count, faces, same):
    found = people_of(count, faces, seed=faces)
    extra = np.random.default_rng(3).uniform(0, 0.05, len(found)) * UNIT**2
    distances = pdist(found.astype(float), "sqeuclidean")
    a, b = np.triu_indices(len(found), 1)
    expected = fcluster(linkage(distances + extra[a] + extra[b], "average"), same * UNIT**2, "distance")
    assert partition(joined(found, extra, same)) == partition(expected)


def test_look_alikes_in_a_row_are_no_chain(no_look_alikes):
    """0, s, 2s, 3s for s just below the limit: squares between the pairs average (4 + 9 + 1 + 4)/4 s^2."""
    row = np.zeros((4, 128))
    row[:, 5] = np.arange(4) * 0.97 * MAX_DISTANCE**0.5
    assert groups(in_units(row)).tolist() == [0, 0, 2, 2]


def test_equal_descriptions_and_few_of_them():
    assert groups(np.zeros((0, 128), np.int16)).tolist() == []
    assert groups(np.zeros((1, 128), np.int16)).tolist() == [0]
    assert groups(np.full((9, 128), 37, np.int16)).tolist() == [0] * 9


@pytest.mark.parametrize(("size", "apart", "count"), [(3, 0.9, 1), (3, 1.1, 2), (2, 0.95, 2)])
def test_groups_of_several_faces_join_by_their_means(size, apart, count, no_look_alikes):
    """Faces of a group lie at right angles, 0.9 MAX_DISTANCE from each other; two groups are more apart than that."""
    found = np.zeros((2 * size, 128))
    for n in range(2 * size):
        found[n, n] = (0.9 * MAX_DISTANCE / 2) ** 0.5
    found[size:, 100] = (apart * MAX_DISTANCE_OF_MEANS - 2 * (0.9 * MAX_DISTANCE / 2) / size) ** 0.5
    between = pdist(found, "sqeuclidean").max()
    assert between > MAX_DISTANCE
    assert len(partition(groups(in_units(found)))) == count


def test_where_strangers_come_near_faces_must_be_nearer():
    """Two faces 0.8 MAX_DISTANCE apart, moved along LOOKALIKE_WEIGHTS: joined on one side, apart on the other."""
    lean = np.frombuffer(base64.b64decode(identity_clusters.LOOKALIKE_WEIGHTS), np.int8) / 2048
    across = np.eye(128)[0] - lean[0] * lean / (lean @ lean)
    pair = np.array([0.0, 1.0])[:, None] * across * (0.8 * MAX_DISTANCE) ** 0.5 / np.linalg.norm(across)
    for extra, count in ((-0.05, 1), (0.02, 2)):
        moved = in_units(pair + lean * (identity_clusters.LOOKALIKE_BIAS - extra) / (lean @ lean))
        assert look_alikes(moved) == pytest.approx(max(extra, 0.0) * UNIT**2, abs=0.002 * UNIT**2)
        assert len(partition(groups(moved))) == count


def test_the_order_of_faces_changes_no_group(no_look_alikes):
    found = np.unique(people_of(40, 6, seed=1), axis=0)
    order = np.random.default_rng(2).permutation(len(found))
    again = {frozenset(order[sorted(group)].tolist()) for group in partition(groups(found[order]))}
    assert again == partition(groups(found))


# --------------------------------------------------------------------------------------- whole cuts, a network played

ALBUM = {"a1": 1, "a2": 1, "a3": 1, "b1": 2, "b2": 2, "c1": 5, "d1": 7}  # photo: whose drawn face it shows
PERSON = {
    **dict.fromkeys(("a1.png-1.png", "a2.png-1.png", "a3.png-1.png"), "a1.png-1.png"),
    **dict.fromkeys(("b1.png-1.png", "b2.png-1.png"), "b1.png-1.png"),
    "c1.png-1.png": "",
    "d1.png-1.png": "",
}


class Played:
    """Stands for the network: 128 grey values of the crop; counts its work."""

    def __init__(self):
        self.count = 0

    def __call__(self, pixels, at):
        self.count += 1
        assert pixels.shape == (80, 60, 3)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(float)
        return 0.2 * (cv2.resize(grey, (8, 16), interpolation=cv2.INTER_AREA).ravel() - 128) / grey.std()


def play(monkeypatch):
    network = Played()
    monkeypatch.setattr(identity_clusters, "_weights", lambda where: {})
    monkeypatch.setattr(identity_clusters, "_network", lambda: network)
    monkeypatch.setattr(identity_clusters, "MIN_SIDE", 20)
    monkeypatch.setattr(near_duplicates, "MAX_LEVELS", -1)  # no near duplicates, which would be doubtful
    return network


def make_album(folder):
    for n, (name, face) in enumerate(ALBUM.items()):
        save(folder, f"{name}.png", photo(face, seed=40 * n, canvas=(200 + 6 * n, 220), at=(60 + 2 * n, 45)))
    return folder


@pytest.fixture
def played(monkeypatch):
    return play(monkeypatch)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    return make_album(tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="module")
def first(album, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        play(patched)
        return cut_haar(album, tmp_path_factory.mktemp("first") / "faces", tell_people=True)


@pytest.fixture
def cut_album(first, played, tmp_path):
    """A copy, for tests that change things."""
    return Path(shutil.copytree(first, tmp_path / "faces"))


def told(folder):
    return {face: row.person for face, row in rows(folder).items() if row.n}


def file(folder):
    return folder / "_review" / "people.jsonl"


def test_the_manifest_names_the_first_face_of_each_person(cut_album):
    assert told(cut_album) == PERSON
    named = {face.id: face.identity for face in Crops(str(cut_album)).faces}
    assert named["b1.png-1.png"] == named["b2.png-1.png"] == "b1.png-1.png"
    assert "Repeated people" in (cut_album / "_review" / "index.html").read_text()


def test_a_second_time_describes_nothing_and_changes_nothing(played, cut_album, album):
    before = tree(cut_album)
    cut_haar(album, cut_album, tell_people=True)
    assert tree(cut_album) == before
    cut_haar(album, cut_album)  # people are told apart as long as their descriptions are kept
    assert tree(cut_album) == before
    assert played.count == 0


def test_without_its_file_people_are_forgotten(played, cut_album, album, tmp_path):
    file(cut_album).unlink()
    cut_haar(album, cut_album)
    assert set(told(cut_album).values()) == {""}
    assert tree(cut_album) == tree(cut_haar(album, tmp_path / "never"))
    assert played.count == 0


def test_people_may_be_told_apart_later(played, cut_album, album, tmp_path):
    later = cut_haar(album, tmp_path / "later")
    assert not file(later).exists()
    assert tree(cut_haar(album, later, tell_people=True)) == tree(cut_album)


@pytest.mark.parametrize("kept", [0, 1, 300, 1500, -1])
def test_what_was_described_before_a_kill_is_used(kept, played, cut_album, album):
    """Appended in any order, cut short anywhere, followed by rubbish: the same bytes, and only what is missing."""
    before, whole = tree(cut_album), file(cut_album).read_bytes()
    lines = whole.splitlines(keepends=True)[::-1]
    file(cut_album).write_bytes(b"".join(lines)[:kept])
    there = b"".join(lines)[:kept].count(b"\n")
    cut_haar(album, cut_album, tell_people=True)
    assert tree(cut_album) == before
    assert played.count == len(ALBUM) - there


@pytest.mark.parametrize(
    "rubbish", [b"\xff\x00\n", b"[]\n", b"null\n", b'["a1.png-1.png", "k", "AAAA"]\n', b'{"a": 1}\n']
)
def test_rubbish_in_the_file_is_described_anew(rubbish, played, cut_album, album):
    before = tree(cut_album)
    file(cut_album).write_bytes(rubbish + file(cut_album).read_bytes())
    cut_haar(album, cut_album)
    assert tree(cut_album) == before


def test_only_new_and_changed_photos_are_described(played, tmp_path):
    album = make_album(tmp_path / "in")
    target = cut_haar(album, tmp_path / "out", tell_people=True)
    assert played.count == len(ALBUM)
    save(album, "b0.png", photo(2, seed=500, canvas=(240, 230)))
    shutil.copy(album / "d1.png", album / "c1.png")
    cut_haar(album, target)
    assert played.count == len(ALBUM) + 2
    assert told(target)["b2.png-1.png"] == told(target)["b0.png-1.png"] == "b0.png-1.png"
    assert told(target)["c1.png-1.png"] == told(target)["d1.png-1.png"] == "c1.png-1.png"
    assert file(target).read_bytes() == file(cut_haar(album, tmp_path / "new", tell_people=True)).read_bytes()


def test_edits_win_and_rejected_faces_are_forgotten(played, cut_album, album):
    edit(cut_album, "a1.png-1.png", verdict="rejected")
    edit(cut_album, "c1.png-1.png", person="Clara")
    edit(cut_album, "b2.png-1.png", person="")
    cut_haar(album, cut_album)
    expected = {**PERSON, "a1.png-1.png": "", "c1.png-1.png": "Clara", "b2.png-1.png": ""}
    expected |= dict.fromkeys(("a2.png-1.png", "a3.png-1.png"), "a2.png-1.png")
    assert told(cut_album) == expected
    assert "a1.png" not in file(cut_album).read_text()


def test_another_frame_is_described_anew(played, cut_album, album):
    row = rows(cut_album)["d1.png-1.png"]
    edit(cut_album, "d1.png-1.png", frame_x=row.frame_x + 3)
    cut_haar(album, cut_album)
    assert played.count == 1


def test_a_crop_that_vanishes_is_one_line(played, album, tmp_path, monkeypatch):
    def gone(job, faces):
        faces[0].crop.unlink()
        return describe(job, faces)

    describe = identity_clusters.describe
    monkeypatch.setattr(identity_clusters, "describe", gone)
    with pytest.raises(BadInput, match=r"a1\.png-1\.png: can no longer be read .*run the same command again"):
        cut_haar(album, tmp_path / "out", tell_people=True)
    monkeypatch.undo()


SLOW = """
import time
from faceforge.cut import identity_clusters, near_duplicates
from faceforge.io import engines
from test_cut_people import Played, cut_haar
played = Played()
identity_clusters._weights, identity_clusters.MIN_SIDE, near_duplicates.MAX_LEVELS = lambda where: {{}}, 20, -1
identity_clusters._network = lambda: lambda pixels, at: (time.sleep(0.1), played(pixels, at))[1]
engines.CHUNK = 1
cut_haar({source!r}, {target!r}, tell_people=True)
"""


@pytest.mark.parametrize("lines", [3, pytest.param(0, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_killed_while_describing_ends_in_the_same_bytes(lines, played, cut_album, album, tmp_path):
    target = tmp_path / "killed"
    script = SLOW.format(source=str(album), target=str(target))
    places = [*map(str, (ROOT / "tests", ROOT)), os.environ.get("PYTHONPATH", "")]
    environment, null = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}, subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=null, stderr=null)
    while process.poll() is None and not (file(target).exists() and file(target).read_bytes().count(b"\n") >= lines):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (target / "manifest.csv").exists()
    cut_haar(album, target)
    assert tree(target) == tree(cut_album)
    assert played.count <= len(ALBUM) - lines


# ------------------------------------------------------------------------------------------------- what is described


def job_of(tmp_path, size=(80, 60)):
    return Job(Folder(tmp_path), tmp_path, Settings(*size, "haar", False, 1.0, 20), None, None)


def row_of(**given):
    box = {"box_x": 100.0, "box_y": 100.0, "box_w": 100.0, "box_h": 100.0}
    frame = {"frame_x": 150.0, "frame_y": 150.0, "frame_w": 150.0, "frame_h": 200.0, "frame_angle": 0.0}
    more = {"sharpness": 50.0, "scale": 1.0, "source_sha256": "0" * 64}
    return Row("p.png-1.png", "p.png", 1, "accepted", "", **{**box, **frame, **more, **given})


@pytest.mark.parametrize(
    "given",
    [
        {"verdict": "rejected"},
        {"verdict": "none", "n": 0},
        {"box_h": identity_clusters.MIN_SIDE - 1},
        {"scale": (identity_clusters.MIN_SIDE - 1) / 100},
        {"sharpness": identity_clusters.MIN_SHARPNESS - 0.1},
        {"sharpness": None},
    ],
)
def test_faces_that_tell_too_little_are_left_alone(given, tmp_path):
    row = row_of()
    assert identity_clusters._face(job_of(tmp_path), row)
    for name, value in given.items():
        setattr(row, name, value)
    assert identity_clusters._face(job_of(tmp_path), row) is None


@pytest.mark.parametrize("angle", [0.0, 30.0, -71.0])
def test_the_place_in_a_crop_is_where_the_face_lies(angle):
    """A red spot in the middle of the box is in the crop where _place says."""
    pixels = np.zeros((400, 400, 3), np.uint8)
    row = row_of(box_x=100.5, box_y=100.5, frame_x=190.0, frame_y=210.0, frame_angle=angle)
    cv2.circle(pixels, (150, 150), 6, (255, 0, 0), -1)
    crop = work.cut_row(row, pixels, Settings(240, 180, "haar", False, 1.0, 20)).astype(float)[..., 0]
    x, y, width = identity_clusters._place(row, (240, 180))
    down, across = np.indices(crop.shape)
    spot = (crop * across).sum() / crop.sum() + 0.5, (crop * down).sum() / crop.sum() + 0.5
    assert (x, y) == pytest.approx(spot, abs=0.1)
    assert width == pytest.approx(100 * 240 / 200)


def test_landmarks_count_more_than_the_box():
    """The Haar box as frame.py foretells it: eyes at 90, mouth at 130."""
    points = ((130, 90), (170, 90), (150, 110), (135, 130), (165, 130))
    named = zip(identity_clusters.LANDMARK_NAMES, points, strict=True)
    given = {f"{name}_{axis}": float(v) for name, point in named for axis, v in zip("xy", point, strict=True)}
    place = identity_clusters._place(row_of(**given), (200, 150))
    assert place == pytest.approx((75, 90 + HAAR_CENTRE * 40 - 50, HAAR_WIDTH * 40), abs=0.02)


def test_the_key_changes_with_whatever_decides_the_crop(tmp_path):
    changes = [
        {},
        {"source_sha256": "1" * 64},
        {"frame_x": 151.0},
        {"frame_angle": 1.0},
        {"quarter": 1},
        {"box_x": 99.0},
    ]
    keys = [identity_clusters._face(job_of(tmp_path), row_of(**given)).key for given in changes]
    keys.append(identity_clusters._face(job_of(tmp_path, (160, 120)), row_of()).key)
    assert len(set(keys)) == len(keys)
    assert (
        identity_clusters._face(job_of(tmp_path), replace(row_of(sharpness=60.0, person="x"), verdict="doubtful")).key
        == keys[0]
    )


# ------------------------------------------------------------------------------------------------ packages and weights


def test_without_the_packages_it_is_one_line_before_any_work(album, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "_dlib_pybind11", None)
    with pytest.raises(BadInput, match=r"^--people: not installed; .* pip install -e '\.\[people\]'$"):
        cut_haar(album, tmp_path / "out", tell_people=True)
    assert not (tmp_path / "out").exists()


def test_without_the_packages_a_folder_of_people_says_how_to_forget_them(cut_album, album, monkeypatch):
    before = tree(cut_album)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "_dlib_pybind11", None)
    with pytest.raises(BadInput, match=r"_review/people\.jsonl: .* remove this file to stop; --people: not installed"):
        cut_haar(album, cut_album)
    assert tree(cut_album) == before


def test_other_weights_are_refused(album, tmp_path, monkeypatch):
    (tmp_path / identity_clusters.NETWORK).write_bytes(b"other weights")
    monkeypatch.setattr(
        identity_clusters, "_weights", lambda where: {identity_clusters.NETWORK: tmp_path / identity_clusters.NETWORK}
    )
    with pytest.raises(BadInput, match=r"^--people: .*model_v1\.dat does not have the known SHA-256; pip install"):
        cut_haar(album, tmp_path / "out", tell_people=True)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------- the network itself


@pytest.fixture
def network():
    identity_clusters._network.cache_clear()
    return identity_clusters._network()


def test_a_turned_crop_is_described_alike(network):
    """The same drawn face cut straight and by a frame turned by 20 degrees, and another face."""
    found = []
    for face, angle in ((1, 0.0), (1, 20.0), (5, 0.0)):
        pixels = np.array(photo(face, side=220, canvas=(500, 500), at=(140, 140)))
        frame = {"frame_x": 250.0, "frame_y": 250.0, "frame_w": 280.0, "frame_h": 300.0, "frame_angle": angle}
        row = row_of(box_x=150.0, box_y=150.0, box_w=200.0, box_h=200.0, **frame)
        crop = work.cut_row(row, pixels, Settings(300, 280, "haar", False, 1.0, 20))
        numbers = np.asarray(network(crop, identity_clusters._place(row, (300, 280))))
        found.append(numbers / np.linalg.norm(numbers))
    straight, turned, other = found
    assert ((straight - turned) ** 2).sum() < 0.5 * ((straight - other) ** 2).sum()


def test_processes_describe_the_same_bytes(network, album, tmp_path, monkeypatch):
    one = cut_haar(album, tmp_path / "one", tell_people=True)
    monkeypatch.setattr("faceforge.io.engines.CHUNK", 2)
    two = cut_haar(album, tmp_path / "two", tell_people=True, processes=2)
    assert tree(one) == tree(two)
    assert len(file(one).read_bytes().splitlines()) >= 3


@pytest.mark.slow
@pytest.mark.real_faces
@pytest.mark.skipif(not REAL_FACES.is_dir(), reason="no photographs at ../shared/data")
def test_faces_with_known_names(network, tmp_path, monkeypatch):
    """Twelve people with six photos each: whom the manifest calls one person is one, and most of them are found."""
    monkeypatch.setenv("FACEFORGE_WEIGHTS", str(REAL_FACES.parent / "models"))
    folders = [path for path in sorted((REAL_FACES / "lfw_gray").iterdir()) if len(list(path.iterdir())) >= 6][:12]
    for folder in folders:
        for path in sorted(folder.iterdir())[:6]:
            save(tmp_path / "in", f"{folder.name}/{path.name}", Image.open(path))
    target = cut_haar(tmp_path / "in", tmp_path / "out", detector="yunet", size="360", min_face=40, tell_people=True)
    named = {face: person for face, person in told(target).items() if person}
    assert len(told(target)) == 72
    assert all(face.split("/")[0] == person.split("/")[0] for face, person in named.items())
    assert len(named) > 30
    assert len({person.split("/")[0] for person in named.values()}) >= 10
