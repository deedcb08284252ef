"""`faceforge score`: pictures of any model against real ones, and what it says of each mistake."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from picture_makers import encode, picture, put, put_zip, write
from PIL import Image

from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.evaluation import extractors, score, score_notes, score_pictures
from faceforge.evaluation.generated import HALVES, Reals
from faceforge.evaluation.judged import Part
from faceforge.evaluation.paired import score_paired
from faceforge.evaluation.score import Options
from faceforge.io.images import from_uint8
from faceforge.metrics.features import Features
from faceforge.metrics.kid import kid, real_floor
from faceforge.metrics.table import find, metric_of

CPU = torch.device("cpu")


def drawn(count, seed, side=24):
    source = Drawn(count=count, seed=seed)
    return np.stack([source.read(n, (side, side)) for n in range(count)])


def saved(folder, pictures, name="{:03d}.png"):
    for n, pixels in enumerate(pictures):
        write(folder / name.format(n), encode(pixels, "PNG"))
    return folder


def tensor(pictures):
    return from_uint8(torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two folders: 12 drawn faces as if generated, 16 others of eight people in LFW's layout; and their pixels."""
    place = tmp_path_factory.mktemp("score")
    made, real = drawn(12, 5), drawn(16, 0)
    saved(place / "made", made)
    for n, pixels in enumerate(real):
        person = f"Person_{n // 2}"
        write(place / "real" / person / f"{person}_{n % 2 + 1:04d}.png", encode(pixels, "PNG"))
    return place / "made", place / "real", tensor(made), tensor(real)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quick(monkeypatch):
    """Features of small images, which take a tenth of the time."""
    monkeypatch.setattr(extractors, "build", lambda words, device: [Features(64)])


@dataclass(frozen=True)
class Plain:
    """Faces as they are."""

    tensor: torch.Tensor
    groups: list[str]
    folder: Path

    @property
    def key(self):
        return {"source": "test"}

    def images(self):
        return self.tensor


def scored(made, real, tmp_path, **asked):
    out = tmp_path / "scores.json"
    score.score(replace(Options(made, real, out=out, overwrite=True), **asked))
    return json.loads(out.read_text())


def without_place(result):
    """The figures, which do not depend on where pictures lie."""
    return [(row["name"], row["faces"], row["scores"]) for row in result["rows"]]


# The scores


def test_the_scores_are_those_of_evaluate_on_the_same_pixels(sides, tmp_path, capsys):
    made, real, faces, others = sides
    result = scored(made, real, tmp_path)
    people = [f"Person_{n // 2}" for n in range(16)]
    against = Reals(Plain(others, people, tmp_path), [Features()], CPU, 0, lambda count: None)
    row, floor = result["rows"]
    assert row["scores"] == against.row("generated", "model", faces)["scores"]
    name = find(row["scores"], "kid")
    features = Features()
    direct = kid(features(others), features(faces), people)
    assert row["scores"][name]["value"] == pytest.approx(direct.value, abs=1e-9)
    assert floor["name"] == HALVES
    assert floor["scores"][name]["value"] == pytest.approx(real_floor(features(others), people).value, abs=1e-6)
    assert {"fid", "kid", "swd", "precision", "diversity"} <= set(map(metric_of, result["protocols"]))
    assert result["real"]["people"] == 8
    assert result["protocol"] == {
        **result["protocol"],
        "size": [24, 24],
        "channels": 3,
        "crop": "none",
        "resize": "none",
    }
    said = capsys.readouterr().out
    for text in (
        "12 generated pictures",
        "16 real ones",
        "of 8 people",
        "KID",
        HALVES,
        "scores.json",
        *result["verdict"],
    ):
        assert text in said


def test_archives_and_arrays_hold_the_same_pictures(quick, sides, tmp_path):
    made, real, *_ = sides
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    packed = put_zip(files, tmp_path / "made.zip")
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(made.iterdir())])
    np.savez(tmp_path / "made.npz", pixels)
    first, zipped, array = (scored(path, real, tmp_path) for path in (made, packed, tmp_path / "made.npz"))
    assert without_place(first) == without_place(zipped) == without_place(array)
    assert array["generated"]["kinds"] == {"npz": 12}


def test_several_extractors_have_a_table_each(sides, tmp_path, capsys):
    made, real, *_ = sides
    result = scored(made, real, tmp_path, features=("lite0:size=64", "squeezenet:size=64"))
    kids = [name for name in result["rows"][0]["scores"] if metric_of(name) == "kid"]
    assert [name.partition("@")[2].partition("-")[0] for name in kids] == ["lite0", "squeezenet"]
    said = capsys.readouterr().out
    assert said.count("Generated faces compared with real faces, features of ") == 2
    assert ["KID by lite0" in result["verdict"][0], "KID by squeezenet" in result["verdict"][1]] == [True, True]


def test_the_same_seed_gives_the_same_figures_and_a_part_is_keyed(quick, sides, tmp_path):
    made, real, *_ = sides
    first, again, other = (scored(made, real, tmp_path, count=8, seed=seed) for seed in (0, 0, 1))
    assert without_place(first) == without_place(again) != without_place(other)
    assert [first[side]["pictures"] for side in ("generated", "real")] == [8, 8]
    assert any("8 of 16 real pictures were chosen" in line for line in first["notes"])


def test_identity_of_pairs_says_how_alike_people_are():
    faces = from_uint8(torch.from_numpy(drawn(6, 0, 32)).permute(0, 3, 1, 2))
    people, places = ["a", "a", "b", "b", "c", "c"], [(n, n) for n in range(6)]
    part = score_paired(Part(), faces, faces, places, people, 0, CPU)
    about = {metric_of(name): about for name, about in part.protocols.items()}
    assert set(about["identity"]["between_people"]) == set(about["same_person"]["between_people"]) != set()
    assert "between_people" not in about["mae"]


def test_pictures_of_the_same_names_are_also_compared_one_by_one(quick, tmp_path):
    faces = drawn(9, 0)
    darker = np.clip(faces.astype(int) - 10, 0, 255).astype(np.uint8)
    real, made = saved(tmp_path / "real", faces), saved(tmp_path / "made", darker, "{:03d}.bmp")
    result = scored(made, real, tmp_path, paired=True)
    images = result["rows"][0]
    assert (images["table"], images["name"]) == ("images", "generated")
    errors = (darker.astype(float) - faces) / 255
    assert images["scores"]["mae"]["value"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    psnr = np.mean([-10 * np.log10((face**2).mean()) for face in errors])
    assert images["scores"]["psnr"]["value"] == pytest.approx(psnr, rel=1e-5)
    low, high = images["scores"]["mae"]["low"], images["scores"]["mae"]["high"]
    assert low <= images["scores"]["mae"]["value"] <= high
    (made / "000.bmp").rename(made / "other.bmp")
    with pytest.raises(BadInput, match=r"--paired: .* \(000 is on one side only\)"):
        scored(made, real, tmp_path, paired=True)


# What is read


def test_resizing_is_antialiased_and_only_where_it_is_asked_for(tmp_path):
    pictures = [picture(n, 31, 31) for n in range(5)]
    folder = saved(tmp_path / "some", pictures)
    read = score_pictures.read_pictures
    whole = read(folder, "REAL", "none", None, None, 0, False)
    assert np.array_equal(whole.pixels.transpose(0, 2, 3, 1), np.stack(pictures))
    small = read(folder, "REAL", "none", (16, 16), None, 0, True)
    for pixels, original in zip(small.pixels, pictures, strict=True):
        right = np.asarray(Image.fromarray(original).resize((16, 16), Image.Resampling.BICUBIC))
        assert np.abs(pixels.transpose(1, 2, 0).astype(int) - right).max() <= 2
    assert small.digests[0][0] == whole.digests[0][0]  # of the picture as decoded
    assert small.digests[0][1] != whole.digests[0][1]
    tall = read(
        saved(tmp_path / "tall", [picture(n, 31, 21) for n in range(5)]), "REAL", "center", (16, 16), None, 0, True
    )
    assert tall.stretched == pytest.approx(1)
    squeezed = read(tmp_path / "tall", "REAL", "none", (16, 16), None, 0, True)
    assert squeezed.stretched == pytest.approx(31 / 21)


def test_orientation_is_undone_and_broken_files_are_listed(tmp_path):
    image, exif = Image.fromarray(picture(0, 20, 30)), Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "turned.jpg", encode(image, "JPEG", exif=exif))
    saved(tmp_path, [picture(n, 30, 20) for n in range(1, 4)])
    write(tmp_path / "broken.png", encode(picture(9, 30, 20), "PNG")[:-40])
    found = score_pictures.read_pictures(tmp_path, "GENERATED", "none", None, None, 0, False)
    assert found.sizes == {(30, 20): 4}
    assert [name for name, _ in found.unreadable] == ["broken.png"]
    assert found.kinds == {"PNG": 3, "JPEG": 1}
    notes = score_notes.cautions(found, found, [])
    assert any(line.startswith("1 generated pictures cannot be read and are left out (broken.png: ") for line in notes)
    assert any("1 of 4 generated pictures are JPEG" in line for line in notes)


def test_copies_are_found_whatever_their_files_are(quick, tmp_path):
    pictures = [picture(n, 24, 24) for n in range(8)]
    real = saved(tmp_path / "real", pictures)
    made = saved(tmp_path / "made", [picture(n, 24, 24) for n in range(20, 26)])
    write(made / "copy.bmp", encode(pictures[3], "BMP"))
    write(made / "again.png", encode(pictures[3], "PNG"))
    result = scored(made, real, tmp_path)
    assert sorted(result["copies"]) == [["again.png", "003.png"], ["copy.bmp", "003.png"]]
    assert result["generated"]["repeated"] == 1
    assert any(line.startswith("2 of 8 generated pictures are copies of real ones here") for line in result["notes"])
    itself = scored(real, real, tmp_path)
    assert any(line.startswith("8 of 8 generated pictures are copies") for line in itself["notes"])
    assert scored(saved(tmp_path / "new", [picture(30 + n, 24, 24) for n in range(5)]), real, tmp_path)["copies"] == []


def test_small_counts_are_said_in_words():
    said = score_notes._count_cautions(2000, 300, ["kid@lite0-57934424-bicubic224", "fid@lite0-57934424-bicubic224"])
    assert said == [
        "FID is too high with few pictures: here 2,000 generated and 300 real pictures, usually 50,000; compare at "
        "equal counts only."
    ]
    assert score_notes._count_cautions(50_000, 50_000, ["fid", "kid"]) == []
    assert "half as many real ones" in score_notes._count_cautions(50_000, 50_000, ["recall"])[0]


# What is unlike


def test_grey_against_colour_is_refused_or_forced_and_stamped(quick, sides, tmp_path, capsys):
    made, real, *_ = sides
    grey = saved(tmp_path / "grey", [np.asarray(Image.open(path).convert("L")) for path in sorted(made.iterdir())])
    with pytest.raises(BadInput, match=r"its pictures are grey, the real ones in colour.*--force"):
        scored(grey, real, tmp_path)
    result = scored(grey, real, tmp_path, force=True)
    assert result["forced"] == ["its pictures are grey, the real ones in colour"]
    assert result["verdict"][0].startswith("Forced, although its pictures are grey")
    said = capsys.readouterr().out
    assert "forced: comparable with no others" in said
    assert "Forced, although" in said
    both = scored(grey, grey, tmp_path)
    assert (both["forced"], both["protocol"]["channels"]) == ([], 1)


def test_what_would_be_stretched_or_enlarged_is_refused(quick, sides, tmp_path):
    made, *_ = sides
    tall = saved(tmp_path / "tall", [picture(n, 40, 30) for n in range(6)])
    with pytest.raises(BadInput, match="stretched by 33%"):
        scored(made, tall, tmp_path, size=16)
    assert scored(made, tall, tmp_path, size=16, crop="center")["protocol"]["crop"] == "center"
    assert scored(made, tall, tmp_path, size=16, crop="c20")["forced"] == []
    small = saved(tmp_path / "small", [picture(n, 12, 12) for n in range(6)])
    with pytest.raises(BadInput, match="the real pictures would be enlarged 2"):
        scored(made, small, tmp_path, size=24)


# Every wrong use is one line


def typed(monkeypatch, capsys, *words):
    from faceforge import cli

    monkeypatch.setattr(sys, "argv", ["faceforge", "score", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    return ended.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def wrong(tmp_path_factory, sides):
    """A folder of everything that cannot be scored, beside `made` and `real`."""
    place = tmp_path_factory.mktemp("wrong")
    made, real, *_ = sides
    (place / "made").symlink_to(made)
    (place / "real").symlink_to(real)
    write(place / "empty" / "notes.txt", b"nothing")
    put({f"{n}.png": encode(picture(n), "PNG")[:80] for n in range(4)}, place / "damaged")
    saved(place / "two", drawn(2, 1))
    saved(place / "mixed", [picture(0, 24, 24), picture(1, 30, 24), picture(2, 24, 24)])
    saved(place / "larger", [picture(n, 32, 32) for n in range(4)])
    saved(place / "outer", [picture(n, 24, 24) for n in range(4)])
    saved(place / "outer" / "inner", [picture(n, 24, 24) for n in range(4)])
    write(place / "grid.png", encode(picture(0, 90, 90), "PNG"))
    write(place / "run" / "run.json", b"{}")
    (place / "run" / "checkpoints").mkdir()
    write(place / "text.npz", b"no zip")
    np.savez(place / "floats.npz", np.zeros((4, 8, 8, 3), np.float32))
    np.savez(place / "objects.npz", np.array([{}, 1], dtype=object))
    write(place / "out.json", b"{}")
    for person in ("Ann_A", "Bob_B"):
        saved(place / "two people" / person, [picture(n, 24, 24) for n in range(4)], person + "_{:04d}.png")
    return place


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing", "real"], "GENERATED nothing: no such folder or file"),
        (["made", "nothing"], "REAL nothing: no such folder or file"),
        (["made", "empty"], "REAL empty: no images"),
        (["damaged", "real"], "GENERATED damaged: none of 4 pictures can be read (0.png: "),
        (["two", "real"], "GENERATED two: 2 readable pictures; KID and FID need at least 3 a side"),
        (["made", "two people"], "REAL two people: pictures of 2 people; KID needs at least 3"),
        (["mixed", "real"], "GENERATED mixed: 001.png has 24x30 pixels, others 24x24 (width x height); --size 24"),
        (["made", "larger"], "REAL larger: 000.png has 32x32 pixels, others 24x24 (width x height); --size 24"),
        (["outer", "outer/inner"], "inner: REAL lies in GENERATED"),
        (["outer/inner", "outer"], "inner: GENERATED lies in REAL"),
        (["grid.png", "real"], "GENERATED grid.png: one picture; must be a folder"),
        (["run", "real"], "GENERATED run: a run; write its faces first: faceforge generate run"),
        (["text.npz", "real"], "GENERATED text.npz: not an .npz; must hold one array of uint8"),
        (["floats.npz", "real"], "GENERATED floats.npz: holds arr_0 (4, 8, 8, 3) float32; must hold"),
        (["objects.npz", "real"], "GENERATED objects.npz: holds arr_0 (2,) object; must hold"),
        (["made", "real", "--out", "out.json"], "out.json: already exists; use --overwrite"),
        (["made", "real", "--features", "lite1"], "--features lite1: "),
        (["made", "real", "--crop", "centre"], "--crop centre: no such crop, the nearest is center"),
        (["made", "real", "--crop", "c99"], "REAL real: none of 16 pictures can be read"),
        (["made", "real", "-n", "2"], "--count 2: must be at least 3"),
        (["made", "real", "--size", "0"], "--size 0: must be at least 1 pixel"),
        (["made", "real", "--paired"], "--paired: 12 generated and 16 real pictures do not have the same names"),
    ],
)
def test_wrong_uses_are_one_line(wrong, monkeypatch, capsys, words, line):
    monkeypatch.chdir(wrong)
    code, said = typed(monkeypatch, capsys, *words)
    assert code == 2
    assert line in said
    assert said.startswith("faceforge: ")
    assert said.count("\n") == 1
    assert Path("out.json").read_text() == "{}"


# The documentation


@pytest.mark.slow
def test_the_commands_of_the_documentation_run(tmp_path):
    page = (ROOT / "docs/evaluate.md").read_text().replace("200", "40")
    commands = "\n".join(re.findall(r"```\n(.*?)```", page, re.DOTALL))
    assert commands.count("faceforge evaluate") == 2
    assert commands.count("faceforge score") == 1
    small = " ".join([word for word in TINY if "size=8" not in word and "max_images" not in word])
    commands = commands.replace("trainer.max_images=4000", f"{small} trainer.max_images=40")
    commands = commands.replace("python ", f"{sys.executable} ").replace("train.py", str(ROOT / "train.py"))
    shim = f"faceforge() {{ {sys.executable} -c 'from faceforge.cli import run; run()' \"$@\"; }}\n"
    away = {"PYTHONPATH": str(ROOT / "src"), "FACEFORGE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["bash", "-e", "-c", shim + commands], cwd=tmp_path, env=os.environ | away, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scores.json").read_text())
    assert (result["generated"]["pictures"], result["real"]["pictures"], result["copies"]) == (40, 40, [])
    assert (tmp_path / "runs/example/evaluation-drawn.json").is_file()
