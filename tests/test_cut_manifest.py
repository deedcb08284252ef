"""The manifest as programs, people and spreadsheets leave it; edits told from what was written, at any kill."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from faceforge.cut.edits import FRAME, Ledger, applied
from faceforge.cut.work import REVIEW, Settings
from faceforge.errors import BadInput
from faceforge.io import manifest, tables
from faceforge.io.manifest import COLUMNS, VERDICTS, Row, read, rounded, write

SETTINGS = Settings(480, 360, "yunet", False, 1.0, 20)
NAMES = (
    "plain.jpg",
    'a "quoted", comma;semicolon.jpg',
    "Ünïcode 面 وجه 🙂.jpg",
    " spaces .jpg",
    "line\nbreak.jpg",
    "=1+1.jpg",
)


def make_row(n=0, **changes):
    name = f"p{n}.jpg"
    row = Row(f"{name}-1.png", name, 1, "accepted", "", "yunet", 0.912345, quarter=0)
    row.box_x, row.box_y, row.box_w, row.box_h = 100.5, 90.25, 60.0, 80.0
    row.frame_x, row.frame_y, row.frame_w, row.frame_h, row.frame_angle = 300.0, 250.0, 150.0, 200.0, 0.0
    row.moved, row.shrunk, row.scale, row.sharpness = 0.25, 0.5, 2.4, 123.456
    row.photo_w, row.photo_h, row.source_sha256 = 640, 480, f"{n:064x}"
    return replace(row, **changes)


def without_face(n):
    return Row("", f"p{n}.jpg", 0, "none", "no face found", photo_w=640, photo_h=480, source_sha256=f"{n:064x}")


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def store(path, rows, delimiter=",", end="\n", encoding="utf-8", **more):
    """As another program writes it."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, **more).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


# --------------------------------------------------------------------------------------------------------- round trip

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
numbers = st.floats(-1e9, 1e9, allow_nan=False)
_OF = {"str": texts, "float | None": st.none() | numbers, "int | None": st.none() | st.integers(-(10**9), 10**9)}
faces = st.builds(
    Row,
    **{field.name: _OF[str(field.type)] for field in fields(Row) if field.name not in ("n", "verdict")},
    n=st.integers(1, 10**6),
    verdict=st.sampled_from(VERDICTS),
)
photos = st.builds(Row, face=st.just(""), source=texts, n=st.just(0), verdict=st.just("none"), reason=texts)


@given(st.lists(faces | photos, max_size=4))
@examples(max_examples=60, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("m") / "manifest.csv"
    assert write(path, iter(rows)) == len(rows)
    expected = [rounded(row) for row in rows]
    assert list(read(path)) == expected
    assert [rounded(row) for row in expected] == expected
    before = path.read_bytes()
    write(path, expected)
    assert path.read_bytes() == before


@given(numbers)
def test_numbers_keep_six_digits(value):
    row = rounded(make_row(score=value))
    assert row.score == pytest.approx(value, rel=5.1e-6, abs=1e-300)
    assert rounded(row) == row


def test_every_kind_of_name(tmp_path):
    rows = [make_row(n, source=name, face=f"{name}-1.png", reason=name) for n, name in enumerate(NAMES)]
    write(tmp_path / "m.csv", rows)
    assert [(row.source, row.face, row.reason) for row in read(tmp_path / "m.csv")] == [
        (name, f"{name}-1.png", name) for name in NAMES
    ]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("break_", ["\r", "\r\n", "\n"])
def test_line_ends_within_a_cell_are_one_kind(tmp_path, break_):
    write(tmp_path / "m.csv", [make_row(reason=f"two{break_}lines"), make_row(1)])
    assert [row.reason for row in read(tmp_path / "m.csv")] == ["two\nlines", ""]


def test_the_file_is_plain_csv(tmp_path):
    write(tmp_path / "m.csv", [make_row(), without_face(1)])
    head, face, photo = table(tmp_path / "m.csv")
    assert tuple(head) == COLUMNS == tuple(field.name for field in fields(Row))
    assert dict(zip(head, face, strict=True))["score"] == "0.912345"
    assert [value for value in photo if value] == ["p1.jpg", "0", "none", "no face found", "640", "480", "0" * 63 + "1"]
    assert (tmp_path / "m.csv").read_bytes().count(b"\n") == 3
    assert write(tmp_path / "none.csv", []) == 0
    assert list(read(tmp_path / "none.csv")) == []


def test_reading_is_a_stream(tmp_path):
    path = tmp_path / "m.csv"
    write(path, [make_row(n) for n in range(3)])
    path.write_text(path.read_text() + "nonsense\n")
    rows = read(path)
    assert [next(rows).source for _ in range(3)] == ["p0.jpg", "p1.jpg", "p2.jpg"]
    with pytest.raises(BadInput, match="row 5"):
        next(rows)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.csv"
    write(path, [make_row()])

    def broken():
        yield make_row(1)
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError):
        write(path, broken())
    assert list(read(path)) == [rounded(make_row())]
    assert [file.name for file in tmp_path.iterdir()] == ["m.csv"]


# -------------------------------------------------------------------------------------------------------- spreadsheets


@pytest.mark.parametrize(
    "habit", ["bom", "semicolons", "tabs", "crlf", "quotes", "order", "more columns", "blank lines", "all"]
)
def test_spreadsheets_have_habits(tmp_path, habit):
    path = tmp_path / "m.csv"
    rows = [make_row(n, source=name, reason=f"{name}, {n}") for n, name in enumerate(NAMES)] + [without_face(99)]
    write(path, rows)
    expected, lines = list(read(path)), table(path)
    if habit in ("order", "all"):
        lines = [line[::-1] for line in lines]
    if habit in ("more columns", "all"):
        lines = [["note", *line, "mine"] if n == 0 else ["=A1,;", *line, ""] for n, line in enumerate(lines)]
    if habit in ("blank lines", "all"):
        lines = [*lines[:2], [], *lines[2:], []]
    many = habit == "all"
    store(
        path,
        lines,
        delimiter="\t" if habit == "tabs" else ";" if many or habit == "semicolons" else ",",
        end="\r\n" if many or habit == "crlf" else "\n",
        encoding="utf-8-sig" if many or habit == "bom" else "utf-8",
        quoting=csv.QUOTE_ALL if many or habit == "quotes" else csv.QUOTE_MINIMAL,
    )
    assert list(read(path)) == expected


def known(text):
    return manifest.is_one(tables.first_rows(io.BytesIO(text.encode())))


def test_a_manifest_is_known_by_its_first_rows():
    assert known(",".join(COLUMNS) + "\n")
    assert known("\ufeff" + ";".join(COLUMNS[::-1]) + "\r\n")
    assert known(",".join(f'"{name}"' for name in COLUMNS) + "\n")
    assert known("\t".join(f" {name.upper()} " for name in COLUMNS) + "\n")
    assert known("sep=;\n\n" + ";".join(COLUMNS) + "\n")
    assert known("my faces\n" + ",".join(COLUMNS) + "\n")
    assert not known("image,Smiling,Male\n")
    assert not known("")


def nonsense(tmp_path, column, value, row=1):
    write(tmp_path / "m.csv", [make_row(n) for n in range(3)])
    lines = table(tmp_path / "m.csv")
    lines[row][COLUMNS.index(column)] = value
    store(tmp_path / "m.csv", lines)
    with pytest.raises(BadInput) as caught:
        list(read(tmp_path / "m.csv"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "right"),
    [
        ("frame_x", "nan", "a number"),
        ("frame_y", "-inf", "a number"),
        ("frame_h", "1e300", "a number"),
        ("frame_x", "12 px", "a number"),
        ("frame_angle", "12. Mai", "a number"),
        ("frame_w", "#REF!", "a number"),
        ("n", "", "a whole number"),
        ("n", "1.0", "a whole number"),
        ("n", "9" * 5000, "a whole number"),
        ("n", "99999999999", "a whole number"),
    ],
)
def test_numbers_that_are_none(tmp_path, column, value, right):
    message = nonsense(tmp_path, column, value, 2)
    assert f"m.csv: row 3: {column} is " in message
    assert f"must be {right}" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("score", "0,93", 0.93),
        ("frame_x", "1.234,5", 1234.5),
        ("score", "nan", None),
        ("box_x", "-inf", None),
        ("sharpness", "12. Mai", None),
        ("photo_w", "6e2", None),
        ("quarter", "left", None),
        ("photo_h", "9" * 5000, None),
        ("eyes", "99999999999", None),
    ],
)
def test_numbers_as_spreadsheets_leave_them(tmp_path, column, value, found):
    """A decimal comma is read; a damaged number that nobody may edit is no error."""
    write(tmp_path / "m.csv", [make_row(n) for n in range(3)])
    lines = table(tmp_path / "m.csv")
    lines[2][COLUMNS.index(column)] = value
    store(tmp_path / "m.csv", lines)
    rows = list(read(tmp_path / "m.csv"))
    assert getattr(rows[1], column) == found
    assert rows[0] == rounded(make_row(0))


@pytest.mark.parametrize("verdict", ["", "accept", "Accepted", "none", "yes"])
def test_verdicts_that_are_none(tmp_path, verdict):
    message = nonsense(tmp_path, "verdict", verdict)
    assert f"row 2: verdict {verdict!r}; must be accepted or doubtful or rejected" in message


def test_a_photo_without_a_face_cannot_be_accepted(tmp_path):
    write(tmp_path / "m.csv", [replace(without_face(1), verdict="accepted")])
    with pytest.raises(BadInput, match="row 2: verdict 'accepted'; must be none"):
        list(read(tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "no column face"),
        (lambda text: text.replace("verdict", "Urteil", 1), "no column verdict"),
        (lambda text: text.split("\n", 1)[1], "no column"),
        (lambda text: text.replace("person,", "verdict,", 1), "two columns verdict"),
        (lambda text: text[:-90] + "\n", "row 4: "),  # cut short
        (lambda text: text.replace("p1.jpg,1", 'p1.jpg,"1"x', 1), "as CSV after row 2"),
        (lambda text: text.rstrip("\n") + ',"', "as CSV after row 3"),
        (lambda text: text.replace("\n", ",extra\n").replace(",extra", "", 1), "row 2: 49 values, the header has 48"),
    ],
)
def test_other_nonsense_is_one_line(tmp_path, change, message):
    path = tmp_path / "m.csv"
    write(path, [make_row(n) for n in range(3)])
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput) as caught:
        list(read(path))
    assert message in str(caught.value).replace(str(len(COLUMNS)), "48").replace(str(len(COLUMNS) + 1), "49")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_another_encoding_is_read(tmp_path, encoding):
    write(tmp_path / "m.csv", [make_row(), make_row(1, reason="schön")])
    (tmp_path / "m.csv").write_bytes((tmp_path / "m.csv").read_text("utf-8").encode(encoding))
    assert [row.reason for row in read(tmp_path / "m.csv")] == ["", "schön"]
    with pytest.raises(BadInput, match=r"gone\.csv: cannot be read \(No such file"):
        list(read(tmp_path / "gone.csv"))


@given(st.data())
@examples(max_examples=80, deadline=None)
def test_whatever_happens_to_the_bytes_is_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("m") / "manifest.csv"
    write(path, [make_row(0, reason='a "b",\nc'), without_face(1)])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(raw))
    message = str(path)
    try:
        assert all(isinstance(row, Row) for row in read(path))
    except BadInput as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message


# --------------------------------------------------------------------------------------------------------------- edits


def cut(target, rows, settings=SETTINGS):
    """What a cut does with its manifest: gather the edits, obey them, write. The edits."""
    (target / REVIEW).mkdir(parents=True, exist_ok=True)
    ledger = Ledger(target)
    edits = ledger.collect(settings)
    ledger.write(applied(rounded(row), edits, settings) for row in rows)
    return edits


def edit(target, n, **changes):
    """What a person does to the row of face n."""
    path = target / "manifest.csv"
    lines = table(path)
    for line in lines:
        if line[0] == f"p{n}.jpg-1.png":
            for name, value in changes.items():
                line[COLUMNS.index(name)] = str(value)
    store(path, lines)


def by_face(target):
    return {row.face: row for row in read(target / "manifest.csv") if row.n}


def face_of(n):
    return f"p{n}.jpg-1.png"


ROWS = [make_row(n) for n in range(4)] + [without_face(9)]


def test_without_an_edit_there_is_none(tmp_path):
    assert cut(tmp_path, ROWS) == {}
    assert cut(tmp_path, ROWS) == {}
    assert not (tmp_path / REVIEW / "edits.json").exists()
    assert sorted(p.name for p in (tmp_path / REVIEW).iterdir()) == ["manifest.csv"]


def test_edits_last(tmp_path):
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, verdict="rejected")
    edit(tmp_path, 2, verdict="doubtful", reason="who is this, really?", person="Ann")
    expected = {
        face_of(1): {"verdict": "rejected", "reason": "by hand", "of": ROWS[1].source_sha256},
        face_of(2): {
            "verdict": "doubtful",
            "reason": "who is this, really?",
            "person": "Ann",
            "of": ROWS[2].source_sha256,
        },
    }
    for _ in range(3):
        assert cut(tmp_path, ROWS) == expected
        found = by_face(tmp_path)
        assert (found[face_of(1)].verdict, found[face_of(1)].reason) == ("rejected", "by hand")
        assert (found[face_of(2)].reason, found[face_of(2)].person) == ("who is this, really?", "Ann")
        assert found[face_of(0)] == rounded(ROWS[0])


def test_an_edit_can_be_taken_back(tmp_path):
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, verdict="rejected")
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, verdict="accepted", reason="")
    cut(tmp_path, ROWS)
    assert by_face(tmp_path)[face_of(1)] == rounded(ROWS[1])


def test_edits_hold_against_what_the_command_finds_later(tmp_path):
    soft = [replace(row, verdict="doubtful", reason="blurred") if row.n else row for row in ROWS]
    cut(tmp_path, soft)
    edit(tmp_path, 1, verdict="accepted", reason="I know her")
    cut(tmp_path, [replace(row, reason="blurred; looks like p0") if row.n else row for row in soft])
    assert by_face(tmp_path)[face_of(1)].reason == "I know her"
    verdicts = {face: row.verdict for face, row in by_face(tmp_path).items()}
    assert verdicts == {face_of(n): "accepted" if n == 1 else "doubtful" for n in range(4)}


def test_what_a_spreadsheet_does_by_itself_is_no_edit(tmp_path):
    cut(tmp_path, ROWS)
    lines = table(tmp_path / "manifest.csv")
    lines = [lines[0], *reversed(lines[1:])]
    for line in lines[1:]:
        line[COLUMNS.index("frame_angle")] = line[COLUMNS.index("frame_angle")] and "0.00"
        line[COLUMNS.index("frame_w")] = line[COLUMNS.index("frame_w")] and "1.5e+02"
        line[COLUMNS.index("source_sha256")] = "0"  # a long number
        line[COLUMNS.index("photo_w")] = "1"
        line[COLUMNS.index("sharpness")] = ""
    store(tmp_path / "manifest.csv", lines, ";", "\r\n", "utf-8-sig")
    assert cut(tmp_path, ROWS) == {}
    assert list(by_face(tmp_path).values()) == [rounded(row) for row in ROWS if row.n]


def test_a_row_that_was_deleted_comes_back(tmp_path):
    cut(tmp_path, ROWS)
    lines = table(tmp_path / "manifest.csv")
    store(tmp_path / "manifest.csv", [*lines[:2], *lines[3:]])
    assert cut(tmp_path, ROWS) == {}
    assert face_of(1) in by_face(tmp_path)


def test_an_edited_frame(tmp_path):
    cut(tmp_path, ROWS)
    edit(tmp_path, 0, frame_x="100.1234567", frame_w="75", frame_h="100", frame_angle="-10")
    edits = cut(tmp_path, ROWS)
    assert {name: edits[face_of(0)][name] for name in FRAME} == {
        "frame_x": 100.1234567,
        "frame_y": 250.0,
        "frame_w": 75.0,
        "frame_h": 100.0,
        "frame_angle": -10.0,
    }
    row = by_face(tmp_path)[face_of(0)]
    assert (row.frame_x, row.frame_w, row.scale, row.moved, row.shrunk) == (100.123, 75.0, 4.8, 0.0, 1.0)
    assert cut(tmp_path, ROWS) == edits
    assert by_face(tmp_path)[face_of(0)] == row


def test_edits_of_a_photo_that_changed_are_void(tmp_path):
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, verdict="rejected", frame_x=310)
    cut(tmp_path, ROWS)
    other = [replace(row, source_sha256="f" * 64, frame_x=200.0) if row is ROWS[1] else row for row in ROWS]
    cut(tmp_path, other)
    assert by_face(tmp_path)[face_of(1)] == rounded(other[1])
    edit(tmp_path, 1, verdict="doubtful")  # an edit of the new photo does not revive the frame in the old one
    assert cut(tmp_path, other)[face_of(1)] == {"verdict": "doubtful", "reason": "by hand", "of": "f" * 64}
    assert by_face(tmp_path)[face_of(1)].frame_x == 200.0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"frame_w": ""}, "row 3: the frame has an empty column"),
        ({"frame_w": "0", "frame_h": "0"}, "at least 1 x 1"),
        ({"frame_w": "-150", "frame_h": "-200"}, "at least 1 x 1"),
        ({"frame_w": "150", "frame_h": "150"}, "frame of 150 x 150 for crops of 360x480; must be 150 x 200"),
        ({"frame_w": "155"}, "must be 155 x 206.667"),
        ({"frame_x": "50"}, "leaves the photo of 640 x 480 by 25 pixels; move or shrink it"),
        ({"frame_y": "430"}, "by 50 pixels"),
        ({"frame_x": "-9999"}, "leaves the photo"),
        ({"frame_w": "600", "frame_h": "800"}, "leaves the photo"),
        ({"frame_y": "379.9", "frame_angle": "20"}, "by 19.5"),  # straight it would lie inside
        ({"frame_x": "9999", "photo_w": "99999"}, "640 x 480"),  # the photo is as large as it is
        ({"verdict": "maybe"}, "verdict 'maybe'"),
        ({"frame_x": "1e12"}, "frame_x is '1e12'"),
        ({"face": "p0.jpg-1.png"}, "p0.jpg-1.png has another row"),
        ({"face": "new.png"}, "no such face: new.png; rows can be edited, not added"),
    ],
)
def test_edits_that_make_no_sense_change_nothing(tmp_path, changes, complaint):
    cut(tmp_path, ROWS)
    edit(tmp_path, 2, verdict="rejected")
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, **changes)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as caught:
        cut(tmp_path, ROWS)
    assert complaint in str(caught.value)
    assert f"{tmp_path / 'manifest.csv'}: row 3: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("angle", [0, 20, 90, -135])
def test_a_frame_may_fill_the_photo(tmp_path, angle):
    """The largest frames of any turn are taken, what is a pixel larger is not."""
    cut(tmp_path, ROWS)
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    w = min(640 / (cos + sin * 4 / 3), 480 / (sin + cos * 4 / 3))
    edit(tmp_path, 1, frame_x=320, frame_y=240, frame_w=f"{w:.6g}", frame_h=f"{w * 4 / 3:.6g}", frame_angle=angle)
    assert cut(tmp_path, ROWS)[face_of(1)]["frame_x"] == 320
    edit(tmp_path, 1, frame_w=w + 2, frame_h=(w + 2) * 4 / 3)
    with pytest.raises(BadInput, match="leaves the photo"):
        cut(tmp_path, ROWS)


def test_the_manifest_edited_during_a_cut_is_kept(tmp_path):
    cut(tmp_path, ROWS)
    ledger = Ledger(tmp_path)
    ledger.collect(SETTINGS)
    edit(tmp_path, 3, verdict="rejected")
    before = (tmp_path / "manifest.csv").read_bytes()
    with pytest.raises(BadInput, match="was edited during the cut; the edit is kept, run the same command again"):
        ledger.write(iter(ROWS))
    assert (tmp_path / "manifest.csv").read_bytes() == before
    assert set(cut(tmp_path, ROWS)) == {face_of(3)}


# ------------------------------------------------------------------------------------------------------------ kills


def killed(target, rows, step):
    """A cut in a process that ends without a word before its ``step``th touch of a file; whether it was that long."""
    child = os.fork()
    if not child:
        touched = 0

        def count(event, _):
            nonlocal touched
            touched += event in ("open", "os.rename", "os.remove")
            if touched > step:
                os._exit(1)

        sys.addaudithook(count)
        try:
            cut(target, rows)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def later(rows):
    """What the command finds after photo 0 was replaced, photo 5 was added, and faces 2 and 3 were judged anew."""
    found = [
        replace(row, verdict="doubtful", reason="looks like p0") if row.source in ("p2.jpg", "p3.jpg") else row
        for row in rows
    ]
    found[0] = replace(found[0], frame_x=200.0, source_sha256="a" * 64)
    return [*found, make_row(5)]


@pytest.mark.parametrize(
    "when", ["both", *(pytest.param(w, marks=pytest.mark.slow) for w in ("never", "before", "after"))]
)
@pytest.mark.parametrize("first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_kill_makes_no_edits_and_loses_none(tmp_path, when, first):
    """A cut is killed at every step, a person edits before or after it (or not): the next finds just those edits."""
    step, more, hers = 0, True, {"verdict": "rejected", "reason": "mine", "person": "Ann"}
    while more:
        target = tmp_path / str(step)
        expected = {}
        if not first:
            cut(target, ROWS)
        if when in ("before", "both") and not first:
            edit(target, 1, verdict="rejected")
            expected[face_of(1)] = {"verdict": "rejected", "reason": "by hand", "of": ROWS[1].source_sha256}
        more = killed(target, later(ROWS), step)
        if when in ("after", "both") and (target / "manifest.csv").exists():
            edit(target, 2, **hers)
            assert by_face(target)[face_of(2)].person == "Ann"
            expected[face_of(2)] = {**hers, "of": ROWS[2].source_sha256}
        found = cut(target, later(ROWS))
        assert found == expected, step
        assert cut(target, later(ROWS)) == found
        rows = by_face(target)
        for row in later(ROWS):
            if row.n and row.face not in expected:
                assert rows[row.face] == rounded(row), step
        if face_of(2) in expected:
            assert (rows[face_of(2)].verdict, rows[face_of(2)].person) == ("rejected", "Ann")
        left = {path.name for path in (target / REVIEW).iterdir() if not path.name.startswith(".")}
        assert left == {"manifest.csv", *(["edits.json"] if expected else [])}
        step += 1
    assert step > 8


@pytest.mark.slow
def test_two_kills_and_an_edit_after_each(tmp_path):
    """The hardest case: killed between the two files, edited, killed again, edited again."""
    for steps in ((s, t) for s in range(4, 34, 3) for t in range(1, 34, 4)):
        target = tmp_path / f"{steps[0]}-{steps[1]}"
        cut(target, ROWS)
        killed(target, later(ROWS), steps[0])
        edit(target, 1, verdict="rejected")
        killed(target, later(ROWS), steps[1])
        edit(target, 3, verdict="rejected", reason="no")
        edits = cut(target, later(ROWS))
        assert set(edits) == {face_of(1), face_of(3)}, steps
        rows = by_face(target)
        assert [rows[face_of(n)].verdict for n in range(4)] == ["accepted", "rejected", "doubtful", "rejected"]
        assert rows[face_of(0)] == rounded(later(ROWS)[0])


def test_edits_are_plain_json(tmp_path):
    cut(tmp_path, ROWS)
    edit(tmp_path, 1, reason="schöne\nZeile", verdict="rejected")
    cut(tmp_path, ROWS)
    stored = json.loads((tmp_path / REVIEW / "edits.json").read_text())
    assert stored == {
        face_of(1): {"verdict": "rejected", "reason": "schöne\nZeile", "of": ROWS[1].source_sha256},
    }
    assert Path(tmp_path / REVIEW / "edits.json").read_bytes().isascii()
