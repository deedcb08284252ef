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
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from odd_sources import FragileCrops, SharedCrops, SlowCrops
from picture_makers import encode, make_crops, picture, put, write

from faceforge.data import listing, shards
from faceforge.data.cache import pack
from faceforge.data.framing import Recipe, frame
from faceforge.data.listing import digests_of
from faceforge.data.sources.crops import Crops
from faceforge.errors import BadInput
from faceforge.io import manifest, workers
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
    monkeypatch.setattr(workers, "cores", lambda: 2)
    small_shards(monkeypatch)


def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "FEWEST", 5)
    monkeypatch.setattr(shards, "MOST", 5)


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
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)  # every digest is remembered
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
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)
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


KILLED = """
from pathlib import Path
from faceforge.data import cache, framing, listing, shards
from faceforge.io import workers
from odd_sources import SlowCrops
workers.PARALLEL_SECONDS, shards.FEWEST, shards.MOST, workers.cores = 0, 5, 5, lambda: {cores}
source, place = SlowCrops({root!r}), Path({place!r})
digests = listing.digests_of(source, place, False)
print(cache.pack(source, framing.Recipe("center", (12, 10), 3), place, digests, False, engine={engine!r}).folder)
"""


def start(root, place, engine="auto", cores=2):
    code = KILLED.format(root=str(root), place=str(place), engine=engine, cores=cores)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-u", "-c", code], env=environment, start_new_session=True, **pipes)


@pytest.mark.parametrize("engine", ["auto", pytest.param("loky", marks=pytest.mark.slow)])
def test_killed_while_packing_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch, engine):
    root, place = make_crops(tmp_path / "in", 150, 8, 8), tmp_path / "c"
    put({"050.jpg": b"words", "020.jpg": b""}, root)
    process = start(root, place, engine)
    wait_for(lambda: any(path.stat().st_size > 4000 for path in place.glob(".*.tmp/faces.npy")), process, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert visible(place) == []
    wait_for(lambda: not workers_of(process.pid))
    [left_over] = place.glob(".*.tmp")
    before = len((left_over / "shards.jsonl").read_bytes().splitlines()) + len(list((left_over / "shards").iterdir()))
    small_shards(monkeypatch)
    packed(root, place, Recipe("none", (3, 3), 1))  # another set leaves it alone
    read = []
    monkeypatch.setattr(Crops, "read", spy(Crops.read, read))
    result = packed(root, place)
    assert 0 < 150 - len(read) <= 5 * before  # only the rest
    assert len(read) < 140
    monkeypatch.undo()
    assert contents(result.folder) == contents(packed(root, tmp_path / "undisturbed").folder)
    assert not list(place.glob(".*.tmp"))


def spy(read, seen):
    return lambda self, index, size: seen.append(index) or read(self, index, size)


def half_packed(root, place, monkeypatch, stop):
    """A packing that ended at face ``stop`` as if it was killed; its folder."""
    small_shards(monkeypatch)

    def read(self, index, size):
        if index == stop:
            raise KeyboardInterrupt
        return whole(self, index, size)

    whole = Crops.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crops, "read", read)
        with pytest.raises(KeyboardInterrupt):
            packed(root, place)
    [folder] = place.glob(".*.tmp")
    return folder


@pytest.mark.parametrize("damage", ["none", "torn record", "torn array", "other bytes", "no records", "older version"])
def test_what_a_power_failure_damages_is_packed_again(tmp_path, monkeypatch, damage):
    root, place = mixed(tmp_path / "in"), tmp_path / "c"
    folder = half_packed(root, place, monkeypatch, 18)
    records, array = folder / "shards.jsonl", folder / "faces.npy"
    assert len(records.read_bytes().splitlines()) == 3
    if damage == "torn record":
        records.write_bytes(records.read_bytes()[:-4])
    elif damage == "torn array":
        array.write_bytes(array.read_bytes()[:-200])
    elif damage == "other bytes":
        array.write_bytes(array.read_bytes()[:-200] + bytes(200))
    elif damage == "no records":
        records.unlink()
    elif damage == "older version":
        shutil.rmtree(folder)
        folder.mkdir()
        array.write_bytes(bytes(9000))
    whole = packed(root, tmp_path / "undisturbed").folder
    read = []
    monkeypatch.setattr(Crops, "read", spy(Crops.read, read))
    assert contents(packed(root, place).folder) == contents(whole)
    assert min(read) == {"none": 15, "no records": 0, "older version": 0}.get(damage, 10)


def test_what_was_left_long_ago_is_removed(tmp_path, monkeypatch):
    root, place = mixed(tmp_path / "in"), tmp_path / "c"
    folder = half_packed(root, place, monkeypatch, 18)
    packed(root, place, Recipe("none", (3, 3), 1))
    assert folder.exists()
    os.utime(folder / "shards.jsonl", (0, 0))
    packed(root, place, Recipe("none", (4, 4), 1))
    assert not folder.exists()


@pytest.mark.parametrize(
    "engine", ["loky", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ("ray", "dask"))]
)
def test_every_engine_packs_the_same_bytes(tmp_path, monkeypatch, engine):
    pytest.importorskip({"dask": "distributed", "loky": "joblib"}.get(engine, engine))
    root = mixed(tmp_path / "in")
    alone = packed(root, tmp_path / "one").folder
    small_shards(monkeypatch)
    monkeypatch.setattr(shards, "cores", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    source, place = Crops(str(root)), tmp_path / engine
    result = pack(source, RECIPE, place, digests_of(source, place, False), False, engine=engine)
    assert contents(result.folder) == contents(alone)
    assert not list(place.glob(".*.tmp"))


def test_an_engine_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    source, place = Crops(str(mixed(tmp_path / "in"))), tmp_path / "c"
    with pytest.raises(BadInput, match=r"^data.engine=ray: not installed; .* pip install -e '\.\[ray\]'$"):
        pack(source, RECIPE, place, digests_of(source, place, False), False, engine="ray")


def test_a_worker_that_does_not_see_the_cache_is_one_line(tmp_path):
    sent = shards.Sent(tmp_path / "cache/.x.tmp/source.pickle", "0")
    with pytest.raises(BadInput, match=r"data.cache=.*cache: a worker cannot see it; all machines of data.engine must"):
        sent.pack([0])
    put({"cache/.x.tmp/source.pickle": b"another"}, tmp_path)
    with pytest.raises(BadInput, match=r"source.pickle: was changed while faces were packed"):
        sent.pack([0])


# ------------------------------------------------------------------------------ a shared disk, many jobs at once


def test_many_jobs_at_once_pack_once_and_say_that_they_wait(tmp_path):
    root, place = make_crops(tmp_path / "in", 60, 8, 8), tmp_path / "c"
    jobs = [start(root, place, cores=1) for _ in range(3)]
    said = [job.communicate(timeout=120) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    waited = [err for _, err in said if "another process packs these faces; waiting for it" in err]
    assert len(waited) == 2
    assert len(visible(place)) == 1


@pytest.fixture
def read_only(tmp_path):
    """Makes a folder one that can only be read, for root too where it may mount."""
    mounted = []

    def make(folder):
        if os.getuid():
            for path in [folder, *folder.rglob("*")]:
                path.chmod(path.stat().st_mode & ~0o222)
        else:
            for words in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
                if subprocess.run(["mount", *map(str, words)], capture_output=True).returncode:
                    pytest.skip("root cannot mount here")
            mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_complete_set_on_a_read_only_disk_is_used_as_it_is(tmp_path, read_only, settled, monkeypatch):
    root, place, home = mixed(tmp_path / "in"), tmp_path / "c", tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("FACEFORGE_CACHE", raising=False)
    folder = packed(None, place, source=remembered(root, place).source).folder
    read_only(place)
    assert cache_root(str(place)) == place
    found = remembered(root, cache_root(str(place)))
    assert isinstance(found.source, listing.Remembered)
    assert packed(None, cache_root(str(place)), source=found.source).folder == folder
    with pytest.raises(BadInput, match=r"data.cache=.*can only be read and has no complete crops-none-3x3x1-\w+; pack"):
        packed(root, place, Recipe("none", (3, 3), 1))
    shutil.copytree(root, tmp_path / "moved")  # notes about it go home
    for _ in range(2):
        again = remembered(tmp_path / "moved", place)
        assert packed(None, place, source=again.source).folder == folder
    assert isinstance(again.source, listing.Remembered)
    assert list((home / ".cache/faceforge/digests").iterdir())


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


# ------------------------------------------------------------------------------------- the whole source remembered


def remembered(root, place):
    return listing.listing_of(partial(Crops, identity="auto", cache=None), str(root), str(place), progress=False)


@pytest.fixture
def settled(monkeypatch):
    """Files are trusted at once."""
    monkeypatch.setattr(listing, "FRESH_SECONDS", -1.0)


def test_an_unchanged_source_is_not_built_again(tmp_path, settled, monkeypatch):
    root = mixed(tmp_path / "in")
    first = remembered(root, tmp_path / "c")
    monkeypatch.setattr(Crops, "__init__", None)
    again = remembered(root, tmp_path / "c")
    assert again.manifest == first.manifest
    assert list(again.digests) == list(first.digests)
    assert (again.source.faces, again.source.names, again.source.name) == (
        first.source.faces,
        first.source.names,
        "crops",
    )
    assert again.source.attributes()[0] == first.source.attributes()[0] == ["p0", "p1", "p2", "p3"]
    assert np.array_equal(again.source.attributes()[1], first.source.attributes()[1])
    assert again.source.left_out() == first.source.left_out()
    sound = first.source.names.index("p0/00.jpeg")
    assert np.array_equal(again.source.read(sound, (0, 0)), first.source.read(sound, (0, 0)))
    folder = packed(None, tmp_path / "c", source=first.source).folder
    assert packed(None, tmp_path / "other", source=again.source).folder.name == folder.name


@pytest.mark.parametrize("change", ["bytes", "gone", "new", "verdicts", "hidden sums", "renamed folder", "parameters"])
def test_any_change_of_files_is_noticed(tmp_path, settled, change):
    root = mixed(tmp_path / "in")
    before = remembered(root, tmp_path / "c")
    make = partial(Crops, identity="file" if change == "parameters" else "auto", cache=None)
    if change == "bytes":
        old = (root / "p0/00.jpeg").stat()
        write(root / "p0/00.jpeg", (root / "p0/00.jpeg").read_bytes()[:-1] + b"\x00")
        os.utime(root / "p0/00.jpeg", ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "gone":
        (root / "p0/00.jpeg").unlink()
    elif change == "new":
        write(root / "p0/99.png", encode(picture(1), "PNG"))
    elif change == "verdicts":
        manifest.write(root / "manifest.csv", [manifest.Row("p0/00.jpeg", "a.jpg", 1, "rejected", "by hand")])
    elif change == "hidden sums":
        write(root / "SHA256SUMS", b"0" * 64 + b"  p0/00.jpeg\n")
    elif change == "renamed folder":
        (root / "p0").rename(root / "p9")
    after = listing.listing_of(make, str(root), str(tmp_path / "c"), progress=False)
    fresh = listing.listing_of(make, str(root), str(tmp_path / "empty"), progress=False)
    assert not isinstance(after.source, listing.Remembered)
    assert (after.manifest, after.source.faces) == (fresh.manifest, fresh.source.faces)
    assert (after.manifest != before.manifest) == (change not in ("hidden sums", "parameters"))
