import os
import pickle
import tarfile

import numpy as np
import pytest
from picture_makers import (
    CELEBA_ATTRIBUTES,
    celeba_files,
    celeba_tables,
    encode,
    lfw_files,
    make_crops,
    picture,
    put,
    put_tgz,
    put_zip,
    write,
)

from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lfw import Lfw
from faceforge.errors import BadInput
from faceforge.io import archives
from faceforge.io.images import ImageError, decode


def ids(source):
    return [face.id for face in source.faces]


# ----------------------------------------------------------------------------------------------------- crops


def test_crops_at_any_depth_without_hidden_and_review_files(tmp_path):
    jpg = encode(picture(0))
    names = ["b.jpg", "a/x.PNG", "a/deep/er/y.jpeg", ".hidden.jpg", ".git/z.jpg", "a/_review/q.jpg", "note.txt"]
    put(dict.fromkeys(names, jpg), tmp_path)
    source = Crops(str(tmp_path))
    assert ids(source) == ["a/deep/er/y.jpeg", "a/x.PNG", "b.jpg"]
    assert np.array_equal(source.read(2, (8, 8)), decode(jpg))
    assert source.digest(0) == source.digest(2)


def test_crops_from_a_zip_are_the_same_faces(tmp_path):
    files = {f"p{n % 3}/{n}.jpg": encode(picture(n)) for n in range(7)}
    folder = Crops(str(put(files, tmp_path / "folder")))
    zipped = Crops(str(put_zip(files | {"__MACOSX/p0/0.jpg": b"", ".x.jpg": b""}, tmp_path / "faces.zip")))
    assert ids(zipped) == ids(folder)
    again = pickle.loads(pickle.dumps(zipped))
    for n in range(7):
        assert np.array_equal(again.read(n, (8, 8)), folder.read(n, (8, 8)))
        assert zipped.digest(n) == folder.digest(n)


def test_whose_face_a_crop_is(tmp_path):
    names = [f"{chr(97 + n)}/Ann_{n:04d}.jpg" for n in range(8)] + ["loose.jpg"]
    root = str(put({name: encode(picture(0)) for name in names}, tmp_path))

    def people(how):
        return [face.identity for face in Crops(root, identity=how).faces]

    assert people("auto") == people("folder") == [*"abcdefgh", None]
    assert people("name") == ["Ann"] * 8 + [None]
    assert people("file") == [None] * 9
    assert Crops(root).attributes() is None


def test_a_few_folders_are_sets_not_people(tmp_path):
    put({f"{mood}/{n}.jpg": encode(picture(n)) for mood in ("smile", "sad") for n in range(2)}, tmp_path)
    source = Crops(str(tmp_path))
    assert [face.identity for face in source.faces] == [None] * 4
    names, values = source.attributes()
    assert names == ["sad", "smile"]
    assert values.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


# ------------------------------------------------------------------------------------------------------- LFW


@pytest.mark.parametrize("layout", ["folder", "nested", "zip", "lfw.tgz", "lfw-deepfunneled.tgz"])
def test_lfw_layouts_give_the_same_faces(tmp_path, layout):
    files, extra = lfw_files(), {"README.txt": b"about", "lfw/stray.jpg": encode(picture(9))}
    if layout == "folder":
        root = put(files, tmp_path / "lfw")
    elif layout == "nested":
        root = put(files, tmp_path / "outer", "lfw_funneled")
    elif layout == "zip":
        root = put_zip({f"archive/{n}": d for n, d in (files | extra).items()}, tmp_path / "lfw.zip")
    else:
        root = put_tgz({f"./{layout[:-4]}/{n}": d for n, d in (files | extra).items()}, tmp_path / layout)
    source = Lfw(str(root), cache=str(tmp_path / "cache"))
    assert ids(source) == sorted(files)
    assert [face.identity for face in source.faces] == [name.split("/")[0] for name in sorted(files)]
    for n, name in enumerate(sorted(files)):
        assert np.array_equal(source.read(n, (8, 8)), decode(files[name]))


def test_a_tar_is_copied_once_and_again_when_it_changes(tmp_path):
    path = put_tgz(lfw_files(3), tmp_path / "lfw.tgz")
    first = Lfw(str(path), cache=str(tmp_path / "cache"))
    stamp = first.store.root.stat().st_mtime_ns
    assert Lfw(str(path), cache=str(tmp_path / "cache")).store.root.stat().st_mtime_ns == stamp
    put_tgz(lfw_files(4), path)
    assert len(Lfw(str(path), cache=str(tmp_path / "cache")).faces) > len(first.faces)


def test_lfw_refuses_other_layouts_and_double_sets(tmp_path):
    with pytest.raises(BadInput, match=r"no Name/Name_0001.jpg; use data=crops for other folders of images"):
        Lfw(str(make_crops(tmp_path / "flat", 2)))
    put(lfw_files(2), put(lfw_files(2), tmp_path / "two", "lfw"), "lfw_funneled")
    with pytest.raises(BadInput, match=r"holds Person_0/Person_0_0001.jpg more than once"):
        Lfw(str(tmp_path / "two"))


LFW_TABLE = """# lfw_attributes.txt v1.1 - two lines of comment
#\tperson\timagenum\tMale\tBlack Hair
Person 0\t1\t1.5\t-0.25
Person 1\t2\t-1e-3\t3.75
Somebody Else\t1\t1\t1
"""


@pytest.mark.parametrize("place", ["inside", "beside the folder", "beside the archive", "in the archive"])
def test_lfw_attributes_are_joined_by_person_and_number(tmp_path, place):
    files, table = lfw_files(2), {"lfw_attributes.txt": LFW_TABLE.encode()}
    if place == "inside":
        root = put(files | {"Anno/lfw_attributes.txt": LFW_TABLE.encode()}, tmp_path / "lfw")
    elif place == "in the archive":
        root = put_tgz({f"lfw/{n}": d for n, d in (files | table).items()}, tmp_path / "lfw.tgz")
    else:
        put(table, tmp_path)
        root = put(files, tmp_path / "lfw") if "folder" in place else put_tgz(files, tmp_path / "lfw.tgz")
    source = Lfw(str(root), cache=str(tmp_path / "cache"))
    assert ids(source) == [f"Person_{p}/Person_{p}_{n:04d}.jpg" for p, n in ((0, 1), (1, 1), (1, 2))]
    names, values = source.attributes()
    assert names == ["Male", "Black_Hair"]
    assert values.dtype == np.float32
    assert np.array_equal(values, np.array([[1, 0], [np.nan, np.nan], [0, 1]]), equal_nan=True)


def test_lfw_without_its_table_has_no_attributes_and_a_broken_one_is_one_line(tmp_path):
    root = put(lfw_files(2), tmp_path / "lfw")
    assert Lfw(str(root)).attributes() is None
    for text, reason in {
        LFW_TABLE.replace("-0.25", ""): "lfw_attributes.txt: line 3: 'Person 0 1 1.5.*person, imagenum and 2 values",
        LFW_TABLE.replace("-0.25", "high"): "line 3: .*must be person, imagenum and 2 values",
        LFW_TABLE.replace("\t2\t", "\ttwo\t"): "line 4",
        LFW_TABLE.split("\n", 2)[2]: "line 1: .*no line names the columns",
        "": "no rows",
        "<html>404</html>": "line 1",
    }.items():
        write(root / "lfw_attributes.txt", text.encode())
        with pytest.raises(BadInput, match=reason) as caught:
            Lfw(str(root))
        assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- CelebA


def celeba_layout(layout, tmp_path):
    """The root of a layout, whether it has an identity table, and whether it has any table."""
    files, tables, kaggle = celeba_files(), celeba_tables(), celeba_tables(kaggle=True)
    place = tmp_path / "CelebA"
    if layout == "official folder":
        return put(tables, put(files, place, "img_align_celeba")), True, True
    if layout == "official tree":
        put(tables, put_zip(files, place / "Img/img_align_celeba.zip", "img_align_celeba/").parents[1] / "Anno")
        return place, True, True
    if layout == "official zip":
        return put(tables, place) and put_zip(files, place / "img_align_celeba.zip", "img_align_celeba/"), True, True
    if layout == "tables beside the folder":
        return put(tables, place) and put(files, place / "img_align_celeba"), True, True
    if layout == "folder with zip":
        put_zip(files, put(tables, place) / "img_align_celeba.zip", "img_align_celeba/")
        return place, True, True
    if layout == "one zip":
        inside = {f"img_align_celeba/{n}": d for n, d in files.items()} | tables
        return put_zip(inside, tmp_path / "all.zip", "celeba/"), True, True
    if layout == "kaggle":
        return put(kaggle, put(files, place, "img_align_celeba/img_align_celeba")), False, True
    if layout == "published zip":
        return put_zip(files, tmp_path / "img_celeba_dataset.zip", "img_celeba_dataset/"), False, False
    if layout == "folder with published zip":
        put_zip(files, place / "img_celeba_dataset.zip", "img_celeba_dataset/")
        return place, False, False
    return put(files, place), False, False


@pytest.mark.parametrize(
    "layout",
    [
        "official folder",
        "official tree",
        "official zip",
        "tables beside the folder",
        "folder with zip",
        "one zip",
        "kaggle",
        "published zip",
        "folder with published zip",
        "plain folder",
    ],
)
def test_celeba_layouts_give_the_same_faces(tmp_path, layout):
    root, has_people, has_tables = celeba_layout(layout, tmp_path)
    files, source = celeba_files(), Celeba(str(root))
    assert ids(source) == sorted(files)
    assert np.array_equal(source.read(3, (8, 8)), decode(files["000004.jpg"]))
    people = [str(n // 2) for n in range(12)] if has_people else [None] * 12
    assert [face.identity for face in source.faces] == people
    official = ["train"] * 4 + ["val"] * 4 + ["test"] * 4 if has_tables else [None] * 12
    assert [face.split for face in source.faces] == official
    if not has_tables:
        assert source.attributes() is None
        return
    names, values = source.attributes()
    assert names == CELEBA_ATTRIBUTES
    assert values.dtype == np.float32
    assert values[:, -1].tolist() == [0, 1] * 6
    assert (values[:, :-1] == 0).all()


def test_celeba_pictures_missing_from_a_table_are_unknown(tmp_path):
    root = put(celeba_tables(12), put(celeba_files(14), tmp_path, "img_align_celeba"))
    source = Celeba(str(root))
    assert source.faces[13].identity is None
    assert source.faces[13].split is None
    assert np.isnan(source.attributes()[1][12:]).all()
    assert not np.isnan(source.attributes()[1][:12]).any()


def test_a_broken_table_is_one_line(tmp_path):
    put(celeba_tables() | {"identity_CelebA.txt": b"000001.jpg 5 6\n"}, put(celeba_files(), tmp_path))
    with pytest.raises(BadInput, match=r"identity_CelebA.txt: 2 values for 000001.jpg, must be 1 per image"):
        Celeba(str(tmp_path))


# ------------------------------------------------------------------------------------------- hostile archives


def test_members_that_would_leave_the_folder_write_nothing(tmp_path):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    link = tarfile.TarInfo("lfw/Eve/Eve_0001.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("lfw/Dev/Dev_0001.jpg")
    device.type = tarfile.CHRTYPE
    before = set(tmp_path.rglob("*"))
    source = Lfw(str(put_tgz(lfw_files(2), inside / "lfw.tgz", extra=(link, device))), cache=str(inside / "cache"))
    assert ids(source) == sorted(lfw_files(2))
    for evil in ("../../../evil.jpg", "/evil.jpg"):
        for path in (put_tgz({evil: b"x"}, inside / "evil.tgz"), put_zip({evil: b"x"}, inside / "evil.zip")):
            with pytest.raises(BadInput, match=r"evil\.jpg', which is outside it"):
                Crops(str(path), cache=str(inside / "cache"))
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(inside) for path in new)
    assert not [path for path in new if path.name == "evil.jpg"]


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 10_000)
    bomb = put_zip({"a.jpg": bytes(20_000)}, tmp_path / "bomb.zip")
    with pytest.raises(ImageError, match="expands to more than 10000 bytes"):
        Crops(str(bomb)).read(0, (4, 4))
    with pytest.raises(BadInput, match="expands to more than"):
        Crops(str(put_tgz({"a.jpg": bytes(20_000)}, tmp_path / "bomb.tgz")), cache=str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "MAX_TAR_BYTES", 10_000)
    many = {f"{n}.jpg": bytes(6_000) for n in range(3)}
    with pytest.raises(BadInput, match="expands to more than"):
        Crops(str(put_tgz(many, tmp_path / "many.tgz")), cache=str(tmp_path / "cache"))
    assert list((tmp_path / "cache" / "archives").iterdir()) == []


def test_a_damaged_member_is_a_bad_picture_not_a_dead_run(tmp_path):
    path = put_zip({"a.jpg": encode(picture(0)), "b.jpg": encode(picture(1))}, tmp_path / "faces.zip")
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    source = Crops(str(path))
    with pytest.raises(ImageError, match="damaged inside its zip"):
        source.read(0, (4, 4))
    assert source.read(1, (4, 4)).shape == (40, 40, 3)


# -------------------------------------------------------------------------------------------------- bad roots


def bad_roots(tmp_path):
    zipped = put_zip(lfw_files(), tmp_path / "whole.zip").read_bytes()
    tgz = put_tgz(lfw_files(), tmp_path / "whole.tgz").read_bytes()
    html = b"<!DOCTYPE html><html>quota exceeded</html>"
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for n in range(3):
        write(tmp_path / "texts" / f"{n}.txt", b"words")
    return {
        "unset": (None, "data.root: must be the folder"),
        "blank": ("", "data.root: must be the folder"),
        "missing": (tmp_path / "nowhere", "no such folder or file"),
        "empty": (tmp_path / "empty", "no images .*found nothing"),
        "texts": (tmp_path / "texts", r"no images \(.jpg .*found .txt \(3\)"),
        "cut zip": (write(tmp_path / "cut.zip", zipped[:-100]), "a truncated or damaged zip"),
        "cut tgz": (write(tmp_path / "cut.tgz", tgz[: len(tgz) // 2]), "truncated or damaged"),
        "stub tgz": (write(tmp_path / "stub.tgz", tgz[:12]), "truncated or damaged"),
        "html": (write(tmp_path / "page.zip", html), r"not an archive \(HTML page\)"),
        "text": (write(tmp_path / "words.tgz", b"words"), r"not an archive \(text\)"),
        "nothing": (write(tmp_path / "nothing.zip", b""), r"not an archive \(empty file\)"),
    }


@pytest.mark.parametrize("kind", [Crops, Lfw, Celeba])
def test_bad_roots_are_one_line_naming_the_key(tmp_path, kind):
    for case, (root, reason) in bad_roots(tmp_path).items():
        with pytest.raises(BadInput, match=reason) as caught:
            kind(None if root is None else str(root), cache=str(tmp_path / "cache"))
        assert str(caught.value).startswith("data.root"), case
        assert "\n" not in str(caught.value), case


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_without_permission_are_bad_pictures(tmp_path):
    root = make_crops(tmp_path, 2)
    (root / "000.jpg").chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        Crops(str(root)).read(0, (4, 4))


def test_file_names_of_other_encodings_can_be_written_down(tmp_path):
    root = os.fsencode(make_crops(tmp_path, 1))
    with open(root + b"/J\xfcrgen.jpg", "wb") as file:
        file.write(encode(picture(1)))
    source = Crops(str(tmp_path))
    assert ids(source) == ["000.jpg", r"J\xfcrgen.jpg"]
    assert source.read(1, (4, 4)).shape == (40, 40, 3)


def test_dangling_links_and_folders_named_jpg_are_bad_pictures(tmp_path):
    (make_crops(tmp_path, 1) / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    source = Crops(str(tmp_path))
    with pytest.raises(ImageError, match="No such file"):
        source.read(1, (4, 4))
