"""Models on a hub, against a server on this machine that plays it: pushed, loaded, cached, gated, moved and damaged."""

import base64
import hashlib
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import TINY
from safetensors.torch import load, save
from test_conditional import train

from faceforge.errors import BadInput
from faceforge.studio import command, exported, hub
from faceforge.studio.command import Request
from faceforge.studio.export import write_weights
from faceforge.studio.model import open_model


class Hub:
    """Repositories by name: files of each commit, oldest first; and what is wrong with them."""

    def __init__(self):
        self.repositories, self.moved, self.gated, self.cut, self.asked = {}, {}, set(), False, []
        self.private = []

    def commit(self, name, files):
        commits = self.repositories.setdefault(name, [])
        commits.append((self._oid(name, len(commits)), {**(commits[-1][1] if commits else {}), **files}))
        return commits[-1][0]

    @staticmethod
    def _oid(name, number):
        return hashlib.sha1(f"{name}{number}".encode()).hexdigest()

    def files(self, name, revision):
        commits = self.repositories[name]
        return next((c for c in commits if c[0].startswith(revision)), commits[-1] if revision == "main" else None)


def playing(play):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            """Nothing."""

        def reply(self, code, body=b"", **headers):
            self.send_response(code)
            for key, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if play.cut and self.command == "GET" else body)
            self.close_connection = True

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            play.asked.append(f"{self.command} {self.path}")
            with suppress(OSError):
                self._file()

        def _file(self):
            user, name, verb, *rest = self.path.partition("?")[0].strip("/").split("/")
            repository = f"{user}/{name}"
            if verb != "resolve":
                return self.reply(404)
            if repository in play.moved:
                place = self.path.replace(repository, play.moved[repository], 1)
                return self.reply(307, Location=place)
            if repository not in play.repositories:
                return self.reply(401, X_Error_Code="RepoNotFound")
            if repository in play.gated:
                return self.reply(403, X_Error_Code="GatedRepo")
            found = play.files(repository, rest[0])
            if found is None:
                return self.reply(404, X_Error_Code="RevisionNotFound")
            oid, files = found
            data = files.get("/".join(rest[1:]))
            if data is None:
                return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
            return self.reply(200, data, X_Repo_Commit=oid, ETag=f'"{hashlib.sha256(data).hexdigest()}"')

        def do_POST(self):
            play.asked.append(f"POST {self.path}")
            length = self.headers.get("Content-Length")
            body = self.rfile.read(int(length)) if length else self._chunks()
            answer = self._posted(self.path, body)
            self.reply(200, json.dumps(answer).encode(), Content_Type="application/json")

        def _chunks(self):
            found = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            return found

        def _posted(self, path, body):
            address = f"http://127.0.0.1:{self.server.server_port}"
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                play.repositories.setdefault(name, [])
                play.private += [name] if asked.get("private") or asked.get("visibility") == "private" else []
                return {"url": f"{address}/{name}"}
            if "/preupload/" in path:
                files = json.loads(body)["files"]
                return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            if "/commit/" in path:
                lines = [json.loads(line)["value"] for line in body.splitlines() if b'"file"' in line]
                name = "/".join(path.split("/")[3:5])
                oid = play.commit(name, {line["path"]: base64.b64decode(line["content"]) for line in lines})
                return {"commitUrl": f"{address}/{name}/commit/{oid}", "commitOid": oid}
            return {}

    return Handler


@pytest.fixture
def play(monkeypatch, tmp_path):
    played = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), playing(played))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_play")
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    played.close = lambda: (server.shutdown(), server.server_close())
    yield played
    played.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        train([*TINY, "data.size=16", "trainer.max_images=16", f"run_dir={folder / 'run'}"])
    return folder / "run"


@pytest.fixture
def weights(run, tmp_path):
    (tmp_path / "made").mkdir()
    write_weights(open_model(run), tmp_path / "made")
    return (tmp_path / "made" / exported.NAME).read_bytes()


def test_a_pushed_model_is_the_run(play, run, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command.push(Request(run, None, False), None, "me/faces", True, None)
    said = capsys.readouterr().out
    assert "pushed: hf://me/faces" in said
    assert "app hf://me/faces" in said.splitlines()[-1]
    ((_, files),) = play.repositories["me/faces"]
    assert (sorted(files), play.private) == (["README.md", exported.NAME], ["me/faces"])
    card = files["README.md"].decode()
    assert "## Licence of the data\n\nDrawn faces are made by faceforge" in card
    assert "## Limits" in card
    model, own = open_model("hf://me/faces"), open_model(run)
    assert torch.equal(next(model.faces(3, 1)), next(own.faces(3, 1)))
    digest = hashlib.sha256(files[exported.NAME]).hexdigest()
    assert f"SHA-256 {digest}" in capsys.readouterr().err
    command.generate(Request("hf://me/faces", None, False), 1, 0, 1.0, "mixture")
    assert (tmp_path / "runs" / "hub").is_dir()


def test_other_files_of_a_folder_stay_here(play, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "me_on_holiday.jpg").write_bytes(b"x")
    command.push(Request(run, None, True), tmp_path / "out", "me/faces", False, None)
    ((_, files),) = play.repositories["me/faces"]
    assert set(files) == {exported.NAME, "README.md", "model.onnx", "onnx_use.py", "golden.npz"}


def test_the_licence_of_own_data_is_said(play, run):
    command.push(Request(run, None, False), None, "me/faces", False, "CC BY 4.0, photos by A. Friend")
    assert (
        b"## Licence of the data\n\nCC BY 4.0, photos by A. Friend" in play.repositories["me/faces"][0][1]["README.md"]
    )


def test_a_model_is_downloaded_once_and_again_when_it_has_changed(play, weights, run, tmp_path):
    first = play.commit("me/faces", {exported.NAME: weights})
    for _ in range(2):
        open_model("hf://me/faces")
    gets = [line for line in play.asked if line.startswith("GET") and "resolve" in line]
    assert len(gets) == 1
    other = changed(weights)
    play.commit("me/faces", {exported.NAME: other})
    assert open_model("hf://me/faces").digest == hashlib.sha256(other).hexdigest()
    assert open_model(f"hf://me/faces@{first}").digest == hashlib.sha256(weights).hexdigest()


def changed(weights):
    """The same file with one weight moved."""
    tensors = load(weights)
    name = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[name] = tensors[name] + 1
    head = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    return save(tensors, head["__metadata__"])


def test_a_file_can_be_pinned(play, weights):
    play.commit("me/faces", {exported.NAME: weights})
    digest = hashlib.sha256(weights).hexdigest()
    for pin in (digest, digest[:10], digest[:12].upper()):
        open_model(f"hf://me/faces#{pin}")
    play.commit("me/faces", {exported.NAME: changed(weights)})
    open_model(f"hf://me/faces@{play.repositories['me/faces'][0][0]}#{digest}")
    with pytest.raises(BadInput, match=r"the file there has SHA-256 [0-9a-f]{64}; must be as named") as caught:
        open_model(f"hf://me/faces#{digest}")
    assert "\n" not in str(caught.value)


def test_what_was_loaded_once_works_without_the_hub(play, weights):
    play.commit("me/faces", {exported.NAME: weights})
    digest = open_model("hf://me/faces").digest
    play.close()
    assert open_model("hf://me/faces").digest == digest
    with pytest.raises(BadInput, match="cannot be reached, and the model is not in the cache"):
        open_model("hf://me/others")


def test_a_model_that_has_moved_is_found(play, weights):
    play.commit("me/new", {exported.NAME: weights})
    play.moved["me/old"] = "me/new"
    assert open_model("hf://me/old").digest == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf://me/none", "or private: log in"),
        ("hf://me/gated", "its terms must be accepted at "),
        ("hf://me/faces@v9", "no such revision on "),
        ("hf://me/empty", "holds no model.safetensors"),
        ("hf://me", "must be hf://USER/NAME"),
        ("hf://me/faces#xyz", "must be hf://USER/NAME"),
        ("hf://me/other", "not a model exported by faceforge"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(play, weights, address, reason):
    play.commit("me/faces", {exported.NAME: weights})
    play.commit("me/gated", {exported.NAME: weights})
    play.commit("me/empty", {"README.md": b"x"})
    play.commit("me/other", {exported.NAME: b"no weights at all"})
    play.gated.add("me/gated")
    with pytest.raises(BadInput) as caught:
        open_model(address)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_download_is_one_line_and_leaves_nothing(play, weights, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None, raising=False)
    play.commit("me/faces", {exported.NAME: weights})
    play.cut = True
    with pytest.raises(BadInput, match="did not do it") as caught:
        open_model("hf://me/faces")
    assert "\n" not in str(caught.value)
    play.cut = False
    assert open_model("hf://me/faces").digest == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("name", ["faces", "me/a/b", "me/ä", ""])
def test_a_name_that_no_hub_has_is_refused_before_anything_is_written(play, run, name):
    with pytest.raises(BadInput, match="must be USER/NAME"):
        command.push(Request(run, None, False), None, name, False, None)
    assert play.asked == []


def test_a_file_cannot_be_pushed(play, run, tmp_path):
    with pytest.raises(BadInput, match="--push needs a folder, or none"):
        command.push(Request(run, None, False), tmp_path / "a.onnx", "me/faces", False, None)


def test_an_address_is_a_path_that_lost_a_slash():
    from pathlib import Path

    assert hub.is_one(Path("hf://me/faces"))
    assert not hub.is_one(Path("hf/me"))
