"""The app for many people: a token, a path, a real nginx in front of it, and the examples that start it."""

import getpass
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
import requests
import yaml
from conftest import ROOT
from test_studio_browser import CHROMIUM, SIZES, chromium  # noqa: F401 (fixture)
from test_studio_web import png, portrait, serving, until
from test_studio_workers import app, family

from faceforge.errors import BadInput
from faceforge.studio.web import access as accesses
from faceforge.studio.web import server, work
from faceforge.studio.web.access import Access, access, read_token
from faceforge.studio.web.server import Limits, Settings

TOKEN = "nobody-else-knows-this-0123"
PREFIX = "/studio"
SITE = re.search(r"```nginx\n(.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL)[1]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
with_nginx = pytest.mark.skipif(
    not (NGINX and shutil.which("openssl")), reason="no nginx here (apt-get install nginx-light openssl)"
)
BEARER = {"authorization": f"Bearer {TOKEN}"}
LINES = ("proxy_request_buffering off;", "proxy_max_temp_file_size 0;")  # that keep photos off the disk


# A real proxy


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The app with two workers and a token, for a proxy: its process, its address, and the port of the proxy."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "token.txt").write_text(f"{TOKEN}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    outer = f"https://127.0.0.1:{port}{PREFIX}"
    with app(folder, "--workers", "2", "--token", "token.txt", "--public-url", outer) as (process, address, said):
        assert f"listening on {address}{PREFIX}, seen as {outer} (Ctrl-C to stop)" in said
        assert TOKEN not in said
        yield process, address, port
    assert TOKEN not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    return folder


@contextmanager
def nginx(folder, certificate, address, port, *changes):
    """The site of the documentation, at an address of this machine, with some changes: gives its own address."""
    text = SITE
    own = (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/certs/faces.pem", f"{certificate / 'cert.pem'}"),
        ("/etc/ssl/private/faces.key", f"{certificate / 'key.pem'}"),
        ("http://127.0.0.1:7860", address),
    )
    for before, after in (*own, *changes):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; user {getpass.getuser()}; pid {folder / 'pid'}; error_log {folder / 'error.log'} warn;\n"
        f"events {{}}\nhttp {{\naccess_log {folder / 'access.log'};\n{places}{text}}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
    try:
        until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, process.stderr.read()
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def answers(port):
    with socket.socket() as place:
        return place.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def visitor(certificate):
    with requests.Session() as session:
        session.verify = str(certificate / "cert.pem")
        session.trust_env = False
        yield session


@with_nginx
@pytest.mark.parametrize(
    ("location", "passed"),
    [("/studio", ""), ("/studio", "/"), ("/studio", "/studio"), ("/studio/", ""), ("/studio/", "/")],
)
def test_every_address_is_below_the_path_however_the_proxy_passes_it_on(
    behind, certificate, tmp_path, location, passed
):
    _, address, port = behind
    changes = (("location /studio {", f"location {location} {{"), (f"{address};", f"{address}{passed};"))
    with nginx(tmp_path, certificate, address, port, *changes) as outer, visitor(certificate) as session:
        for typed in (f"{outer}{PREFIX}", f"{outer}{PREFIX}/"):
            page = session.get(typed, timeout=30)
            assert page.status_code == 200
            for hop in (*page.history, page):
                assert hop.url.startswith(f"{outer}{PREFIX}")
                assert address not in hop.headers.get("location", "")
            links = [urljoin(page.url, link) for link in re.findall(r'(?:href|src)="([^"]+)"', page.text)]
            assert len(links) == 4
            for link in links:
                assert link.startswith(f"{outer}{PREFIX}/")
                assert session.get(link, timeout=30).status_code == 200
        (script,) = {link for link in links if link.endswith(".js")}
        told = session.get(urljoin(script, "api/studio"), timeout=30)
        assert told.status_code == 401
        given = session.post(urljoin(script, "api/token"), headers=BEARER, timeout=30)
        assert re.search(r"; HttpOnly; Path=/studio; SameSite=strict; Secure$", given.headers["set-cookie"])
        assert session.get(urljoin(script, "api/studio"), timeout=30).json()["models"][0]["drawn"]
        origin = {"origin": outer}
        made = session.post(urljoin(script, "api/generate?run=0&count=1"), headers=origin, timeout=30)
        assert made.json()["says"] == "1 synthetic face of seed 0."
        assert session.get(f"{outer}{PREFIX}/none", timeout=30).status_code == 404


def large_photo():
    """A person beside noise: a file of 4 MB in which a face is found."""
    face = np.asarray(work.photos.decode(portrait()))
    noise = np.random.default_rng(0).integers(0, 255, (1150, 1150, 3), dtype=np.uint8)
    noise[: face.shape[0], : face.shape[1]] = face
    return png(noise)


@with_nginx
@pytest.mark.parametrize("as_documented", [True, False])
def test_the_proxy_of_the_documentation_writes_no_photo_to_disk(behind, certificate, tmp_path, as_documented):
    _, address, port = behind
    changes = () if as_documented else tuple((line, "") for line in LINES)
    photo = large_photo()
    with nginx(tmp_path, certificate, address, port, *changes) as outer, visitor(certificate) as session:
        words = {"run": 0, "changes": "Smiling=1"}
        url = f"{outer}{PREFIX}/api/edit"
        with session.post(url, params=words, data=photo, headers=BEARER, timeout=60, stream=True) as answer:
            until(lambda: as_documented or "upstream response is buffered" in (tmp_path / "error.log").read_text())
            assert answer.status_code == 200
            assert len(answer.content) > len(photo)
    noted = (tmp_path / "error.log").read_text()
    assert ("a client request body is buffered to a temporary file" in noted) is not as_documented
    assert ("an upstream response is buffered to a temporary file" in noted) is not as_documented
    assert TOKEN not in noted + (tmp_path / "access.log").read_text()


@with_nginx
def test_the_proxy_takes_what_the_app_takes_and_the_app_says_why_not(behind, certificate, tmp_path):
    _, address, port = behind
    most = Limits().upload_bytes
    assert most <= int(re.search(r"client_max_body_size (\d+)m;", SITE)[1]) << 20 < 1.1 * most
    with nginx(tmp_path, certificate, address, port) as outer, visitor(certificate) as session:
        url = f"{outer}{PREFIX}/api/edit?run=0"
        answer = session.post(url, data=bytes(most + 1), headers=BEARER, timeout=60)
        assert (answer.status_code, "at most 48 MB" in answer.json()["says"]) == (413, True)
        answer = session.post(url, data=bytes(most + 1), timeout=60)
        assert (answer.status_code, "token is missing" in answer.json()["says"]) == (401, True)
        answer = session.post(url, headers={**BEARER, "origin": "https://evil.example"}, timeout=60)
        assert answer.status_code == 403


@with_nginx
def test_the_proxy_bounds_the_requests_of_one_address(behind, certificate, tmp_path):
    process, address, port = behind
    most = int(re.search(r"limit_conn studio (\d+);", SITE)[1])
    workers = [each for each in family(process) if each.ppid() != process.pid and each.pid != process.pid]
    assert len(workers) == 2
    with nginx(tmp_path, certificate, address, port) as outer, ThreadPoolExecutor(most + 3) as clients:
        url = f"{outer}{PREFIX}/api/generate?run=0&count=1"

        def ask(_):
            with visitor(certificate) as session:
                return session.post(url, headers=BEARER, timeout=60).status_code

        for worker in workers:
            worker.suspend()
        asked = [clients.submit(ask, number) for number in range(most + 3)]
        until(lambda: sum(each.done() for each in asked) == 3)
        for worker in workers:
            worker.resume()
        assert sorted(each.result() for each in asked) == [200] * most + [503] * 3


@with_nginx
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("size", ["phone", pytest.param("desktop", marks=pytest.mark.slow)])
def test_the_page_asks_for_the_token_once_and_works_below_the_path(
    behind,
    certificate,
    tmp_path,
    chromium,  # noqa: F811
    size,
):
    _, address, port = behind
    (tmp_path / "photo.png").write_bytes(portrait())
    width, height = SIZES[size]
    context = chromium.new_context(ignore_https_errors=True, viewport={"width": width, "height": height})
    asked = []
    with nginx(tmp_path, certificate, address, port) as outer:
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{outer}{PREFIX}")
        field = tab.locator("#token input")
        field.fill("not the token")
        tab.keyboard.press("Enter")
        tab.locator("#token .says:has-text('This is not the token.')").wait_for()
        field.fill(TOKEN)
        tab.keyboard.press("Enter")
        tab.locator("#panel-faces figure img").first.wait_for()
        assert tab.locator("#token").count() == 0
        tab.reload()
        tab.locator("#panel-faces figure img").first.wait_for()
        assert tab.locator("#token").count() == 0
        tab.locator("#tab-edit").click()
        tab.locator("#panel-edit input[type=file]").set_input_files(tmp_path / "photo.png")
        tab.locator("#panel-edit input[name=whole]").check()
        tab.locator("#panel-edit figure:has-text('edit-steps.png')").wait_for()
        assert tab.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (
            *(True, True, "Strict"),
            PREFIX,
        )
        assert cookie["expires"] == -1
        assert TOKEN not in json.dumps([cookie, asked, tab.url, tab.title(), tab.content()])
        assert all(url.startswith((f"{outer}{PREFIX}", "blob:")) for url in asked)
        context.clear_cookies()
        tab.locator("#tab-faces").click()
        tab.locator("#panel-faces button.main").click()
        tab.locator("#panel-faces .says:has-text('The token is missing or wrong; reload the page')").wait_for()
    context.close()


# The token


@pytest.fixture(scope="module")
def guarded():
    with serving(work.open_models([], ()), None, None, Access(token=TOKEN)) as page:
        yield page


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xfc\xff"],
)
def test_without_the_token_everything_is_refused_in_one_line(guarded, header):
    headers = {"authorization": header.encode("latin-1")} if header else {}
    for method, name in [("GET", "studio"), ("POST", "token"), ("POST", "generate"), ("POST", "none")]:
        answer = requests.request(method, f"{guarded}/api/{name}", params={"run": 0}, headers=headers, timeout=30)
        assert answer.status_code == 401
        assert answer.json() == {"says": "The token is missing or wrong; reload the page to enter it."}
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "set-cookie" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_with_the_token_or_its_cookie_all_is_as_without(guarded):
    url = f"{guarded}/api/generate?run=0&count=1"
    assert requests.post(url, headers=BEARER, timeout=30).ok
    with requests.Session() as session:
        given = session.post(f"{guarded}/api/token", headers=BEARER, timeout=30)
        assert TOKEN not in given.headers["set-cookie"]
        assert "Secure" not in given.headers["set-cookie"]  # or browsers would not send it back over http
        assert session.post(url, timeout=30).ok
        (cookie,) = session.cookies
        other = requests.post(url, cookies={cookie.name: cookie.value[:-1] + "x"}, timeout=30)
        assert other.status_code == 401
        assert requests.post(url, cookies={cookie.name: TOKEN}, timeout=30).status_code == 401
    assert requests.post(f"{guarded}/api/generate?run=0&token={TOKEN}", timeout=30).status_code == 401


def test_the_cookie_is_of_this_token_alone():
    cookies = {Access(token=token)._cookie for token in (TOKEN, TOKEN + "x")}
    names = {Access(token=token)._cookie_name for token in (TOKEN, TOKEN + "x")}
    assert len(cookies) == len(names) == 2


def test_texts_are_compared_in_a_time_that_tells_nothing(monkeypatch):
    compared = []
    real = accesses.hmac.compare_digest
    monkeypatch.setattr(accesses.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    assert accesses._same("a", "a")
    assert not accesses._same("a", "ab")
    assert [len(a) == len(b) == 32 for a, b in compared] == [True, True]


def test_a_token_is_a_text_a_file_or_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("FACEFORGE_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    assert read_token(None) is None
    assert read_token(TOKEN) == TOKEN
    (tmp_path / "token.txt").write_text("c2VjcmV0/c2VjcmV0+c2VjcmV0==\n")
    assert read_token("token.txt") == read_token(str(tmp_path / "token.txt")) == "c2VjcmV0/c2VjcmV0+c2VjcmV0=="
    monkeypatch.setenv("FACEFORGE_TOKEN", "another-token-of-many-letters")
    assert read_token(None) == "another-token-of-many-letters"
    assert read_token(TOKEN) == TOKEN


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("short", r"--token: a token must be one word of at least 16 .* \(found 5 characters\)"),
        ("", r"--token: a token must be one word"),
        ("two words of some length", r"--token: there is no such file; a token itself must be of letters"),
        ("/no/such/folder/token.txt", r"--token: there is no such file"),
        ("a-token-of-some-length.txt", r"--token: there is no such file"),
        ("x" * 400 + "/", r"--token: there is no such file"),
        ("empty.txt", r"--token empty.txt: a token must be one word of .* \(found 0 characters\)"),
        ("lines.txt", r"--token lines.txt: a token must be one word"),
        ("bytes.bin", r"--token bytes.bin: the file must hold one line of text"),
        ("folder", r"--token folder: cannot be read \(Is a directory\)"),
    ],
)
def test_a_token_that_is_none_is_one_line_that_does_not_show_it(tmp_path, monkeypatch, word, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "lines.txt").write_text("a-secret-that-is-long\nand another one\n")
    (tmp_path / "bytes.bin").write_bytes(bytes(range(128, 256)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match=f"^{says}") as refused:
        server.serve([], Settings(token=word))
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)
    assert len(word) < 10 or word not in str(refused.value)


def test_an_empty_variable_opens_the_app_to_nobody(monkeypatch):
    monkeypatch.setenv("FACEFORGE_TOKEN", "")
    with pytest.raises(BadInput, match=r"^FACEFORGE_TOKEN: a token must be one word"):
        server.serve([], Settings())


@pytest.mark.parametrize(
    ("token", "says"), [(None, "anyone there may use .*--token asks"), (TOKEN, "has the token may")]
)
def test_who_opens_the_app_to_others_is_told_about_the_token(capsys, token, says):
    server._tell_where(Settings(host="0.0.0.0"), access("0.0.0.0", token=token), 7860)
    told = capsys.readouterr().out
    assert re.search(says, told)
    assert "unencrypted" in told
    assert TOKEN not in told


# The path


@pytest.mark.parametrize(
    "path", ["faces", "/a b", "/a?b", "/a//b", "/../x", "/.x", "//", "https://host/a", "/é", "/%41"]
)
def test_a_path_that_is_none_is_one_line(path):
    with pytest.raises(BadInput) as refused:
        server.serve([], Settings(root_path=path))
    assert str(refused.value) == (
        f"--root-path {path}: the path must be such as /faces: letters, digits, - . _ ~ between slashes"
    )


def test_paths_that_contradict_each_other_are_one_line():
    with pytest.raises(BadInput, match=r"^--root-path /b: must be /a, the path of --public-url, or left out$"):
        access("127.0.0.1", "https://host/a/", "/b")
    with pytest.raises(BadInput, match=r"^--public-url https://host/a b: the path must be such as /faces"):
        access("127.0.0.1", "https://host/a b")
    with pytest.raises(BadInput, match=r"^--root-path /api: the path must not begin with /api"):
        access("127.0.0.1", None, "/api")
    assert access("127.0.0.1", "https://host/a/", "/a").root == "/a"
    assert access("127.0.0.1", "https://host", "/a/b/").root == "/a/b"
    assert access("127.0.0.1", "https://host/", "/").root == ""


# The examples


def unit_command():
    text = (ROOT / "examples/systemd/faceforge-app.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(line)


def docker_command():
    text = (ROOT / "examples/docker/Dockerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    (default,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    return json.loads(entry), json.loads(default)


def compose():
    return yaml.safe_load((ROOT / "examples/docker/compose.yaml").read_text())["services"]["app"]


@pytest.fixture
def started(monkeypatch):
    """What `faceforge app ...` would start, by its words."""
    from typer.testing import CliRunner

    from faceforge.cli import app as command

    def start(*words):
        got = []
        monkeypatch.setattr(server, "serve", lambda runs, settings: got.append((runs, settings)))
        result = CliRunner().invoke(command, [*words])
        assert result.exit_code == 0, result.output
        return got[0]

    return start


def test_the_commands_of_the_documentation_are_commands_of_ours(started):
    section = (ROOT / "docs/cluster.md").read_text().split("## The app for many people")[1]
    (line,) = re.findall(r"^faceforge (app .*)$", section, re.MULTILINE)
    runs, settings = started(*shlex.split(line))
    assert (runs, settings.token, settings.workers) == ([Path("runs/GAN")], "token.txt", 2)
    assert access(settings.host, settings.public_url).root == PREFIX


def test_the_commands_of_the_examples_are_commands_of_ours(started):
    program, *words = unit_command()
    runs, settings = started(*words)
    assert program == "/opt/faceforge/bin/faceforge"
    assert runs == [Path("/srv/faceforge/GAN")]
    assert settings.token == "${CREDENTIALS_DIRECTORY}/token"
    assert access(settings.host, settings.public_url).root == PREFIX
    (program, *words), default = docker_command()
    assert program == "faceforge"
    assert started(*words, *default)[1].workers == 2
    _, settings = started(*words, *compose()["command"])
    assert (settings.host, settings.port) == ("0.0.0.0", 7860)
    assert compose()["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert settings.token == f"/run/secrets/{compose()['secrets'][0]}"


def test_the_files_of_the_docker_example_are_there():
    folder = ROOT / "examples/docker"
    assert (folder / compose()["build"]["context"]).resolve() == ROOT
    assert (ROOT / compose()["build"]["dockerfile"]).is_file()
    text = (folder / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1]), line
    for snippet in re.findall(r'python -c "(.*?)"', text):
        module, name = re.match(r"from ([\w.]+) import (\w+); \2\(\)$", snippet).groups()
        assert callable(getattr(__import__(module, fromlist=[name]), name))


@pytest.mark.slow
def test_what_the_docker_example_copies_can_be_installed(tmp_path):
    """pip builds the package from the copied files alone; no image is built, which needs a Docker daemon."""
    for line in re.findall(r"^COPY (.*)$", (ROOT / "examples/docker/Dockerfile").read_text(), re.MULTILINE):
        *names, _ = line.split()
        for name in names:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tmp_path / name)
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(tmp_path)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    assert list((tmp_path / "dist").glob("faceforge-*.whl"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here (apt-get install systemd)")
def test_systemd_takes_the_unit(tmp_path):
    text = (ROOT / "examples/systemd/faceforge-app.service").read_text()
    unit = tmp_path / "faceforge-app.service"
    for changes, ok in [({unit_command()[0]: sys.executable}, True), ({"DynamicUser=yes": "DynamicUsr=yes"}, False)]:
        for before, after in changes.items():
            assert before in text
            unit.write_text(text.replace(before, after))
        checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        complaints = [line for line in checked.stderr.splitlines() if "faceforge-app" in line]
        assert (complaints == []) is ok, complaints
