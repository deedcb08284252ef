"""`faceforge audit` on runs of drawn faces: planted copies are found, the rest is not, and the sheet goes nowhere."""

import base64
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from test_every_pair import FACES, SMALL

from benchmarks.scores import audit as benchmark
from faceforge import config
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.evaluation.audit import command, memory, people, served, spaces
from faceforge.evaluation.audit.command import Options
from faceforge.evaluation.audit.people import Real
from faceforge.evaluation.audit.sheet import Trio, draw_sheet
from faceforge.evaluation.judged import all_faces
from faceforge.io.images import decode
from faceforge.metrics import copies
from faceforge.metrics.copies import Extracted, Pixels
from faceforge.report import write_report

ASKED = Options(Path(), "test", "best", None, 0, None, False, None, ())
GAN = [*TINY, "data.source.count=400", "data.size=16"]
PAIRED = ["model=conv_superres", *FACES, *SMALL["conv_superres"], "data.source.count=800", "trainer.max_images=16"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a generator's run, ``gan``, and an image model's, ``sr``."""
    place = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, overrides in (("gan", GAN), ("sr", PAIRED)):
            overrides = [*overrides, f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
        yield place


@pytest.fixture(autouse=True)
def _no_embedding(monkeypatch):
    """dlib's network takes tens of milliseconds a face, and is not installed everywhere."""

    def missing(device):
        raise BadInput("no face embedding is installed")

    monkeypatch.setattr(spaces, "face_embedding", missing)


@pytest.fixture(autouse=True)
def _few_divisions(monkeypatch):
    monkeypatch.setattr(copies, "DIVISIONS", 199)


@pytest.fixture
def in_pixels(monkeypatch):
    """Features take seconds."""
    monkeypatch.setattr(spaces, "all_spaces", lambda device, faces: ([Pixels()], {"copies by features": "not tried"}))


def faces_of(run):
    data = config.build(checkpoint.load(run).config["data"])
    data.prepare()
    return data


class Stub:
    """An extractor that is a function."""

    def __init__(self, extract):
        self.extract, self.protocol, self.key = extract, {"extractor": "stub"}, "stub"

    def __call__(self, images):
        return self.extract(images)


def audited(run, **asked):
    command.audit(replace(ASKED, run=run, **asked))
    return json.loads(((asked.get("out") or run / "audit") / "audit.json").read_text())


# The whole way


def test_a_generator_that_copies_is_found_out(runs, monkeypatch, capsys):
    data = faces_of(runs / "gan")
    copies = data.images("train", range(0, 60, 2))
    light = 0.8 * copies[10:20] + 0.1
    planted = torch.cat([copies[:10], light, copies[20:].flip(-1)])
    own = checkpoint.load(runs / "gan").sample(40, seed=0)
    monkeypatch.setattr(memory, "sampled", lambda module, data, count, seed: torch.cat([planted, own]))
    result = audited(runs / "gan", count=70)
    about = result["memorisation"]
    assert about["copies"] == 30
    assert {pair["face"] for pair in about["pairs"]} <= set(range(30))
    ids = [data.ids[row] for row in data.rows["train"]]
    for pair in about["pairs"]:
        assert pair["copy"]
        assert pair["files"]["training"] == ids[2 * pair["face"]]
        assert pair["files"]["held_out"] not in ids
    assert set(about["spaces"]) == {"pixels", "features"}
    assert all(space["protocol"] for space in about["spaces"].values())
    assert about["spaces"]["features"]["protocol"]["weights_sha256"]
    assert all(space["p"] < 0.01 for space in about["spaces"].values())
    said = capsys.readouterr().out
    assert "30 of 70 generated faces are copies of training faces" in said
    assert "1%" in said
    assert "sheet.png" in said
    sheet = decode((runs / "gan" / "audit" / "sheet.png").read_bytes())
    assert min(sheet.shape[:2]) > 500
    page = (runs / "gan" / "report.html").read_text()
    assert "30 of 70 generated faces are copies" in page


def test_a_generator_that_does_not_copy_is_believed(runs, in_pixels, capsys):
    result = audited(runs / "gan", count=100)
    assert result["memorisation"]["copies"] == 0
    assert "None of 100 generated faces is a copy" in capsys.readouterr().out
    assert result["reasons"] == {
        "copies by features": "not tried",
        "people by face embedding": "no face embedding is installed",
    }
    assert [pair["copy"] for pair in result["memorisation"]["pairs"]] == [False] * 20
    again = audited(runs / "gan", count=100)
    assert {k: v for k, v in again.items() if k not in ("created", "command")} == {
        k: v for k, v in result.items() if k not in ("created", "command")
    }


def test_an_image_model_is_compared_by_attribute(runs, capsys):
    result = audited(runs / "sr")
    (table,) = result["by_attribute"]
    data, module = faces_of(runs / "sr"), checkpoint.load(runs / "sr")
    pair = data.pairs("test")
    error = (module.predict(pair["input"]) - pair["target"]).abs().double().flatten(1).mean(1).numpy() / 2
    names, values = data.attributes
    rows = {(row["attribute"], row["score"]): row for row in table["rows"]}
    young = values[data.rows["test"], names.index("Young")]
    row = rows["Young", "mae"]
    assert row["with_it"] == pytest.approx(error[young == 1].mean(), rel=1e-5)
    assert row["without"] == pytest.approx(error[young == 0].mean(), rel=1e-5)
    assert row["low"] < row["difference"] < row["high"]
    assert {row["attribute"] for row in table["rows"]} | set(table["too_few"]) == set(names)
    assert not {row["attribute"] for row in table["rows"]} & set(table["too_few"])
    assert table["protocol"]["comparisons"] == len(table["rows"])
    said = capsys.readouterr().out
    assert "Too few people to compare (fewer than 10" in said
    assert not (runs / "sr" / "audit" / "sheet.png").exists()
    assert "memorisation" not in result


@pytest.mark.slow
def test_a_latent_editor_is_audited_as_generator_and_as_image_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    overrides = ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.source.count=240"]
    overrides += ["trainer.max_images=16", f"run_dir={tmp_path / 'run'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    result = audited(tmp_path / "run", count=40)
    assert [table["table"] for table in result["by_attribute"]] == ["images", "generated"]
    assert {row["score"] for row in result["by_attribute"][1]["rows"]} == {
        f"{name}@lite0-57934424-bicubic128" for name in ("coverage", "recall")
    }
    assert result["memorisation"]["generated"] == 40


# What stands on both sides


class Faces:
    """A datamodule of tensors with given people and splits."""

    def __init__(self, faces, people, splits):
        self.faces, self.people, self.ids, self.attributes = faces, people, [f"f{n}" for n in range(len(faces))], None
        self.channels, self.height, self.width = faces.shape[1:]
        self.rows = {name: np.flatnonzero(np.array(splits) == name) for name in ("train", "val", "test")}
        self.counts = {name: len(rows) for name, rows in self.rows.items()}
        self.cautions = []

    def images(self, split, places=None):
        rows = self.rows[split]
        return self.faces[rows if places is None else rows[np.asarray(places, dtype=np.int64)]]


def some_faces(count, size=48):
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    return (0.4 * torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")).clamp(-1, 1)


def test_near_duplicates_across_the_split_are_found_and_those_within_are_not():
    faces = some_faces(12)
    faces[8] = (0.9 * faces[1] + 0.02).clamp(-1, 1)  # test: of a training picture, a little darker
    faces[10] = faces[2].flip(-1)  # val: mirrored
    faces[3] = faces[4]  # both in training
    faces[9] = faces[11]  # both in test
    splits = ["train"] * 6 + ["test"] * 4 + ["val"] + ["test"]
    found = people.near_duplicates(Faces(faces, [None] * 12, splits))
    assert [(twin.training, twin.held_out, twin.split) for twin in found] == [(1, 8, "test"), (2, 10, "val")]
    grey = Faces(faces[:, :1], [None] * 12, splits)
    assert [(twin.training, twin.held_out) for twin in people.near_duplicates(grey)] == [(1, 8), (2, 10)]
    assert people.near_duplicates(Faces(faces, [None] * 12, ["train"] * 12)) == []


def test_people_on_both_sides_by_name_and_by_embedding():
    names = ["a", "a", "b", None, "a", "c", None, "b"]
    data = Faces(some_faces(8), names, ["train"] * 4 + ["val", "test", "test", "test"])
    assert people.named_on_both_sides(data) == ["a", "b"]
    directions = torch.nn.functional.normalize(torch.randn(5, 128, generator=torch.Generator().manual_seed(6)))
    who = [0, 0, 1, 2, 0, 3, 3, 1]
    noise = 0.01 * torch.randn(8, 128, generator=torch.Generator().manual_seed(7))
    embeddings = torch.nn.functional.normalize(directions[who] + noise)
    training = torch.tensor([True] * 4 + [False] * 4)
    assert people.alike_on_both_sides(embeddings, training) == [[0, 1, 4], [2, 7]]


def test_people_of_the_training_set_and_twins_are_not_held_out():
    data = Faces(some_faces(8), ["a", "a", "b", None, "a", "c", None, "d"], ["train"] * 4 + ["val"] + ["test"] * 3)
    real = Real.of(data, without=[7])
    assert real.rows.tolist() == [0, 1, 2, 3, 5, 6]
    assert real.training.tolist() == [True] * 4 + [False] * 2
    assert real.people.tolist() == [0, 0, 1, 2, 3, 4]
    assert torch.equal(torch.cat(list(real.chunks())), data.faces[real.rows])
    assert torch.equal(real.images(np.array([5, 0])), data.faces[[6, 0]])
    assert Real.of(data, held_out=["val"]).held_out.tolist() == []


def test_an_embedding_groups_people_in_the_command(runs, in_pixels, monkeypatch, capsys):
    def by_colour(images):
        return torch.nn.functional.normalize(torch.nn.functional.pad(images.mean((2, 3)) + 1, (0, 125)))

    monkeypatch.setattr(spaces, "face_embedding", lambda device: Stub(by_colour))
    result = audited(runs / "gan", count=20)
    found = result["both_sides"]["people_by_embedding"]
    assert found["protocol"] == {"extractor": "stub"}
    assert found["groups"]
    assert f"a face embedding takes for one person: {len(found['groups']):,}." in capsys.readouterr().out


def test_an_embedding_is_computed_once_and_has_norm_1():
    seen = []

    def network(images):
        seen.extend(images)
        return images.flatten(1)

    embedding = spaces.Embedding(Stub(network))
    images = torch.rand(3, 1, 2, 2)
    first = embedding(images[:2])
    assert torch.allclose(first.norm(dim=1), torch.ones(2))
    assert torch.equal(embedding(images[[2, 1, 0]])[1:], first.flip(0))
    assert len(seen) == 3
    assert embedding.protocol["extractor"] == "stub"


def test_embeddings_of_many_faces_are_left_out(monkeypatch):
    monkeypatch.setattr(spaces, "features", lambda device: Stub(torch.flatten))
    monkeypatch.setattr(spaces, "face_embedding", lambda device: Stub(torch.flatten))
    found, reasons = spaces.all_spaces(torch.device("cpu"), 2000)
    assert [space.name for space in found] == ["pixels", "features", "face embedding"]
    assert reasons == {}
    found, reasons = spaces.all_spaces(torch.device("cpu"), 2001)
    assert [space.name for space in found] == ["pixels", "features"]
    assert "2,001 real faces" in reasons["copies by face embedding"]


# Who is served worse


def test_groups_are_named_in_the_direction_that_is_worse():
    faces = [served.Gap("Hat", "psnr", 20.0, 22.0, -3, -1, -4.0), served.Gap("Hat", "mae", 0.2, 0.1, 0.05, 0.15, 6.0)]
    faces += [
        served.Gap("Young", "mae", 0.1, 0.12, -0.03, -0.01, -5.0),
        served.Gap("Male", "mae", 0.1, 0.1, -1, 1, 0.1),
    ]
    about = served.Served("images", 90, faces, {"Bald": (3, 87)}, {})
    said = served.sentences(about)
    assert said[0].startswith("Outputs for faces with Hat are served worse: MAE 0.2000 with it, 0.1000 without")
    assert said[1].startswith("Outputs for faces without Young are served worse: MAE 0.1000 with it, 0.1200 without")
    assert said[2:] == ["Too few people to compare (fewer than 10 with or without it): Bald (3)."]
    none = served.sentences(served.Served("images", 90, faces[3:], {}, {}))
    assert none == ["No group by 1 attributes is served worse than the other faces, as far as can be told."]
    assert "have no attributes" in served.sentences(served.Served("images", 90, [], {}, {}))[0]


def test_real_faces_that_a_generator_leaves_out_are_seen():
    """Half of the people have bright faces, which the generator never makes."""
    faces = 0.2 * some_faces(160)
    bright = np.arange(160) // 2 % 2 == 1
    faces[bright] += 0.7
    data = Faces(faces.clamp(-1, 1), [f"p{n // 2}" for n in range(160)], ["test"] * 160)
    data.attributes = (["Bright"], bright[:, None].astype(np.float32))

    small = Stub(lambda images: torch.nn.functional.adaptive_avg_pool2d(images, 3).flatten(1))
    judged = all_faces(data, "test")
    made = 0.2 * some_faces(400)[240:]
    values, how = served.of_generated(made, judged, small, torch.device("cpu"), lambda count: None)
    found = served.by_attribute(values, how, judged, "generated", seed=0)
    assert values["coverage@stub"][bright].mean() == 0
    assert {gap.attribute for gap in found.worse()} == {"Bright"}
    assert "Real faces with Bright are reached less often" in served.sentences(found)[0]


# The sheet


def test_the_sheet_shows_three_faces_a_row_and_marks_copies():
    black, grey, white = torch.full((1, 20, 16), -1.0), torch.zeros(1, 20, 16), torch.ones(1, 20, 16) * 0.9
    sheet = draw_sheet([Trio([black, grey, white], "pixels 0.1 / 0.5", "face 3: copy", True)] * 3, "Nearest pairs")
    tile = sheet[60:160]
    left = [int(np.median(tile[:, at : at + 80])) for at in (10, 110, 210)]
    assert left == [0, 128, 242]
    red = (sheet[..., 0].astype(int) - sheet[..., 1]) > 120
    assert red.any()
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet([], "nothing")


def test_the_sheet_stays_in_its_folder(runs, in_pixels, tmp_path, monkeypatch):
    """Report, W&B, an export for a model hub and git take neither the sheet nor the names of files."""
    from faceforge.engine.loggers.wandb_logger import Wandb
    from faceforge.studio.export import write_folder
    from faceforge.studio.model import open_model

    run = tmp_path / "run"
    shutil.copytree(runs / "gan", run)
    audited(run, count=20)
    sheet = (run / "audit" / "sheet.png").read_bytes()
    write_report(run)
    logger = Wandb(run, mode="offline", images_policy="all", run_id="replayed", resumed_at=10**9, kind="generated")
    logger.start()
    logger.finish()
    write_folder(open_model(run), tmp_path / "hub")
    pieces = [sheet[at : at + 48] for at in range(60, len(sheet) - 48, len(sheet) // 40)]
    coded = [base64.b64encode(piece)[4:-4] for piece in pieces]
    files = [path for path in [*run.rglob("*"), *(tmp_path / "hub").rglob("*")] if path.is_file()]
    others = [path for path in files if path.parent != run / "audit"]
    assert any("wandb" in path.parts for path in others)
    assert any(path.name == "report.html" for path in others)
    names = [
        pair["files"][kind]
        for pair in json.loads((run / "audit/audit.json").read_text())["memorisation"]["pairs"]
        for kind in ("training", "held_out")
    ]
    for path in others:
        content = path.read_bytes()
        assert not any(piece in content for piece in [*pieces, *coded]), path
        assert path.name != "sheet.png"
        if path.name == "report.html":
            assert not any(name.encode() in content for name in names)
    assert (run / "audit" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"said": [1]}', '{"said": {"Copies": 3}, "memorisation": {"spaces": 1}}']
)
def test_a_page_is_written_whatever_audit_lies_there(runs, tmp_path, content):
    shutil.copytree(runs / "sr", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "run" / "audit").mkdir(exist_ok=True)
    (tmp_path / "run" / "audit" / "audit.json").write_text(content)
    assert 'id="audit"' not in write_report(tmp_path / "run").read_text()


# Wrong uses


def refused(run, **asked):
    with pytest.raises(BadInput) as caught:
        audited(run, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(run, target, **data):
    shutil.copytree(run, target)
    record = json.loads((target / "run.json").read_text())
    record["data"] |= data
    (target / "run.json").write_text(json.dumps(record))
    return target


def test_wrong_uses_are_one_line(runs, tmp_path, monkeypatch):
    assert "no such run" in refused(tmp_path / "nothing")
    assert "--count 19: must be at least 20" in refused(runs / "gan", count=19)
    assert "f00d" in refused(changed(runs / "sr", tmp_path / "other", manifest="f00d" * 16))
    none = changed(runs / "sr", tmp_path / "none", counts={"train": 320, "val": 0, "test": 0})
    assert "no faces were held out" in refused(none)
    (tmp_path / "file").write_text("here")
    assert f"{tmp_path / 'file'}: cannot be written" in refused(runs / "sr", out=tmp_path / "file")
    out = tmp_path / "out"
    audited(runs / "sr", out=out)
    assert "--overwrite" in refused(runs / "sr", out=out)
    audited(runs / "sr", out=out, overwrite=True)
    (tmp_path / "other" / "run.json").unlink()
    assert "run.json" in refused(tmp_path / "other")
    monkeypatch.setattr(command, "Generates", type("Nothing", (), {}))
    assert "nothing to audit" in refused(runs / "gan")


def test_faces_that_are_gone_are_named(tmp_path, monkeypatch):
    from picture_makers import make_crops

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    faces = make_crops(tmp_path / "faces", 30)
    overrides = ["model=conv_superres", *FACES, *SMALL["conv_superres"], "data=crops", f"data.root={faces}"]
    overrides = [o for o in overrides if o != "data=drawn" and "source" not in o]
    overrides += ["trainer.max_images=8", f"run_dir={tmp_path / 'run'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    shutil.move(faces, tmp_path / "elsewhere")
    assert "--data-root" in refused(tmp_path / "run")
    result = audited(tmp_path / "run", data_root=tmp_path / "elsewhere")
    assert result["by_attribute"][0]["rows"] == []


def test_few_held_out_faces_leave_the_test_out(tmp_path, in_pixels, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    overrides = [*TINY, f"run_dir={tmp_path / 'run'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    result = audited(tmp_path / "run", count=20)
    assert "at least 30 are needed" in result["reasons"]["copies of training faces"]
    assert "Left out: copies of training faces" in capsys.readouterr().out


def test_the_command_line(runs, monkeypatch, capsys):
    from faceforge import cli

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", "audit", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return ended.value.code, capsys.readouterr()

    code, said = typed("no/such/run")
    assert (code, said.err) == (2, "faceforge: no/such/run: no such run folder or checkpoint\n")
    code, said = typed(runs / "sr", "-n", 30, "--split", "val", "--seed", 2)
    assert code == 0
    result = json.loads((runs / "sr" / "audit" / "audit.json").read_text())
    assert result["command"] == f"faceforge audit {runs / 'sr'} -n 30 --split val --seed 2"
    assert result["data"]["split"] == "val"
    assert result["by_attribute"][0]["faces"] == 30


# Planted copies


@pytest.mark.slow
def test_planted_copies_of_drawn_faces_are_found(tmp_path, monkeypatch):
    """The figure of the benchmark, on one small set and in pixels."""
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path))
    monkeypatch.setattr(benchmark, "PLANTED", 20)
    monkeypatch.setattr(benchmark, "STRANGERS", 60)
    monkeypatch.setattr(benchmark, "MADE", 60)
    drawn = benchmark.Set("drawn", ["data=drawn", "data.source.count=500", "data.size=32"], 1)
    found = benchmark.measure(drawn, tmp_path, [Pixels()])
    assert benchmark.holds({"drawn": found}), found
    worse = {**found, "alarms": {"strangers": {"hits": 1}}}
    assert not benchmark.holds({"drawn": worse})


def test_a_feature_space_compares_mirrored_faces():
    space = Extracted("columns", Stub(lambda images: images.mean((1, 2))), torch.device("cpu"))
    image = torch.rand(1, 3, 4, 5)
    assert torch.equal(space.query(image)[1], space.pool(image.flip(-1))[0])
    assert space.protocol["extractor"] == "stub"
