"""One file: what each kind of server makes of it."""

import fcntl
import hashlib
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple

import pytest
from play_server import answer, chunked, drip, good, page, redirect, serving, status

from faceforge.fetch.download import DownloadError, Limits, fetch, read_json

BODY = b"PK\x03\x04" + random.Random(0).randbytes(60_000)
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Limits(connect_s=2, silence_s=0.4, slow_s=0.3, slow_bytes_s=1000, redirects=4, cuts=3, wait_s=0)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def stage():
    with serving() as stage:
        yield stage


def get(stage, target, **known):
    return fetch(f"{stage.url}/a.zip", target, what="the set", progress=False, limits=QUICK, **known)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("play", [good(BODY), good(BODY, etag=""), chunked(BODY), good(BODY, Content_Length=None)])
def test_a_good_file_arrives_alone(stage, tmp_path, play):
    stage.plays["/a.zip"] = play
    target = tmp_path / "new" / "folder" / "a.zip"
    assert get(stage, target, size=len(BODY), sha256=SHA, md5=hashlib.md5(BODY).hexdigest().upper()) == target
    assert target.read_bytes() == BODY
    assert left(target.parent) == ["a.zip"]
    assert get(stage, target, sha256=SHA) == target
    assert len(stage.asked) == 1


def dead_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


REASONS = {
    "quota page": (
        page("Google Drive - Quota exceeded"),
        r"sent a web page instead of the file \(Google Drive - Quota exceeded\)",
    ),
    "page without title": (
        lambda h: answer(h, 200, b"<html>" * 1000),
        r"sent a web page instead of the file \(a quota or a login\?\)",
    ),
    "short page": (lambda h: answer(h, 200, b"<html>no</html>"), "sent a web page"),
    "words": (lambda h: answer(h, 200, b"try again later"), "sent something other than a .zip file: text"),
    "nothing": (lambda h: answer(h, 200, b""), "sent something other than a .zip file: empty file"),
    "401": (status(401), r"requires an account \(401\)"),
    "403": (status(403), r"denied access \(403\): a quota"),
    "404": (status(404), r"does not have the file \(404\)"),
    "418": (status(418), "answered with status 418"),
    "429": (status(429), r"too many requests \(429\); try again later"),
    "503": (status(503), r"failed \(503\); try again later"),
    "circles": (redirect("/a.zip"), r"redirects in a loop \(4 redirects without a file\)"),
    "elsewhere": (redirect("ftp://127.0.0.1/x"), "ftp://127.0.0.1/x is not a web address"),
    "other size": (good(BODY + b"!"), "offers 60,005 bytes, must be 60,004"),
    "silence": (lambda h: time.sleep(1), "accepted the connection but sent no data for 0.4 s"),
}


@pytest.mark.parametrize("case", REASONS)
def test_each_refusal_has_its_own_sentence_and_leaves_nothing(stage, tmp_path, case):
    play, reason = REASONS[case]
    stage.plays["/a.zip"] = play
    with pytest.raises(DownloadError, match=reason) as caught:
        get(stage, tmp_path / "a.zip", size=len(BODY), sha256=SHA) if case == "other size" else get(
            stage, tmp_path / "a.zip"
        )
    assert str(caught.value).startswith("the set: ")
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://faceforge-test.invalid/a.zip", "the host faceforge-test.invalid was not found"),
        ("http://127.0.0.1:PORT/a.zip", "127.0.0.1 refused the connection"),
        ("no address", "no address is not a web address"),
        ("file:///etc/passwd", "file:///etc/passwd is not a web address"),
    ],
    ids=["no host", "no port", "no address", "a file"],
)
def test_no_server_at_all(tmp_path, url, reason):
    with pytest.raises(DownloadError, match=reason):
        fetch(url.replace("PORT", str(dead_port())), tmp_path / "a.zip", limits=QUICK)  # one that is dead now
    assert left(tmp_path) == []


def test_a_tls_server_that_is_none(stage, tmp_path):
    with pytest.raises(DownloadError, match=r"127.0.0.1 has a certificate that is not trusted"):
        fetch(stage.url.replace("http", "https"), tmp_path / "a.zip", limits=QUICK)


def test_a_drip_ends_and_what_came_is_kept(stage, tmp_path):
    stage.plays["/a.zip"] = drip(BODY, 0.02)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"is too slow \(\d+ bytes per second\)"):
        get(stage, tmp_path / "a.zip")
    assert time.monotonic() - began < 3
    assert left(tmp_path) == [".a.zip.part", ".a.zip.part.json"]


def test_a_redirect_is_followed(stage, tmp_path):
    stage.plays |= {"/a.zip": redirect("/b"), "/b": redirect(f"{stage.url}/c?x=1"), "/c": good(BODY)}
    assert get(stage, tmp_path / "a.zip").read_bytes() == BODY


def test_a_cut_is_mended_by_going_on(stage, tmp_path):
    stage.plays["/a.zip"] = good(BODY, cut=[20_000, 1, 30_000])
    assert get(stage, tmp_path / "a.zip", sha256=SHA).read_bytes() == BODY
    assert stage.ranges() == ["", "bytes=20000-", "bytes=20001-", "bytes=50001-"]
    assert stage.asked[1][1]["If-Range"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert left(tmp_path) == ["a.zip"]


def test_a_body_that_always_ends_too_early_is_gone_on_with_another_day(stage, tmp_path):
    stage.plays["/a.zip"] = good(BODY, cut=[10_000, 0, 0])
    reason = r"closed the connection, after 10,000 of 60,004 bytes; run the same command again to resume"
    with pytest.raises(DownloadError, match=reason):
        get(stage, tmp_path / "a.zip")
    assert (tmp_path / ".a.zip.part").read_bytes() == BODY[:10_000]
    stage.plays["/a.zip"] = good(BODY)
    assert get(stage, tmp_path / "a.zip").read_bytes() == BODY
    assert stage.ranges()[-1] == "bytes=10000-"


def test_a_content_length_that_lies(stage, tmp_path):
    stage.plays["/a.zip"] = lambda handler: answer(handler, 200, BODY, Content_Length="70000")
    with pytest.raises(DownloadError, match="closed the connection, after 60,004 of 70,000 bytes"):
        get(stage, tmp_path / "a.zip")
    stage.plays["/a.zip"] = lambda handler: answer(handler, 200, BODY, Content_Length="50000")
    with pytest.raises(DownloadError, match="has sha256"):
        get(stage, tmp_path / "b.zip", sha256=SHA)
    assert not (tmp_path / "b.zip").exists()


def begun(stage, tmp_path, **headers):
    """A download that was cut after 10,000 bytes."""
    stage.plays["/a.zip"] = good(BODY, cut=[10_000, 0 if headers.get("ETag", "") is not None else 10_000], **headers)
    with pytest.raises(DownloadError, match="after 10,000"):
        get(stage, tmp_path / "a.zip")
    stage.asked.clear()


NEW = b"PK\x03\x04" + random.Random(1).randbytes(70_000)


def test_a_file_that_changed_meanwhile_is_fetched_anew(stage, tmp_path, capsys):
    begun(stage, tmp_path)
    stage.plays["/a.zip"] = good(NEW)
    assert get(stage, tmp_path / "a.zip").read_bytes() == NEW
    assert "changed on the server since the download began" in capsys.readouterr().err


def partial_always(body, etag):
    """A server that goes on whatever If-Range says."""

    def play(handler):
        first = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        span = {"Content_Range": f"bytes {first}-{len(body) - 1}/{len(body)}"} if first else {}
        answer(handler, 206 if first else 200, body[first:], ETag=etag, **span)

    return play


@pytest.mark.parametrize("body", [NEW, BODY[:10_000] + NEW[10_000 : len(BODY)]])
def test_halves_of_two_files_are_never_joined(stage, tmp_path, body):
    begun(stage, tmp_path)
    stage.plays["/a.zip"] = partial_always(body, '"other"')
    assert get(stage, tmp_path / "a.zip").read_bytes() == body


def test_without_a_validator_only_a_hash_lets_it_go_on(stage, tmp_path):
    begun(stage, tmp_path, ETag=None)
    stage.plays["/a.zip"] = partial_always(BODY, None)
    assert get(stage, tmp_path / "a.zip").read_bytes() == BODY
    assert stage.ranges() == [""]
    (tmp_path / "a.zip").unlink()
    begun(stage, tmp_path, ETag=None)
    stage.plays["/a.zip"] = partial_always(BODY, None)
    assert get(stage, tmp_path / "a.zip", sha256=SHA).read_bytes() == BODY
    assert stage.ranges() == ["bytes=10000-"]
    (tmp_path / "a.zip").unlink()
    begun(stage, tmp_path, ETag=None)
    mixed = NEW[: len(BODY)]
    stage.plays["/a.zip"] = partial_always(mixed, None)
    assert get(stage, tmp_path / "a.zip", sha256=hashlib.sha256(mixed).hexdigest()).read_bytes() == mixed
    assert stage.ranges() == ["bytes=10000-", ""]


def test_another_hash_is_refused_and_nothing_of_it_kept(stage, tmp_path):
    stage.plays["/a.zip"] = good(NEW)
    right = r"from 127.0.0.1 has sha256 [0-9a-f]{12}\.\.\., must be [0-9a-f]{12}\.\.\.; it was changed or damaged"
    with pytest.raises(DownloadError, match=right):
        get(stage, tmp_path / "a.zip", sha256=SHA)
    assert left(tmp_path) == []


def test_a_range_beyond_the_end_begins_anew(stage, tmp_path):
    begun(stage, tmp_path)

    def play(handler):
        whole = "Range" not in handler.headers
        answer(handler, 200 if whole else 416, NEW[:5000] if whole else b"")

    stage.plays["/a.zip"] = play
    assert get(stage, tmp_path / "a.zip").read_bytes() == NEW[:5000]


def test_what_is_there_is_never_overwritten(stage, tmp_path):
    target, stage.plays["/a.zip"] = tmp_path / "a.zip", good(BODY)
    target.write_bytes(b"mine")
    assert get(stage, target) == target
    with pytest.raises(DownloadError, match=r"already exists but has 4 bytes, must be 60,004; move it away"):
        get(stage, target, size=len(BODY))
    with pytest.raises(DownloadError, match="already exists but has sha256"):
        get(stage, target, sha256=SHA)
    (tmp_path / "b.zip").mkdir()
    with pytest.raises(DownloadError, match="already exists but is not a file"):
        get(stage, tmp_path / "b.zip")
    (tmp_path / ".c.zip.part").write_bytes(b"mine")
    (tmp_path / ".d.zip.part").write_bytes(b"mine")
    (tmp_path / ".d.zip.part.json").write_bytes(b"mine")
    for name in ("c", "d"):
        with pytest.raises(DownloadError, match="was not made by faceforge"):
            get(stage, tmp_path / f"{name}.zip")
    assert all(path.read_bytes() == b"mine" for path in tmp_path.iterdir() if path.is_file())
    assert stage.asked == []


def test_another_address_begins_anew(stage, tmp_path):
    begun(stage, tmp_path)
    stage.plays["/b.zip"] = good(NEW)
    assert fetch(f"{stage.url}/b.zip", tmp_path / "a.zip", progress=False).read_bytes() == NEW


def test_two_processes_do_not_mix(stage, tmp_path):
    begun(stage, tmp_path)
    with (tmp_path / ".a.zip.part.json").open("a") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process is downloading"):
            get(stage, tmp_path / "a.zip")
    assert (tmp_path / ".a.zip.part").read_bytes() == BODY[:10_000]


def test_too_little_space_is_known_before(stage, tmp_path, monkeypatch):
    stage.plays["/a.zip"] = good(BODY)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(50_000))
    with pytest.raises(DownloadError, match=r"needs 60,004 free bytes, has 50,000"):
        get(stage, tmp_path / "a.zip")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(stage, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="cannot be written"):
        get(stage, tmp_path / "a.zip")


def test_a_disk_that_fills_up_meanwhile_loses_nothing(stage, tmp_path):
    """The limit on the size of files stands for the end of the disk."""
    stage.plays["/a.zip"] = good(BODY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DownloadError, match="the set: cannot be written to"):
            get(stage, tmp_path / "a.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / ".a.zip.part").read_bytes() == BODY[:20_000]
    assert get(stage, tmp_path / "a.zip").read_bytes() == BODY
    assert stage.ranges() == ["", "bytes=20000-"]


def test_a_place_below_a_file_cannot_be_written(stage, tmp_path):
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"cannot be written to .*/a \("):
        get(stage, tmp_path / "a" / "a.zip")


def test_endings_without_a_signature_only_refuse_web_pages(stage, tmp_path):
    stage.plays |= {"/a.zip": good(b"1 2 3\n"), "/p": page("Sign in")}
    assert fetch(f"{stage.url}/a.zip", tmp_path / "table.txt", progress=False).read_bytes() == b"1 2 3\n"
    with pytest.raises(DownloadError, match=r"weights.onnx: 127.0.0.1 sent a web page instead of the file \(Sign in\)"):
        fetch(f"{stage.url}/p", tmp_path / "weights.onnx", progress=False)


def test_json(stage):
    stage.plays |= {"/j": good(b'{"a": [1]}'), "/no": page("Sign in"), "/big": good(b"[" * 3000)}
    assert read_json(f"{stage.url}/j", "hub") == {"a": [1]}
    for path, reason in {"/no": "an unreadable answer", "/big": "an unreadable answer", "/x": r"\(404\)"}.items():
        with pytest.raises(DownloadError, match=f"hub: .*{reason}"):
            read_json(f"{stage.url}{path}", "hub", max_bytes=1000)


def test_killed_it_goes_on_where_it_was(stage, tmp_path):
    """SIGKILL in the middle of a body; the next call asks for the rest alone."""

    def slow(handler):
        handler.send_response(200)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for n in range(0, len(BODY), 5000):
            handler.wfile.write(BODY[n : n + 5000])
            handler.wfile.flush()
            time.sleep(0.3)

    stage.plays["/a.zip"] = slow
    code = f"from faceforge.fetch.download import fetch; fetch({stage.url + '/a.zip'!r}, {str(tmp_path / 'a.zip')!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / ".a.zip.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= 10_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 10_000 <= have < len(BODY)
    assert part.read_bytes() == BODY[:have]
    stage.plays["/a.zip"] = good(BODY, etag='"one"')
    assert get(stage, tmp_path / "a.zip").read_bytes() == BODY
    assert stage.ranges()[-1] == f"bytes={have}-"


def test_the_bar_is_drawn_on_a_terminal_only(stage, tmp_path, capsys):
    stage.plays["/a.zip"] = good(BODY)
    fetch(f"{stage.url}/a.zip", tmp_path / "a.zip")
    assert capsys.readouterr() == ("", "")
