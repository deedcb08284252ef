"""What users do with a run on a GPU, on a simulated one: as on the CPU, within 1/255."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import requests
import torch
from on_accelerator import machine, place  # noqa: F401
from test_evaluate import ASKED
from test_studio import asked, picture
from test_studio_web import files, pixels, png, serving

from faceforge.evaluation import command as evaluation
from faceforge.studio import command, directions, photo
from faceforge.studio.model import open_model

pytestmark = pytest.mark.simulated


@pytest.mark.parametrize("scheme", ["gan", "sr", "colour"])
def test_evaluate_scores_as_the_cpu_does(place, tmp_path, monkeypatch, scheme):
    results = []
    for count in (1, 0):
        monkeypatch.setattr(torch.sim, "count", count)
        out = tmp_path / f"{count}.json"
        evaluation.evaluate(replace(ASKED, run=place / scheme, out=out))
        results.append(json.loads(out.read_text()))
    assert results[0]["device"] == "1 x Simulated Accelerator"
    assert results[1]["device"].startswith("CPU")
    for there, here in zip(*(result["rows"] for result in results), strict=True):
        for name, score in there["scores"].items():
            assert score["value"] == pytest.approx(here["scores"][name]["value"], rel=1e-3, abs=1e-4), name


def _commands(place, out):
    """What can be typed, and a file or folder that each leaves below ``out``."""
    photo_file = out / "photo.png"
    photo_file.write_bytes(png(picture()))
    on = lambda name, to: asked(place, name, out / to)  # noqa: E731
    yield "generate", lambda: command.generate(on("gan", "faces.png"), 5, 1, 1.0, "mixture")
    yield "generate", lambda: command.generate(on("latent", "codes.png"), 5, 1, 1.0, "mixture")
    yield "upscale", lambda: command.upscale(on("sr", "large.png"), photo_file, False)
    yield "upscale", lambda: command.upscale(on("sr", "simulated.png"), photo_file, True)
    yield "translate", lambda: command.translate(on("colour", "colour.png"), photo_file, False, "photo")
    yield "translate", lambda: command.translate(on("lines", "lines.png"), photo_file, False, "photo", True)
    words = ["Smiling=1.0"]
    yield (
        "edit",
        lambda: command.edit(on("latent", "edit.png"), photo_file, words, "orthogonalised", False, "photo", None),
    )
    yield "invert", lambda: command.invert(on("latent", "code.png"), photo_file, 2, False)
    yield "morph", lambda: command.morph(on("latent", "morph.png"), photo_file, photo_file, 0.5, 2, True)
    yield "average", lambda: command.average(photo_file, place / "latent", None, out / "mean.png", False, False, ())
    yield "walk", lambda: command.walk(on("gan", "walk.mp4"), 2, 0.1, 0, 1.0, "mixture", None, (-1, 1), "logistic")


def test_every_command_makes_on_it_what_it_makes_on_the_cpu(place, tmp_path, monkeypatch):
    made = {}
    for count in (0, 1):
        monkeypatch.setattr(torch.sim, "count", count)
        out = tmp_path / str(count)
        out.mkdir()
        for _, do in _commands(place, out):
            do()
        made[count] = {p.relative_to(out): p for p in sorted(out.rglob("*")) if p.is_file()}
    assert made[0].keys() == made[1].keys()
    pictures = [name for name in made[0] if name.suffix == ".png"]
    assert len(pictures) >= 7
    for name in pictures:
        here, there = (photo.read_photo(made[count][name]).astype(int) for count in (0, 1))
        assert np.abs(here - there).max() <= 1, name


def test_directions_are_found_on_it_as_on_the_cpu(place, tmp_path, monkeypatch):
    """And a photo is edited through the GAN, from the same file on both."""
    found, made = [], []
    for count in (1, 0):
        monkeypatch.setattr(torch.sim, "count", count)
        run = tmp_path / f"on-{count}"
        shutil.copytree(place / "gan", run)
        found.append(directions.make(directions.Options(run, 2, 40)).space)
    (tmp_path / "photo.png").write_bytes(png(picture()))
    name = found[0].principal[0]
    assert found[0].names == found[1].names
    for there, here in zip(found[0].directions().values(), found[1].directions().values(), strict=True):
        torch.testing.assert_close(there, here, atol=1e-2, rtol=1e-2)
    for count in (1, 0):
        monkeypatch.setattr(torch.sim, "count", count)
        out = tmp_path / f"{count}.png"
        command.edit(asked(tmp_path, "on-1", out), tmp_path / "photo.png", [f"{name}=1"], None, True, "photo", None)
        command.invert(asked(tmp_path, "on-1", tmp_path / f"code-{count}.png"), tmp_path / "photo.png", 2, True)
        made.append(photo.read_photo(out).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 1


@pytest.mark.parametrize("name", ["gan", pytest.param("latent", marks=pytest.mark.slow)])
def test_an_export_is_proven_and_leaves_the_model_where_it_was(place, tmp_path, name):
    command.export(asked(place, name, None), tmp_path / "out")  # which compares the graph with torch
    again = open_model(tmp_path / "out")
    assert again.device.type == "sim"
    here, there = (next(model.faces(3, seed=1)) for model in (open_model(place / name), again))
    assert (here - there).abs().max() <= 2 / 255


def test_the_page_answers_from_it_as_the_cpu_does(place, monkeypatch):
    answers = []
    for count in (1, 0):
        monkeypatch.setattr(torch.sim, "count", count)
        models = [open_model(place / name) for name in ("gan", "sr", "colour", "latent")]
        assert {model.device.type for model in models} == {"sim" if count else "cpu"}
        asked_for = (("generate", 0, {"count": 4, "seed": 3}), ("upscale", 1, {}), ("translate", 2, {}))
        with serving(models) as page:
            answers.append([_answer(page, name, run, words) for name, run, words in asked_for])
    for there, here in zip(*answers, strict=True):
        assert np.abs(there - here).max() <= 1


def _answer(page, name, run, words):
    data = b"" if name == "generate" else png(picture())
    sizes = {"sizes": str(len(data))} if data else {}
    response = requests.post(f"{page}/api/{name}", params={"run": run, **words, **sizes}, data=data, timeout=60)
    return pixels(files(response)[0][1]).astype(int)
