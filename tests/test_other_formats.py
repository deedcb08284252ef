"""Sets that were made for other programs: arrays of NumPy, LMDB, and the tables of StyleGAN2-ADA and Hugging Face."""

import json
import pickle
import shlex
import sys

import lmdb
import numpy as np
import pytest
from conftest import TINY
from picture_makers import encode, face_data, picture, put, put_zip

from faceforge.data.sources.arrays import Arrays
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lmdb import Lmdb
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io.images import decode

COUNT = 12
PIXELS = np.stack([picture(n, 10, 8) for n in range(COUNT)])
GREY = PIXELS[..., 0]
FORMS = {  # how images are stored, and what is read
    "uint8": (PIXELS, PIXELS),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), PIXELS),
    "one channel last": (GREY[..., None], GREY),
    "one channel first": (GREY[:, None], GREY),
    "grey": (GREY, GREY),
    "int64": (PIXELS.astype(np.int64), PIXELS),
    "floats of 0 to 255": (PIXELS.astype(np.float32), PIXELS),
    "floats of 0 to 1": (PIXELS.astype(np.float32) / 255, PIXELS),
    "floats of -1 to 1": (PIXELS.astype(np.float64).transpose(0, 3, 1, 2) / 127.5 - 1, PIXELS),
    "half": ((PIXELS / 255).astype(np.float16), PIXELS),
}


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_array_is_the_same_pictures(tmp_path, form, ending):
    stored, right = FORMS[form]
    path = tmp_path / f"faces.{ending}"
    np.save(path, stored) if ending == "npy" else np.savez_compressed(path, x=stored)
    source = Arrays(str(path))
    again = pickle.loads(pickle.dumps(source))
    assert len(source.faces) == COUNT
    for n in (0, COUNT - 1):
        assert np.array_equal(source.read(n, (0, 0)), right[n])
        assert np.array_equal(again.read(n, (0, 0)), right[n])
        assert again.digest(n) == source.digest(n)
    assert len({source.digest(n) for n in range(COUNT)}) == COUNT


def test_transparency_lies_on_white(tmp_path):
    np.save(tmp_path / "a.npy", np.concatenate([PIXELS, np.zeros_like(PIXELS[..., :1])], 3))
    assert Arrays(str(tmp_path / "a.npy")).read(0, (0, 0)).min() == 255


def test_arrays_beside_the_images_are_people_and_labels(tmp_path):
    rest = {
        "identity": np.array([f"p{n // 3}" for n in range(COUNT)]),
        "Smiling": np.arange(COUNT) % 2,
        "glasses": np.arange(COUNT) % 3 == 0,
        "mood": np.arange(COUNT) % 4,
        "flags": np.stack([np.arange(COUNT) % 2, np.zeros(COUNT)], 1),
        "landmarks": np.random.default_rng(0).normal(size=(COUNT, 10)),
        "mean": PIXELS.mean(0),
        "dates": np.arange(5),
    }
    np.savez(tmp_path / "a.npz", images=PIXELS, **rest)
    source = Arrays(str(tmp_path / "a.npz"))
    assert [face.identity for face in source.faces] == rest["identity"].tolist()
    names, values = source.attributes()
    wanted = ["Smiling", "glasses", *(f"mood=class {n}" for n in range(4)), "flags_0", "flags_1"]
    assert names == wanted
    assert values[:, 0].tolist() == rest["Smiling"].tolist()
    assert values[:, 1].tolist() == rest["glasses"].tolist()
    assert values[:, 2:6].argmax(1).tolist() == rest["mood"].tolist()


@pytest.mark.parametrize(
    ("arrays", "given", "reason"),
    [
        ({"a": PIXELS, "b": PIXELS}, {}, "2 arrays of images among a uint8[12, 10, 8, 3]"),
        ({"a": np.arange(3)}, {}, "0 arrays of images among a int64[3]; must have (N, H, W)"),
        ({"a": PIXELS}, {"images": "b"}, "data.source.images=b: no images in "),
        ({"a": PIXELS.astype(float) * 300}, {}, "must be 0 to 255, or in [0, 1] or [-1, 1]"),
        ({"a": PIXELS}, {"person": "who"}, "data.source.person=who: no sample of "),
        ({"a": np.array([PIXELS, None], dtype=object)}, {}, "no .npy or .npz that can be read"),
    ],
)
def test_arrays_that_cannot_be_are_one_line(tmp_path, arrays, given, reason):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput) as caught:
        Arrays(str(tmp_path / "a.npz"), **given)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK\3\4 cut off", b"\x93NUMPY\1\0v\0{'descr'"])
def test_what_is_no_array_is_one_line(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BadInput, match=r"no .npy or .npz that can be read"):
        Arrays(str(tmp_path / "a.npz"))
    with pytest.raises(BadInput, match=r"must be a .npy or .npz"):
        Arrays(None)


# --------------------------------------------------------------------------------------------------------------- LMDB


def write_lmdb(path, values, subdir=True):
    with lmdb.open(str(path), map_size=2**24, subdir=subdir) as opened, opened.begin(write=True) as entries:
        for key, value in values.items():
            entries.put(key.encode(), value)
    return path


CODED = [encode(picture(n, 10, 8), "PNG") for n in range(COUNT)]
KEYS = {
    "LSUN": {f"{n:040x}": data for n, data in enumerate(CODED)},
    "StyleGAN2-pytorch": {
        "length": b"12",
        **{f"256-{n:05d}": data for n, data in enumerate(CODED)},
        **{f"8-{n:05d}": encode(picture(n, 8, 8)) for n in range(COUNT)},
    },
    "BasicSR": {f"{n:05d}.png": data for n, data in enumerate(CODED)},
}


@pytest.mark.parametrize("subdir", [True, False])
@pytest.mark.parametrize("kind", KEYS)
def test_the_images_of_a_database_are_its_faces(tmp_path, kind, subdir):
    source = Lmdb(str(write_lmdb(tmp_path / "faces.lmdb", KEYS[kind], subdir)))
    assert len(source.faces) == COUNT
    assert sorted(source.names) == sorted(key for key in KEYS[kind] if KEYS[kind][key] in CODED)
    for n, name in enumerate(source.names):
        assert np.array_equal(source.read(n, (0, 0)), decode(KEYS[kind][name]))
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(3, (0, 0)), source.read(3, (0, 0)))


def test_a_database_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    write_lmdb(tmp_path / "none.lmdb", {"length": b"3"})
    put({"data.mdb": b"no database" * 1000}, tmp_path / "broken")
    wrong = {
        tmp_path / "none.lmdb": "no value of this LMDB is an image",
        tmp_path / "broken": "an LMDB that cannot be read",
        tmp_path: "no LMDB; must be a folder with data.mdb",
        None: "data.root: must be the folder of an LMDB",
    }
    for root, reason in wrong.items():
        with pytest.raises(BadInput, match=reason) as caught:
            Lmdb(root and str(root))
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(BadInput, match=r"data=lmdb needs lmdb; .*lmdb"):
        Lmdb(str(write_elsewhere(tmp_path)))


def write_elsewhere(tmp_path):
    put({"data.mdb": b"x"}, tmp_path / "another")
    return tmp_path / "another"


# ------------------------------------------------------------------------------------------------------- tables beside


def stylegan(labels):
    return {
        **{f"{n // 8:05d}/img{n:08d}.png": CODED[n] for n in range(COUNT)},
        "dataset.json": json.dumps({"labels": labels}).encode(),
    }


NAMES = [f"{n // 8:05d}/img{n:08d}.png" for n in range(COUNT)]


@pytest.mark.parametrize("pack", [put, put_zip])
def test_a_dataset_json_gives_labels(pack, tmp_path):
    labels = [[name, n % 3] for n, name in enumerate(NAMES) if n]
    root = pack(stylegan(labels), tmp_path / ("set.zip" if pack is put_zip else "set"))
    source = Crops(str(root), cache=str(tmp_path / "cache"))
    names, values = source.attributes()
    assert names == ["label=0", "label=1", "label=2"]
    assert np.isnan(values[0]).all()
    assert values[1:].argmax(1).tolist() == [n % 3 for n in range(1, COUNT)]
    assert source.told == [f"{root}/dataset.json: 11 of 12 images have labels"]
    assert all(face.identity is None for face in source.faces)
    assert any(line.startswith(f"table: {root}/dataset.json: 11 of 12") for line in check(root).lines)


def test_labels_of_several_numbers_and_none_and_another_json(tmp_path):
    some = [[name, [n % 2, 0.5]] for n, name in enumerate(NAMES)]
    names, values = Crops(str(put(stylegan(some), tmp_path / "a"))).attributes()
    assert (names, values[:3].tolist()) == (["label_0", "label_1"], [[0, 0.5], [1, 0.5], [0, 0.5]])
    assert Crops(str(put(stylegan(None), tmp_path / "b"))).attributes() is None
    other = {**stylegan([]), "dataset.json": b"[1, 2]"}
    assert Crops(str(put(other, tmp_path / "c"))).attributes() is None
    uneven = [[name, [0] * (1 + n % 2)] for n, name in enumerate(NAMES)]
    with pytest.raises(BadInput, match=r"dataset.json: labels of several lengths"):
        Crops(str(put(stylegan(uneven), tmp_path / "d")))


# --------------------------------------------------------------------------------------------------------- data check


def hugging_face(folder, table):
    rows = [{"file_name": f"{n}.png", "Smiling": n % 2} for n in range(COUNT)]
    if table == "metadata.jsonl":
        text = "\n".join(map(json.dumps, rows))
    else:
        text = "file_name,Smiling\n" + "\n".join(f"{row['file_name']},{row['Smiling']}" for row in rows)
    return put({**{f"{n}.png": CODED[n] for n in range(COUNT)}, table: text.encode()}, folder)


@pytest.mark.parametrize("table", ["metadata.csv", "metadata.jsonl"])
def test_an_imagefolder_with_a_table_is_read_by_datasets(tmp_path, table):
    finding = check(hugging_face(tmp_path / "set", table))
    assert "data=hub" in finding.command
    assert any("attributes: 1" in line for line in finding.lines)


def test_check_names_the_command_and_it_trains(tmp_path, train_typed):
    np.savez(tmp_path / "faces.npz", images=np.concatenate([PIXELS] * 5), Smiling=np.arange(60) % 2)
    write_lmdb(tmp_path / "faces.lmdb", {f"{n:05d}": encode(picture(n, 10, 8), "PNG") for n in range(60)})
    for name, choice in (("faces.npz", "data=arrays"), ("faces.lmdb", "data=lmdb")):
        words = shlex.split(check(tmp_path / name).command)
        assert choice in words
        own = [word for word in TINY if not word.startswith("data.source")]
        code, said, wrong = train_typed(*words[2:], *own, f"run_dir={tmp_path / f'run-{choice}'}")
        assert code == 0, wrong
        assert "Finished after 40 images" in said


def test_the_labels_of_an_array_reach_the_batches(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.concatenate([PIXELS] * 5), Smiling=np.arange(60) % 2)
    data = face_data(str(tmp_path / "a.npz"), lambda root, cache: Arrays(root), cache=str(tmp_path / "cache"))
    data.prepare(progress=False)
    assert data.attributes[0] == ["Smiling"]
