"""Sets larger than memory, and the benchmark of large sets in short."""

import resource
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from picture_makers import face_data, make_crops

from benchmarks.speed import large_sets
from faceforge.data.cache import Packed
from faceforge.io import portable, rows
from faceforge.io.rows import Rows


def array(folder, count=50):
    faces = np.random.default_rng(0).integers(0, 256, (count, 3, 5, 7), dtype=np.uint8)
    np.save(folder / "faces.npy", faces)
    return faces


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(rows, "memory_bytes", lambda: 1000.0)


def test_rows_are_the_same_mapped_and_read(tmp_path, monkeypatch):
    faces, order = array(tmp_path), np.array([3, 49, 0, 3, 17])
    mapped = Rows(tmp_path / "faces.npy")
    assert mapped.mapped
    monkeypatch.setattr(rows, "memory_bytes", lambda: 2 * faces.size - 1.0)
    read = Rows(tmp_path / "faces.npy")
    assert not read.mapped
    for each in (mapped, read):
        each.expect(order)
        assert np.array_equal(each.take(order), faces[order])
        assert np.array_equal(each.take(order), faces[order])  # expected once, taken twice
        assert np.array_equal(each[7:9], faces[7:9])
        assert (len(each), each.shape) == (50, (50, 3, 5, 7))
        with pytest.raises(IndexError if each.mapped else OSError):
            each.take(np.array([50]))


def test_what_is_never_taken_is_forgotten(tmp_path, small_memory, monkeypatch):
    array(tmp_path)
    monkeypatch.setattr(rows, "MOST_AHEAD", 3)
    read = Rows(tmp_path / "faces.npy")
    for n in range(9):
        read.expect(np.array([n]))
    assert len(read._ahead) == 3


@pytest.mark.parametrize("kind", ["plain", "partners", "workers"])
def test_a_set_larger_than_memory_gives_the_same_batches(tmp_path, monkeypatch, kind):
    from faceforge.data.tasks import Average, Canny, NoInput

    root = make_crops(tmp_path / "in", 40)
    task = {"plain": NoInput(), "partners": Average("brightness", None), "workers": Canny("image", 40, 120)}[kind]

    def batches(count=12):
        data = face_data(root, cache=str(tmp_path / "c"), batch_size=4, task=task, workers=2 * (kind == "workers"))
        data.prepare(progress=False)
        loader = iter(data.train_dataloader())
        return data._packed.rows.mapped, [next(loader) for _ in range(count)]

    was_mapped, in_memory = batches()
    monkeypatch.setattr(rows, "memory_bytes", lambda: 1000.0)
    is_mapped, larger = batches()
    assert (was_mapped, is_mapped) == (True, False)
    for one, other in zip(in_memory, larger, strict=True):
        assert one.keys() == other.keys()
        assert all(bool((one[name] == other[name]).all()) for name in one)


LIMITED = """
import resource, sys, os
import numpy as np, torch
from benchmarks.speed.large_sets import loader
from faceforge.data.cache import Packed
from pathlib import Path
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
packed = Packed(Path(sys.argv[1]))
faces = loader(packed, 640)
print(packed.rows.mapped, [int(next(faces)["target"].sum()) for _ in range(4)])
"""


@pytest.mark.slow
def test_a_process_that_cannot_map_the_set_feeds_it(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "faces.npy", mode="w+", dtype=np.uint8, shape=(50_000, 3, 64, 64))
    file[::97] = np.arange(0, 50_000, 97, dtype=np.int64).reshape(-1, 1, 1, 1) % 251  # most of it has no bytes on disk
    del file
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    free = Packed(tmp_path)
    assert free.rows.mapped
    faces = large_sets.loader(free, 640)
    assert done.stdout.split(maxsplit=1) == ["False", f"{[int(next(faces)['target'].sum()) for _ in range(4)]}\n"]


def test_the_memory_is_the_least_of_all_limits(tmp_path, monkeypatch):
    whole = portable.memory_bytes()
    assert 2**28 < whole < float("inf")
    (tmp_path / "memory.max").write_text("123456789\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(portable, "_limit_files", lambda: [tmp_path / "none", tmp_path / "memory.max", tmp_path / "no"])
    assert portable.memory_bytes() == 123456789
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    assert portable.memory_bytes() == 0


def test_the_benchmark_in_short(tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(large_sets, "keep", lambda name, value, about: kept.update({name: value}))
    monkeypatch.setattr(large_sets, "FEW", 40)
    monkeypatch.setattr(large_sets, "first_batch", lambda folder, faces: (float(len(list(faces.iterdir()))), 1.0))
    large_sets.start(1, tmp_path, 80)
    assert kept == {"start_200000_over_2000": 2.0}
    turn = {"feed": 5.0, "train": 2.0, "mapped": True}
    monkeypatch.setattr(large_sets, "measured", lambda packed, seconds, group, addresses: turn)
    monkeypatch.setattr(large_sets, "random_reads", lambda file, row: 640.0)
    large_sets.feed(1, tmp_path, 1, 0.5, 0.1)
    assert kept["feed_over_memory.addresses"] == 1.0
    assert (tmp_path / "packed1" / "faces.npy").stat().st_size > 2**20 - 12288
