"""The page of a comparison: as a parser reads it, in a real browser on a desk and a phone, and in a notebook."""

import html
import json
import os
import re
import shutil

import numpy as np
import pytest
from compared_runs import add_grid, make
from test_compare import own_people, values
from test_report import Page

from faceforge import notebook
from faceforge.evaluation.compare import curves, grids
from faceforge.evaluation.compare.comparison import Options
from faceforge.evaluation.compare.making import compare
from faceforge.evaluation.compare.page import write
from faceforge.evaluation.compare.runs import read
from faceforge.evaluation.compare.settings import settings

HOSTILE = '<img src=x onerror="alert(1)">\u202e&amp; $x^2$'
INPUTS = np.arange(24).reshape(1, 8, 3) * 10


def outputs(seed, rows=1):
    return np.random.default_rng(seed).integers(0, 255, (rows, 8, 3))


def faces(folder, seed, inputs=INPUTS):
    """A grid of inputs, outputs and targets."""
    add_grid(folder, np.concatenate([inputs, outputs(seed), 255 - inputs]))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two runs with everything."""
    a = faces(make(tmp_path / "a", {"psnr": values(0), "mae": -values(0)}), 1)
    wide = {"model.network.width": 8}
    return a, faces(make(tmp_path / "b", {"psnr": values(1, 1), "mae": -values(0, 2)}, config=wide), 2)


def written(place, *folders, **options):
    found = compare(read(list(folders)), Options(**options))
    return write(found, place / "compared.html").read_text(encoding="utf-8")


def test_the_page_has_all_parts_and_needs_nothing_beside_itself(tmp_path, pair):
    source = written(tmp_path, *pair)
    page = Page(source)
    assert page.open == []
    for part in ("Verdict", "Scores", "Differences", "Curves", "Samples", "What differs", "Runs", "Next steps"):
        assert part in page.text
    assert "a against b" in page.text
    assert "b is better than a in PSNR by 1.0" in page.words
    assert "the best value of a column" in page.words
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (name, value)
    for word in ("http:", "https:", "@import", "//cdn"):
        assert word not in source
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    labels = [image["alt"] for image in page.all("img")]
    assert labels == [
        "Row of faces: input",
        "Row of faces: a, 1,000 images",
        "Row of faces: b, 1,000 images",
        "Row of faces: target",
    ]
    charts = [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"]
    assert "MAE in validation, over seconds against seconds of training" in charts
    assert len(charts) == len(set(charts)) == 4
    assert [figure["data-axis"] for figure in page.all("figure") if "data-axis" in figure] == ["images", "seconds"] * 2
    assert source == written(tmp_path, *pair)  # the same bytes every time


def test_the_networks_of_scores_are_named_once(tmp_path):
    scores = ("kid@lite0-57934424-bicubic224", "fid@lite0-57934424-bicubic224", "kid@squeezenet-f286bbf4-bicubic224")
    a, b = (
        make(tmp_path / name, generated={score: {"value": 0.1 + n} for score in scores}) for n, name in enumerate("ab")
    )
    said = Page(written(tmp_path, a, b)).words
    assert said.count("lite0 (weights 57934424, bicubic224)") == 1
    assert "Features are of lite0 (weights 57934424, bicubic224); squeezenet (weights f286bbf4, bicubic224)." in said


def test_names_and_texts_from_outside_are_escaped(tmp_path):
    a = faces(make(tmp_path / "x", {"psnr": values(0)}, config={"choices.model/network": HOSTILE}), 1)
    b = faces(make(tmp_path / HOSTILE.replace("/", ""), {"psnr": values(1)}), 2)
    result = json.loads((b / "evaluation.json").read_text())
    for row in result["rows"]:
        row["scores"][HOSTILE] = {"value": 1.0, "low": None, "high": None}
    result["command"] = HOSTILE
    (b / "evaluation.json").write_text(json.dumps(result))
    page = Page(written(tmp_path, a, b))
    assert page.open == []
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert "onerror" in page.words
    assert len([a for a in page.all("img") if not a["src"].startswith("data:")]) == 0
    assert "\u202e" not in "".join(page.text).partition("What differs")[0]  # not in names of runs


def test_a_forced_page_says_so(tmp_path, pair):
    a, _ = pair
    c = make(tmp_path / "c", {"psnr": values(1)}, faces=own_people(1))
    assert (
        "Forced. These scores were made in different ways: c: not scored as a: other faces"
        in Page(written(tmp_path, a, c, force=True)).words
    )


# ------------------------------------------------------------------------------------------------------------ curves


def test_seconds_are_the_sum_of_images_over_their_speed(tmp_path):
    run = make(tmp_path / "a")
    lines = ["images,images_per_second,val/mae", "100,50,", "150,25,", "150,,0.5", "400,100,", "400,,0.25", "600,,0.1"]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    found, _ = read([run, make(tmp_path / "b")])
    x, y = curves.seconds(found)
    assert x.tolist() == [0, 100, 150, 400]
    assert y.tolist() == [0, 2, 4, 6.5]
    x, y = curves.line_of(found, "val/mae", "seconds")
    assert x.tolist() == [4, 6.5]  # of what came after nothing is known
    assert y.tolist() == [0.5, 0.25]
    assert curves.line_of(found, "val/mae", "images")[0].tolist() == [150, 400, 600]
    assert curves.line_of(found, "val/kid", "images") is None


def test_the_curve_of_several_seeds_is_their_mean_in_a_band(tmp_path):
    made = [make(tmp_path / f"a-s{seed}", seed=seed) for seed in (0, 1)]
    ends = {0: ((100, 1.0), (300, 3.0)), 1: ((200, 4.0), (400, 8.0))}
    for run, points in zip(made, ends.values(), strict=True):
        lines = ["images,val/mae", *(f"{x},{y}" for x, y in points)]
        (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    (setting,) = settings(read(made))
    series = curves._series(setting, "val/mae", "images")
    assert series.images.tolist() == [200, 300]  # where both are known
    assert series.low.tolist() == [2, 3]
    assert series.mean.tolist() == [3, 4.5]
    assert series.high.tolist() == [4, 6]
    assert series.thinned  # so that its band is drawn
    assert [chart.title for chart in curves.charts([setting])] == ["MAE in validation, over images"]


# ------------------------------------------------------------------------------------------------------------- grids


def test_rows_of_a_grid_are_found_by_the_size_of_its_faces():
    pixels = np.arange(28 * 78 * 3, dtype=np.int64).reshape(28, 78, 3).astype(np.uint8)
    rows = grids.rows_of(pixels, [8, 8])
    assert [row.shape for row in rows] == [(8, 78, 3)] * 3
    assert np.array_equal(rows[1], pixels[10:18])
    assert len(grids.rows_of(pixels[:8], [8, 8])) == 1
    for size in ([9, 8], [8, 9], [8, 0], "8", None, [8]):
        assert grids.rows_of(pixels, size) == []


def shown(*folders):
    return grids.grids(settings(read(list(folders))))


def test_the_same_faces_are_shown_in_rows_and_others_are_not(tmp_path, pair):
    a, b = pair
    found = shown(a, b)
    assert found.as_rows
    assert [row.label for row in found.shown] == ["input", "a, 1,000 images", "b, 1,000 images", "target"]
    faces(b, 3, INPUTS + 1)
    found = shown(a, b)
    assert not found.as_rows
    assert found.remark == "Not of the same faces: the inputs of these runs differ."
    shutil.rmtree(a / "samples")
    assert [row.label for row in shown(a, b).shown] == ["input", "b, 1,000 images", "target"]
    (b / "samples/000001000.png").write_bytes(b"no picture")
    assert shown(a, b) is None


def test_new_faces_of_an_editor_are_a_row_for_each_run(tmp_path, pair):
    for n, folder in enumerate(pair):
        add_grid(folder, np.concatenate([INPUTS, outputs(n, 2)]))
    labels = [row.label for row in shown(*pair).shown]
    assert labels == ["input", "a, 1,000 images", "b, 1,000 images", "a, new faces", "b, new faces"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.network.width": 8}, "From the same noise"),
        ({"model.seed": 1}, "Not from the same noise (model.seed)"),
        ({"model.generator.latent_size": 9}, "Not from the same noise (model.generator.latent_size)"),
    ],
)
def test_generated_faces_from_the_same_noise(tmp_path, change, said):
    made = [make(tmp_path / "a", config={"model.generator.latent_size": 5})]
    made.append(make(tmp_path / "b", config={"model.generator.latent_size": 5, "model.network.width": 7, **change}))
    for n, folder in enumerate(made):
        add_grid(folder, outputs(n, 8))
    found = shown(*made)
    assert found.remark.startswith(said)
    assert not found.as_rows
    assert len(found.shown) == 2


# ---------------------------------------------------------------------------------------------------------- notebook


def test_a_notebook_shows_the_page_and_prints_the_tables(pair):
    found = notebook.compare(*pair, scores=["psnr"])
    assert "b is better than a in PSNR by 1.0" in str(found)
    frame = found._repr_html_()
    (attributes,) = Page(frame).all("iframe")
    assert attributes["srcdoc"].startswith("<!doctype html>")
    assert html.unescape(re.search(r'srcdoc="(.*?)"', frame, re.DOTALL)[1]) == attributes["srcdoc"]


# ----------------------------------------------------------------------------------------------------------- browser

CHROMIUM = os.environ.get("FACEFORGE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup brings it)")
    if not CHROMIUM:
        pytest.skip("no Chromium here (apt-get install chromium, or FACEFORGE_CHROMIUM=PATH)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.usefixtures("drawn_charts")
def test_the_page_in_a_browser(tmp_path, chromium, width, scheme):
    made = []
    for name, level in (("a run with a rather long name, as people give them", 0), (HOSTILE.replace("/", ""), 1)):
        for seed in (0, 1):
            config = {"model.network.width": 4 + level}
            scores = {"psnr": values(level, seed), "ssim": values(0) / 100, "mae": -values(level), "mse": values(1)}
            made.append(faces(make(tmp_path / f"{name}-s{seed}", scores, seed=seed, config=config), 2 * level + seed))
    path = write(compare(read(made), Options()), tmp_path / "compared.html")
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    tab, complaints = context.new_page(), []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on(
        "request",
        lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width  # the page does not move sideways
    assert tab.locator("img").evaluate_all("found => found.every(image => image.naturalWidth > 0)")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    table = tab.locator(".scores").first
    assert table.evaluate("found => found.scrollWidth > found.clientWidth") == (width == 390)  # tables do
    chart = tab.locator(".chart").nth(1)
    chart.locator("svg").hover()
    assert re.search(r"at \d+ seconds$", chart.locator("figcaption").inner_text())
    tab.locator("nav a", has_text="Runs").click()
    assert tab.evaluate("scrollY") > 300
    assert complaints == []
    context.close()
