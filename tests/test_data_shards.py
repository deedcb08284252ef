"""WebDataset shards and Hugging Face data sets, both written here by their own libraries."""

import http.server
import json
import sys
import threading
from functools import partial

import numpy as np
import pytest
from conftest import TINY
from picture_makers import encode, picture

from faceforge.data import cache, listing
from faceforge.data.framing import Recipe
from faceforge.data.sources.hub import Hub
from faceforge.data.sources.shards import Shards
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io.images import decode

wds = pytest.importorskip("webdataset")
RECIPE = Recipe("center", (8, 8), 3)


def values(n):
    return {"identity": f"p{n // 3}", "attributes": {"Smiling": n % 2, "Male": -1 if n % 3 else 1}, "width": 40 + n}


def write_shards(folder, count=20, per=7, told=values, ending="jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, per):
        with wds.TarWriter(str(folder / f"faces-{first // per:03d}.tar")) as shard:
            for n in range(first, min(first + per, count)):
                data = encode(picture(n, 30, 20), "JPEG" if ending.endswith("jpg") else "PNG")
                shard.write({"__key__": f"s{n:04d}", ending: data, "json": json.dumps(told(n)).encode()})
    return folder


def packed(make, root, place):
    found = listing.listing_of(make, str(root), str(place), progress=False)
    return found, cache.pack(found.source, RECIPE, place, found.digests, False, found.manifest)


@pytest.mark.parametrize("root", ["faces-{000..002}.tar", "faces-{000..001}.tar::faces-002.tar", ""])
def test_shards_are_read_with_people_and_labels(tmp_path, monkeypatch, root):
    monkeypatch.chdir(write_shards(tmp_path / "in"))
    source = Shards(root or str(tmp_path / "in"))
    assert [face.id for face in source.faces] == [f"s{n:04d}" for n in range(20)]
    assert [face.identity for face in source.faces] == [f"p{n // 3}" for n in range(20)]
    names, table = source.attributes()
    assert names == ["Smiling", "Male"]  # a width is no label
    assert table.tolist() == [[n % 2, 0 if n % 3 else 1] for n in range(20)]
    assert np.array_equal(source.read(8, (0, 0)), decode(encode(picture(8, 30, 20)), "8.jpg"))


def test_shards_are_packed_and_remembered_without_their_index(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)
    make = partial(Shards, cache=None)
    first, whole = packed(make, write_shards(tmp_path / "in"), tmp_path / "c")
    assert len(whole.array) == 20
    monkeypatch.setattr(Shards, "__init__", None)
    again, same = packed(make, tmp_path / "in", tmp_path / "c")
    assert (again.manifest, again.source.faces, same.folder) == (first.manifest, first.source.faces, whole.folder)
    assert np.array_equal(again.source.read(3, (0, 0)), first.source.read(3, (0, 0)))
    monkeypatch.undo()
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)
    write_shards(tmp_path / "in", count=19)
    assert len(packed(make, tmp_path / "in", tmp_path / "c")[1].array) == 19


def test_broken_pictures_and_shards_are_skipped(tmp_path):
    root = write_shards(tmp_path / "in", told=lambda n: {"name": f"face {n}"})
    whole = (root / "faces-001.tar").read_bytes()
    (root / "faces-001.tar").write_bytes(whole[: len(whole) // 2])
    with wds.TarWriter(str(root / "faces-003.tar")) as shard:
        shard.write({"__key__": "bad", "jpg": b"words", "json": b"{half"})
        shard.write({"__key__": "none", "json": b"{}"})
    (root / "faces-004.tar").write_bytes(b"no tar" * 200)
    found, result = packed(Shards, root, tmp_path / "c")
    skipped = dict(result.skipped())
    assert skipped["bad"] == "not an image (text)"
    assert "truncated or damaged shard" in skipped["faces-001.tar"]
    assert "truncated or damaged shard" in skipped["faces-004.tar"]
    assert all(face.identity is None for face in found.source.faces)
    assert len(result.array) == len(found.source.faces) - len(skipped)
    assert 13 < len(result.array) < 20


def test_one_key_in_two_shards_is_two_faces(tmp_path):
    for n in range(2):
        with wds.TarWriter(str(tmp_path / f"{n}.tar")) as shard:
            shard.write({"__key__": "same", "png": encode(picture(n), "PNG"), "cls": str(n).encode()})
    source = Shards(str(tmp_path))
    assert [face.id for face in source.faces] == ["0/same", "1/same"]
    assert source.attributes()[0] == ["cls"]
    assert not np.array_equal(source.read(0, (0, 0)), source.read(1, (0, 0)))


def test_the_ending_and_the_person_can_be_named(tmp_path):
    told = lambda n: {"who": n % 4, "identity": "x"}  # noqa: E731
    root = write_shards(tmp_path / "in", told=told, ending="face.jpg")
    source = Shards(str(root), picture="face.jpg", person="who")
    assert [face.identity for face in source.faces[:5]] == ["0", "1", "2", "3", "0"]
    with pytest.raises(BadInput, match=r"data.source.person=whom: no sample of .*in has it; must be one of who, id"):
        Shards(str(root), person="whom")
    with pytest.raises(BadInput, match=r"data.root=.*: no sample with \.body\.png in its shards"):
        Shards(str(root), picture="body.png")


def test_bad_roots_of_shards_are_one_line(tmp_path, monkeypatch):
    cases = {
        None: "data.root: must be shards",
        str(tmp_path / "no-{0..1}.tar"): r"no-0.tar: no such shard",
        str(tmp_path): "no .tar in this folder",
        "pipe:touch /tmp/x": "shards must be files, http:// or https://",
        "gs://bucket/x.tar": "shards must be files, http:// or https://",
    }
    for root, said in cases.items():
        with pytest.raises(BadInput, match=said):
            Shards(root)
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(BadInput, match=r"^data=shards needs webdataset; .* pip install -e '\.\[shards\]'$"):
        Shards(str(tmp_path))


def test_shards_of_a_server_are_downloaded_once(tmp_path):
    write_shards(tmp_path / "served")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}/faces-{{000..002}}.tar"
        whole = Shards(root, cache=str(tmp_path / "c"))
        with pytest.raises(BadInput, match=r"faces-003.tar: cannot be downloaded to .*shards \("):
            Shards(root.replace("002", "003"), cache=str(tmp_path / "c"))
        server.shutdown()
    assert Shards(root, cache=str(tmp_path / "c")).faces == whole.faces == Shards(str(tmp_path / "served")).faces


# ------------------------------------------------------------------------------------------------- data=hub


def saved(tmp_path, how):
    datasets = pytest.importorskip("datasets")

    def part(first, count):
        numbers = range(first, first + count)
        rows = {
            "photo": [{"bytes": encode(picture(n, 30, 20), "PNG"), "path": None} for n in numbers],
            "celeb_id": [n // 3 for n in numbers],
            "smiling": [n % 2 == 0 for n in numbers],
            "hair": ["dark" if n % 3 else "fair" for n in numbers],
        }
        made = datasets.Dataset.from_dict(rows).cast_column("photo", datasets.Image())
        return made.cast_column("hair", datasets.ClassLabel(names=["dark", "fair"]))

    place = tmp_path / "set"
    if how == "one":
        part(0, 12).save_to_disk(str(place))
    elif how == "splits":
        datasets.DatasetDict({"train": part(0, 9), "test": part(9, 3)}).save_to_disk(str(place))
    else:
        place.mkdir(parents=True)
        part(0, 9).to_parquet(str(place / "train-00000-of-00001.parquet"))
        part(9, 3).to_parquet(str(place / "test-00000-of-00001.parquet"))
    return place


@pytest.mark.parametrize("how", ["one", "splits", "parquet"])
def test_a_data_set_of_the_hub_is_packed_with_people_labels_and_splits(tmp_path, how, monkeypatch):
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)
    make, root = partial(Hub, picture=None, person=None, cache=str(tmp_path / "c")), saved(tmp_path, how)
    found, result = packed(make, root, tmp_path / "c")
    faces = found.source.faces
    assert len(result.array) == len(faces) == 12
    assert [face.id for face in faces] == sorted(face.id for face in faces)
    wanted = {None} if how == "one" else {"train", "test"}
    assert {face.split for face in faces} == wanted
    number = [int(face.id.rpartition("/")[2]) + (9 if face.split == "test" else 0) for face in faces]
    assert [face.identity for face in faces] == [str(n // 3) for n in number]
    names, table = found.source.attributes()
    assert names == ["smiling", "hair=dark", "hair=fair"]
    assert table.tolist() == [[n % 2 == 0, n % 3 > 0, n % 3 == 0] for n in number]
    assert np.array_equal(found.source.read(2, (0, 0)), decode(encode(picture(number[2], 30, 20), "PNG"), "x.png"))
    monkeypatch.setattr(Hub, "__init__", None)
    again, same = packed(make, root, tmp_path / "c")
    assert same.folder == result.folder
    assert np.array_equal(again.source.read(2, (0, 0)), found.source.read(2, (0, 0)))


def test_bad_data_sets_are_one_line(tmp_path, monkeypatch):
    root = saved(tmp_path, "one")
    with pytest.raises(BadInput, match=r"data.source.picture=hair: no column of pictures .* be one of \['photo'"):
        Hub(str(root), picture="hair")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"data.root=.*empty: cannot be loaded \("):
        Hub(str(tmp_path / "empty"), cache=str(tmp_path / "c"))
    with pytest.raises(BadInput, match=r"data.root: must be a data set's folder or its name on the hub"):
        Hub(None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"^data=hub needs datasets; .* pip install -e '\.\[shards\]'$"):
        Hub(str(root))


# ---------------------------------------------------------------------------------------------- `data check`


def test_check_tells_what_samples_hold_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    shards = check(write_shards(tmp_path / "shards"))
    assert shards.lines[0] == f"{tmp_path / 'shards'}: 20 images, 7 people"
    assert "layout: WebDataset shards" in shards.lines
    assert "attributes: 2, for 100% of the images" in shards.lines
    assert shards.command.endswith(f"data=shards data.root={tmp_path / 'shards'} data.batch_size=10")
    pattern = check(tmp_path / "shards" / "faces-{000..001}.tar")
    assert "'data.root=" in pattern.command
    unknown = check(write_shards(tmp_path / "unknown", told=lambda n: {}))
    assert any(line.startswith("people: unknown, so their split is by picture") for line in unknown.lines)
    for how in ("splits", "parquet"):
        found = check(saved(tmp_path / how, how))
        assert "splits: train 9, val 0, test 3" in found.lines
        assert "data=hub" in found.command


def test_a_pattern_of_shards_trains_as_it_is_typed(train_typed, tmp_path):
    root = write_shards(tmp_path / "shards", count=40)
    words = [word for word in TINY if not word.startswith("data.source")]
    words += ["data=shards", f"data.root={root}/faces-{{000..005}}.tar", f"run_dir={tmp_path / 'run'}"]
    code, _, said = train_typed(*words)
    assert code == 0, said
    record = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert (record["source"], record["split_by"], sum(record["counts"].values())) == ("shards", "person", 40)
