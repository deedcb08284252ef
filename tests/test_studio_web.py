"""The studio's page as its server sees it: the same pictures as the commands', bounds on everything, nothing kept."""

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
import uvicorn
from conftest import TINY
from PIL import Image
from test_every_pair import FACES, SMALL
from test_studio import asked

from benchmarks.hostile import cases
from benchmarks.studio import page as benchmark
from faceforge import config
from faceforge.cut.detect import make_detector
from faceforge.data.sources.drawn import Drawn
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.io.images import ImageError, decode
from faceforge.studio import command, export, onnx_use, output, photo
from faceforge.studio.model import WATCH, open_model
from faceforge.studio.web import handlers, server
from faceforge.studio.web.access import access
from faceforge.studio.web.server import Limits, Settings, make_app
from faceforge.studio.web.work import Alone

RUNS = {
    "gan": [*TINY, "data.size=16"],
    "sr": ["model=conv_superres", *FACES, *SMALL["conv_superres"], "data.channels=3"],
    "colour": ["model=pix2pix", "task=colorize", *FACES, *SMALL["pix2pix"], "data.size=[24,16]"],
    "lines": ["model=pix2pix", "task=contours", *FACES, *SMALL["pix2pix"]],
    "mean": ["model=pix2pix", "task=average", *FACES, *SMALL["pix2pix"]],
}
DRAWN = Path("drawn:latent_editor")
NAMES = ["latent_editor", *RUNS]


@contextmanager
def serving(models, limits=None, crew=None, allowed=None):
    """The address of a page over some models or workers, in this process."""
    place = socket.create_server(("127.0.0.1", 0))
    app = make_app(crew or Alone(models), limits, allowed)
    made = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=made.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        made.should_exit = True
        thread.join()
        place.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny runs; faces are looked for by the published cascade, which sees drawn ones too."""
    place = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        found = make_detector("haar", None)
        patch.setattr(photo, "finder", lambda: found)
        for name, overrides in RUNS.items():
            overrides = [*overrides, "trainer.max_images=16", f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
        yield place


@pytest.fixture(scope="module")
def models(place):
    return [open_model(DRAWN), *(open_model(place / name) for name in RUNS)]


@pytest.fixture(scope="module")
def page(models):
    with serving(models) as address:
        yield address


SEEN = (1, 2, 3, 8)  # drawn people whom the cascade sees


def portrait(number=0, size=(160, 160)):
    """A drawn person on a larger plain ground, as the bytes of a PNG."""
    face = Drawn(count=50).read(SEEN[number], size)
    whole = np.full((size[0] + 80, size[1] + 120, 3), 128, np.uint8)
    whole[40 : 40 + size[0], 60 : 60 + size[1]] = face
    return png(whole)


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def ask(page, function, *photos, run="latent_editor", **words):
    number = {} if run is None else {"run": NAMES.index(run)}
    words = {**number, **words, **({"sizes": ",".join(str(len(p)) for p in photos)} if photos else {})}
    return requests.post(f"{page}/api/{function}", params=words, data=b"".join(photos), timeout=60)


def files(response, role="made"):
    assert response.ok, response.text
    return [(file["name"], base64.b64decode(file["data"])) for file in response.json()["files"][role]]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# The same as elsewhere


@pytest.mark.parametrize("name", ["gan", pytest.param("latent_editor", marks=pytest.mark.slow)])
def test_a_seed_is_the_same_faces_from_command_notebook_page_and_onnx(page, models, place, tmp_path, name):
    model = models[NAMES.index(name)]
    settings = {"seed": 7, "truncation": 0.8}
    here = [pixels(data) for _, data in files(ask(page, "generate", run=name, count=9, **settings))]
    assert len(here) == 9
    command.generate(asked(model.path.parent, model.path.name, tmp_path / "made"), 9, 7, 0.8, "mixture")
    there = [pixels(path.read_bytes()) for path in sorted((tmp_path / "made").glob("*.png"))]
    notebook = photo.to_pictures(torch.cat(list(model.faces(9, 7, 0.8))))
    export.write_onnx(model, tmp_path / "model.onnx")
    session, _ = onnx_use.open_model(tmp_path / f"model{'-decoder' if name == 'latent_editor' else ''}.onnx")
    z = model.codes(9, 7, 0, 0.8).numpy()
    strip = np.asarray(onnx_use.to_picture(onnx_use.run(session, z)))
    graph = np.split(strip, 9, axis=1)
    for n in range(9):
        assert (here[n] == there[n]).all()
        assert (here[n] == notebook[n]).all()
        assert np.abs(here[n].astype(int) - graph[n]).max() <= 1


def test_a_photo_becomes_what_the_command_makes_of_it(page, models, place, tmp_path):
    (tmp_path / "a.png").write_bytes(portrait())
    command.upscale(asked(place, "sr", tmp_path / "b.png"), tmp_path / "a.png", False)
    ((_, data),) = files(ask(page, "upscale", portrait(), run="sr"))
    assert (pixels(data) == pixels((tmp_path / "b.png").read_bytes())).all()
    command.translate(asked(place, "colour", tmp_path / "c.png"), tmp_path / "a.png", False, "photo")
    ((_, data),) = files(ask(page, "translate", portrait(), run="colour"))
    assert (pixels(data) == pixels((tmp_path / "c.png").read_bytes())).all()


# Every function


SENT = {
    "generate": ("generate", {"count": "2"}, 0),
    "generate by a GAN": ("generate", {"run": "gan", "count": "36"}, 0),
    "upscale": ("upscale", {"run": "sr"}, 1),
    "simulate": ("upscale", {"run": "sr", "simulate": "1"}, 1),
    "translate": ("translate", {"run": "colour"}, 1),
    "translate whole": ("translate", {"run": "lines", "whole": "1"}, 1),
    "draw": ("draw", {"run": "lines"}, 1),
    "edit": ("edit", {"changes": "Smiling=2,Eyeglasses=-1"}, 1),
    "edit whole": ("edit", {"changes": "Smiling=2", "whole": "1"}, 1),
    "edit a seed": ("edit", {"changes": "Smiling=2", "seed": "5"}, 0),
    "average by codes": ("average", {"way": "latent"}, 3),
    "average by translation": ("average", {"run": "mean", "way": "translation"}, 2),
    "walk": ("walk", {"seconds": "0.5", "faces": "2"}, 0),
    "walk along": ("walk", {"seconds": "0.5", "attribute": "Smiling", "kind": "gif"}, 0),
    "morph": ("morph", {"seconds": "0.5"}, 2),
}


@pytest.mark.parametrize("what", SENT)
def test_every_result_carries_its_recipe_and_says_that_it_is_synthetic(page, models, tmp_path, what):
    function, words, count = SENT[what]
    words = dict(words)
    run = words.pop("run", "latent_editor")
    response = ask(page, function, *(portrait(n) for n in range(count)), run=run, **words)
    made = [file for role in response.json()["files"] if role != "lines" for file in files(response, role)]
    assert made
    assert response.json()["says"]
    for name, data in made:
        (tmp_path / name).write_bytes(data)
        recipe = output.read_recipe(tmp_path / name)
        assert recipe["synthetic"] is True
        assert recipe["run"] == run
        assert recipe["weights_sha256"] == models[NAMES.index(run)].digest
        for key in ("seed", "seconds", "way", "simulate", "whole"):
            if key in words and not (key == "whole" and function == "edit"):
                assert str(recipe[key]) in (words[key], f"{float(words[key]):g}" if key == "seconds" else "True")


def test_faces_are_cut_as_the_model_knows_them(page, models):
    ((_, data),) = files(ask(page, "faces", portrait()), "faces")
    assert pixels(data).shape == (64, 64, 3)
    assert "faceforge" not in Image.open(io.BytesIO(data)).info  # a cut photo is not synthetic


def test_lines_of_a_photo_can_be_drawn_on(page, place, tmp_path):
    response = ask(page, "translate", portrait(), run="lines", whole="1")
    ((_, lines),) = files(response, "lines")
    ((_, again),) = files(ask(page, "draw", lines, run="lines"))
    ((_, face),) = files(response)
    assert np.abs(pixels(again).astype(int) - pixels(face)).max() <= 1
    (tmp_path / "lines.png").write_bytes(lines)
    command.translate(asked(place, "lines", tmp_path / "face.png"), tmp_path / "lines.png", False, "photo", True)
    assert (pixels((tmp_path / "face.png").read_bytes()) == pixels(again)).all()
    with pytest.raises(BadInput, match="task=canny or contours"):
        command.translate(asked(place, "colour", tmp_path / "b.png"), tmp_path / "lines.png", False, "photo", True)
    ((_, other),) = files(ask(page, "draw", png(np.zeros((16, 16, 3), np.uint8)), run="lines"))
    assert (pixels(other) != pixels(face)).any()


def test_the_page_is_told_what_the_models_can(page):
    told = requests.get(f"{page}/api/studio", timeout=60).json()
    assert [model["name"] for model in told["models"]] == NAMES
    drawn, gan, sr, colour, lines, mean = told["models"]
    assert drawn["drawn"]
    assert not gan["drawn"]
    assert "Smiling" in drawn["attributes"]
    assert gan["densities"] == []
    assert (lines["lines"], colour["lines"]) == (True, False)
    assert sr["can"] == ["upscale"]
    assert (drawn["ways"], mean["ways"]) == (["latent", "landmarks"], ["translation", "landmarks"])


# What is wrong gets a sentence


WRONG = {
    "not a picture": (("edit", b"hello"), {}, "this photo cannot be used: not an image"),
    "the second is none": (("morph", portrait(), b"%PDF"), {}, "photo 2 cannot be used"),
    "no face": (("edit", png(np.full((90, 90, 3), 100, np.uint8))), {}, "No face was found in this photo"),
    "no photo": (("translate",), {"run": "colour"}, "a photo is needed"),
    "one photo": (("average", portrait()), {}, "at least 2"),
    "another run's": (("upscale", portrait()), {}, "this run cannot upscale"),
    "a seed": (("generate",), {"seed": "-1"}, "an integer from 0"),
    "a count": (("generate",), {"count": "37"}, "from 1 to 36"),
    "a number": (("generate",), {"truncation": "nan"}, "a number from 0 to 2"),
    "a film": (("walk",), {"seconds": "1e9"}, "0.5 to 12"),
    "a choice": (("generate",), {"density": "best"}, "must be one of mixture, gaussian"),
    "a name": (("edit",), {"changes": "Wings=1"}, "Wings"),
    "a strength": (("edit",), {"changes": "Smiling=1e3"}, "-10 to 10"),
    "a way": (("average", portrait(), portrait(1)), {"way": "translation"}, "must be one of latent, landmarks"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_gets_a_sentence(page, what):
    sent, words, says = WRONG[what]
    response = ask(page, *sent, **words)
    assert response.status_code == 422
    assert says in response.json()["says"]


def test_a_run_that_is_not_there_and_a_function_that_is_not(page):
    for word in ("6", "-1", "x", "9" * 30):
        response = requests.post(f"{page}/api/generate", params={"run": word}, timeout=60)
        assert (response.status_code, "from 0 to 5" in response.text) == (422, True)
    assert requests.post(f"{page}/api/nothing", timeout=60).status_code == 404
    assert requests.post(f"{page}/api/generate", timeout=60).json()["says"] == "generate needs a run"


def test_a_picture_is_refused_by_its_header_for_the_memory_that_it_needs():
    with pytest.raises(ImageError, match=r"9000x9000 pixels: needs \d+ MiB"):
        decode(cases.png(9000, 9000, packed=b""))
    with pytest.raises(ImageError, match=r"damaged|truncated"):
        decode(cases.png(5000, 5000, packed=b""))


def test_uploads_that_are_no_photos_crash_nothing(page):
    """The short form of benchmarks/studio/page.py fuzz."""

    class Process:
        def poll(self):
            return None

    row = benchmark.fuzz(benchmark.Page(page, Process(), 0.0), 126)
    assert row["silent"] == []
    assert row["alive"]
    assert len(row["answered"]) == 9


def test_an_error_of_our_own_is_told_and_the_page_goes_on(models, monkeypatch, capfd):
    monkeypatch.setitem(handlers.ANSWERS, "generate", ("generate", lambda model, asked: 1 // 0))
    with serving(models[:1]) as page:
        response = ask(page, "generate")
        assert response.status_code == 500
        assert "see the terminal" in response.json()["says"]
        assert ask(page, "edit").ok
    assert "ZeroDivisionError" in capfd.readouterr().err


# Bounds


def test_too_much_at_once_is_refused_before_it_is_read(models):
    with serving(models[:1], Limits(upload_bytes=1000, photos=2)) as page:
        response = ask(page, "edit", b"x" * 5000)
        assert (response.status_code, "at most" in response.json()["says"]) == (413, True)
        response = ask(page, "average", b"x", b"y", b"z")
        assert (response.status_code, response.json()["says"][:28]) == (413, "3 photos are too many at onc")

        def chunks():
            yield b"no length is given"

        response = requests.post(f"{page}/api/edit", params={"run": 0}, data=chunks(), timeout=60)
        assert response.status_code == 411
        assert ask(page, "generate").ok


def test_photos_are_as_long_as_was_said(page):
    for sizes in ("1", "-3,8", "2,4", "a", "9999999999999999", "1.5,3.5"):
        response = requests.post(f"{page}/api/edit", params={"run": 0, "sizes": sizes}, data=b"12345", timeout=60)
        assert response.status_code == 400
        assert response.json()["says"].startswith("The ")


def test_work_ends_when_it_takes_too_long(models):
    with serving(models[:1], Limits(work_seconds=0.0)) as page:
        response = ask(page, "generate")
        assert (response.status_code, "longer than 0 seconds" in response.json()["says"]) == (504, True)


def test_a_network_looks_at_the_watch_before_each_part(models):
    def stop():
        raise server.Stopped("enough")

    token = WATCH.set(stop)
    try:
        for work in (
            lambda: models[0].decode(torch.zeros(1, 32)),
            lambda: models[0].encode(torch.zeros(1, 3, 64, 64)),
            lambda: models[3].predict(torch.zeros(1, 3, 24, 16)),
            lambda: photo.find_faces(np.zeros((50, 50, 3), np.uint8), models[0]),
        ):
            with pytest.raises(server.Stopped):
                work()
    finally:
        WATCH.reset(token)


@pytest.fixture
def slow(monkeypatch):
    """`generate` waits until it may go on; how often it began."""
    begun, go = [], threading.Event()

    def wait(model, asked):
        begun.append(1)
        while not go.wait(0.01):
            WATCH.get()()
        return handlers.Answer("done", {"made": []})

    monkeypatch.setitem(handlers.ANSWERS, "generate", ("generate", wait))
    yield begun, go
    go.set()


def test_one_works_some_wait_and_the_others_are_told(models, slow):
    begun, go = slow
    found = []
    with serving(models[:1], Limits(waiting=3)) as page:
        threads = [threading.Thread(target=lambda: found.append(ask(page, "generate").status_code)) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(found) == 3)
        assert (found, len(begun)) == ([503] * 3, 1)
        go.set()
        for thread in threads:
            thread.join()
        assert found == [503] * 3 + [200] * 3
        assert ask(page, "generate").ok


def test_who_left_is_not_worked_for(models, slow):
    begun, _ = slow
    with serving(models[:1]) as page:
        host, port = page.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b"POST /api/generate?run=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            until(lambda: len(begun) == 1)
        assert ask(page, "edit", seed=3).ok  # the one thread is free again


def test_who_leaves_in_the_middle_of_an_upload_is_no_error(models, capfd):
    with serving(models[:1]) as page:
        host, port = page.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b"POST /api/edit?run=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nhalf of it")
        assert ask(page, "generate").ok
    assert capfd.readouterr().err == ""


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_many_clients_at_once(models):
    """The short form of benchmarks/studio/page.py load: everybody is served, and nobody waits for ever."""

    class Process:
        pid = os.getpid()

        def poll(self):
            return None

    with serving(models[:1]) as page:
        row = benchmark.load(benchmark.Page(page, Process(), time.monotonic()), clients=6, seconds=3.0, alone=5)
    assert row["errors"] == 0, row["error"]
    assert row["requests"] >= 6
    assert row["p95_over_clients_times_median"] < 4  # other tests run beside this one; the benchmark says 1.5
    assert row["memory_growth"] < 0.2


# Safety


def test_other_pages_and_other_names_of_this_machine_are_refused(page):
    for headers, status in [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:80"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Origin": page}, 200),
    ]:
        response = requests.post(f"{page}/api/generate", params={"run": 0, "count": 1}, headers=headers, timeout=60)
        assert response.status_code == status
        assert "access-control-allow-origin" not in response.headers


FORWARDED = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "forwarded": "host=evil.example"}


@pytest.mark.parametrize(
    ("url", "inner", "origin", "status"),
    [
        ("https://faces.example.com", "127.0.0.1:7860", "https://faces.example.com", 200),
        ("https://faces.example.com/", "faces.example.com", "https://faces.example.com", 200),
        ("https://FACES.example.com:443/studio", "localhost", "https://faces.example.com", 200),
        ("http://faces.example.com:8080", "faces.example.com:8080", "http://faces.example.com:8080", 200),
        ("https://bücher.example", "127.0.0.1", "https://xn--bcher-kva.example", 200),
        ("https://faces.example.com", "127.0.0.1:7860", "http://127.0.0.1:7860", 200),
        ("https://faces.example.com", "127.0.0.1:7860", None, 200),
        ("https://faces.example.com", "faces.example.com", "http://faces.example.com", 403),
        ("https://faces.example.com", "127.0.0.1:7860", "https://faces.example.com:444", 403),
        ("https://faces.example.com", "127.0.0.1:7860", "https://faces.example.com.evil.example", 403),
        ("https://faces.example.com", "127.0.0.1:7860", "https://evil.example", 403),
        ("https://faces.example.com", "evil.example", "https://evil.example", 400),
        (None, "127.0.0.1:7860", "https://faces.example.com", 403),
    ],
)
def test_behind_a_proxy_its_address_alone_is_accepted(url, inner, origin, status):
    headers = {"host": inner, **FORWARDED, **({"origin": origin} if origin else {})}
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        **{"type": "http", "method": "GET", "path": "/api/studio", "query_string": b"", "root_path": ""},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(make_app(Alone([]), access=access("127.0.0.1", url))(scope, None, send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    "url", ["faces.example.com", "ftp://a", "https://", "https://a?b", "https://a:x", "https://u@a"]
)
def test_an_outer_address_that_is_none_is_one_line(url):
    with pytest.raises(BadInput, match=f"--public-url {re.escape(url)}: must be https://HOST") as refused:
        server.serve([DRAWN], Settings(port=0, public_url=url))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_outer_address_is_told(command_):
    _, said = command_("--port", "0", "--public-url", "https://faces.example.com")
    assert "seen as https://faces.example.com" in said


def test_the_page_may_ask_nothing_from_anywhere_else(page):
    requests.get(page, timeout=60)
    response = requests.get(page, timeout=60)
    policy = response.headers["content-security-policy"]
    assert policy.count("default-src") == 1  # however often the page is asked for
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    for name in ("", "page.js", "page.css", "icon.svg"):
        text = requests.get(f"{page}/{name}", timeout=60).text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "//cdn" not in text


@pytest.mark.parametrize("path", ["../server.py", "..%2fserver.py", "%2e%2e/handlers.py", "/etc/passwd", "page/../.."])
def test_no_other_file_can_be_fetched(page, path):
    host = page.removeprefix("http://")
    with socket.create_connection(host.split(":")) as raw:
        raw.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answered = b"".join(iter(lambda: raw.recv(65536), b"")).split(b"\r\n")[0]
    assert answered.split()[1] in (b"404", b"400")


def test_nothing_is_left_behind_by_any_function(page, place, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(place.rglob("*"))
    for function, words, count in SENT.values():
        words = dict(words)
        assert ask(
            page, function, *(portrait(n) for n in range(count)), run=words.pop("run", "latent_editor"), **words
        ).ok
    assert sorted(place.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


# The command


@pytest.fixture
def command_(tmp_path):
    """`faceforge app ...` as a process: gives it once it says ``until``."""
    started = []

    def start(*words, until_="listening"):
        environment = {**os.environ, "FACEFORGE_CACHE": str(tmp_path), "FACEFORGE_WEIGHTS": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", "from faceforge.cli import run; run()", "app", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        started.append(process)
        said = []
        for line in process.stdout:
            said.append(line)
            if until_ in line:
                break
        return process, "".join(said)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.slow
def test_without_a_run_there_are_drawn_faces_and_the_first_is_there_at_once(command_):
    process, said = command_("--port", "0")
    assert "small models of drawn faces" in said
    assert "unencrypted" not in said
    page = said.split("listening on ")[1].split()[0]
    assert page.startswith("http://127.0.0.1:")
    before = time.monotonic()
    assert requests.get(page, timeout=30).ok
    made = requests.post(f"{page}/api/generate", params={"run": 0, "count": 9}, timeout=30)
    assert len(made.json()["files"]["made"]) == 9
    assert time.monotonic() - before < 5
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


@pytest.mark.slow
def test_who_opens_the_page_to_others_is_told_what_that_means(command_):
    _, said = command_("--host", "0.0.0.0", "--port", "0")
    assert "is reachable from other machines" in said
    assert "unencrypted" in said


def test_a_port_that_is_taken_and_a_run_that_is_none_are_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"--port {port}: .*; --port 0 picks a free port"):
            server.serve([DRAWN], Settings(port=port))
    with pytest.raises(BadInput, match="none: no such run folder"):
        server.serve([tmp_path / "none"], Settings(port=0))


def test_words_are_read_strictly():
    for word in ("1e3", " 1", "+1", "\u0661", "", "0x1"):
        with pytest.raises(BadInput):
            handlers.Ask({"n": word}).count("n", 0, 0, 5000)
    assert handlers.Ask({}).count("n", 3, 0, 9) == 3
    assert json.dumps(handlers.Answer("x", {}).told()) == '{"says": "x", "files": {}}'
