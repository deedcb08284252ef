"""What a cut remembers of photos, after orderly and disorderly ends."""

from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceforge.cut.journal import Journal
from faceforge.cut.work import Photo
from faceforge.io.manifest import Row, rounded


def make_photo(name, stamp="1:1", faces=1, **changes):
    rows = [Row("", name, 0, "none", "no face found")]
    if faces:
        rows = [rounded(Row(f"{name}-{n}.png", name, n, "accepted", "", score=0.1 * n)) for n in range(1, faces + 1)]
    return replace(Photo(name, stamp, f"{len(name):064x}", rows), **changes)


PHOTOS = [make_photo(name, f"{n}:{n}", n % 3) for n, name in enumerate(["b", "a", "sub/é", "A", "a\nb", "x\udcff.jpg"])]


def remembered(path, photos=()):
    journal = Journal(path)
    for photo in photos:
        journal.add(photo)
    return journal


def contents(path):
    """What a new process finds."""
    journal = Journal(path)
    photos = list(journal)
    journal.close()
    return photos


def test_photos_come_back_by_name(tmp_path):
    journal = remembered(tmp_path / "m", PHOTOS)
    assert len(journal) == len(PHOTOS)
    expected = sorted(PHOTOS, key=lambda photo: photo.name)
    assert list(journal) == contents(tmp_path / "m") == expected
    assert journal.photo("a\nb") == PHOTOS[4]
    assert journal.stamp("x\udcff.jpg") == "5:5"
    assert journal.stamp("nobody") is None
    with pytest.raises(KeyError):
        journal.photo("nobody")
    assert len(remembered(tmp_path / "empty")) == 0


def test_the_file_is_a_line_of_ascii_a_photo(tmp_path):
    remembered(tmp_path / "m", PHOTOS).close()
    lines = (tmp_path / "m").read_bytes().splitlines()
    assert [json.loads(line)["name"] for line in lines] == [photo.name for photo in PHOTOS]
    assert all(line.isascii() for line in lines)


def test_later_lines_win(tmp_path):
    journal = remembered(tmp_path / "m", PHOTOS)
    changed = replace(make_photo("a", "9:9", 2), sha256="f" * 64)
    journal.add(changed)
    journal.keep("b", "7:7")
    for found in (journal, Journal(tmp_path / "m")):
        assert len(found) == len(PHOTOS)
        assert found.photo("a") == changed
        assert found.stamp("a") == "9:9"
        assert found.photo("b") == replace(PHOTOS[0], stamp="7:7")
    with pytest.raises(KeyError):
        journal.keep("nobody", "1:1")


@pytest.mark.parametrize("lost", [1, 2, 30, None])
def test_a_line_cut_short_by_a_kill_is_forgotten(tmp_path, lost):
    """Also where nothing but its end is missing: the next line would otherwise stand on it."""
    path = tmp_path / "m"
    remembered(path, PHOTOS).close()
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: -(lost or last - 1)])
    assert contents(path) == sorted(PHOTOS[:-1], key=lambda photo: photo.name)
    assert path.read_bytes() == whole[:-last]
    remembered(path, [PHOTOS[-1], make_photo("new")]).close()
    assert path.read_bytes().startswith(whole)
    assert len(contents(path)) == len(PHOTOS) + 1


@pytest.mark.parametrize(
    "nonsense", [b"\0" * 50, b"\xff\xfe", b"nonsense\n", b"[1, 2]\n", b'{"name": "a"}\n', b"3\n", b"\n", b'"x"\n']
)
def test_what_is_no_photo_ends_the_memory(tmp_path, nonsense):
    path = tmp_path / "m"
    remembered(path, PHOTOS[:2]).close()
    before = path.read_bytes()
    path.write_bytes(before + nonsense + before)
    assert contents(path) == sorted(PHOTOS[:2], key=lambda photo: photo.name)
    assert path.read_bytes() == before


def test_settling_sorts_and_drops(tmp_path):
    journal = remembered(tmp_path / "m", [*PHOTOS, make_photo("a", "9:9", 2)])
    journal.settle()
    assert [json.loads(line)["name"] for line in (tmp_path / "m").read_text().splitlines()] == sorted(
        photo.name for photo in PHOTOS
    )
    assert journal.photo("a").stamp == "9:9"
    journal.add(make_photo("after", "3:3"))  # it goes on in the new file
    assert journal.photo("after").stamp == "3:3"
    assert journal.photo("sub/é") == PHOTOS[2]
    journal.close()
    assert len(contents(tmp_path / "m")) == len(PHOTOS) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@given(st.permutations(PHOTOS), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=30, deadline=None)
def test_settled_bytes_depend_on_no_order(tmp_path_factory, order, chance: random.Random, halfway):
    folder = tmp_path_factory.mktemp("journal")
    journal = remembered(folder / "expected", PHOTOS)
    journal.settle()
    journal.close()
    journal = Journal(folder / "found")
    for photo in order:
        journal.add(replace(photo, stamp="0:0", rows=[]))
    if halfway:
        journal.settle()
        journal.close()
        journal = Journal(folder / "found")
    for photo in sorted(order, key=lambda _: chance.random()):
        journal.add(photo)
    journal.settle()
    journal.settle()
    journal.close()
    assert (folder / "found").read_bytes() == (folder / "expected").read_bytes()


def test_a_settling_that_fails_loses_nothing(tmp_path, monkeypatch):
    journal = remembered(tmp_path / "m", PHOTOS)
    before = (tmp_path / "m").read_bytes()

    def full(photo):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Photo, "plain", full)
        with pytest.raises(OSError, match="no space"):
            journal.settle()
    assert (tmp_path / "m").read_bytes() == before
    assert journal.photo("b") == PHOTOS[0]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_only_names_and_places_are_held(tmp_path):
    count, path = 300, tmp_path / "m"
    row = make_photo("x", faces=1).rows[0]
    remembered(path, (Photo(f"{n:06d}.jpg", "1:1", "0" * 64, [row] * 20) for n in range(count))).close()
    tracemalloc.start()
    journal = Journal(path)
    held = tracemalloc.get_traced_memory()[0]
    for _ in journal:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held / count < 400
    assert peak - held < 2**18
    assert path.stat().st_size / count > 4 * 400
