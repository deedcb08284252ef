"""`faceforge evaluate RUN --data ...`: faces of another set, framed as those of training, without its people."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REAL_FACES, TINY
from picture_makers import celeba_files, celeba_tables, encode, face_data, lfw_files, make_crops, picture, put, write
from test_every_pair import FACES, SMALL

from faceforge import config
from faceforge.data.sources.drawn import Drawn
from faceforge.data.sources.lfw import Lfw
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.evaluation import alike, another_set, command, extractors
from faceforge.evaluation.alike import Look, Sample, differences, mapped
from faceforge.evaluation.another_set import LeftOut, Named, apart
from faceforge.evaluation.command import Options
from faceforge.evaluation.generated import FROM_TRAINING, HALVES
from faceforge.evaluation.judged import all_faces
from faceforge.metrics.features import Features

ASKED = Options(Path(), None, "best", None, 0, None, False, None, ())


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer pictures are looked at, and features are of small images."""
    monkeypatch.setattr(alike, "LOOKED_AT", 24)
    monkeypatch.setattr(extractors, "build", lambda *asked: [Features(64)])


# What is typed


def test_what_is_typed_names_a_source(tmp_path):
    lfw, faces = put(lfw_files(), tmp_path / "lfw"), make_crops(tmp_path / "my faces.v2")
    celeba = put(celeba_tables(), put(celeba_files(), tmp_path / "celeba", "img_align_celeba"))
    assert Named.parse(f"lfw={lfw}") == Named.parse(str(lfw)) == Named("lfw", str(lfw))
    assert Named.parse(f"celeba={celeba}") == Named.parse(str(celeba)) == Named("celeba", str(celeba))
    assert Named.parse(str(faces)) == Named("crops", str(faces))
    assert Named.parse(str(faces)).label == "my-faces"
    assert Named.parse("drawn") == Named("drawn", count=another_set.DRAWN)
    assert Named.parse("drawn=12") == Named("drawn", count=12)
    odd = make_crops(tmp_path / "a=b")
    assert Named.parse(str(odd)) == Named("crops", str(odd))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("drawn=0", "--data drawn=0: must be drawn or drawn=COUNT, at least 1"),
        ("drawn=many", "--data drawn=many: must be drawn or drawn=COUNT"),
        ("lfv=faces", "--data lfv=faces: unknown source lfv, the nearest is lfw"),
        ("lfw=nowhere", "--data lfw=nowhere: nowhere: no such folder or file"),
        ("lfw=", "--data lfw=: no path: no such folder or file"),
        ("nowhere", "--data nowhere: nowhere: no such folder or file"),
    ],
)
def test_what_is_typed_wrongly_is_one_line(tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        Named.parse(text)
    assert str(caught.value).startswith(line)


# Framing


@pytest.mark.parametrize(
    ("place", "picture", "wanted", "size", "stretched", "box"),
    [
        # a face of 100 pixels around (125, 120), to fill half of the height, its centre in the middle: 200 x 200 pixels
        ((0.5, 0.48, 0.4), (250, 250), (0.5, 0.5, 0.5), (64, 64), 1, (25, 20, 225, 220)),
        # with its centre at three fifths of the height: 20 pixels higher up
        ((0.5, 0.48, 0.4), (250, 250), (0.5, 0.6, 0.5), (64, 64), 1, (25, 0, 225, 200)),
        # portraits of 160 x 128: 200 pixels tall, 160 wide
        ((0.5, 0.48, 0.4), (250, 250), (0.5, 0.5, 0.5), (160, 128), 1, (45, 20, 205, 220)),
        # to the left of the middle of the crop, in pictures that are no squares
        ((0.5, 0.5, 0.25), (200, 100), (0.4, 0.5, 0.5), (10, 10), 1, (0, 50, 100, 150)),
        # faces that training squeezed to four fifths of their width come from boxes that are as much wider
        ((0.5, 0.48, 0.4), (250, 250), (0.5, 0.5, 0.5), (64, 64), 0.8, (0, 20, 250, 220)),
        # 286 pixels are more than there are: shrunk to the picture
        ((0.5, 0.48, 0.4), (250, 250), (0.5, 0.5, 0.35), (64, 64), 1, (0, 0, 250, 250)),
        # 50 pixels above the picture: moved down
        ((0.5, 0.2, 0.4), (250, 250), (0.5, 0.5, 0.5), (64, 64), 1, (25, 0, 225, 200)),
    ],
)
def test_boxes_worked_out_by_hand(place, picture, wanted, size, stretched, box):
    assert mapped(place, picture, wanted, size, stretched) == box


def test_a_mapped_box_undoes_any_other():
    """Faces that lie at ``wanted`` within a box are found again by that box."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        left, top, side = rng.integers(0, 60), rng.integers(0, 60), rng.integers(80, 130)
        x, y, width = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.7)
        place = ((left + x * side) / 210, (top + y * side) / 190, width * side / 190)
        assert mapped(place, (190, 210), (x, y, width), (32, 32)) == (left, top, left + side, top + side)


def scenes(count, box, height=230, width=250):
    """Drawn faces of another seed, each inside a grey picture, at ``box``."""
    left, top, right, bottom = box
    source, pictures = Drawn(count=count, seed=3), []
    for n in range(count):
        scene = np.full((height, width, 3), 128, np.uint8)
        scene[top:bottom, left:right] = source.read(n, (bottom - top, right - left))
        pictures.append(scene)
    return pictures


def test_drawn_faces_in_larger_pictures_are_cut_out_where_they_were_put():
    trained = Look.of(Sample.of(Drawn(count=64), (64, 64)), "none", (64, 64))
    box = (61, 47, 191, 177)
    sample = Sample(scenes(40, box))
    crop, look = alike.choose_crop(sample, trained, (64, 64), ["c150", "center"], boxes=True)
    found = [int(number) for number in crop.split("-")[1:]]
    assert np.abs(np.subtract(found, box)).max() <= 6
    assert differences(trained, look, 3) == []
    before = differences(trained, Look.of(sample, "center", (64, 64)), 3)
    assert len(before) == 1
    assert before[0].startswith("its faces are ")
    crop, _ = alike.choose_crop(sample, trained, (64, 64), ["center"], boxes=False)
    assert crop == "center"


def test_a_published_crop_that_frames_alike_is_kept():
    trained = Look.of(Sample.of(Drawn(count=64), (64, 64)), "none", (64, 64))
    sample = Sample(scenes(40, (60, 50, 190, 180)))  # the middle 130 pixels
    assert alike.choose_crop(sample, trained, (64, 64), ["c131", "center"], boxes=True)[0] == "c131"
    assert alike.choose_crop(sample, trained, (64, 64), ["c400", "c130"], boxes=True)[0] == "c130"


LOOK = Look((0.5, 0.5, 0.5), False, 0.5, 1.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"place": (0.5, 0.5, 0.6)}, "its faces are 60% of the height wide with the centre at 50% across, 50% down"),
        (
            {"place": (0.5, 0.54, 0.5)},
            "those of training 50% of the height wide with the centre at 50% across, 50% down",
        ),
        ({"place": None}, "too few frontal faces are found in its faces to compare how they are framed"),
        ({"grey": True}, "its pictures are grey and those of training in colour"),
        ({"enlarged": 2.0}, "its pictures are enlarged 2.0 times, those of training not at all"),
        ({"stretched": 1.2}, "its faces are stretched by 1.20 in width over height, those of training 1.00"),
    ],
)
def test_every_difference_is_named(changes, line):
    (found,) = differences(LOOK, replace(LOOK, **changes), 3)
    assert line in found
    assert differences(LOOK, LOOK, 3) == []


def test_small_differences_are_none_and_grey_runs_take_any_colour():
    assert differences(LOOK, replace(LOOK, place=(0.52, 0.49, 0.52), enlarged=1.2, stretched=1.03), 3) == []
    assert differences(LOOK, replace(LOOK, grey=True), 1) == []
    assert differences(replace(LOOK, enlarged=2.0), replace(LOOK, enlarged=2.2), 3) == []


# People and pictures of the training set


def sets(tmp_path):
    """Two sets of LFW's layout: one for training, and one that shares some people and two pictures with it."""
    trained = lfw_files(6)  # 12 pictures of Person_0 ... Person_5
    other = {f"Stranger_{n}/Stranger_{n}_0001.jpg": encode(picture(50 + n, 50, 50)) for n in range(5)}
    other["Person_1/Person_1_0007.jpg"] = encode(picture(90, 50, 50))
    other["PERSON 2/PERSON 2_0001.jpg"] = encode(picture(91, 50, 50))
    other["Stranger_0/Stranger_0_0002.jpg"] = trained["Person_3/Person_3_0001.jpg"]
    with_comment = encode(picture(list(trained).index("Person_5/Person_5_0002.jpg"), 50, 50), "JPEG", comment=b"x")
    other["Stranger_1/Stranger_1_0002.jpg"] = with_comment
    places = put(trained, tmp_path / "trained"), put(other, tmp_path / "other")
    built = [face_data(p, Lfw, cache=str(tmp_path / "c"), val_fraction=0.0, test_fraction=0.0) for p in places]
    for data in built:
        data.prepare()
    return built


def test_people_and_pictures_of_the_training_set_are_left_out(tmp_path):
    trained, other = sets(tmp_path)
    whole = all_faces(other, "train")
    judged, left = apart(whole, trained)
    assert left == LeftOut(people=2, faces_of_them=2, identical_pictures=2)
    assert sorted(judged.groups) == [f"Stranger_{n}" for n in range(5)]
    assert len(judged.places) == len(whole.places) - 4
    named_otherwise, left = apart(whole, trained, share_names=False)
    assert left == LeftOut(people=0, faces_of_them=0, identical_pictures=2)
    assert len(named_otherwise.places) == len(whole.places) - 2


def test_only_training_faces_count(tmp_path):
    trained, other = sets(tmp_path)
    trained.rows["train"] = np.array([row for row in trained.rows["train"] if trained.people[row] != "Person_1"])
    _, left = apart(all_faces(other, "train"), trained)
    assert left.people == 1


# The whole way


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A generator's run on drawn faces."""
    place = tmp_path_factory.mktemp("another")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        overrides = [*TINY, f"run_dir={place / 'gan'}"]
        assert training.train(config.compose(overrides), overrides) == 0
        yield place / "gan"


def evaluated(run, data, **asked):
    command.evaluate(replace(ASKED, run=run, data=data, **asked))
    return json.loads((run / f"evaluation-{Named.parse(data).label}.json").read_text())


def test_a_run_on_drawn_faces_of_other_people(run, capsys):
    result = evaluated(run, "drawn=40")
    said = capsys.readouterr().out
    assert said.startswith("all faces of drawn: 40 faces of 10 people, none of them in the training set; checkpoint")
    assert not (run / "evaluation.json").exists()
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["model", "mean face", next(n for n in rows if n.startswith("PCA")), FROM_TRAINING, HALVES]
    assert rows[FROM_TRAINING]["kind"] == rows[HALVES]["kind"] == "floor"
    data = result["data"]
    assert (data["split"], data["faces"], result["forced"]) == ("all", 40, [])
    assert data["left_out"] == {"people": 0, "faces_of_them": 0, "identical_pictures": 0}
    record = json.loads((run / "run.json").read_text())["data"]
    assert data["training"]["manifest"] == record["manifest"] != data["manifest"]
    assert data["protocol"] == data["training"]["protocol"]
    page = (run / "report.html").read_text()
    assert "Evaluation on other sets" in page
    assert HALVES in page


@pytest.mark.slow
def test_an_image_model_is_compared_with_baselines_of_its_own_training(run, tmp_path, monkeypatch):
    overrides = ["model=conv_superres", *FACES, *SMALL["conv_superres"], "trainer.max_images=8"]
    overrides += [f"run_dir={tmp_path / 'sr'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    result = evaluated(tmp_path / "sr", "drawn=20")
    assert [row["name"] for row in result["rows"]][:2] == ["model", "nearest"]
    assert result["protocols"]["psnr"]["images"] == 20
    module = checkpoint.load(tmp_path / "sr")
    fitted = config.build(module.config["data"])
    fitted.prepare()
    mean = fitted.images("train").mean(0)
    other = config.build(
        {**module.config["data"], "source": {**module.config["data"]["source"], "count": 20, "seed": 1}}
    )
    other.prepare()
    whole = torch.cat([other.images(split) for split in ("train", "val", "test")])
    found = next(row for row in result["rows"] if row["name"] == "mean face")["scores"]["mae"]["value"]
    assert found == pytest.approx(float((whole - mean).abs().mean() / 2), rel=1e-4)


def test_its_own_split(run):
    result = evaluated(run, "drawn=60", split="test")
    assert result["data"]["split"] == "test"
    assert result["data"]["faces"] == result["data"]["counts"]["test"] < 60


def test_a_folder_of_pictures_is_framed_as_the_run_or_refused(run, tmp_path, capsys):
    left, top, right, bottom = box = (61, 47, 191, 177)
    for n, scene in enumerate(scenes(30, box)):
        write(tmp_path / "scenes" / f"{n:03d}.png", encode(scene, "PNG"))
    result = evaluated(run, str(tmp_path / "scenes"), count=9)
    found = [int(number) for number in result["data"]["protocol"]["crop"].split("-")[1:]]
    assert np.abs(np.subtract(found, box)).max() <= 6
    assert any("People are not known" in note for note in result["notes"])
    for n, scene in enumerate(scenes(30, box)):
        tight = scene[top + 26 : bottom - 26, left + 26 : right - 26]
        write(tmp_path / "tight" / f"{n:03d}.png", encode(tight, "PNG"))
    with pytest.raises(BadInput, match=r"tight: its faces are .* those of training .*\. --force scores them"):
        evaluated(run, str(tmp_path / "tight"))
    result = evaluated(run, str(tmp_path / "tight"), force=True, count=9)
    assert len(result["forced"]) == 1
    assert result["verdict"][0].startswith("Forced, although its faces are ")
    assert "forced: comparable with no others" in capsys.readouterr().out
    assert "forced: comparable with no others" in (run / "report.html").read_text()


def test_two_folders_of_one_name_are_not_mixed_up(run, tmp_path):
    for n, scene in enumerate(scenes(12, (0, 0, 96, 96), 96, 96)):
        write(tmp_path / "a" / "faces" / f"{n:03d}.png", encode(scene, "PNG"))
        write(tmp_path / "b" / "faces" / f"{n:03d}.png", encode(scene[:, ::-1], "PNG"))
    evaluated(run, str(tmp_path / "a" / "faces"), force=True, count=6)
    evaluated(run, str(tmp_path / "a" / "faces"), force=True, count=6)
    with pytest.raises(BadInput, match="another set of this name"):
        evaluated(run, str(tmp_path / "b" / "faces"), force=True, count=6)
    evaluated(run, str(tmp_path / "b" / "faces"), force=True, count=6, overwrite=True)


def test_wrong_uses_are_one_line(run, tmp_path, monkeypatch, capsys):
    from faceforge import cli

    monkeypatch.chdir(tmp_path)
    put({f"{n}.png": encode(picture(n), "PNG")[:80] for n in range(4)}, tmp_path / "damaged")
    write(tmp_path / "empty" / "notes.txt", b"nothing")
    shutil.copytree(run, tmp_path / "broken")
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1] + b"x")
    shutil.copytree(run, tmp_path / "strange")
    (tmp_path / "strange" / "run.json").unlink()
    write(tmp_path / "out.json", b"{}")
    for words, line in (
        ([run, "--data", "lfv=faces"], "--data lfv=faces: unknown source lfv"),
        ([run, "--data", "nowhere"], "--data nowhere: nowhere: no such folder or file"),
        ([run, "--data", "empty"], "empty: no images"),
        ([run, "--data", "damaged"], "damaged: none of its pictures can be read"),
        ([run, "--data", "lfw=damaged"], "--data lfw=damaged: no Name/Name_0001.jpg"),
        ([run, "--force"], "--force: scores another set although its faces differ; name one with --data"),
        ([run, "--data", "drawn=9", "--out", "out.json"], "out.json: already exists; use --overwrite"),
        ([run, "--data", "drawn=2", "--split", "test"], "--data drawn: 1 different people"),
        ([tmp_path / "strange", "--data", "drawn=9"], "no run.json with its training data"),
        ([tmp_path / "broken", "--data", "drawn=9"], "damaged file"),
    ):
        monkeypatch.setattr(sys, "argv", ["faceforge", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        said = capsys.readouterr().err
        assert (ended.value.code, said.count("\n")) == (2, 1), said
        assert line in said


def test_a_set_of_training_people_alone_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    faces = put(lfw_files(12), tmp_path / "lfw")
    overrides = [*(word for word in TINY if "source" not in word), "data=lfw", f"data.root={faces}"]
    overrides += ["trainer.max_images=8", "data.test_fraction=0", "data.val_fraction=0", f"run_dir={tmp_path / 'run'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    with pytest.raises(BadInput, match="all 24 faces are of the training set"):
        command.evaluate(replace(ASKED, run=tmp_path / "run", data=f"lfw={faces}", force=True))


# Photographs


@pytest.mark.slow
@pytest.mark.real_faces
@pytest.mark.skipif(not REAL_FACES.is_dir(), reason="no photographs beside the checkout")
def test_a_run_on_lfw_is_scored_on_celeba_and_not_on_its_own_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    overrides = [*(word for word in TINY if "source" not in word and "size=8" not in word), "data=lfw"]
    overrides += [
        f"data.root={REAL_FACES / 'lfw_color'}",
        "data.crop=c150",
        "data.size=32",
        f"run_dir={tmp_path / 'run'}",
    ]
    assert training.train(config.compose(overrides), overrides) == 0
    result = evaluated(tmp_path / "run", f"celeba={REAL_FACES / 'celeba_small'}", count=200)
    assert result["forced"] == []
    assert result["data"]["protocol"]["crop"].startswith("box-")
    framing = result["data"]["framing"]
    assert np.abs(np.subtract(framing["here"]["place"], framing["training"]["place"])).max() < 0.03
    with pytest.raises(BadInput, match="its pictures are grey and those of training in colour"):
        evaluated(tmp_path / "run", f"lfw={REAL_FACES / 'lfw_gray'}", count=200)
    grey = evaluated(tmp_path / "run", f"lfw={REAL_FACES / 'lfw_gray'}", count=200, force=True)
    assert grey["data"]["left_out"]["people"] > 1000
