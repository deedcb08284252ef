import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceforge.data.sources.base import Face
from faceforge.data.splits import share_of, split_faces
from faceforge.errors import BadInput

people = st.lists(st.one_of(st.none(), st.integers(0, 40).map(str)), min_size=3, max_size=120)


def faces_of(identities):
    return [Face(f"{n}.jpg", identity) for n, identity in enumerate(identities)]


def who(face):
    return face.identity or face.id


def split_of_each(faces, **changes):
    values = {"mode": "identity", "seed": 0, "val_fraction": 0.1, "test_fraction": 0.1} | changes
    rows = split_faces(faces, **values)
    return {face.id: name for name, indices in rows.items() for face in (faces[n] for n in indices)}


@given(people, st.integers(0, 5), st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_a_partition_without_a_shared_person_and_no_part_empty(identities, seed, val_fraction, test_fraction):
    faces = faces_of(identities)
    if len({who(face) for face in faces}) < 3:
        with pytest.raises(BadInput, match="at least 3 are needed"):
            split_faces(faces, "identity", seed, val_fraction, test_fraction)
        return
    rows = split_faces(faces, "identity", seed, val_fraction, test_fraction)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(faces)))
    found = [{who(faces[n]) for n in rows[name]} for name in ("train", "val", "test")]
    assert all(found)
    assert len(set.union(*found)) == sum(map(len, found))


@given(people, st.randoms())
def test_the_order_of_the_faces_does_not_matter(identities, random):
    faces = faces_of([*identities, "x", "y", "z"])
    shuffled = list(faces)
    random.shuffle(shuffled)
    assert split_of_each(faces) == split_of_each(shuffled)


def test_adding_people_moves_nobody():
    faces = faces_of([str(n) for n in range(3000)])
    before, after = split_of_each(faces[:1500]), split_of_each(faces)
    assert all(after[face] == name for face, name in before.items())


def test_shares_are_met_and_seeds_differ():
    faces = faces_of([None] * 20_000)
    sizes = [len(rows) / 20_000 for rows in split_faces(faces, "identity", 0, 0.1, 0.2).values()]
    assert np.abs(np.array(sizes) - [0.7, 0.1, 0.2]).max() < 0.015
    assert split_of_each(faces, seed=0) != split_of_each(faces, seed=1)


@pytest.mark.parametrize(("val_fraction", "test_fraction", "parts"), [(0, 0, 1), (0.1, 0, 2), (0, 0.1, 2)])
def test_a_share_of_zero_asks_for_no_part(val_fraction, test_fraction, parts):
    faces = faces_of([None] * parts)
    rows = split_faces(faces, "identity", 0, val_fraction, test_fraction)
    assert sum(len(indices) > 0 for indices in rows.values()) == parts


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pictures_name_what_is_needed(count):
    with pytest.raises(BadInput, match=rf"data.root: {count} .*train, val, test: at least 3 are needed"):
        split_faces(faces_of([None] * count), "identity", 0, 0.1, 0.1)


def test_a_file_name_is_not_a_person():
    """A person named like a file is not that file's person."""
    faces = [Face("Ann", None), *(Face(f"{n}", "Ann") for n in range(3)), Face("p", "P"), Face("q", "Q")]
    places = split_of_each(faces, val_fraction=0.3, test_fraction=0.3)
    assert len({places[str(n)] for n in range(3)}) == 1
    assert any(split_of_each(faces, seed=s)["Ann"] != split_of_each(faces, seed=s)["0"] for s in range(20))


def test_official_is_the_sets_own_and_needs_all_of_it():
    faces = [Face(str(n), None, name) for n, name in enumerate(["test", "train", "val", "train"])]
    rows = split_faces(faces, "official", 0, 0.1, 0.1)
    assert {name: indices.tolist() for name, indices in rows.items()} == {"train": [1, 3], "val": [2], "test": [0]}
    with pytest.raises(BadInput, match=r"data.split=official: 1 of 5 images have no official split \(4\)"):
        split_faces([*faces, Face("4")], "official", 0, 0.1, 0.1)
    with pytest.raises(BadInput, match=r"leaves a split empty \(train 2, val 1, test 0\)"):
        split_faces(faces[1:], "official", 0, 0.1, 0.1)


@given(st.sets(st.text(max_size=5), min_size=1), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 3))
def test_a_smaller_fraction_is_part_of_a_larger(ids, one, other, seed):
    names = sorted(ids)
    small, large = (set(share_of(names, f, seed).tolist()) for f in sorted((one, other)))
    assert small
    assert small <= large
    assert set(share_of(names, 1.0, seed).tolist()) == set(range(len(names)))


def test_a_fraction_is_met():
    assert abs(len(share_of([str(n) for n in range(20_000)], 0.25, 0)) / 20_000 - 0.25) < 0.01
