"""The chain by which a set is had, from a local server that plays its hosts."""

import hashlib
import io
import json
import resource
import shlex
import sys
from dataclasses import replace

import numpy as np
import pyarrow
import pytest
from picture_makers import (
    CELEBA_ATTRIBUTES,
    celeba_files,
    celeba_tables,
    encode,
    face_data,
    lfw_files,
    picture,
    put,
    put_tgz,
    put_zip,
)
from play_server import good, page, serving, status
from pyarrow import parquet

from faceforge import cli
from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.lfw import Lfw
from faceforge.errors import BadInput
from faceforge.fetch import catalog, hub
from faceforge.io.images import decode

TABLE = b"# attributes\n#\tperson\timagenum\tMale\tSmiling\nPerson 0\t1\t1.0\t-1.0\n"


def digest(data, name="sha256"):
    return hashlib.new(name, data).hexdigest()


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """The server; the working folder and the home are empty ones."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as stage:
        for name in catalog.MIRRORS:
            monkeypatch.setenv(name, f"{stage.url}/{name}")
        yield stage


@pytest.fixture
def lfw(stage, tmp_path, monkeypatch):
    """A small LFW at all its hosts."""
    files = lfw_files()
    archive = put_tgz({f"lfw/{name}": data for name, data in files.items()}, tmp_path / "lfw.tgz").read_bytes()
    (tmp_path / "lfw.tgz").unlink()
    known = catalog.File("lfw.tgz", "5976018", sha256=digest(archive))
    small = replace(catalog.LFW, images=len(files), people=6, files=(known,))
    monkeypatch.setitem(catalog.SETS, "lfw", small)
    rows = [{"image": {"bytes": data, "path": None}, "filename": name.split("/")[1]} for name, data in files.items()]
    offer(stage, small, {"data/train-00000-of-00001.parquet": rows})
    stage.plays |= {"/FACEFORGE_FIGSHARE/5976018": good(archive), "/FACEFORGE_LFW_ATTRIBUTES": good(TABLE)}
    return small


@pytest.fixture
def celeba(stage, tmp_path, monkeypatch):
    """A small CelebA at all its hosts: 12 pictures of 6 people; the copy on the hub holds PNGs without names."""
    files, tables = FILES, celeba_tables()
    archive = put_zip(files, tmp_path / "c.zip", "img_align_celeba/").read_bytes()
    (tmp_path / "c.zip").unlink()
    contents = {"img_align_celeba.zip": archive, **tables}
    known = tuple(
        replace(file, size=len(contents[file.name]), md5=digest(contents[file.name], "md5"))
        for file in catalog.CELEBA.files
    )
    small = replace(catalog.CELEBA, images=12, people=6, files=known)
    monkeypatch.setitem(catalog.SETS, "celeba", small)
    shards = {}
    for split, numbers in (("train", range(4)), ("valid", range(4, 8)), ("test", range(8, 12))):
        for half in range(2):
            rows = [celeba_row(n) for n in list(numbers)[half * 2 : half * 2 + 2]]
            shards[f"img_align+identity+attr/{split}-0000{half}-of-00002.parquet"] = rows
    offer(stage, small, shards)
    for file in known:
        stage.plays[f"/FACEFORGE_DRIVE?id={file.id}&export=download&confirm=t"] = good(contents[file.name])
    return small


def celeba_row(n):
    flags = {name: bool(name == "Young" and n % 2) for name in CELEBA_ATTRIBUTES}
    return {"image": {"bytes": png(n), "path": None}, "celeb_id": n // 2, **flags}


FILES = celeba_files()
PNGS = [encode(decode(data), "PNG") for data in FILES.values()]


def png(n):
    return PNGS[n]


def shard(rows):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def offer(stage, data, shards):
    """The hub's list and its files."""
    files = {name: shard(rows) for name, rows in shards.items()}
    listed = [{"rfilename": n, "lfs": {"size": len(d), "sha256": digest(d)}} for n, d in files.items()]
    answer = {"siblings": [*reversed(listed), {"rfilename": "README.md", "size": 5}]}
    stage.plays[f"/HF_ENDPOINT/api/datasets/{data.repository}/revision/{data.revision}"] = good(
        json.dumps(answer).encode()
    )
    for name, content in files.items():
        path = f"/HF_ENDPOINT/datasets/{data.repository}/resolve/{data.revision}/{name.replace('+', '%2B')}"
        stage.plays[path] = good(content)


def command(monkeypatch, capsys, *words):
    """Exit code, output and complaints of `faceforge data get WORDS`."""
    monkeypatch.setattr(sys, "argv", ["faceforge", "data", "get", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def steps(out):
    """The lines of the chain: its steps and what is said of them."""
    return [line for line in out.splitlines() if line[:1].isdigit() or line.startswith("   ")]


# ------------------------------------------------------------------------------------------------------- LFW


def test_lfw_from_the_hub(lfw, monkeypatch, capsys, tmp_path):
    code, out, err = command(monkeypatch, capsys, "lfw")
    assert (code, err) == (0, "")
    assert "Terms: for face research" in out
    assert out.index("Terms") < out.index("1. on this machine") < out.index("2. Hugging Face hub, bitmind/lfw")
    assert listing(tmp_path / "here") == sorted(
        ["lfw/lfw_attributes.txt", *(f"lfw/lfw/{name}" for name in lfw_files())]
    )
    source = Lfw("lfw/lfw")
    assert [(tmp_path / "here/lfw/lfw" / name).read_bytes() for name in source.names] == list(lfw_files().values())
    assert source.attributes()[0] == ["Male", "Smiling"]
    train = out.splitlines()[-1]
    assert train == "  python train.py data=lfw data.root=lfw/lfw data.batch_size=6"
    assert "lfw/lfw: a folder of 12 images (.jpg), 6 people" in out


def test_the_chain_goes_on_to_figshare_and_the_command_works(lfw, stage, monkeypatch, capsys):
    stage.plays[f"/HF_ENDPOINT/api/datasets/{lfw.repository}/revision/{lfw.revision}"] = status(403)
    code, out, _ = command(monkeypatch, capsys, "lfw", "sets/my lfw")
    assert code == 0
    assert steps(out) == [
        "1. on this machine",
        "   no copy in sets/my lfw or the usual places (use --file PATH for another)",
        "2. Hugging Face hub, bitmind/lfw",
        "   bitmind/lfw: 127.0.0.1 denied access (403): a quota, a blocked network, or terms to accept on its web page",
        "3. figshare, the archive used by scikit-learn",
    ]
    words = shlex.split(out.splitlines()[-1])
    assert words == ["python", "train.py", "data=lfw", "data.root=sets/my lfw/lfw.tgz", "data.batch_size=6"]
    from faceforge import config

    assert config.check_overrides(words[2:]) == []
    data = face_data("sets/my lfw/lfw.tgz", Lfw, cache="cache", batch_size=6)
    data.prepare(progress=False)
    assert data.attributes[0] == ["Male", "Smiling"]
    asked = len(stage.asked)
    code, out, _ = command(monkeypatch, capsys, "lfw", "sets/my lfw")
    assert code == 0
    assert steps(out) == ["1. on this machine"]
    assert len(stage.asked) == asked


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (page("Quota exceeded"), "lfw.tgz: 127.0.0.1 sent a web page instead of the file (Quota exceeded)"),
        (good(b"\x1f\x8b other"), "lfw.tgz: the file from 127.0.0.1 has sha256"),
        (status(404), "lfw.tgz: 127.0.0.1 does not have the file (404)"),
    ],
)
def test_where_nobody_has_it_the_way_by_hand_is_told(lfw, stage, monkeypatch, capsys, tmp_path, play, reason):
    stage.plays = {"/FACEFORGE_FIGSHARE/5976018": play}
    code, out, err = command(monkeypatch, capsys, "lfw")
    assert code == 2
    assert err == "faceforge: lfw is not available; see the reasons above (3 sources tried)\n"
    assert f"   {reason}" in out
    assert "https://www.kaggle.com/datasets/jessicali9530/lfw-dataset" in out
    assert "faceforge data get lfw --file ~/Downloads/archive.zip" in out
    assert listing(tmp_path / "here") == []
    assert list((tmp_path / "here").iterdir()) == []


def test_without_its_attributes_the_set_is_there(lfw, stage, monkeypatch, capsys):
    for play, reason in ((status(404), "(404)"), (good(b"1 2 3\n"), "no line names the columns")):
        stage.plays["/FACEFORGE_LFW_ATTRIBUTES"] = play
        code, out, _ = command(monkeypatch, capsys, "lfw", "there")
        assert code == 0
        line = next(line for line in out.splitlines() if "attributes skipped" in line)
        assert reason in line
        assert Lfw("there/lfw").attributes() is None


def test_only_one_step(lfw, monkeypatch, capsys, tmp_path):
    assert command(monkeypatch, capsys, "lfw", "--only", "figshare")[0] == 0
    assert listing(tmp_path / "here") == ["lfw/lfw.tgz", "lfw/lfw_attributes.txt"]
    code, _, err = command(monkeypatch, capsys, "lfw", "--only", "drive")
    assert code == 2
    assert err == "faceforge: --only drive: no such step for lfw; must be file, hub, figshare\n"
    code, _, err = command(monkeypatch, capsys, "lwf")
    assert code == 2
    assert err == "faceforge: faceforge data get lwf: no such set, the nearest is lfw; must be lfw or celeba\n"


# ------------------------------------------------------------------------------------------- on this machine


def test_a_copy_in_a_usual_place_is_used_where_it_lies(lfw, stage, monkeypatch, capsys, tmp_path):
    place = put(lfw_files(), tmp_path / "home/Downloads/lfw-deepfunneled", "lfw-deepfunneled")
    code, out, _ = command(monkeypatch, capsys, "lfw")
    assert code == 0
    assert f"data.root={place}" in out
    assert stage.asked == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_part_of_the_set_is_used_only_where_it_is_named(lfw, monkeypatch, capsys, tmp_path):
    put(lfw_files(3), tmp_path / "here/lfw")
    code, out, _ = command(monkeypatch, capsys, "lfw", "new", "--only", "file")
    assert code == 2
    assert "   lfw holds 6 of 12 images (to use it anyway: --file lfw)" in out
    code, out, _ = command(monkeypatch, capsys, "lfw", "new", "--file", "lfw")
    assert code == 0
    assert "   incomplete set: 6 of 12 images" in out
    assert "data.root=lfw " in out


def test_a_named_copy_that_is_none_is_said_and_the_chain_goes_on(lfw, monkeypatch, capsys, tmp_path):
    (tmp_path / "here/x.zip").write_bytes(b"<html>quota</html>")
    for name, reason in {"x.zip": r"x.zip: not an archive (HTML page)", "nix": "nix: no such file or folder"}.items():
        code, out, _ = command(monkeypatch, capsys, "lfw", "new", "--file", name)
        assert code == 0
        assert reason in out
    assert (tmp_path / "here/x.zip").read_bytes() == b"<html>quota</html>"


def test_a_damaged_archive_of_ones_own_stays_and_is_named(lfw, monkeypatch, capsys, tmp_path):
    mine = tmp_path / "here/lfw/lfw.tgz"
    mine.parent.mkdir()
    mine.write_bytes(b"\x1f\x8bdamaged")
    code, out, _ = command(monkeypatch, capsys, "lfw", "--only", "figshare")
    assert code == 2
    assert "lfw/lfw.tgz already exists but has sha256" in out
    code, out, _ = command(monkeypatch, capsys, "lfw", "--only", "file")
    assert "lfw/lfw.tgz: a truncated or damaged .tgz" in out
    assert mine.read_bytes() == b"\x1f\x8bdamaged"


def test_parquet_files_that_one_has_are_unpacked_and_kept(celeba, tmp_path):
    mine = tmp_path / "mine"
    put({f"test-{n:05d}.parquet": shard([celeba_row(8 + 2 * n), celeba_row(9 + 2 * n)]) for n in range(2)}, mine)
    put({"train-00000.parquet": shard([celeba_row(n) for n in range(4)])}, mine)
    put({"valid-00000.parquet": shard([celeba_row(n) for n in range(4, 8)])}, mine)
    before = listing(mine)
    root = catalog.get(celeba, tmp_path / "set", mine, say=lambda line: None)
    assert listing(mine) == before
    check_celeba(Celeba(str(root)))
    assert (root / "list_attr_celeba.csv").is_file()


# ---------------------------------------------------------------------------------------------------- CelebA


def check_celeba(source):
    """Every picture is the one with its number, and knows its person, split and attributes."""
    assert [face.id for face in source.faces] == [f"{n:06d}.png" for n in range(1, 13)]
    assert [face.identity for face in source.faces] == [str(n // 2) for n in range(12)]
    assert [face.split for face in source.faces] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert all(source.digest(n) == digest(png(n)) for n in range(12))
    names, values = source.attributes()
    assert names == CELEBA_ATTRIBUTES
    assert values[:, -1].tolist() == [0, 1] * 6
    assert (values[:, :-1] == 0).all()


def test_celeba_from_the_hub_in_the_usual_layout(celeba, monkeypatch, capsys, tmp_path):
    code, out, _ = command(monkeypatch, capsys, "celeba")
    assert code == 0
    assert "non-commercial" in out.partition("1. on this machine")[0]
    check_celeba(Celeba("celeba"))
    pictures = [f"img_align_celeba/{n:06d}.png" for n in range(1, 13)]
    tables = ["identity_CelebA.csv", "list_attr_celeba.csv", "list_eval_partition.csv"]
    assert listing(tmp_path / "here/celeba") == sorted(tables + pictures)
    assert out.splitlines()[-1] == "  python train.py data=celeba data.root=celeba data.crop=c140 data.batch_size=6"


def test_an_interrupted_copy_goes_on_without_fetching_anything_twice(celeba, stage, tmp_path):
    third = f"/HF_ENDPOINT/datasets/{celeba.repository}/resolve/{celeba.revision}/img_align%2Bidentity%2Battr/"
    whole = stage.plays[f"{third}valid-00000-of-00002.parquet"]
    stage.plays[f"{third}valid-00000-of-00002.parquet"] = status(503)
    with pytest.raises(BadInput, match="is not available"):
        catalog.get(celeba, tmp_path / "set", only="hub", say=lambda line: None)
    assert len(list((tmp_path / "set/img_align_celeba").iterdir())) == 4
    assert listing(tmp_path / "set")[0].startswith(hub.PROGRESS_FOLDER)
    assert not list((tmp_path / "set").rglob("*.parquet"))
    stage.plays[f"{third}valid-00000-of-00002.parquet"] = whole
    stage.asked.clear()
    root = catalog.get(celeba, tmp_path / "set", only="hub", say=lambda line: None)
    check_celeba(Celeba(str(root)))
    assert not any("train" in path for path, _ in stage.asked)
    assert not (tmp_path / "set" / hub.PROGRESS_FOLDER).exists()


def broken_hubs(stage, data):
    api = f"/HF_ENDPOINT/api/datasets/{data.repository}/revision/{data.revision}"
    file = {"rfilename": "train.parquet", "lfs": {"size": 4, "sha256": "0" * 64}}
    first = f"/HF_ENDPOINT/datasets/{data.repository}/resolve/{data.revision}/train.parquet"

    def told(content, sha256=None):
        listed = {"rfilename": "train.parquet", "lfs": {"size": len(content), "sha256": sha256 or digest(content)}}
        return {api: good(json.dumps({"siblings": [listed]}).encode()), first: good(content)}

    row = celeba_row(0)
    return {
        "is a page": ({api: page("Hugging Face")}, "sent an unreadable answer"),
        "lists nothing": ({api: good(b'{"siblings": []}')}, "the hub lists no parquet files"),
        "declares nothing": (
            {api: good(b'{"siblings": [{"rfilename": "a.parquet"}]}')},
            "the hub does not declare the sizes and hashes of its files",
        ),
        "is a list": ({api: good(b"[1]")}, "the hub does not declare"),
        "lacks the file": ({api: good(json.dumps({"siblings": [file]}).encode())}, "does not have the file (404)"),
        "sends other bytes": (told(shard([row]), "0" * 64), "has sha256"),
        "sends a torn file": (told(b"PAR1" + bytes(100)), "cannot be read as parquet"),
        "has no pictures": (
            told(shard([{"image": "a", "celeb_id": 1}])),
            "a row has no JPEG or PNG in its column image",
        ),
        "has odd pictures": (told(shard([row | {"image": {"bytes": b"GIF8", "path": None}}])), "no JPEG or PNG"),
        "has no people": (told(shard([{"image": row["image"]}])), "a row has no column celeb_id"),
        "holds too few": (told(shard([row])), "holds 1 images of 1 people, must be 12 of 6"),
        "is a stub": (told(b"PAR1"), "cannot be read as parquet"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "is a page",
        "lists nothing",
        "declares nothing",
        "is a list",
        "lacks the file",
        "sends other bytes",
        "sends a torn file",
        "has no pictures",
        "has odd pictures",
        "has no people",
        "holds too few",
        "is a stub",
    ],
)
def test_a_hub_that_fails_is_one_sentence_and_drive_is_next(celeba, stage, case, tmp_path):
    plays, reason = broken_hubs(stage, celeba)[case]
    stage.plays |= plays
    said = []
    root = catalog.get(celeba, tmp_path / "set", say=said.append)
    assert root == tmp_path / "set/img_align_celeba.zip"
    assert said[3] == "2. Hugging Face hub, flwrlabs/celeba"
    assert reason in said[4]
    assert "\n" not in said[4]
    assert said[5] == "3. Google Drive, the official files"
    source = Celeba(str(root))
    assert [face.id for face in source.faces] == sorted(FILES)
    assert [face.identity for face in source.faces] == [str(n // 2) for n in range(12)]
    assert source.attributes()[0] == CELEBA_ATTRIBUTES


def test_names_that_would_leave_the_folder_write_nothing(lfw, stage, tmp_path):
    rows = [{"image": {"bytes": encode(picture(0)), "path": None}, "filename": "../../.._0001.jpg"}]
    offer(stage, lfw, {"data/train.parquet": rows})
    said = []
    with pytest.raises(BadInput):
        catalog.get(lfw, tmp_path / "set", only="hub", say=said.append)
    assert "an image is named '.._0001.jpg', must be like Name_0001.jpg" in said[2]
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_picture_of_ones_own_is_not_overwritten(celeba, stage, tmp_path):
    mine = tmp_path / "set/img_align_celeba/000003.png"
    put({"000003.png": b"mine"}, mine.parent)
    said = []
    with pytest.raises(BadInput):
        catalog.get(celeba, tmp_path / "set", only="hub", say=said.append)
    assert "000003.png exists and is another image; move it away" in said[2]
    assert mine.read_bytes() == b"mine"


def test_without_pyarrow_the_hub_is_one_sentence(celeba, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = []
    catalog.get(celeba, tmp_path / "set", say=said.append)
    assert said[4] == "   its parquet files need pyarrow; in faceforge's checkout: pip install -e '.[data]'"


def test_too_little_space_for_the_copy_is_known_before(celeba, stage, monkeypatch, tmp_path):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    said = []
    with pytest.raises(BadInput):
        catalog.get(celeba, tmp_path / "set", only="hub", say=said.append)
    assert "free bytes, has" in said[2]
    assert not any("parquet" in path for path, _ in stage.asked)


def test_a_disk_that_fills_up_while_unpacking_is_one_sentence(celeba, stage, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    biggest = max(len(png(n)) for n in range(12))
    offer(stage, celeba, {"train.parquet": [celeba_row(n) for n in range(12)]})
    resource.setrlimit(resource.RLIMIT_FSIZE, (biggest - 1, before[1]))
    said = []
    try:
        with pytest.raises(BadInput, match="is not available"):
            catalog.get(celeba, tmp_path / "set", tmp_path / "nix", only="hub", say=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in said[2]
    root = catalog.get(celeba, tmp_path / "set", only="hub", say=said.append)
    assert len(Celeba(str(root)).faces) == 12


def test_drive_with_a_quota_for_one_table(celeba, stage, tmp_path):
    table = next(file for file in celeba.files if file.name == "identity_CelebA.txt")
    stage.plays[f"/FACEFORGE_DRIVE?id={table.id}&export=download&confirm=t"] = page("Google Drive - Quota exceeded")
    said = []
    root = catalog.get(celeba, tmp_path / "set", only="drive", say=said.append)
    assert said[2].startswith("   table skipped: identity_CelebA.txt: 127.0.0.1 ")
    assert "a web page" in said[2]
    source = Celeba(str(root))
    assert [face.identity for face in source.faces] == [None] * 12
    assert not np.isnan(source.attributes()[1]).any()


def test_the_catalogue_is_what_others_pin():
    """torchvision's md5 of CelebA's files, by name; ids too."""
    from torchvision.datasets import CelebA

    pinned = {name: (file, md5) for file, md5, name in CelebA.file_list}
    for file in catalog.CELEBA.files:
        assert pinned[file.name] == (file.id, file.md5)
