"""The arithmetic of benchmarks/cut; no photograph is needed."""

import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import machine, records
from benchmarks.cut import accuracy, annotated, framing, page, scenes, times
from benchmarks.cut.annotated import Scene
from faceforge.cut import frame
from faceforge.cut.detect import Detection, overlap


def blank(name="a", height=100, width=120, **known):
    return Scene(name, np.zeros((height, width, 3), np.uint8), **known)


# -------------------------------------------------------------------------------------------- boxes, matching, shares


def test_the_table_of_boxes_is_whole():
    photos = annotated.annotated()
    assert len(photos) == 150
    assert len(annotated.twice()) == 30
    for photo in photos:
        assert len(photo.sha256) == 16
        for _, (x, y, w, h) in itertools.chain(*photo.boxes.values()):
            assert x >= 0
            assert y >= 0
            assert w > 0
            assert h > 0
            assert x + w <= photo.size[0] + 0.11
            assert y + h <= photo.size[1] + 0.11


@pytest.mark.parametrize("quarter", range(4))
def test_a_box_in_its_quarter_turn_is_the_box_as_the_photo_lies(quarter):
    photo = np.zeros((50, 80), np.uint8)
    photo[12:19, 30:55] = 1
    upright = np.rot90(photo, -quarter)
    rows, columns = np.nonzero(upright)
    box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    assert annotated.as_it_lies(Detection(box, quarter=quarter), photo.shape) == (30, 12, 25, 7)


def test_each_face_is_matched_once_and_the_best_overlap_first():
    scene = blank(faces=[(0, 0, 40, 40), (60, 0, 40, 40)], ignored=[(0, 60, 30, 30)])
    found = [(1, 1, 40, 40), (0, 0, 40, 40), (60, 4, 40, 40), (2, 62, 30, 30), (90, 80, 20, 20)]
    verdicts = annotated.judge(found, scene)
    assert verdicts.hits == [(1, 0), (2, 1)]
    assert verdicts.missed == []
    assert verdicts.false == [(0, "doubled"), (4, "beside")]


def test_a_small_box_in_the_middle_means_the_face_and_one_at_its_corner_does_not():
    scene = blank(faces=[(0, 0, 60, 60)], planted=[("discs", (80, 0, 30, 30))])
    assert annotated.judge([(25, 25, 10, 10)], scene).hits == [(0, 0)]
    verdicts = annotated.judge([(55, 55, 20, 20), (85, 5, 20, 20)], scene)
    assert verdicts.missed == [0]
    assert verdicts.false == [(0, "beside"), (1, "discs")]


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),  # computed by hand from Wilson's formula
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (150, 150, 0.97503, 1.0)],
)
def test_wilson(hits, total, low, high):
    assert records.wilson(hits, total) == pytest.approx((low, high), abs=1e-5)
    assert records.wilson(0, 0) == (0.0, 1.0)


def test_no_folder_of_this_machine_in_a_record():
    words = ["speed", "--photos", "/somewhere/of/mine/photos_color", "--parts", "plain,large"]
    assert records.portable(words) == ["speed", "--photos", "photos_color", "--parts", "plain,large"]


# ----------------------------------------------------------------------------------------------------------- accuracy


def test_tally_counts_hits_misses_and_faults():
    scenes = [blank("a", faces=[(0, 0, 50, 50)]), blank("b", faces=[(0, 0, 50, 50)]), blank("c")]
    sure, unsure = Detection((0, 0, 50, 50), score=0.95), Detection((0, 0, 50, 50), score=0.65)
    small = Detection((60, 60, 20, 20), score=0.9)
    finds = {"yunet": [[sure, small], [unsure], [Detection((10, 10, 60, 60), score=0.8)]]}
    found = accuracy.tally(scenes, finds, "yunet")
    assert (found["precision"]["hits"], found["precision"]["total"]) == (1, 2)
    assert (found["recall"]["hits"], found["recall"]["total"]) == (1, 2)
    assert found["false"] == {"beside": 1}
    assert [(fault["photo"], fault["kind"]) for fault in found["faults"]] == [("b", "missed"), ("c", "beside")]
    everything = accuracy.tally(scenes, finds, "yunet", 0.6)
    assert everything["missed"] == 0
    both = accuracy.together([found, everything])
    assert (both["precision"]["hits"], both["precision"]["total"], both["recall"]["total"]) == (3, 5, 4)


def test_a_haar_box_that_yunet_denies_counts_only_for_haar():
    face = Detection((0, 0, 50, 50), neighbours=7)
    assert accuracy.counts(face, "haar")
    assert not accuracy.counts(Detection((0, 0, 50, 50), score=None, agreement=0.0), "verified")
    assert accuracy.counts(Detection((0, 0, 50, 50), score=0.9, agreement=0.6), "verified")


def test_two_annotations_compared():
    boxes = {1: [("face", (0, 0, 40, 40)), ("unsure", (60, 60, 9, 9))], 2: [("face", (0, 0, 40, 30))]}
    alone = {1: [("face", (0, 0, 40, 40))], 2: []}
    photos = [annotated.Annotated(name, "", (100, 100), b) for name, b in (("a", boxes), ("b", alone), ("c", alone))]
    found = accuracy.agreement(photos, {"a", "b"})
    assert (found["photos"], found["boxes"], found["matched"]["pairs"]) == (2, 3, 1)
    assert found["matched"]["share"] == pytest.approx(2 / 3)
    assert found["iou"]["mean"] == pytest.approx(0.75)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turned_scene_keeps_what_is_in_its_boxes(quarter):
    scene = blank(faces=[(10, 20, 30, 15)], ignored=[(70, 5, 8, 40)])
    scene.pixels[20:35, 10:40], scene.pixels[5:45, 70:78] = 1, 2
    turned = accuracy.turned(scene, quarter)
    for boxes, value in ((turned.faces, 1), (turned.ignored, 2)):
        x, y, w, h = map(int, boxes[0])
        assert (turned.pixels[y : y + h, x : x + w] == value).all()
        assert (turned.pixels == value).sum() == w * h * 3


# ------------------------------------------------------------------------------------------------------------- scenes


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_free_rectangle_against_all_rectangles(seed):
    random = np.random.default_rng(seed)
    boxes = [(int(x), int(y), int(w), int(h)) for x, y, w, h in random.integers(1, 7, (3, 4))]
    taken = np.zeros((11, 12), bool)
    for x, y, w, h in boxes:
        taken[y : y + h, x : x + w] = True
    sums = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    best = 0
    for top, left in itertools.product(range(11), range(12)):
        for bottom, right in itertools.product(range(top + 3, 12), range(left + 3, 13)):
            if sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] == 0:
                best = max(best, (bottom - top) * (right - left))
    found = scenes.free_rectangle(12, 11, [tuple(map(float, box)) for box in boxes], least=3)
    if best == 0:
        assert found is None
    else:
        assert found is not None
        assert found[2] * found[3] == best
        assert all(overlap(found, box) == 0 for box in boxes)


def test_scrambled_moves_every_block_and_loses_none():
    face = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 5, 0), 6, 1).astype(np.uint8)
    mixed = scenes.scrambled(np.random.default_rng(0), face[:, :, None])[:, :, 0]
    assert mixed.shape == face.shape
    assert (mixed != face).all()
    assert np.array_equal(np.sort(mixed[::5, ::6].ravel()), np.arange(16))


def test_composites_keep_the_photo_and_plant_beside_it():
    random = np.random.default_rng(3)
    scene = blank(faces=[(10, 20, 60, 70)], ignored=[(90, 10, 12, 12)])
    scene.pixels[:] = random.integers(0, 256, scene.pixels.shape)
    kinds = set()
    for n in range(10):
        canvas = scenes.composite(scene, n, seed=0)
        assert canvas is not None
        assert canvas.pixels.shape == (200, 240, 3)
        left, top = (int(canvas.faces[0][i] - scene.faces[0][i]) for i in (0, 1))
        assert np.array_equal(canvas.pixels[top : top + 100, left : left + 120], scene.pixels)
        for kind, box in canvas.planted:
            kinds.add(kind)
            assert overlap(box, (left, top, 120, 100)) == 0
            assert box[0] >= 0
            assert box[1] >= 0
            assert box[0] + box[2] <= 240
            assert box[1] + box[3] <= 200
        again = scenes.composite(scene, n, seed=0)
        assert again is not None
        assert np.array_equal(canvas.pixels, again.pixels)
    assert kinds == set(scenes.PLANTED)
    assert scenes.composite(blank(), 0, 0) is None


def test_textures_are_drawn_from_their_seed():
    first, again, other = (scenes.textures(12, seed) for seed in (0, 0, 1))
    assert all(scene.pixels.shape == (240, 320, 3) and scene.pixels.dtype == np.uint8 for scene in first)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))


# ------------------------------------------------------------------------------------------------------------ framing


def pair(random, width, centre, size=(400, 400)):
    eyes, mouth = np.array([200.0, 180.0]) + random.uniform(-5, 5, 2), np.array([200.0, 220.0])
    marks = (*((x, eyes[1]) for x in (eyes[0] - 18, eyes[0] + 18)), (200.0, 200.0), (190.0, 220.0), (210.0, 220.0))
    middle, side = eyes + centre * (mouth - eyes), width * float(np.linalg.norm(mouth - eyes))
    return framing.Pair("a", size, (middle[0] - side / 2, middle[1] - side / 2, side, side), marks)


def test_fit_finds_the_constants_that_the_boxes_were_made_with():
    random = np.random.default_rng(0)
    pairs = [pair(random, 2.5, 0.31) for _ in range(20)]
    found = framing.fit(pairs)
    assert found["HAAR_WIDTH"] == pytest.approx(2.5, abs=1e-6)
    assert found["HAAR_CENTRE"] == pytest.approx(0.31, abs=1e-3)
    low, high = framing.spread(pairs, seed=0, times=5)["HAAR_WIDTH"]
    assert (low, high) == pytest.approx((2.5, 2.5))


def test_boxes_of_frame_py_differ_from_themselves_by_nothing():
    one = pair(np.random.default_rng(0), frame.HAAR_WIDTH, frame.HAAR_CENTRE)
    found = framing.errors([one])
    assert found["centre"]["median"] == pytest.approx(0, abs=1e-9)
    assert found["width"]["median"] == pytest.approx(1)
    assert found["iou"]["median"] == pytest.approx(1)
    wider = framing.differences([((0, 0, 110, 110), (5, 5, 100, 100), (900, 900))])
    assert wider["width"]["off_median"] == pytest.approx(0.1)


def test_roomy_is_a_face_with_photo_round_it():
    random = np.random.default_rng(0)
    assert pair(random, 2.5, 0.3).roomy
    assert not pair(random, 2.5, 0.3, size=(235, 400)).roomy


# -------------------------------------------------------------------------------------------------------------- times


def test_loud_turns_are_left_out_unless_there_are_no_others():
    loud, still = times.Turn(1.0, 0.5, 0.9), times.Turn(2.0, 1.0, 0.01)
    found = times.rates([loud, still, still, still], photos=10)
    assert found["photos_per_second"] == {"best": 5.0, "median": 5.0, "least": 5.0}
    assert found["cpu_ms_per_photo"] == pytest.approx(100)
    assert (found["quiet"], found["rejected"]) == (True, 1)
    noisy = times.rates([loud, loud, still], photos=10)
    assert (noisy["quiet"], noisy["rejected"]) == (False, 0)
    row = times.compared({"plain": [still] * 3, "ours": [times.Turn(1.0, 1.0, 0.0)] * 3}, 10)
    assert row["times"] == {"median": 2.0, "best": 2.0}


def test_clocks_count_this_process_and_its_children():
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    turn, _ = times.timed(lambda: subprocess.run([sys.executable, "-c", code], check=True))
    assert 0.25 <= turn.cpu <= turn.wall * os.cpu_count() + 0.1  # pyright: ignore[reportOperatorIssue]
    end = time.process_time() + 0.2
    before = machine.own_seconds()
    while time.process_time() < end:
        pass
    assert 0.1 <= machine.own_seconds() - before <= 1.0


def test_memory_counts_children():
    own, _ = machine.held([os.getpid()])
    code = "data = bytearray(b'x') * 60_000_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        pss, rss = machine.held(machine.tree())
        child.communicate(b"\n")
    assert pss - own > 50
    assert rss >= pss


def test_tiny_photos_are_drawn_one_by_one():
    base = np.random.default_rng(0).integers(0, 256, (130, 120, 3)).astype(np.uint8)
    first, again, other = (times._tiny_face(np.random.default_rng([0, 6, n]), base) for n in (1, 1, 2))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_page_is_made_from_the_records():
    assert page.text() == (records.RESULTS / "cut_faces.md").read_text()
