import csv
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from odd_sources import FragileCrops, SharedCrops, SlowCrops
from picture_makers import encode, make_crops, picture, put, write

from faceforge.data import cache
from faceforge.data.cache import Recipe, digests_of, pack
from faceforge.data.framing import frame
from faceforge.data.sources.crops import Crops
from faceforge.errors import BadInput
from faceforge.io import workers
from faceforge.io.storage import cache_root

RECIPE = Recipe("center", (12, 10), 3)


def packed(root, place, recipe=RECIPE, source=None):
    source = source or Crops(str(root))
    return pack(source, recipe, place, digests_of(source, place, progress=False), progress=False)


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def visible(place):
    return [path.name for path in place.iterdir() if not path.name.startswith(".") and path.name != "digests"]


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(workers, "PARALLEL_SECONDS", 0)
    monkeypatch.setattr(workers, "CHUNK", 5)
    monkeypatch.setattr(workers, "cores", lambda: 2)


def mixed(folder):
    """23 sound pictures of several kinds and 3 unreadable ones between them."""
    for n in range(23):
        kind = ("JPEG", "PNG", "BMP")[n % 3]
        array = picture(n, 30 + n, 50 - n)
        write(
            folder / f"p{n % 4}" / f"{n:02d}.{kind.lower()[:4]}", encode(array[..., 0] if n % 5 == 0 else array, kind)
        )
    bad = {"p1/00a.jpg": b"words", "p1/50.png": b"", "p3/00.jpg": encode(picture(1))[:200]}
    return put(bad, folder)


def test_the_array_holds_every_sound_face_in_order(tmp_path):
    source = Crops(str(mixed(tmp_path / "in")))
    result = packed(None, tmp_path / "cache", source=source)
    bad = dict(result.skipped())
    assert bad == {
        "p1/00a.jpg": "not an image (text)",
        "p1/50.png": "not an image (empty file)",
        "p3/00.jpg": bad["p3/00.jpg"],
    }
    kept = [n for n, face in enumerate(source.faces) if face.id not in bad]
    expected = [frame(source.read(n, (12, 10)), "center", (12, 10), 3) for n in kept]
    assert result.array.dtype == np.uint8
    assert np.array_equal(result.array, np.stack(expected))
    assert not result.array.flags.writeable
    with (result.folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [source.faces[n].id for n in kept]
    for row in rows:
        assert row["sha256"] == hashlib.sha256((tmp_path / "in" / row["id"]).read_bytes()).hexdigest()
    assert json.loads((result.folder / "protocol.json").read_text()) == RECIPE.protocol("crops")
    assert RECIPE.protocol("crops")["name"] == "crops-center-12x10x3"
    assert result.folder.name.startswith("crops-center-12x10x3-")


def test_bytes_do_not_depend_on_processes_or_reruns(tmp_path, two_processes):
    root = mixed(tmp_path / "in")
    by_two = packed(None, tmp_path / "two", source=SharedCrops(str(root), tmp_path / "seen")).folder
    assert (tmp_path / "seen").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "cores", lambda: 1)
        by_one = packed(root, tmp_path / "one").folder
    again = packed(root, tmp_path / "again").folder
    assert contents(by_two) == contents(by_one) == contents(again)
    assert by_one.name == by_two.name


def test_a_packed_set_is_not_made_again(tmp_path, monkeypatch):
    root = make_crops(tmp_path / "in", 5)
    first = packed(root, tmp_path / "cache")
    monkeypatch.setattr(Crops, "read", None)
    assert packed(root, tmp_path / "cache").folder == first.folder
    shutil.copytree(root, tmp_path / "moved")  # the same pictures elsewhere are the same set
    assert packed(tmp_path / "moved", tmp_path / "cache").folder == first.folder


@pytest.mark.parametrize(
    "recipe", [Recipe("none", (12, 10), 3), Recipe("center", (10, 12), 3), Recipe("center", (12, 10), 1)]
)
def test_another_recipe_is_another_set(tmp_path, recipe):
    root = make_crops(tmp_path / "in", 5, 40, 30)
    assert packed(root, tmp_path / "c").folder != packed(root, tmp_path / "c", recipe).folder
    assert len(visible(tmp_path / "c")) == 2


def test_a_changed_file_makes_another_set(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FRESH_SECONDS", -1.0)  # every digest is remembered
    root = make_crops(tmp_path / "in", 5)
    before = packed(root, tmp_path / "c").array[2].copy()
    old = (root / "002.jpg").stat()
    data = encode(picture(9))
    write(root / "002.jpg", data)
    os.utime(root / "002.jpg", ns=(old.st_atime_ns, old.st_mtime_ns))  # as copying tools do
    assert not np.array_equal(packed(root, tmp_path / "c").array[2], before)
    (root / "004.jpg").unlink()
    assert len(packed(root, tmp_path / "c").array) == 4


def test_digests_are_read_again_only_when_a_file_has_changed(tmp_path, monkeypatch):
    root, read = make_crops(tmp_path / "in", 4), []
    monkeypatch.setattr(Crops, "digest", lambda self, n: read.append(n) or super(Crops, self).digest(n))
    digests = digests_of(Crops(str(root)), tmp_path, False)
    assert digests_of(Crops(str(root)), tmp_path, False) == digests
    assert len(read) == 8  # too fresh to be trusted by their time stamps
    monkeypatch.setattr(cache, "FRESH_SECONDS", -1.0)
    digests_of(Crops(str(root)), tmp_path, False)
    read.clear()
    assert digests_of(Crops(str(root)), tmp_path, False) == digests
    assert read == []
    write(root / "001.jpg", encode(picture(8)))
    assert digests_of(Crops(str(root)), tmp_path, False)[1] != digests[1]
    assert read == [1]
    for notes in (tmp_path / "digests").iterdir():
        notes.write_text("{half")
    assert len(digests_of(Crops(str(root)), tmp_path, False)) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "no header", "gone", "no list"])
def test_a_damaged_set_is_made_again(tmp_path, damage):
    root = make_crops(tmp_path / "in", 5)
    folder = packed(root, tmp_path / "c").folder
    whole = contents(folder)
    array = folder / "faces.npy"
    if damage in ("gone", "no list"):
        (array if damage == "gone" else folder / "skipped.csv").unlink()
    else:
        array.write_bytes({"cut": array.read_bytes()[:-1], "empty": b"", "no header": b"junk" * 99}[damage])
    assert contents(packed(root, tmp_path / "c").folder) == whole


@pytest.mark.slow
def test_killed_while_packing_nothing_half_made_is_seen(tmp_path):
    root, place = make_crops(tmp_path / "in", 300, 8, 8), tmp_path / "c"
    code = (
        "from pathlib import Path; from faceforge.data import cache; from faceforge.io import workers\n"
        "from odd_sources import SlowCrops\n"
        "workers.PARALLEL_SECONDS, workers.CHUNK, workers.cores = 0, 5, lambda: 2\n"
        f"source, place = SlowCrops({str(root)!r}), Path({str(place)!r})\n"
        "recipe = cache.Recipe('center', (12, 10), 3)\n"
        "cache.pack(source, recipe, place, cache.digests_of(source, place, False), False)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, "-u", "-c", code], env=environment, start_new_session=True)
    wait_for(lambda: any(path.stat().st_size > 4000 for path in place.glob(".*.tmp/faces.npy")), process)
    assert len(workers_of(process.pid)) >= 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert visible(place) == []
    wait_for(lambda: not workers_of(process.pid))
    assert list(place.glob(".*.tmp"))
    other = packed(root, place, Recipe("none", (3, 3), 1))  # sweeps, though it is another set
    assert not list(place.glob(".*.tmp"))
    shutil.rmtree(other.folder)
    result = packed(root, place, source=Crops(str(root)))
    assert len(result.array) == 300
    assert visible(place) == [result.folder.name]
    assert not list(place.glob(".*.tmp"))


def wait_for(condition, process=None, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.02)


def workers_of(session):
    """Living processes of a session: those that a process started there began."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(folder.name)) == session and "State:\tZ" not in (folder / "status").read_text():
                found.append(folder.name)
    return found


def test_two_at_a_time_pack_once(tmp_path):
    root, read = make_crops(tmp_path / "in", 10), []

    class Counted(SlowCrops):
        def read(self, index, size):
            read.append(index)
            return super().read(index, size)

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(packed(None, tmp_path / "c", source=Counted(str(root)))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read) == list(range(10))
    assert len({result.folder for result in results}) == 1


def test_workers_that_die_are_done_without(tmp_path, two_processes):
    root = mixed(tmp_path / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "cores", lambda: 1)
        alone = packed(root, tmp_path / "one").folder
    rest = packed(None, tmp_path / "two", source=FragileCrops(str(root), tmp_path / "seen")).folder
    assert (tmp_path / "seen").exists()
    assert contents(rest) == contents(alone)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    root, place = make_crops(tmp_path / "in", 40), tmp_path / "c"
    recipe = Recipe("center", (64, 64), 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    source = Crops(str(root))
    digests = digests_of(source, place, False)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(BadInput, match=r"data.cache=.*cannot be written \(File too large\)"):
            pack(source, recipe, place, digests, False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert visible(place) == []
    assert not list(place.glob(".*.tmp"))
    usage = shutil.disk_usage(place)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(BadInput, match=r"491,520 bytes are needed, 1,000 are free"):
        pack(source, recipe, place, digests, False)


def test_a_set_without_one_sound_picture_is_refused(tmp_path):
    put({"a.jpg": b"words", "b.jpg": b""}, tmp_path / "in")
    with pytest.raises(BadInput, match=r"2 of 2 images \(100%\) cannot be used \(a.jpg: not an image \(text\)"):
        packed(tmp_path / "in", tmp_path / "c")
    assert visible(tmp_path / "c") == []


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("FACEFORGE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home/.cache/faceforge"
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "asked"))
    assert cache_root() == tmp_path / "asked"
    assert cache_root(str(tmp_path / "named")) == tmp_path / "named"
    blocked = write(tmp_path / "file", b"")
    with pytest.raises(BadInput, match=r"data.cache=.*not writable"):
        cache_root(str(blocked / "sub"))
    monkeypatch.delenv("FACEFORGE_CACHE")
    monkeypatch.setenv("HOME", str(blocked))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert cache_root().parent == tmp_path
    assert cache_root().stat().st_mode & 0o77 == 0
