"""The page as a browser's parser reads it, the curves against a plain computation, the trace against a real pass."""

from __future__ import annotations

import base64
import csv
import json
import re
import shlex
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from matplotlib import rc_context
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations

from faceforge.report import charts, describe, diagram, page, pictures, svg, write_curves, write_report

CONF = Path(__file__).parents[1] / "conf"
HOSTILE = [
    ("<script>alert(1)</script>.png", "not an image"),
    ('"><img src=x onerror=alert(1)>.jpg', "truncated JPEG"),
    ("a&amp;b</td></table>.png", "<b>bold</b>"),
    ("\u202egnp.exe\x07\x00\udc80.jpg", "text, not an image"),
]


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every element was closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"img", "input", "link", "meta", "line", "rect", "polyline", "polygon", "path"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def read(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def grid(run: Path, images: int, size: int = 40) -> np.ndarray:
    pixels = np.random.default_rng(images).integers(0, 256, (size, size, 3), dtype=np.uint8)
    (run / "samples").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(run / "samples" / f"{images:09d}.png")
    return pixels


@pytest.fixture
def run(tmp_path):
    """A finished run with everything in it, file names of the worst kind included."""
    folder = tmp_path / "my run"
    folder.mkdir()
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    for images in (0, 64, 128):
        grid(folder, images)
    rows = ["images,loss/generator,loss/discriminator,val/kid", "64,0.5,1.5,", "128,0.25,nan,0.125"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    with open(folder / "skipped.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in HOSTILE]
        file.write("\n".join(["id,reason", *quoted, ""]))  # csv.writer of Python 3.10 takes no NUL
    config = {"choices": {"model": "dcgan_conventional", "data": "drawn", "task": "none"}}
    config |= {"trainer": {"max_images": 128}, "model": {"optimizer_g": {"lr": 2e-4}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = {"status": "finished", "images": 128, "seconds": 65.0, "images_per_second": 41.5}
    record |= {"timings": {"train": 50.0, "sample": 10.0}, "device": "CPU", "precision": "32", "seed": 3}
    record |= {"best": {"metric": "val/kid", "mode": "min", "value": 0.125, "images": 128}, "resumed": [64]}
    record["networks"] = {"generator": describe(network, torch.zeros(1, 3, 8, 8))}
    record["data"] = {"source": "drawn", "counts": {"train": 32, "val": 4}, "identities": {"train": 7, "val": 2}}
    record["data"] |= {"protocol": {"crop": "<i>centre</i>"}, "manifest": "f00d", "attributes": {"Smiling": 0.5}}
    record["wandb"] = {"id": "abcd1234", "mode": "offline", "folder": "/runs/my run/wandb/offline-run-x-abcd1234"}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


# ---------------------------------------------------------------------------------------------------- page


def test_the_page_needs_nothing_beside_itself(run):
    source = write_report(run).read_text(encoding="utf-8")
    seen = Page(source)
    assert seen.open == []
    for _, attributes in seen.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (name, value)
    for word in ("http:", "https:", "url(", "@import", "//cdn"):
        assert word not in source.replace("url(#", "")  # a part of the same drawing
    (policy,) = [a["content"] for a in seen.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_picture_decodes_and_has_words(run):
    shown = read(run).all("img")
    assert len(shown) == 4
    for attributes in shown:
        kind, data = attributes["src"].split(";base64,")
        with Image.open(BytesIO(base64.b64decode(data))) as picture:
            assert kind == f"data:image/{picture.format.lower()}"
            assert picture.size == (int(attributes["width"]), int(attributes["height"]))
            picture.load()
        assert "images seen" in attributes["alt"]


def test_the_large_grid_is_the_last_one_pixel_by_pixel(run):
    (large,) = [a for a in read(run).all("img") if a.get("id") == "grid"]
    with Image.open(BytesIO(base64.b64decode(large["src"].split(",")[1]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid(run.parent, 128))


def test_hostile_names_are_text_and_nothing_else(run):
    seen = read(run)
    assert len(seen.all("script")) == 1
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    assert {name for name, _ in HOSTILE[:3]} | {"<b>bold</b>"} <= set(seen.text)
    assert "\u202egnp.exe" in seen.words
    assert not any(control in seen.words for control in "\x00\x07\udc80")
    assert "<i>centre</i>" in seen.words


def test_links_and_ids_meet(run):
    seen = read(run)
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for attributes in seen.all("a")]
    assert links == ["curves", "networks", "data", "time", "next", "config", "origin"]
    assert set(links) <= set(ids)


def test_the_numbers_of_the_run_are_on_the_page(run):
    words = read(run).words
    for expected in (
        "dcgan_conventional on drawn",
        "Finished: 128 images in 1 min 05 s.",
        "4.0 passes over 32 faces",
        "42 images/s",
        "Best val/kid 0.125",
        "4 files skipped",
        "generator 0.25",
        "Not finite: 1 of 2 values of loss/discriminator.",
        "Conv2d BatchNorm2d ReLU 4 \u00d7 8 \u00d7 8 120 parameters",
        "training 50 s, 77%",
        "other 5 s, 8%",
        "wandb sync '/runs/my run/wandb/offline-run-x-abcd1234'",
    ):
        assert expected in words, expected


@pytest.mark.parametrize(
    ("status", "start"),
    [
        ("running", "Not finished when this page was written: 64 images of 128 (50%)."),
        ("interrupted", "Interrupted after 64 images of 128 (50%)."),
        ("failed", "Failed after 64 images of 128 (50%)."),
        ("<odd>", "This folder does not record how its run ended"),
    ],
)
def test_the_status_is_said_in_words(run, status, start):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": status, "images": 64}))
    assert start in read(run).words


@pytest.mark.parametrize("missing", ["config.yaml", "run.json", "metrics.csv", "skipped.csv", "samples", "all"])
def test_any_part_may_be_missing(run, missing):
    for path in run.iterdir() if missing == "all" else [run / missing]:
        path.rename(run.parent / path.name)
    assert read(run).open == []


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.csv", "skipped.csv", "samples/000000128.png"])
@pytest.mark.parametrize("part", [0, 0.3, 0.7, 0.97])
def test_any_part_may_be_cut_short(run, name, part):
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: int(len(data) * part)])
    assert read(run).open == []


@pytest.mark.parametrize("value", [None, [], "x", 3, {"a": None}, {"a": {}}, float("nan")])
def test_strange_values_in_run_json_do_not_stop_the_page(run, value):
    record = json.loads((run / "run.json").read_text())
    for key in record:
        (run / "run.json").write_text(json.dumps({**record, key: value}))
        assert read(run).open == []


def test_an_unreadable_last_grid_gives_way_to_the_one_before(run):
    (run / "samples" / "000000128.png").write_bytes(b"not a picture")
    (large,) = [a for a in read(run).all("img") if a.get("id") == "grid"]
    assert large["alt"] == "Grid of sample pictures after 64 images seen"


def test_a_failure_leaves_the_older_page(run, monkeypatch):
    before = write_report(run).read_bytes()
    monkeypatch.setattr(page.PAGES, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_only_the_first_skipped_files_are_listed(run):
    with open(run / "skipped.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "reason"), *((f"face-{n}.jpg", "why") for n in range(1234))])
    words = read(run).words
    assert "1,234 files skipped" in words
    assert "face-49.jpg" in words
    assert "face-50.jpg" not in words
    assert "and 1,184 more in skipped.csv" in words


@pytest.mark.parametrize("status", ["finished", "interrupted"])
def test_what_to_type_next_is_what_train_py_takes(run, status):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": status}))
    typed = [shlex.split(line) for _, line in page.commands(page.Facts(run))]
    training = [words[2:] for words in typed if words[:2] == ["python", "train.py"]]
    assert len(training) >= 4
    with initialize_config_dir(str(CONF), version_base=None):
        for words in training:
            single = [word.split(",")[0] if word[:5] in ("seed=", "model") else word for word in words if word != "-m"]
            config = compose("train", overrides=single)  # refuses any key or choice that does not exist
            if config.resume:
                assert Path(config.resume).resolve() == run


def test_the_same_again_keeps_what_was_typed(run):
    typed = "python train.py -m trainer.gpus=0 task=none,deblur data.size=[64,48] seed=1,2 run_dir='a b'"
    typed += " model.optimizer_g.lr=1"
    (run / "run.json").write_text(json.dumps({"status": "finished", "command": typed}))
    lines = dict(page.commands(page.Facts(run)))
    same = "python train.py -m trainer.gpus=0 task=none 'data.size=[64,48]' model=dcgan_conventional"
    assert lines["Repeat with three seeds to see the variation"] == f"{same} seed=1,2,3"
    assert lines["Try other learning rates"] == f"{same} model.optimizer_g.lr=0.0001,0.0002,0.0004"


def test_a_page_of_many_heavy_grids_stays_small(tmp_path):
    for images in range(0, 5000, 100):
        grid(tmp_path, images, size=150)
    line = pictures.time_line(tmp_path, budget=200_000)
    assert len(line) == 40
    assert (line[0].images, line[-1].images) == (0, 4900)
    assert sum(len(picture.uri) for picture in line) < 200_000 * 1.4


def test_grids_that_are_heavy_files_are_encoded_again(tmp_path, monkeypatch):
    grid(tmp_path, 5, size=300)
    assert pictures.large(tmp_path, 5).uri.startswith("data:image/png")
    monkeypatch.setattr(pictures, "LARGE_BYTES", 1000)
    assert pictures.large(tmp_path, 5).uri.startswith("data:image/webp")


# -------------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("n", [1, 2, 299, 300, 301, 5000])
def test_thinning_keeps_every_extreme(n):
    rng = np.random.default_rng(n)
    x = np.sort(rng.choice(10 * n, n, replace=False)).astype(float)
    y = rng.standard_normal(n)
    series = charts.thin("a", x, y)
    assert len(series.images) <= charts.BINS
    assert series.low.min() == y.min()
    assert series.high.max() == y.max()
    assert (series.low <= series.mean).all()
    assert (series.mean <= series.high).all()
    assert (np.diff(series.images) > 0).all()
    assert (series.last, series.end, series.n) == (y[-1], x[-1], n)
    assert series.thinned == (n > charts.BINS)


def test_bands_equal_a_plain_loop():
    x, y = np.arange(1000.0), np.random.default_rng(0).standard_normal(1000)
    series = charts.thin("a", x, y, bins=7)
    place = np.minimum((x / 999 * 7).astype(int), 6)
    for k in range(7):
        inside = y[place == k]
        assert series.low[k] == inside.min()
        assert series.high[k] == inside.max()
        assert series.mean[k] == pytest.approx(inside.mean())


def test_values_that_are_not_finite_are_counted_and_left_out():
    series = charts.thin("a", np.arange(5.0), np.array([np.nan, 1.0, np.inf, 2.0, -np.inf]))
    assert series.lost == 3
    assert list(series.images) == [1.0, 3.0]
    assert list(series.mean) == [1.0, 2.0]
    assert not series.thinned


def test_a_spike_does_not_flatten_the_rest_and_is_said():
    y = np.random.default_rng(0).uniform(0.9, 1.1, 500)
    y[3] = 1e6
    panel = charts.Panel("Losses", (charts.thin("loss/a", np.arange(500.0), y, bins=500),))
    low, high = panel.limits()
    assert 0.8 < low < 0.95
    assert 1.05 < high < 1.2
    assert "extreme values lie outside" in charts.chart(panel, 499.0).remark
    calm = charts.Panel("Losses", (charts.thin("loss/a", np.arange(500.0), y.clip(0, 1.1), bins=500),))
    assert "outside" not in charts.chart(calm, 499.0).remark


@pytest.mark.usefixtures("drawn_charts")
@pytest.mark.parametrize("end", [1000.0, 120_000.0, 999_000.0, 2_250_000.0])
def test_the_words_along_a_chart_s_axis_are_not_cut(end):
    panel = charts.Panel("Losses", (charts.thin("loss/a", np.array([0.0, end]), np.array([1.0, 3])),))
    drawing = charts.chart(panel, end).drawing
    words = re.findall(r'<text x="(.*?)"[^>]*"middle">(.*?)</text>', drawing)
    assert words
    assert all(float(x) + 0.6 * 11 * len(label) / 2 <= charts.PLOT[0] for x, label in words)  # a digit is 0.6 wide
    assert charts.PLOT[0] - right_edge(drawing) >= 0.6 * 11 * len("2.25M") / 2  # the widest, at the very end


def right_edge(drawing: str) -> float:
    """Where the area of the curves ends."""
    return numbers(re.search(r'<g class="area"><path d="(.*?)"', drawing)[1])[1][0]


def numbers(drawn: str) -> list[tuple[float, float]]:
    """The points of a path of straight lines."""
    words = [float(word) for word in drawn.split() if word not in "MLz"]
    return list(zip(words[::2], words[1::2], strict=True))


@pytest.mark.usefixtures("drawn_charts")
def test_a_chart_s_points_lie_where_the_values_are():
    panel = charts.Panel("Losses", (charts.thin("loss/a", np.array([0.0, 50, 100]), np.array([1.0, 3, 2])),))
    chart = charts.chart(panel, 200.0)
    assert json.loads(chart.points) == [[[0, 50, 100], [1, 3, 2]]]
    paths = Page(chart.drawing).all("path")
    (line,) = [numbers(path["d"]) for path in paths if path.get("class") == "c0" and path.get("fill") == "none"]
    (left, bottom), (right, _), (_, top) = numbers(re.search(r'<g class="area"><path d="(.*?)"', chart.drawing)[1])[:3]
    low, high = panel.limits()
    assert [200 * (x - left) / (right - left) for x, _ in line] == pytest.approx([0, 50, 100], abs=0.1)
    back = [low + (high - low) * (bottom - y) / (bottom - top) for _, y in line]
    assert back == pytest.approx([1, 3, 2], abs=0.01)


@pytest.mark.usefixtures("drawn_charts")
def test_a_drawing_keeps_no_style_of_its_own_and_no_name_of_another(tmp_path):
    """Colours are the page's; any name of a metric is text; ids differ; the bytes are the same again."""
    rng = np.random.default_rng(0)
    names = ["loss/<script>alert(1)</script>", "val/\"kid\" & 'co'", "x\u202e😀", "logit/a"]
    with open(tmp_path / "metrics.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["images", *names], *([n, *rng.standard_cauchy(4)] for n in range(400))])
    source = write_report(tmp_path).read_text(encoding="utf-8")
    seen = Page(source)
    assert seen.open == []
    assert len(seen.all("script")) == len(seen.all("style")) == 1
    assert "style" not in {name for _, attributes in seen.elements for name in attributes}
    assert not re.search('(?:fill|stroke)="#', source)
    assert "<script>alert(1)</script>" in seen.words
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len([name for name in ids if name.startswith("p")]) == 4  # each cuts off what lies outside
    assert len(ids) == len(set(ids))
    with rc_context({"text.usetex": True, "axes.facecolor": "black", "font.size": 30, "axes.grid": True}):
        assert write_report(tmp_path).read_text(encoding="utf-8") == source


def test_panels_are_grouped_and_ordered(tmp_path):
    header = "images,images_per_second,val/kid,logit/real,loss/a,loss/b,val/swd,loss/never"
    (tmp_path / "metrics.csv").write_text(f"{header}\n1,2,3,4,5,6,7,\n2,2,3,4,5,6,7,nan\n")
    panels = charts.read_panels(tmp_path / "metrics.csv")
    assert [[series.name for series in panel.series] for panel in panels] == [
        ["loss/a", "loss/b"],
        ["logit/real"],
        ["val/kid"],
        ["val/swd"],
        ["images_per_second"],
    ]


@pytest.mark.parametrize("rows", ["64,0.5,\n", "0,0.5,0.25\n", "".join(f"{i},{i % 7},\n" for i in range(3000))])
def test_the_picture_of_the_curves_shows_them(tmp_path, rows):
    (tmp_path / "metrics.csv").write_text("images,loss/a,val/b\n" + rows)
    path = write_curves(tmp_path)
    assert path == tmp_path / "curves.png"
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    first = np.array([int(svg.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])
    assert (np.abs(pixels - first).max(axis=1) < 40).sum() > 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize("content", [None, "", "images\n", "images,loss/a\n", "images,loss/a\n5,nan\n"])
def test_nothing_measured_draws_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    assert write_curves(tmp_path) is None


def test_counts_on_an_axis():
    assert [charts.short(n) for n in (0, 950, 12_000, 1_500_000, 2e9)] == ["0", "950", "12k", "1.5M", "2G"]


# ------------------------------------------------------------------------------------------------- networks


class Odd(nn.Module):
    """Weights of its own, a layer that runs twice, noise, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(1, 4, 5, 3))
        self.twice = parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.twice(self.drop(x) + self.constant)
        x = self.norm(self.twice(x) + torch.randn_like(x))
        return {"picture": x, "side": (x, 1)}


def test_a_trace_tells_shapes_and_parameters():
    about = describe(nn.Sequential(nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8), nn.ReLU()), torch.zeros(1, 5, 1, 2))
    assert about == {
        "class": "Sequential",
        "parameters": 5 * 8 * 16 + 8 + 16,
        "inputs": [[5, 1, 2]],
        "layers": [
            {"name": "0", "type": "ConvTranspose2d", "shape": [8, 4, 5], "parameters": 648},
            {"name": "1", "type": "BatchNorm2d", "shape": [8, 4, 5], "parameters": 16},
            {"name": "2", "type": "ReLU", "shape": [8, 4, 5], "parameters": 0},
        ],
    }


def test_own_shared_and_wrapped_weights_are_counted_once():
    about = describe(Odd(), torch.zeros(1, 4, 5, 3))
    rows = [(layer["name"], layer["type"], layer["parameters"]) for layer in about["layers"]]
    weights = 4 * 4 * 9 + 4
    assert rows == [
        ("drop", "Dropout", 0),
        ("twice", "Conv2d + SpectralNorm", weights),
        ("twice", "Conv2d + SpectralNorm", 0),
        ("norm", "BatchNorm2d", 8),
        ("(itself)", "Odd", 60),
    ]
    assert sum(layer["parameters"] for layer in about["layers"]) == about["parameters"] == weights + 68
    assert about["layers"][-1]["shape"] == [4, 5, 3]


def test_a_trace_changes_nothing():
    torch.manual_seed(0)
    network = Odd().train()
    network(torch.randn(2, 4, 5, 3))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    noise = torch.get_rng_state()
    describe(network, torch.zeros(1, 4, 5, 3))
    assert torch.equal(torch.get_rng_state(), noise)
    assert network.training
    assert network.drop.training
    assert all(not module._forward_hooks for module in network.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in network.parameters())


def test_a_network_that_cannot_be_traced_is_listed_without_shapes(tmp_path):
    class Peeks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x) if x.sum().item() > 0 else x

    about = describe(Peeks(), torch.ones(1, 3))
    assert about["parameters"] == 8
    assert about["layers"] == [{"name": "layer", "type": "Linear", "shape": None, "parameters": 8}]
    (tmp_path / "run.json").write_text(json.dumps({"networks": {"it": about}}))
    assert "Linear shape unknown 8 parameters" in read(tmp_path).words


def test_blocks_hold_one_weighted_layer_each_and_lose_nothing():
    network = nn.Sequential(
        nn.Linear(4, 16),
        nn.Unflatten(1, (4, 2, 2)),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 3, 1),
        nn.Tanh(),
    )
    about = describe(network, torch.zeros(1, 4))
    blocks = diagram.group(about["layers"])
    assert [[layer["type"] for layer in block["layers"]] for block in blocks] == [
        ["Linear"],
        ["Unflatten", "ReLU", "Upsample", "Conv2d", "Tanh"],
    ]
    assert [block["shape"] for block in blocks] == [[16], [3, 4, 4]]
    assert sum(block["parameters"] for block in blocks) == about["parameters"]
