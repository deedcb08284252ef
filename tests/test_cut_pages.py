"""Pages of a cut as a browser's parser reads them, the numbers behind them against plain computations."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from faceforge.cut import summary
from faceforge.cut.histograms import edges, histogram
from faceforge.cut.pages import crop, thumb, write_pages
from faceforge.cut.summary import Mean, Measure
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.io import manifest
from faceforge.io.manifest import Row

REASONS = {"accepted": "", "doubtful": "soft: sharpness 21.5", "rejected": "smaller than 40 pixels"}


def make_rows(count: int, faces: Drawn | None = None, seed: int = 0) -> list[Row]:
    """Rows of drawn faces, some of every verdict, a tenth without a face, with values as a job measures them."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        if n % 10 == 9:
            rows.append(Row("", f"trip/{n:06d}.jpg", 0, "none", "no face found"))
            continue
        verdict = ("accepted", "accepted", "accepted", "doubtful", "accepted", "rejected")[n % 6]
        width = float(random.lognormal(5, 0.5))
        factors = (
            faces.factors(n % len(faces.faces)) if faces else {"yaw": random.normal(0, 6), "roll": random.normal(0, 3)}
        )
        row = Row(f"trip/{n:06d}-1.png", f"trip/{n:06d}.jpg", 1, verdict, REASONS[verdict], "yunet")
        row.score, row.box_w, row.box_h = float(random.uniform(0.7, 0.95)), width, width * 1.3
        row.yaw, row.roll = float(np.sin(np.radians(factors["yaw"]))), float(factors["roll"])
        row.scale, row.moved, row.shrunk = 240 / width, float(abs(random.normal(0, 0.05))), 1.0
        row.sharpness, row.brightness = float(random.lognormal(5, 1)), float(random.normal(120, 30))
        row.contrast, row.dominant_colour = float(random.normal(55, 12)), f"#{int(random.integers(0, 2**24)):06x}"
        row.same_as = rows[n - 1].face if n % 25 == 6 else ""
        row.person = f"trip/{n // 30 * 30:06d}-1.png" if n % 3 == 0 else ""
        rows.append(row)
    return rows


def make_cut(dst: Path, count: int, size: tuple[int, int] = (120, 90)) -> list[Row]:
    """A folder as the cut leaves it, of drawn faces."""
    faces = Drawn(count=min(count, 40))
    drawn = [faces.read(n, size) for n in range(len(faces.faces))]
    rows = make_rows(count, faces)
    for n, row in enumerate(rows):
        if row.verdict == "none":
            continue
        picture = drawn[n % len(drawn)]
        for path in (dst / "_review" / thumb(row.face), dst / "_review" / crop(row)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        row.brightness, row.contrast = float(luma.mean()), float(luma.std())
    return rows


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A folder of 430 photos with its pages, and the rows."""
    dst = tmp_path_factory.mktemp("cut")
    rows = make_cut(dst, 430, (40, 30))
    write_pages(dst, lambda: iter(rows), "holiday")
    return dst, rows


class Page(HTMLParser):
    """Elements with their attributes and the text; every element must be closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open += [] if tag in ("img", "link", "meta") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def sheet(review: Path, kind: str) -> list[Page]:
    return [read(path) for path in sorted(review.glob(f"{kind}-*.html"))]


# -------------------------------------------------------------------------------------------------------- pages


def test_every_face_is_on_its_sheet_once_and_in_order(cut):
    dst, rows = cut
    for verdict in manifest.VERDICTS:
        pages = sheet(dst / "_review", verdict)
        shown = [[image["alt"] for image in page.all("img")] for page in pages]
        assert [name for page in shown for name in page] == [row.face for row in rows if row.verdict == verdict]
        assert [len(faces) for faces in shown[:-1]] == [200] * (len(shown) - 1)
        assert all(image["loading"] == "lazy" for page in pages for image in page.all("img"))
    missing = " ".join(page.words for page in sheet(dst / "_review", "without"))
    assert all((row.source in missing) == (row.verdict == "none") for row in rows)


def test_links_lead_somewhere(cut):
    dst, _ = cut
    for path in (dst / "_review").glob("*.html"):
        page = read(path)
        ids = {attributes.get("id") for _, attributes in page.elements}
        for _, attributes in page.elements:
            for target in (attributes.get("src"), attributes.get("href")):
                if target and target.startswith("#"):
                    assert target[1:] in ids
                elif target and target != "data:,":
                    assert (path.parent / unquote(target)).is_file(), target


def test_pages_turn(cut):
    first, second = sheet(cut[0] / "_review", "accepted")
    turns = [[(a["rel"], a["href"]) for a in page.all("a") if "rel" in a] for page in (first, second)]
    assert turns == [[("next", "accepted-0002.html")] * 2, [("prev", "accepted-0001.html")] * 2]
    count = sum(row.verdict == "accepted" for row in cut[1])
    assert f"201 to {count} of {count} accepted faces" in second.words


def test_captions_say_what_is_known(cut):
    _, rows = cut
    row = next(row for row in rows if row.verdict == "doubtful")
    (words,) = [page.words for page in sheet(cut[0] / "_review", "doubtful")]
    for said in (row.face, f"score {row.score:.2f}", f"{row.box_w:.0f} px", f"sharp {row.sharpness:.0f}", row.reason):
        assert said in words


def test_nothing_but_its_own_style_script_and_pictures(cut):
    for path in (cut[0] / "_review").glob("*.html"):
        source = path.read_text(encoding="utf-8")
        page = read(path)
        (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src 'self' file: data:; ")
        for name in ("style", "script"):
            (inside,) = re.findall(rf"<{name}>(.*?)</{name}>", source, re.DOTALL)
            own = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"{name}-src 'sha256-{own}'" in policy
        names = {name for _, attributes in page.elements for name in attributes}
        assert "style" not in names
        assert not [name for name in names if name.startswith("on")]
        assert not re.search(r"https?:|url\(|@import|/tmp/", source)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a b#c?d&amp;e",
    "100%25 %0A",
    "javascript:alert(1)",
    "\u05e9\u05dc\u05d5\u05dd \u202egnp",
    "日本語/猫",
    "two\nlines",
]


def test_any_name(tmp_path):
    rows = make_cut(tmp_path, 9, (16, 12))
    for row, name in zip(rows, HOSTILE, strict=False):
        before = tmp_path / "_review" / thumb(row.face), tmp_path / "_review" / crop(row)
        row.face, row.reason, row.same_as = name.replace("</", "<|") + "-1.png", name, name
        for old, new in zip(before, (thumb(row.face), crop(row)), strict=True):
            (tmp_path / "_review" / new).parent.mkdir(parents=True, exist_ok=True)
            old.rename(tmp_path / "_review" / new)
    attributes = ["<b>bold</b>"], np.ones((9, 1))
    index = write_pages(tmp_path, lambda: rows, "<i>title</i>", attributes)
    test_links_lead_somewhere((tmp_path, rows))
    pages = [read(path) for path in (tmp_path / "_review").glob("*.html")]
    assert all(len(page.all("script")) == 1 for page in pages)
    shown = {image["alt"] for page in pages for image in page.all("img")}
    assert {row.face for row in rows} <= shown
    words = read(index).words
    assert "<i>title</i>" in words
    assert "<b>bold</b>" in words
    test_nothing_but_its_own_style_script_and_pictures((tmp_path, rows))


def test_the_same_bytes_anywhere_and_again(tmp_path):
    files = []
    for name in ("one", "another place"):
        rows = make_cut(tmp_path / name, 30, (16, 12))
        for _ in range(2):
            write_pages(tmp_path / name, lambda rows=rows: iter(rows), "x")
            review = tmp_path / name / "_review"
            files.append({p.name: p.read_bytes() for p in review.iterdir() if p.is_file()})
    assert len(files[0]) == 4 + 1 + 2
    assert all(found == files[0] for found in files)


def test_pages_that_are_no_longer_needed_go_and_nothing_else(tmp_path):
    rows = make_rows(700)
    review = tmp_path / "_review"
    write_pages(tmp_path, lambda: rows, "x")
    assert (review / "accepted-0003.html").exists()
    kept = [review / name for name in ("accepted-0009.html", "notes-0001.html", "accepted-1.html", "deviation.png")]
    for path in kept:
        path.write_text("mine")
    write_pages(tmp_path, lambda: rows[:20], "x")
    assert not (review / "accepted-0002.html").exists()
    assert not (review / "accepted-0003.html").exists()
    assert (review / "accepted-0001.html").exists()
    assert [path.read_text() for path in kept] == ["mine"] * 4
    (review / "index.html").write_text("mine")
    with pytest.raises(BadInput, match=r"index.html: was not written by faceforge cut"):
        write_pages(tmp_path, lambda: rows, "x")
    assert (review / "index.html").read_text() == "mine"


@pytest.mark.parametrize("rows", [[], [Row("", "a.jpg", 0, "none", "truncated JPEG")], make_rows(1)])
def test_hardly_anything(tmp_path, rows):
    index = read(write_pages(tmp_path, lambda: rows, "x"))
    assert f"Only {sum(row.verdict == 'accepted' for row in rows)} faces are accepted" in index.words
    assert len(list((tmp_path / "_review").glob("*-0001.html"))) == 4
    test_links_lead_somewhere_but_pictures(tmp_path / "_review")


def test_links_lead_somewhere_but_pictures(tmp_path):
    for path in tmp_path.glob("*.html"):
        for link in read(path).all("a"):
            if link["href"].endswith(".html"):
                assert (tmp_path / link["href"]).is_file()


def test_a_disk_that_takes_nothing(tmp_path):
    (tmp_path / "_review").write_text("in the way")
    with pytest.raises(BadInput, match=r"_review.*cannot be written"):
        write_pages(tmp_path, lambda: [], "x")


def test_groups_hold_their_first_and_their_further_faces(tmp_path):
    rows = make_rows(6)
    for row in rows:
        row.same_as = row.person = ""
    rows[3].same_as = rows[4].same_as = rows[1].face
    for row in rows:
        row.person = rows[0].face if row in (rows[0], rows[5]) else row.face
    page = write_pages(tmp_path, lambda: rows, "x").read_text()
    for name, members in (("same", (1, 3, 4)), ("people", (0, 5))):
        (section,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
        assert re.findall(r'alt="(.*?)"', section) == [rows[n].face for n in members]
        assert f"<h3>{len(members)} faces</h3>" in section


# ------------------------------------------------------------------------------------------------------ numbers


def test_a_summary_counts_what_is_there(cut):
    _, rows = cut
    found = summary.summarise(rows)
    assert found.verdicts == Counter(row.verdict for row in rows)
    assert found.reasons["doubtful", "soft: sharpness …"] == found.verdicts["doubtful"]
    assert found.photos() == [43, 387]
    faces = [row for row in rows if row.n]
    brightness = np.array([row.brightness for row in faces], np.float32)
    np.testing.assert_array_equal(found.values["brightness"], brightness)
    np.testing.assert_array_equal(found.known("brightness"), brightness[[r.verdict == "accepted" for r in faces]])
    assert found.same.total() == sum(row.same_as != "" for row in rows)
    assert found.colours[:, 3].sum() == found.verdicts["accepted"]


def test_photos_by_their_number_of_faces():
    rows = [Row("", "a", 0, "none", "")] * 3
    rows += [Row("f", "b", n, "accepted", "") for faces in (1, 1, 2, 4) for n in range(1, faces + 1)]
    assert summary.summarise(rows).photos() == [3, 2, 1, 0, 1]


def test_reasons_are_counted_one_by_one():
    rows = [
        Row(f"{n}", "p", 1, "doubtful", f"score 0.7{n}; looks like kept-{n}", same_as=f"kept-{n}") for n in range(3)
    ]
    found = summary.summarise(rows)
    assert found.reasons == {("doubtful", "score …"): 3, ("doubtful", "looks like another"): 3}


def faces_with(count: int = 100, **columns: object) -> list[Row]:
    """Accepted faces; each column a value for all, or a list from which every face takes its own."""
    rows = []
    for n in range(count):
        own = {name: value[n % len(value)] if isinstance(value, list) else value for name, value in columns.items()}
        rows.append(Row(**({"face": f"{n}.png", "source": f"{n}", "n": 1, "verdict": "accepted", "reason": ""} | own)))
    return rows


EVEN = list(np.linspace(0, 1, 10))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"yaw": [0.1] * 8 + [0.5, -0.5]}, "8 of 10 faces (80%) look straight ahead"),
        ({"yaw": [0.1] * 7 + [0.5, -0.5, 0.5]}, None),
        ({"yaw": [0.0, -0.2, -0.9, -0.3, 0.4]}, "8 of 10 faces that are turned (75%) look to the left"),
        ({"yaw": [0.0, 0.2]}, "All of the faces that are turned look to the right"),
        ({"roll": [-5.0, -6.0, 3.0]}, "tilted counterclockwise by more than 5 degrees"),
        ({"roll": [-3.0, 3.0]}, None),
        ({"brightness": [60.0, 100.0, 120.0]}, "A quarter of the faces is darker than 60 of 255"),
        ({"brightness": [100.0, 130.0, 200.0]}, "A quarter of the faces is brighter than 200 of 255"),
        ({"brightness": [100.0, 101.0]}, "similar brightness, 100 to 101"),
        ({"brightness": [80.0, 120.0, 160.0]}, None),
        ({"contrast": [20.0, 40.0]}, "5 of 10 faces (50%) are pale"),
        ({"box_w": [50.0, 80.0, 90.0]}, "3 of 10 faces (34%) were narrower than 64 pixels"),
        ({"box_w": [64.0]}, None),
        ({"scale": [1.6, 1.0]}, "enlarged more than 1.5 times"),
        ({"sharpness": [29.0, 200.0]}, "are soft"),
        ({"moved": [0.2, 0.0]}, "are off-centre"),
        ({"shrunk": [0.8, 1.0]}, "look larger than the rest"),
        ({"same_as": ["x", *[""] * 9]}, "1 of 10 faces (10%) are near duplicates"),
        ({"person": ["x", "x", ""]}, "7 of 10 faces (67%) repeat a person"),
        ({"person": ["x", *[""] * 7]}, "One person has 14 of the 100 faces"),
        ({"face": ["smile/a"] * 3 + ["sad/b"]}, "8 of 10 faces (75%) are in the folder \u2068smile\u2069"),
        ({"face": ["smile/a", "sad/b"]}, None),
        ({"verdict": ["accepted", "rejected"], "reason": ["", "blurred"]}, "5 of 10 faces (50%) are not accepted"),
        ({"verdict": ["accepted", "rejected"], "reason": ["", "blurred"]}, "The most frequent reason (50): blurred."),
        ({"verdict": ["accepted", "none"], "n": [1, 0]}, "5 of 10 photos (50%) show no face"),
        ({"n": [1, 2]}, "All of the photos show several faces"),
        ({}, None),
    ],
)
def test_skews_are_told_and_nothing_else_is(columns, said):
    told = list(summary.skews(summary.summarise(faces_with(**columns))))
    if said is None:
        assert told == []
    else:
        assert any(said in sentence for sentence in told), told


def test_a_set_without_a_skew_says_so(tmp_path):
    page = read(write_pages(tmp_path, lambda: faces_with(brightness=[80.0, 120.0, 160.0]), "x"))
    assert "No strong skew was found" in page.words


def test_labels():
    rows = faces_with(verdict=["accepted"] * 9 + ["rejected"])
    values = np.zeros((100, 4), np.float32)
    values[:, 0] = [n % 10 < 9 for n in range(100)]  # all accepted ones and no other
    values[:, 1] = [n < 20 for n in range(100)]
    values[:50, 2] = np.nan
    values[:, 3] = np.arange(100)  # no label of yes and no
    attributes = ["Young", "Smiling", "Bald", "Age"], values
    found = summary.summarise(rows)
    assert summary.shares(found, attributes) == [("Young", 1.0), ("Smiling", pytest.approx(0.2)), ("Bald", 0.0)]
    told = [sentence.replace("\u2068", "").replace("\u2069", "") for sentence in summary.skews(found, attributes)]
    assert told == [
        "All of the faces have the label Young (limit 80%).",
        "Rare labels (below 10%): Bald 0.0%.",
    ]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "None of the"),
        (0.02, "2.0% of the"),
        (0.05001, "1 of 10"),
        (0.88, "9 of 10"),
        (0.96, "96.0% of"),
        (1.0, "All"),
    ],
)
def test_shares_in_words(share, said):
    assert summary.of(share).startswith(said)


@pytest.mark.usefixtures("drawn_charts")
@settings(deadline=None)  # the first drawing loads fonts
@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32)),
    st.sampled_from([(None, None), (0.0, None), (None, 1.0), (-1.0, 1.0), (0.0, 255.0)]),
    st.randoms(use_true_random=False),
)
def test_histograms_hold_every_value(values, scale, random):
    """Each face is in one bar; those within the scale in the bar whose edges are around them."""
    verdict = np.array([random.randrange(3) for _ in values], np.uint8)
    measure = Measure("x", "Title", "note", *scale)
    at = edges(values.astype(float), measure)
    assert 1 <= len(at) - 1 <= 45
    np.testing.assert_allclose(np.diff(at), at[1] - at[0])
    page = Page(histogram(measure, values, verdict).drawing)
    told = re.findall(r"(-?[\d.e+-]+) to (-?[\d.e+-]+): ((?:[\d,]+ \w+(?:, )?)+)", " ".join(page.text))
    for n, name in enumerate(manifest.VERDICTS):
        assert sum(int(k) for *_, parts in told for k in re.findall(rf"(\d+) {name}", parts)) == (verdict == n).sum()
    bars = [path for path in page.all("path") if path.get("fill") == "currentColor"]
    assert len(bars) == sum(len(parts.split(", ")) for *_, parts in told)


@pytest.mark.usefixtures("drawn_charts")
def test_histogram_by_hand():
    values = np.float32([0, 0, 12.75, 254, 255, 300, np.nan])
    page = Page(histogram(Measure("x", "Light", "of 255", 0, 255), values, np.uint8([0, 1, 0, 0, 0, 2, 0])).drawing)
    told = [text for text in page.text if " to " in text and ":" in text]
    assert told == ["0 to 20: 2 accepted, 1 doubtful", "240 to 260: 2 accepted, 1 rejected"]
    assert histogram(Measure("x", "Light", ""), np.float32([np.nan]), np.uint8([0])) is None
    whole = Measure("n", "Faces", "of a photo", 0, whole=True)
    counted = Page(histogram(whole, np.float32([0, 1, 1, 5]), np.full(4, 3, np.uint8)).drawing)
    told = [text for text in counted.text if " photos" in text]
    assert told == ["0 to 1: 1 photos", "1 to 2: 2 photos", "5 to 6: 1 photos"]


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(4), st.just(3), st.just(3))))
def test_mean_and_deviation_are_those_of_numpy(pictures):
    mean = Mean()
    for picture in pictures:
        mean.add(picture)
    average, deviation = mean.pictures()
    np.testing.assert_allclose(average, pictures.mean(axis=0), atol=0.5 + 1e-9)
    np.testing.assert_allclose(deviation, np.sqrt(pictures.var(axis=0).mean(axis=-1)), atol=1e-6)


def test_the_mean_is_of_accepted_faces_and_of_one_size(cut, tmp_path):
    dst, rows = cut
    accepted = [row for row in rows if row.verdict == "accepted"]
    stack = np.stack([np.asarray(Image.open(dst / "_review" / thumb(row.face))).astype(float) for row in accepted])
    mean = np.asarray(Image.open(dst / "_review/mean.png")).astype(float)
    assert np.abs(mean - stack.mean(axis=0)).max() < 3  # JPEG decoders differ by a grey level or two
    deviation = np.asarray(Image.open(dst / "_review/deviation.png")).astype(float)
    assert np.abs(deviation - 2 * np.sqrt(stack.var(axis=0).mean(axis=-1))).max() < 5
    several = Mean()
    several.add(np.full((4, 3), 100, np.uint8))
    several.add(np.full((9, 9, 3), 200, np.uint8))
    average, spread = several.pictures()
    assert average.shape == (4, 3, 3)
    assert (average == 150).all()
    assert (spread == 50).all()


def test_pages_need_neither_torch_nor_matplotlib():
    code = "import sys, faceforge.cut.pages; print(*sorted({'torch', 'matplotlib', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.slow
def test_a_hundred_thousand_faces(tmp_path):
    code = """
import resource, sys, time
from pathlib import Path
from test_cut_pages import make_rows
from faceforge.cut.pages import write_pages
few = make_rows(1000)
before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_pages(Path(sys.argv[1]), lambda: (row for _ in range(112) for row in few), "many")
print(time.monotonic() - before[0], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1]) / 1024)
"""
    words, here = [sys.executable, "-c", code, str(tmp_path)], Path(__file__).parent
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 100
    assert megabytes < 100
    assert len(list((tmp_path / "_review").glob("*.html"))) > 500
