"""What a run keeps, and what its use leaves alone: other folders, files, colours; and one name for each command."""

import ast
import dataclasses
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
import requests
import torch
from PIL import Image
from test_every_pair import FACES, SMALL
from test_studio_web import until
from test_studio_workers import app, family

from faceforge import config
from faceforge.cut import framing
from faceforge.cut.detect import Detection
from faceforge.cut.panel import write_panels
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.io.images import write_png
from faceforge.schemes.latent_space import SPACE, LatentSpace
from faceforge.studio import command, edit, export, onnx_use, output, photo, translate, upscale, video
from faceforge.studio.command import Request
from faceforge.studio.model import open_model
from faceforge.studio.web import handlers, work
from faceforge.studio.web.handlers import Ask
from faceforge.studio.web.server import make_app

RUNS = {
    "grey": ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.channels=1", "data.source.count=80"],
    "sr": ["model=mlp_autoencoder", *FACES, *SMALL["mlp_autoencoder"]],
}
MEASURED = (0.4, 0.6, 0.3)
FACE = ((30.0, 30.0), (50.0, 30.0), (40.0, 42.0), (32.0, 52.0), (48.0, 52.0))  # in a photo of 80 wide, 100 high


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two tiny grey runs, whose faces were measured to lie in an unusual place."""
    place = tmp_path_factory.mktemp("keeps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.setattr(framing, "measure", lambda images: MEASURED)
        patch.chdir(place)
        for name, overrides in RUNS.items():
            overrides = [*overrides, "trainer.max_images=16", f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
        yield place


@pytest.fixture(autouse=True)
def _seen(monkeypatch):
    face = Detection((20.0, 15.0, 40.0, 50.0), 0.9, FACE)
    monkeypatch.setattr(photo, "finder", lambda: lambda pixels: [face])


def picture(height=100, width=80, seed=0):
    """Soft colours far from black and white."""
    small = np.random.default_rng(seed).integers(90, 150, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def photos(tmp_path):
    """A folder with two photos, and the first of them."""
    for n in range(2):
        write_png(picture(seed=n), tmp_path / "photos" / f"{n}.png")
    return tmp_path / "photos"


def png(pixels):
    return output.to_png(pixels, None)


# A run keeps its framing


def framings(run):
    return {path.name: checkpoint.read(path)["framing"] for path in (run / "checkpoints").glob("*.ckpt")}


@pytest.mark.parametrize("name", RUNS)
def test_every_checkpoint_and_run_json_keep_the_framing(place, name):
    found = framings(place / name)
    assert {"last.ckpt", "previous.ckpt", "best.ckpt"} <= set(found)
    assert all(tuple(kept) == MEASURED for kept in found.values())
    assert tuple(json.loads((place / name / "run.json").read_text())["framing"]) == MEASURED
    assert open_model(place / name).framing == MEASURED


def test_a_resumed_run_carries_its_framing_on(place, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(place / "cache"))
    overrides = [*RUNS["sr"], "trainer.max_images=8", f"run_dir={tmp_path / 'run'}"]
    monkeypatch.setattr(framing, "measure", lambda images: MEASURED)
    assert training.train(config.compose(overrides), overrides) == 0
    monkeypatch.setattr(framing, "measure", lambda images: (0.1, 0.1, 0.1))
    overrides = [f"resume={tmp_path / 'run'}", "trainer.max_images=16"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert checkpoint.read(tmp_path / "run/checkpoints/last.ckpt")["clock"]["images"] == 16
    assert all(tuple(kept) == MEASURED for kept in framings(tmp_path / "run").values())


def test_an_export_carries_the_framing(place, tmp_path):
    export.write_safetensors(open_model(place / "sr"), tmp_path / "a.safetensors")
    assert open_model(tmp_path / "a.safetensors").framing == MEASURED


def test_a_set_without_visible_faces_is_framed_as_the_cut_frames(monkeypatch):
    data = SimpleNamespace(counts={"train": 5}, images=lambda split, rows: torch.zeros(len(rows), 1, 8, 8))
    monkeypatch.setattr(framing, "measure", lambda images: None)
    assert framing.of_training_faces(data) == framing.AS_CUT


def changed(run, folder, change):
    """A run whose best checkpoint is changed, with the space of its codes."""
    saved = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    change(saved)
    file = folder / "checkpoints/best.ckpt"
    file.parent.mkdir(parents=True)
    torch.save(saved, file)
    if (run / SPACE).is_file():
        space = LatentSpace.load(run / SPACE)
        dataclasses.replace(space, made={**space.made, "checkpoint": checkpoint.digest(file)}).save(folder / SPACE)
    return folder


def test_an_older_run_is_framed_as_the_cut_frames_and_says_so_once(place, tmp_path, capsys):
    older = open_model(changed(place / "sr", tmp_path / "older", lambda saved: saved.pop("framing", None)))
    assert older.framing == framing.AS_CUT
    photo.find_faces(picture(), older)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{tmp_path / 'older'}: an older run without framing; faces are framed as by `faceforge cut`"


@pytest.mark.parametrize("told", ["face", [0.5, 0.5], [0.5, 0.5, 0], [float("nan")] * 3, [0.5, "a", 0.5], {"x": 1}, 3])
def test_a_framing_that_makes_no_sense_is_one_line(place, tmp_path, told):
    with pytest.raises(BadInput, match="its framing must be") as error:
        open_model(changed(place / "sr", tmp_path / "odd", lambda saved: saved.update(framing=told)))
    assert "\n" not in str(error.value)


# No data but what is given


WATCHED = []  # the folder of which nothing may be opened, and what was
SEEN = []
HOOKED = []


def _watch(event, arguments):
    if WATCHED and event.startswith(("open", "os.")) and any(WATCHED[0] in str(told) for told in arguments):
        SEEN.append((event, *map(str, arguments)))


@pytest.fixture
def trap(tmp_path):
    """A folder with pictures, and what happens to it."""
    for n in range(12):
        write_png(picture(24, 24, seed=n), tmp_path / "secret" / f"{n}.png")
    if not HOOKED:
        sys.addaudithook(_watch)  # it cannot be taken away again
        HOOKED.append(True)
    SEEN.clear()
    WATCHED[:] = [str(tmp_path / "secret")]
    yield tmp_path / "secret"
    WATCHED.clear()


def hostile(run, folder, trap):
    """A run whose configuration names a folder of pictures wherever it can name a path."""

    def change(saved):
        data = saved["config"]["data"]
        source = {"_target_": "faceforge.data.sources.crops.Crops", "_partial_": True, "identity": "none"}
        data |= {"root": str(trap), "cache": str(trap / "cache"), "attributes": str(trap / "0.png"), "source": source}
        places = dict.fromkeys(("run_dir", "init_from", "resume"), str(trap))
        saved["config"] |= {**places, "logger": {"_target_": "faceforge.engine.loggers.make_loggers", "dir": str(trap)}}
        saved.pop("framing", None)

    return changed(run, folder, change)


def test_whatever_uses_a_run_opens_nothing_that_it_names(place, tmp_path, trap, photos):
    made, one = tmp_path / "made", photos / "0.png"
    write_png(picture(seed=2), photos / "2.png")
    grey, sr = (hostile(place / name, tmp_path / f"bad-{name}", trap) for name in RUNS)
    name = open_model(grey).space.names[0]

    def asked(run, out):
        return Request(run, made / out, False)

    command.upscale(asked(sr, "a.png"), one, False)
    command.upscale(asked(sr, "b.png"), one, True)
    command.translate(asked(grey, "c.png"), one, False, "photo")
    command.edit(asked(grey, "d.png"), one, [f"{name}=1"], "orthogonalised", False, "photo", None)
    command.edit(asked(grey, "e.png"), one, ["New=1"], "logistic", False, "photo", ("New", photos, photos))
    command.invert(asked(grey, "f.png"), one, 1, False)
    command.morph(asked(grey, "g.png"), one, photos / "1.png", 0.2, 1, False)
    command.average(photos, grey, None, made / "h.png", False, False, ())
    for run in (grey, sr):
        command.export(Request(run, None, False), made / f"{run.name}.safetensors")
    for run in (grey, made / "bad-grey.safetensors"):
        model = open_model(run)
        work._warm(model)
        make_app(work.Alone([model]))
        words = {"changes": f"{name}=1", "way": "latent", "seconds": "0.5", "kind": "gif"}
        for function in ("generate", "translate", "edit", "faces", "average", "walk", "morph"):
            handlers.answer(function, model, Ask(words, [png(picture(seed=n)) for n in range(2)]))
    handlers.answer("upscale", open_model(sr), Ask({}, [png(picture())]))
    assert SEEN == []
    assert sorted(path.name for path in trap.iterdir()) == sorted(f"{n}.png" for n in range(12))
    assert SEEN  # the hook sees what it should


@pytest.mark.parametrize("where", ["model", "task"])
@pytest.mark.parametrize(
    "target",
    [
        "faceforge.data.sources.crops.Crops",
        "faceforge.io.archives.Folder",
        "faceforge.engine.loggers.metrics_csv.MetricsCsv",
    ],
)
def test_a_file_may_not_name_what_opens_paths(place, tmp_path, trap, where, target):
    node = {"_target_": target, ("folder" if "loggers" in target else "root"): str(trap)}

    def change(saved):
        if where == "model":
            saved["config"]["model"]["loss"] = node
        else:
            saved["config"]["data"]["task"] = node

    with pytest.raises(BadInput, match=r"must be a network, loss, module or task"):
        open_model(changed(place / "sr", tmp_path / "bad", change))
    assert SEEN == []


# Nothing of a photo stays, with any number of workers


def memory(process):
    """Resident MiB of a process and its children."""
    return sum(each.memory_info().rss for each in family(process)) / 2**20


def is_at_rest(process):
    before = memory(process)
    time.sleep(3)
    return abs(memory(process) - before) < 1


@pytest.mark.slow
def test_workers_keep_nothing_of_what_they_are_sent(tmp_path):
    """Not on disk, even if one is killed in the middle of a video, not in memory, and not in what is printed."""
    marker = b"nothing else says this"
    with app(tmp_path, "--workers", "2") as (process, page, _):

        def ask(name, *sent, **words):
            words = {"run": 0, "sizes": ",".join(str(len(photo)) for photo in sent), **words}
            return requests.post(f"{page}/api/{name}", params=words, data=b"".join(sent), timeout=60)

        assert ask("edit", png(picture()), whole=1).ok  # libraries keep files of their own from here on
        before, (first, second) = files(tmp_path), (png(picture(seed=n)) + marker for n in range(2))
        for name, photos, words in [
            *(("edit", [first], {"whole": 1}), ("faces", [first], {}), ("average", [first, second], {"way": "latent"})),
            *(("walk", [], {"seconds": 0.5}), ("walk", [], {"kind": "gif"}), ("morph", [first, second], {})),
            *(("edit", [marker], {}), ("edit", [first], {"changes": marker.decode()})),
        ]:
            assert ask(name, *photos, **words).status_code in (200, 422)
        with ThreadPoolExecutor(1) as aside:
            video = aside.submit(ask, "walk", seconds=12, faces=12)
            until(lambda: (path := find(tmp_path / "tmp", "walk")) and worker_of(process, path).kill() is None)
            assert "another takes its place" in video.result().json()["says"]
        large = bytes(np.random.default_rng(0).integers(0, 255, 6_000_000, np.uint8))
        until(lambda: is_at_rest(process), 120)  # the worker that took the other's place loads its modules
        grown = []
        for _ in range(12):
            assert ask("edit", large + marker, whole=1).status_code == 422
            grown.append(memory(process))
        assert min(grown[6:]) - min(grown[:6]) < 12  # MiB: two uploads of six
        assert files(tmp_path) == before
        assert all(marker not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert not any("torch" in each.path for each in psutil.Process(process.pid).memory_maps())  # workers have it


def files(folder):
    """Files, without the log of the command."""
    return {path for path in folder.rglob("*") if path.is_file()} - {folder / "log"}


def find(folder, name):
    return next((path for path in folder.rglob("*") if name in path.name), None)


def worker_of(process, path):
    """The worker process that writes a temporary file."""
    (worker,) = [each for each in family(process) if any(path.name in argument for argument in each.cmdline())]
    return worker.parent()


# A grey model leaves the colours of a photo


def chroma(pixels):
    """Differences between the channels (H, W, 2), which a change of lightness alone leaves."""
    values = pixels.astype(int)
    return np.stack([values[..., 0] - values[..., 1], values[..., 2] - values[..., 1]], axis=2)


def lightness(pixels):
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(int)


def translated(model, pixels):
    return translate.translate(model, pixels).photo


def filmed(model, pixels):
    def change(frame, known):
        return translate.translate(model, frame, known=known).photo

    return next(video.changed([pixels], Fraction(10), change, partial(photo.find_faces, model=model)))


def edited(model, pixels):
    return edit.edit(model, pixels, {model.space.names[0]: 1.0}).photo


@pytest.mark.parametrize("use", [translated, filmed, edited])
def test_faces_of_a_grey_run_change_the_lightness_alone(place, monkeypatch, use):
    model, pixels = open_model(place / "grey"), picture(300, 260)
    monkeypatch.setattr(type(model.module), "predict", lambda self, x: 0 * x + 0.05)
    monkeypatch.setattr(type(model.module), "decode", lambda self, z: 0.1 * z[:, :1, None, None].expand(-1, 1, 16, 16))
    made = use(model, pixels)
    assert np.abs(lightness(made) - lightness(pixels)).max() > 3
    assert np.abs(chroma(made) - chroma(pixels)).max() <= 1
    frame = photo.find_faces(pixels, model)[0].frame
    below = round(frame.y + frame.h / 2) + 1
    assert below < 290
    assert (made[below:] == pixels[below:]).all()


def test_an_upscaled_face_of_a_grey_run_has_the_colours_of_the_photo(place, monkeypatch):
    model, pixels = open_model(place / "sr"), picture()
    monkeypatch.setattr(type(model.module), "predict", lambda self, x: 0 * x + 0.05)
    bicubic = np.asarray(Image.fromarray(pixels).resize((160, 200), Image.Resampling.BICUBIC))
    made = upscale.upscale(model, pixels).photo
    assert np.abs(lightness(made) - lightness(bicubic)).max() > 3
    assert np.abs(chroma(made) - chroma(bicubic)).max() <= 1


def test_a_whole_picture_keeps_its_colours_too(place, monkeypatch):
    model, pixels = open_model(place / "grey"), picture(16, 16)
    monkeypatch.setattr(type(model.module), "predict", lambda self, x: 0 * x + 0.05)
    made = translate.translate(model, pixels, whole=True).photo
    assert np.abs(lightness(made) - round(1.05 * 127.5)).max() <= 1
    assert np.abs(chroma(made) - chroma(pixels)).max() <= 1
    same = edit.edit(model, pixels, {model.space.names[0]: 0.0}, whole=True).photo
    assert np.abs(same.astype(int) - pixels).max() <= 1


# Nothing is replaced unasked


def test_a_code_replaces_nothing(place, tmp_path, photos, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(b"mine")
    asked = Request(place / "grey", tmp_path / "x.png", False)
    with monkeypatch.context() as patch:
        patch.setattr(edit, "invert", None)  # refused before any work
        with pytest.raises(BadInput, match=r"x\.safetensors: already exists; use --overwrite"):
            command.invert(asked, photos / "0.png", 1, True)
    assert (tmp_path / "x.safetensors").read_bytes() == b"mine"
    assert not (tmp_path / "x.png").exists()
    command.invert(dataclasses.replace(asked, overwrite=True), photos / "0.png", 1, True)
    assert (tmp_path / "x.safetensors").read_bytes() != b"mine"
    taken = place / "grey" / "made" / "0-code.safetensors"
    taken.parent.mkdir(exist_ok=True)
    taken.write_bytes(b"mine")
    command.invert(Request(place / "grey", None, False), photos / "0.png", 1, True)
    assert taken.read_bytes() == b"mine"
    assert (place / "grey" / "made" / "0-code-2.safetensors").is_file()


@pytest.mark.parametrize("part", ["-encoder", "-decoder"])
def test_the_parts_of_an_export_replace_nothing(place, tmp_path, monkeypatch, part):
    (tmp_path / f"x{part}.onnx").write_bytes(b"mine")
    asked = Request(place / "grey", None, False)
    written = []
    monkeypatch.setattr(export, "_write_graph", lambda graph, path, about: written.append(path.write_bytes(b"made")))
    monkeypatch.setattr(export, "_difference", lambda graph, path: 0.0)
    with pytest.raises(BadInput, match=rf"x{part}\.onnx: already exists; use --overwrite"):
        command.export(asked, tmp_path / "x.onnx")
    assert not written
    assert [path.name for path in tmp_path.iterdir()] == [f"x{part}.onnx"]
    command.export(dataclasses.replace(asked, overwrite=True), tmp_path / "x.onnx")
    assert len(written) == 3
    assert (tmp_path / f"x{part}.onnx").read_bytes() == b"made"


def test_photos_that_differ_in_the_suffix_alone_do_not_replace_one_another(place, tmp_path, photos):
    Image.fromarray(picture()).save(photos / "0.bmp")
    command.translate(Request(place / "grey", tmp_path / "out", False), photos, False, "photo")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.bmp.png", "0.png.png", "1.png.png"]
    for name in ("0.jpg", "0.jpg.png"):
        Image.fromarray(picture()).save(photos / name)
    count, _ = write_panels(photos, tmp_path / "panels", False)
    assert len(list((tmp_path / "panels").iterdir())) == count == 5


def test_nothing_is_taught_where_the_result_could_not_be_written(place, tmp_path, photos, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"mine")
    monkeypatch.setattr(edit, "teach", None)
    asked, taught = Request(place / "grey", tmp_path / "x.png", False), ("New", photos, photos)
    with pytest.raises(BadInput, match="already exists"):
        command.edit(asked, photos / "0.png", ["New=1"], "logistic", True, "photo", taught)


def test_the_script_beside_a_model_replaces_nothing_unasked(tmp_path, monkeypatch, capsys):
    about = {"input": {"kind": "normal", "shape": [2]}}
    monkeypatch.setattr(onnx_use, "open_model", lambda path: (None, about))
    monkeypatch.setattr(onnx_use, "run", lambda session, values: np.zeros((len(values), 3, 4, 4), np.float32))

    def use(*words):
        monkeypatch.setattr(sys, "argv", ["onnx_use.py", "model.onnx", "--out", str(tmp_path / "x.png"), *words])
        onnx_use.main()

    use()
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(SystemExit) as end:
        use("--count", "3")
    assert end.value.code == 2
    assert "x.png: already exists; use --overwrite to replace it" in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() == before
    use("--count", "3", "--overwrite")
    assert Image.open(tmp_path / "x.png").size == (12, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


# One name a command


def typed(place, folder, photos, what):
    """The recipe in what the command line makes, without the names of files, which the page does not know."""
    one, two = photos / "0.png", photos / "1.png"
    kind = ".gif" if what in ("walk", "morph") else ".png"
    grey, sr = (Request(place / name, folder / f"{what}{kind}", False) for name in RUNS)
    changes = [f"{open_model(place / 'grey').space.names[0]}=1.5"]
    {
        "generate": lambda: command.generate(Request(place / "grey", folder / "faces", False), 3, 5, 0.5, "gaussian"),
        "upscale": lambda: command.upscale(sr, one, False),
        "simulate": lambda: command.upscale(sr, one, True),
        "translate": lambda: command.translate(grey, one, False, "photo"),
        "whole": lambda: command.translate(grey, one, True, "photo"),
        "edit": lambda: command.edit(grey, one, changes, "logistic", False, "photo", None),
        "average": lambda: command.average(photos, place / "grey", "latent", grey.out, False, False, ()),
        "walk": lambda: command.walk(grey, 3, 0.5, 5, 0.5, "gaussian", None, (-2.0, 2.0), "orthogonalised"),
        "morph": lambda: command.morph(grey, one, two, 0.5, handlers.STEPS, False),
    }[what]()
    recipe = output.read_recipe(folder / "faces/1.png" if what == "generate" else folder / f"{what}{kind}")
    by_name = {"photo", "folder"} | ({"photos"} if what == "morph" else set())
    return {key: value for key, value in recipe.items() if key not in by_name}


def clicked(place, photos, what):
    """The recipe in what the page makes."""
    models = {name: open_model(place / name) for name in RUNS}
    uploads = [path.read_bytes() for path in sorted(photos.iterdir())]
    drawn = {"seed": "5", "truncation": "0.5", "density": "gaussian", "seconds": "0.5", "kind": "gif"}
    changes = f"{models['grey'].space.names[0]}=1.5"
    function, run, words, count = {
        "generate": ("generate", "grey", {**drawn, "count": "3"}, 0),
        "upscale": ("upscale", "sr", {}, 1),
        "simulate": ("upscale", "sr", {"simulate": "1"}, 1),
        "translate": ("translate", "grey", {}, 1),
        "whole": ("translate", "grey", {"whole": "1"}, 1),
        "edit": ("edit", "grey", {"changes": changes, "direction": "logistic"}, 1),
        "average": ("average", "grey", {"way": "latent"}, 2),
        "walk": ("walk", "grey", {**drawn, "faces": "3"}, 0),
        "morph": ("morph", "grey", {"seconds": "0.5", "kind": "gif"}, 2),
    }[what]
    made = handlers.answer(function, models[run], Ask(words, uploads[:count])).files["made"]
    return json.loads(made[1 if what == "generate" else 0].recipe)


COMMANDS = ("generate", "upscale", "simulate", "translate", "whole", "edit", "average", "walk", "morph")


@pytest.mark.parametrize("what", COMMANDS)
def test_the_same_request_has_the_same_recipe_typed_and_clicked(place, tmp_path, photos, what):
    recipe = typed(place, tmp_path, photos, what)
    assert recipe == clicked(place, photos, what)
    assert recipe["command"] == {"simulate": "upscale", "whole": "translate"}.get(what, what)


def test_lines_and_films_are_translated_and_codes_inverted(place, tmp_path, photos, monkeypatch):
    film = output.save_video([picture(), picture(seed=1)], tmp_path / "a.gif", 10, output.Recipe(None, "walk", {}))
    grey = place / "grey"
    command.translate(Request(grey, tmp_path / "b.gif", False), film, False, "photo")
    command.invert(Request(grey, tmp_path / "c.png", False), photos / "0.png", 0, True)
    monkeypatch.setattr(translate, "takes_lines", lambda model: True)
    command.translate(Request(grey, tmp_path / "d.png", False), photos / "0.png", False, "photo", lines=True)
    lines = handlers.draw(open_model(grey), Ask({}, [png(picture())])).files["made"][0]
    names = [output.read_recipe(tmp_path / name)["command"] for name in ("b.gif", "c.png", "d.png")]
    assert names == ["translate", "invert", "translate"]
    assert json.loads(lines.recipe)["command"] == "translate"


# What it costs, and where it runs


def test_whether_a_network_takes_any_size_is_tried_once(place, monkeypatch):
    model, tried = open_model(place / "sr"), []
    predict = type(model.module).predict

    def counted(self, x):
        tried.append(max(x.shape[2:]) > 16)
        return predict(self, x)

    monkeypatch.setattr(type(model.module), "predict", counted)
    for _ in range(2):
        upscale.simulate(model, picture())
        upscale.upscale(model, picture())
    assert sum(tried) == 1


def test_an_export_is_made_on_the_cpu_and_the_model_goes_back_where_it_was():
    calls = []
    module = SimpleNamespace(cpu=lambda: calls.append("cpu"), to=lambda device: calls.append(device))
    with export._on_cpu(SimpleNamespace(device="elsewhere", module=module)):
        calls.append("work")
    assert calls == ["cpu", "work", "elsewhere"]


def test_the_studio_imports_nothing_that_unix_alone_has():
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "pty"}
    for path in Path(command.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not names & unix, path
