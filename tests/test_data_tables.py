"""One table, as every program writes it: the same labels, people and verdicts, or one line that says what is wrong."""

import csv
import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from picture_makers import (
    CELEBA_ATTRIBUTES,
    celeba_files,
    celeba_tables,
    encode,
    face_data,
    lfw_files,
    picture,
    put,
    write,
)

from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lfw import Lfw
from faceforge.data.subsets import values_of
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io import manifest, tables
from faceforge.io.attributes import read_attributes

IDS = ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "José/José_0001.png", "x y.jpeg"]
LABELS = [["smile", "age"], ["1", "31.5"], ["-1", "4.25"], ["1", "60"], ["-1", "7.125"]]
EXPECTED = np.array([[1, 31.5], [0, 4.25], [1, 60], [0, 7.125]], np.float32)

encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
separators = st.sampled_from([",", ";", "\t", "|"])
truths = st.sampled_from(
    [("1", "-1"), ("1", "0"), ("True", "False"), ("yes", "no"), ("WAHR", "FALSCH"), ("1.0", "0.0")]
)
namings = st.sampled_from(["as it is", "no ending", "another ending", "upper case", "NFD", "backslashes", "folders"])


def named(name, how):
    """The name of an image as another program may have it."""
    stem = name.rpartition(".")[0]
    return {
        "no ending": stem,
        "another ending": f"{stem}.tif",
        "upper case": name.upper(),
        "NFD": unicodedata.normalize("NFD", name),
        "backslashes": name.replace("/", "\\"),
        "folders": f"C:/data/faces/{name}",
    }.get(how, name)


def written(rows, separator=",", encoding="utf-8", quoting=csv.QUOTE_MINIMAL, end="\n", pad=""):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows(
        [[f"{pad}{cell}{pad}" if cell else cell for cell in row] for row in rows]
    )
    return text.getvalue().encode(encoding, "replace")


@given(
    encodings,
    separators,
    truths,
    namings,
    st.sampled_from(["image", "", "Unnamed: 0", "Datei", "file name"]),
    st.booleans(),  # an index column of pandas
    st.booleans(),  # decimal commas
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", " "]),
)
@examples(max_examples=200, deadline=None)
def test_a_table_of_labels_is_read_however_it_is_written(
    tmp_path_factory, encoding, separator, truth, naming, first, index, comma, quoting, end, pad
):
    if encoding == "cp1252" and naming == "NFD":
        return  # cp1252 has no combining accents
    rows = [[first, *LABELS[0]]]
    for face, (smile, age) in zip(IDS, LABELS[1:], strict=True):
        flag = truth[0] if smile == "1" else truth[1]
        rows.append([named(face, naming), flag, age.replace(".", ",") if comma else age])
    if index:
        rows = [["", *rows[0]], *([str(n), *row] for n, row in enumerate(rows[1:]))]
    path = tmp_path_factory.mktemp("t") / "labels.csv"
    path.write_bytes(written(rows, separator, encoding, quoting, end, pad))
    told = []
    names, values = read_attributes(str(path), IDS, told)
    assert names == ["smile", "age"]
    assert np.array_equal(values, EXPECTED)
    assert told == [f"data.attributes={path}: 4 of 4 images matched"]


def test_a_separator_that_a_spreadsheet_names_is_taken(tmp_path):
    path = write(tmp_path / "l.csv", b"sep=;\r\nimage;a\r\nx y.jpeg;0,5\r\n")
    assert read_attributes(str(path), IDS)[1][3].tolist() == [0.5]


def test_both_sides_that_match_nothing_are_told_with_an_example(tmp_path):
    path = write(tmp_path / "l.csv", b"image,a\nAnn_0001.jpg,1\nbob.jpg,0\n")
    told = []
    read_attributes(str(path), IDS, told)
    counted = "1 of 4 images matched; no row for Ann/Ann_0002.jpg; 1 rows without an image, such as bob.jpg"
    assert told == [f"data.attributes={path}: {counted}"]


def test_labels_without_a_value_stop(tmp_path):
    path = write(tmp_path / "l.csv", b"image,a,b\nAnn_0001.jpg,,nan\nx y.jpeg,NA,\n")
    with pytest.raises(BadInput, match=r"l.csv: every value of the matched rows is empty; must have values"):
        read_attributes(str(path), IDS)
    with pytest.raises(BadInput, match=r"task.attribute=a: no face has a known value"):
        values_of((["a"], np.full((3, 1), np.nan, np.float32)), "a")


# ------------------------------------------------------------------------------------------------------- CelebA


def celeba_rows(stem):
    text = celeba_tables()[f"{stem}.txt"].decode().splitlines()
    rows = [line.split() for line in text]
    return rows[1:] if len(rows[0]) == 1 else rows


HABITS = {
    "commas": {"separator": ","},
    "semicolons": {"separator": ";"},
    "tabs": {"separator": "\t"},
    "byte order mark": {"encoding": "utf-8-sig"},
    "utf-16": {"encoding": "utf-16", "separator": "\t"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "spaces around cells": {"pad": " "},
    "index": {},
    "no header": {},
    "true and false": {},
    "no ending": {},
    "png": {},
    "upper case": {},
}


def habitual(stem, habit):
    rows, first = celeba_rows(stem), [["image_id", "value"]]
    if stem == "list_attr_celeba":
        first, rows = [["image_id", *CELEBA_ATTRIBUTES]], rows[1:]
        if habit == "true and false":
            rows = [[row[0], *({"1": "True", "-1": "False"}[cell] for cell in row[1:])] for row in rows]
    rows = [[{"no ending": row[0][:6], "upper case": row[0].upper()}.get(habit, row[0]), *row[1:]] for row in rows]
    rows = rows if habit == "no header" and stem != "list_attr_celeba" else first + rows
    if habit == "index":
        rows = [["", *rows[0]], *([str(n), *row] for n, row in enumerate(rows[1:]))]
    return written(rows, **HABITS[habit])


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("ending", ["csv", "txt"])
def test_celebas_tables_are_read_however_they_are_written(tmp_path, habit, ending):
    files = celeba_files()
    if habit == "png":
        files = {name.replace(".jpg", ".png"): encode(picture(n, 20, 16), "PNG") for n, name in enumerate(files)}
    put(files, tmp_path / "celeba", "img_align_celeba")
    stems = ("list_attr_celeba", "identity_CelebA", "list_eval_partition")
    put({f"{stem}.{ending}": habitual(stem, habit) for stem in stems}, tmp_path / "celeba")
    source = Celeba(str(tmp_path / "celeba"))
    assert [face.identity for face in source.faces] == [str(n // 2) for n in range(12)]
    assert [face.split for face in source.faces] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    names, values = source.attributes()
    assert names == CELEBA_ATTRIBUTES
    assert values[:, -1].tolist() == [0, 1] * 6
    assert source.told == [f"{stem}.{ending}: 12 of 12 images matched" for stem in (stems[1], stems[2], stems[0])]


@pytest.mark.parametrize(
    ("stem", "text", "reason"),
    [
        ("identity_CelebA", "x1.jpg 1\nx2.jpg 2\n", r"no row names an image of the dataset \(x1.jpg, 000001.jpg\)"),
        ("identity_CelebA", "000001.jpg 1\n000001.jpg 2\n", "000001.jpg has 2 rows; must be one"),
        ("list_eval_partition", "000001.jpg 0\n000002.jpg 7\n", "line 2: the partition is '7'; must be 0, 1 or 2"),
        ("list_attr_celeba", "a b\n000001.jpg 1 maybe\n", "line 2: b is 'maybe'; must be 1, -1, 0, true or false"),
        ("list_attr_celeba", "a b\n000001.jpg 1 2\n", "line 2: b is '2'; must be 1, -1, 0, true or false"),
        ("list_attr_celeba", "2\na b\n000001.jpg 1 1\n000002.jpg 1\n", r"1 values for 000002.jpg, must be 2 .*line 4"),
        ("list_attr_celeba", "<html>\n", "must have a line of names and one per image"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path, stem, text, reason):
    put(celeba_files(), tmp_path / "celeba")
    write(tmp_path / f"celeba/{stem}.txt", text.encode())
    with pytest.raises(BadInput, match=rf"{stem}.txt: {reason}") as caught:
        Celeba(str(tmp_path / "celeba"))
    assert "\n" not in str(caught.value)


def test_rows_that_say_the_same_twice_are_no_clash(tmp_path):
    put(celeba_files(), tmp_path / "celeba")
    text = celeba_tables()["identity_CelebA.txt"]
    write(tmp_path / "celeba/identity_CelebA.txt", text + text)
    assert Celeba(str(tmp_path / "celeba")).told == ["identity_CelebA.txt: 12 of 12 images matched"]


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_the_table_of_lfw_is_read_however_it_is_written(tmp_path, separator):
    comma = separator == ";"
    rows = [["person", "imagenum", "Male", "Black Hair"], ["Person 0", "1", "1.5", "-0.25"]]
    rows += [["Person 1", "2", "-1e-3", "3.75"], ["Nobody", "1", "1", "1"]]
    rows = [[cell.replace(".", ",") if comma else cell for cell in row] for row in rows]
    put(lfw_files(2), tmp_path / "lfw")
    write(tmp_path / "lfw_attributes.txt", written(rows, separator))
    source = Lfw(str(tmp_path / "lfw"))
    names, values = source.attributes()
    assert names == ["Male", "Black_Hair"]
    assert np.array_equal(values, np.array([[1, 0], [np.nan] * 2, [0, 1]]), equal_nan=True)
    assert source.told[0].startswith("lfw_attributes.txt: 2 of 3 images matched; no row for Person_1/Person_1_0001.jpg")


# ------------------------------------------------------------------------------------------------------ manifests


def cut_rows(separator, encoding, quoting, comma, index, lost):
    names = [*manifest.COLUMNS]
    rows = [["", *names] if index else names]
    for n in range(6):
        row = manifest.Row(f"ä{n}.png", "p.jpg", 1, ("accepted", "rejected")[n == 4], "", "yunet", 0.912345)
        row.frame_x, row.photo_w = 12.5, 640
        cells = ["" if (value := getattr(row, name)) is None else str(value) for name in names]
        cells = [cell.replace(".", ",") if comma and "." in cell and cell[0].isdigit() else cell for cell in cells]
        cells[names.index("score")] = lost or cells[names.index("score")]
        rows.append([str(n), *cells] if index else cells)
    return written(rows, separator, encoding, quoting, "\r\n")


@given(
    separators,
    encodings,
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "12. Mai", "#REF!", "nan", "9e99"]),
    st.sampled_from(["NFC", "NFD"]),
)
@examples(max_examples=80, deadline=None)
def test_rejected_faces_never_train_whatever_saved_the_manifest(
    tmp_path_factory, separator, encoding, quoting, comma, index, lost, form
):
    folder = tmp_path_factory.mktemp("m")
    put({unicodedata.normalize(form, f"ä{n}.png"): encode(picture(n, 8, 8), "PNG") for n in range(6)}, folder)
    write(folder / manifest.NAME, cut_rows(separator, encoding, quoting, comma, index, lost))
    assert [face.id for face in Crops(str(folder)).faces] == [f"ä{n}.png" for n in range(6) if n != 4]
    read = list(manifest.read(folder / manifest.NAME))
    assert {row.frame_x for row in read} == {12.5}
    assert {row.score for row in read} == {None if lost else 0.912345}
    assert [row.face for row in read] == [f"ä{n}.png" for n in range(6)]


# -------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("habit", ["true and false", "no ending", "index"])
def test_training_says_how_many_labels_matched(tmp_path, habit):
    put(celeba_files(), tmp_path / "celeba", "img_align_celeba")
    write(tmp_path / "celeba/list_attr_celeba.csv", habitual("list_attr_celeba", habit))
    labels = write(tmp_path / "labels.csv", b"name;glad\n000001;1\n000002;0\n")
    data = face_data(
        tmp_path / "celeba", Celeba, cache=str(tmp_path / "cache"), size=8, batch_size=1, attributes=str(labels)
    )
    data.prepare(progress=False)
    assert data.summary()["attributes"]["Young"] == 0.5
    assert data.summary()["tables"] == [
        "list_attr_celeba.csv: 12 of 12 images matched",
        f"data.attributes={labels}: 2 of 12 images matched; no row for 000003.jpg",
    ]


@given(st.text("01,.-+e ", min_size=1, max_size=8))
def test_what_is_a_number_with_a_point_is_that_number(text):
    try:
        expected = float(text)
    except ValueError:
        return
    assert tables.decimal(text) == expected


@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_a_decimal_comma_is_a_decimal_point(value):
    text = f"{value:.4f}"
    assert tables.decimal(text.replace(".", ",")) == tables.decimal(text) == float(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,200.5", 1200.5),
        ("1.200,5", 1200.5),
        ("1\u00a0200,5", 1200.5),
        ("1'200.5", 1200.5),
        ("\u22121", -1.0),
        ("1_0", None),
    ],
)
def test_marks_of_thousands_are_no_points(text, value):
    assert tables.decimal(text) == value


@pytest.mark.parametrize(
    "unknown", ["-", "?", "None", "#N/A", "NaT", "missing", ".", "inf", "n.a.", "\u2014", "#WERT!"]
)
def test_unknown_values_leave_a_column_of_numbers(tmp_path, unknown):
    path = write(tmp_path / "l.csv", f"image,age\nAnn_0001.jpg,20.5\nAnn_0002.jpg,{unknown}\nx y.jpeg,30\n".encode())
    names, values = read_attributes(str(path), IDS)
    assert names == ["age"]
    assert np.array_equal(values[:, 0], [20.5, np.nan, np.nan, 30], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ann_0001.jpg,1\nAnn_0002.jpg,0\n", "begins with Ann_0001.jpg; must have a header"),
        ("image,a,a\nAnn_0001.jpg,1,2\n", "two columns 'a'; rename one"),
    ],
)
def test_headers_that_are_none(tmp_path, text, reason):
    with pytest.raises(BadInput, match=reason):
        read_attributes(str(write(tmp_path / "l.csv", text.encode())), IDS)


@pytest.mark.parametrize("before", ["sep=,\n", "\n \n", "My faces\n", "twice", "no header"])
def test_a_manifest_that_is_read_is_obeyed_and_another_stops(tmp_path, before):
    put({f"ä{n}.png": encode(picture(n, 8, 8), "PNG") for n in range(6)}, tmp_path)
    text = cut_rows(",", "utf-8", csv.QUOTE_MINIMAL, False, False, "").decode()
    text = text + text.splitlines()[-1] if before == "twice" else before + text
    text = text.split("\n", 1)[1] if before == "no header" else text
    write(tmp_path / manifest.NAME, text.encode())
    if before[0] in "s\n":
        assert len(Crops(str(tmp_path)).faces) == 5
        return
    with pytest.raises(BadInput, match=r"manifest.csv: (no column|ä5.png has two rows)"):
        Crops(str(tmp_path))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty file"),
        (b"PK\3\4" + bytes(90), "unknown format"),
        (b"<!DOCTYPE html>\n<p>face, verdict</p>\n<p>a, accepted</p>", "HTML page"),
        (b'{"face": "0.png", "verdict": "accepted"}\n{"face": "1.png", "verdict": "rejected"}\n', "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "text"),
    ],
    ids=["nothing", "workbook", "HTML", "JSON", "git-lfs"],
)
def test_what_has_the_name_of_a_manifest_and_is_no_table_stops(tmp_path, data, found):
    put({f"{n}.png": encode(picture(n, 8, 8), "PNG") for n in range(6)}, tmp_path)
    write(tmp_path / "Manifest.csv", data)
    with pytest.raises(BadInput, match=rf"Manifest.csv: no table of faces \({found}\); must be as"):
        Crops(str(tmp_path))


def test_a_table_of_another_program_with_the_name_of_a_manifest_is_none(tmp_path):
    put({f"{n}.png": encode(picture(n, 8, 8), "PNG") for n in range(6)}, tmp_path)
    write(tmp_path / manifest.NAME, b"image,label\n0.png,cat\n1.png,dog\n")
    assert len(Crops(str(tmp_path)).faces) == 6
    assert not any("cut by faceforge" in line for line in check(tmp_path).lines)


@pytest.mark.parametrize("header", ["face,verdict", "Gesicht,Urteil", "image,n"])
def test_a_manifest_that_lost_most_columns_stops(tmp_path, header):
    put({f"{n}.png": encode(picture(n, 8, 8), "PNG") for n in range(6)}, tmp_path)
    write(tmp_path / manifest.NAME, f"{header}\n0.png,accepted\n1.png,rejected\n".encode())
    with pytest.raises(BadInput, match=r"manifest.csv: no column \w+; keep the original header line"):
        Crops(str(tmp_path))


@pytest.mark.parametrize("inside", ["", "a/"])
def test_a_manifest_that_names_no_image_stops(tmp_path, inside):
    put({f"{inside}{n}.png": encode(picture(n, 8, 8), "PNG") for n in range(6)}, tmp_path)
    rows = [manifest.Row(f"/home/me/{n}.png", "p.jpg", 1, ("accepted", "rejected")[n == 4], "") for n in range(6)]
    manifest.write(tmp_path / inside / manifest.NAME, rows)
    with pytest.raises(BadInput, match=r"manifest.csv: no row names an image of its folder \(/home/me/0.png, 0.png\)"):
        Crops(str(tmp_path))


def test_a_manifest_whose_faces_all_wait_in_review_leaves_other_images(tmp_path):
    put({name: encode(picture(n, 8, 8), "PNG") for n, name in enumerate(["0.png", "_review/rejected/1.png"])}, tmp_path)
    manifest.write(tmp_path / manifest.NAME, [manifest.Row("1.png", "p.jpg", 1, "rejected", "")])
    assert [face.id for face in Crops(str(tmp_path)).faces] == ["0.png"]


@pytest.mark.parametrize("word", ["~20", ">20", "20 years", "x", "12:30"])
def test_a_word_among_numbers_stops_and_words_alone_are_labels(tmp_path, word):
    path = write(tmp_path / "l.csv", f"image,age\nAnn_0001.jpg,20.5\nAnn_0002.jpg,{word}\nx y.jpeg,30\n".encode())
    with pytest.raises(BadInput, match=rf"row 3: age is '{word}'; must be a number or empty"):
        read_attributes(str(path), IDS)
    path = write(tmp_path / "l.csv", f"image,age\nAnn_0001.jpg,yes\nAnn_0002.jpg,{word}\nx y.jpeg,no\n".encode())
    assert read_attributes(str(path), IDS)[0] == [f"age={text}" for text in sorted(["yes", "no", word])]


@given(st.binary(max_size=200))
@examples(max_examples=300, deadline=None)
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "any.csv", data)
    said = str(path)
    try:
        read_attributes(str(path), IDS)
    except BadInput as error:
        said = str(error)
    assert "\n" not in said
    assert str(path) in said


def test_cells_of_several_lines_are_told_in_one(tmp_path):
    for text in ('image,a\n"two\nlines",1\n', '"im\nage",a\n"x\ny",1\nx y.jpeg,2\n', 'image,"a\nb"\nx y.jpeg,\n'):
        path, told = write(tmp_path / "l.csv", text.encode()), []
        try:
            read_attributes(str(path), IDS, told)
        except BadInput as error:
            told.append(str(error))
        assert told
        assert "\n" not in told[0]
