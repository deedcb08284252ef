"""`faceforge evaluate` from a trained run to its files, and what the protocol promises about faces and chunks."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from test_baselines import smooth
from test_every_pair import FACES, SMALL

from faceforge import config
from faceforge.data import tasks
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.evaluation import command, comparison, generated, images, kept, scoring
from faceforge.evaluation import judged as chosen
from faceforge.evaluation.baselines import Fitting
from faceforge.evaluation.command import Options
from faceforge.losses import Perceptual
from faceforge.metrics import table
from faceforge.metrics.features import FeatureMaps
from faceforge.metrics.features.squeezenet import SqueezeNetMaps
from faceforge.metrics.kid import KidMonitor
from faceforge.report import write_report
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.supervised import PairedScheme

LITE0 = "lite0-57934424-bicubic224"
ASKED = Options(Path(), "test", "best", None, 0, None, False, None, ())
PAIRED = ["model=conv_superres", *FACES, *SMALL["conv_superres"], "data.source.count=80", "trainer.max_images=16"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a generator's run, ``gan``, and an image model's, ``sr``."""
    place = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, overrides in (("gan", [*TINY, "data.source.count=120"]), ("sr", PAIRED)):
            overrides = [*overrides, f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
        yield place


def evaluated(run, **asked):
    command.evaluate(replace(ASKED, run=run, **asked))
    return json.loads((asked.get("out") or run / "evaluation.json").read_text())


def compared(result):
    return {key: value for key, value in result.items() if key not in ("created", "command")}


# The whole way


def test_an_image_model_from_run_to_table(runs, capsys):
    result = evaluated(runs / "sr")
    said = capsys.readouterr().out
    names = [row["name"] for row in result["rows"]]
    assert names[0] == "model"
    assert {"nearest", "bicubic -0.5", "Lanczos", "linear filter 7x7", "mean face"} <= set(names)
    scores = {"psnr", "ssim", "mae", "mse", "perceptual@squeezenet-f286bbf4-own64"}
    assert set(result["rows"][0]["scores"]) == set(result["protocols"]) == scores
    assert result["reasons"].pop("ciede2000") == "the targets are grey"
    assert set(result["reasons"]) == {"identity", "same_person"}
    assert set(result["beats_baselines"]) == set(result["protocols"])
    assert set(result["beats_baselines"].values()) <= {True, False, "unclear"}
    assert result["data"]["faces"] == result["data"]["counts"]["test"]
    made = {"factor": 2, "kernel": "mean", "input_factor": 2, "degrade": None}
    assert result["task"] == {"name": "super_resolution", **made}
    assert all(row["scores"]["psnr"]["low"] <= row["scores"]["psnr"]["value"] for row in result["rows"])
    for text in (*names, *result["verdict"], "PSNR", "CIEDE2000 is left out", "evaluation.json", "report.html"):
        assert text in said


def test_the_scores_are_those_of_the_checkpoint_on_the_test_split(runs):
    result = evaluated(runs / "sr")
    module = checkpoint.load(runs / "sr")
    data = config.build(module.config["data"])
    data.prepare()
    pair = data.pairs("test")
    errors = (module.predict(pair["input"]) - pair["target"]).double() / 2
    psnr = (-10 * errors.square().flatten(1).mean(1).log10()).mean()
    found = result["rows"][0]["scores"]
    assert found["psnr"]["value"] == pytest.approx(float(psnr), rel=1e-6)
    assert found["mae"]["value"] == pytest.approx(float(errors.abs().mean()), rel=1e-6)
    nearest = pair["input"].repeat_interleave(2, 2).repeat_interleave(2, 3)
    mae = float((nearest - pair["target"]).abs().mean() / 2)
    assert result["rows"][1]["scores"]["mae"]["value"] == pytest.approx(mae, rel=1e-6)
    digests = (runs / "sr" / "checkpoints" / "hashes.txt").read_text()
    assert result["checkpoint"]["sha256"] in digests


def test_a_self_ensemble_is_the_mean_over_mirrored_inputs_and_said(runs, tmp_path):
    result = evaluated(runs / "sr", self_ensemble=True, out=tmp_path / "both.json")
    module = checkpoint.load(runs / "sr")
    data = config.build(module.config["data"])
    data.prepare()
    pair = data.pairs("test")
    mirrored = torch.stack([face.flip(-1) for face in pair["input"]])
    outputs = (module.predict(pair["input"]) + module.predict(mirrored).flip(-1)) / 2
    errors = (outputs - pair["target"]).double() / 2
    found = result["rows"][0]["scores"]["psnr"]["value"]
    assert found == pytest.approx(float((-10 * errors.square().flatten(1).mean(1).log10()).mean()), rel=1e-6)
    assert found != evaluated(runs / "sr", out=tmp_path / "one.json")["rows"][0]["scores"]["psnr"]["value"]
    assert result["protocols"]["psnr"]["outputs"] == result["how"]["model"] == images.MIRRORED
    with pytest.raises(BadInput, match=r"--self-ensemble: .*gan makes nothing of an input"):
        evaluated(runs / "gan", self_ensemble=True)


def test_a_generator_from_run_to_table(runs, capsys):
    result = evaluated(runs / "gan", count=20)
    kinds = {row["name"]: row["kind"] for row in result["rows"]}
    assert kinds["model"] == "model"
    assert list(kinds.values()).count("baseline") == 2
    assert kinds["real faces of other people"] == "floor"
    assert all(row["faces"] == 20 for row in result["rows"])
    metrics = ("fid", "kid", "precision", "recall", "density", "coverage", "diversity")
    assert set(result["protocols"]) == {"swd", *(f"{metric}@{LITE0}" for metric in metrics)}
    assert result["protocols"][f"kid@{LITE0}"]["weights_sha256"]
    floor = result["rows"][-1]["scores"]
    for score in (f"kid@{LITE0}", f"fid@{LITE0}"):
        assert floor[score]["value"] < min(row["scores"][score]["value"] for row in result["rows"][:-1])
    assert "real faces of other people" in capsys.readouterr().out


def test_several_extractors_have_a_table_each_that_fits_a_terminal(runs, tmp_path, capsys):
    out = tmp_path / "both.json"
    result = evaluated(runs / "gan", count=12, out=out, features=("lite0:size=64", "squeezenet:size=64"))
    keys = ("lite0-57934424-bicubic64", "squeezenet-f286bbf4-bicubic64")
    assert {f"fid@{key}" for key in keys} <= set(result["rows"][0]["scores"])
    found = table.tables(result)
    assert [part.scores[0].partition("@")[2] for part in found] == list(keys)
    assert "swd" in found[0].scores
    assert "swd" not in found[1].scores
    said = capsys.readouterr().out
    for part in found:
        assert part.title in said
        assert max(map(len, table.lines(part))) <= table.WIDTH
        assert [line.split()[0] for line in table.lines(part) if line.startswith("model")] == ["model"] * 2
    assert "KID by squeezenet (" in said
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "evaluation.json").write_text(out.read_text())
    page = write_report(tmp_path / "run").read_text()
    assert all(part.title in page for part in found)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("lite", "--features lite: .*did you mean 'lite0'"),
        ("lite0:size=big", "--features lite0:size=big: .*size"),
        ("lite0:sise=64", "--features lite0:sise=64: .*did you mean"),
        ("lite0:64", "--features lite0:64: '64' must be KEY=VALUE"),
        ("lite0:size=8", "evaluation.features.*size=8: must be at least 32"),
        ("inception:weights=nowhere.pth", "weights=nowhere.pth: cannot be read"),
    ],
)
def test_a_wrong_extractor_is_one_line(runs, word, line):
    with pytest.raises(BadInput, match=line) as caught:
        evaluated(runs / "gan", count=4, features=(word,))
    assert "\n" not in str(caught.value)


def test_a_run_that_generates_nothing_uses_no_extractor(runs):
    with pytest.raises(BadInput, match=r"--features lite0: .*generates no faces"):
        evaluated(runs / "sr", features=("lite0",))


def test_a_run_s_own_extractor_scores_it(tmp_path, monkeypatch):
    """Both val/kid and `faceforge evaluate` follow evaluation/features; an older run has lite0's."""
    monkeypatch.chdir(tmp_path)
    own = ["evaluation/features=squeezenet", "evaluation.features.size=64", "evaluation.features.size_in_training=32"]
    overrides = [*TINY, "data.source.count=80", "model.val_samples=8", *own, f"run_dir={tmp_path / 'own'}"]
    seen = []
    monkeypatch.setattr(KidMonitor, "__call__", spied(KidMonitor.__call__, seen))
    assert training.train(config.compose(overrides), overrides) == 0
    assert {monitor.features.key for monitor in seen} == {"squeezenet-f286bbf4-bicubic32"}
    result = evaluated(tmp_path / "own", count=6)
    assert "kid@squeezenet-f286bbf4-bicubic64" in result["rows"][0]["scores"]
    module = checkpoint.load(tmp_path / "own")
    del module.config["evaluation"]
    assert [e.key for e in command._extractors(replace(ASKED, run=tmp_path / "own"), module)] == [LITE0]


def spied(call, seen):
    def spy(self, *given):
        seen.append(self)
        return call(self, *given)

    return spy


def test_missing_weights_are_said_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["evaluation/features=inception", "evaluation.features.weights=nowhere.pth"]
    overrides = [*TINY, *own, f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(BadInput, match=r"nowhere\.pth: cannot be read"):
        training.train(config.compose(overrides), overrides)
    assert not (tmp_path / "run").exists()


def test_a_score_by_the_network_of_the_training_loss_says_so():
    data = Faces(tasks.Autoencode(), smooth(24, 3, 8, 8))
    module, whole = Latent(), judged(data)
    module.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    plain = scoring.evaluate(module, whole, chosen.other_people(whole), 6, 0, lambda count: None)
    assert "trained_on" not in plain.rows[0]
    module.loss = Perceptual(SqueezeNetMaps())
    found = scoring.evaluate(module, whole, chosen.other_people(whole), 6, 0, lambda count: None)
    name = "perceptual@squeezenet-f286bbf4-own64"
    assert found.rows[0]["trained_on"] == [name]
    assert "training loss" in found.protocols[name]["caution"]
    assert any("perceptual by squeezenet" in note for note in found.notes)
    module.loss = Perceptual(FeatureMaps())  # the network of the usual perceptual loss
    found = scoring.evaluate(module, whole, chosen.other_people(whole), 6, 0, lambda count: None)
    assert "trained_on" not in found.rows[0]
    assert all(f"kid@{LITE0}" in row["trained_on"] for row in found.rows if row["name"].startswith("model, "))


def test_older_evaluations_are_read_under_the_names_of_today(tmp_path):
    cell = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = dict.fromkeys(("kid", "swd", "precision"), cell)
    rows = [{"name": "model", "kind": "model", "table": "generated", "scores": scores}, 7]
    rows.append({"name": "model", "kind": "model", "table": "images", "scores": {"perceptual": cell, "psnr": cell}})
    older = {"rows": rows, "protocols": {"kid": {"real": 9}}, "beats": {"kid": True}, "reasons": {"recall": "no"}}
    now = table.current(older)
    assert set(now["rows"][0]["scores"]) == {f"kid@{LITE0}", "swd", f"precision@{LITE0}"}
    assert set(now["rows"][2]["scores"]) == {"perceptual@lite0-57934424-own64", "psnr"}
    assert set(now["protocols"]) == set(now["beats"]) == {f"kid@{LITE0}"}
    assert set(now["reasons"]) == {f"recall@{LITE0}"}
    assert table.current(now) == now
    assert set(rows[0]["scores"]) == {"kid", "swd", "precision"}  # the file's own are left as they are
    images_, generated_ = table.tables(older)
    assert generated_.title.endswith("features of lite0 (weights 57934424, bicubic224)")
    assert images_.title.endswith("perceptual by lite0 (weights 57934424, own64)")
    (tmp_path / "evaluation.json").write_text(json.dumps(older))
    page = write_report(tmp_path).read_text()
    assert "features of lite0" in page
    assert "KID by lite0" in page


def test_what_each_face_contributed_is_kept_beside_the_scores(runs, tmp_path):
    for name, options in (("sr", {}), ("gan", {"count": 12})):
        out = tmp_path / f"{name}.json"
        result = evaluated(runs / name, out=out, **options)
        (kind, found), *more = kept.read(tmp_path / f"{name}.npz", result["kept"]).items()
        assert more == []
        data = config.build(checkpoint.load(runs / name).config["data"])
        data.prepare()
        rows = data.rows["test"]
        assert set(found.faces) <= {data.ids[row] for row in rows}
        assert len(found.faces) == len(found.people) == (12 if name == "gan" else len(rows))
        of_person = dict(zip(data.ids, data.people, strict=True))
        assert len({of_person[face] for face in found.faces}) == len(set(found.people))
        cells = {row["name"]: row["scores"] for row in result["rows"] if row["kind"] != "floor"}
        means = {key: part.mean() for key, part in found.values.items() if not key[2].startswith("without")}
        for (row, score, _), mean in means.items():
            assert mean == pytest.approx(cells[row][score]["value"], rel=1e-5)
        neighbours = {"precision", "recall", "density", "coverage"}
        assert {table.metric_of(score) for _, score, _ in found.values} == (
            {"psnr", "ssim", "mae", "mse", "perceptual"}
            if kind == "images"
            else {"fid", "kid", "diversity", *neighbours}
        )
        out.unlink()  # and the values alone are not overwritten either
        with pytest.raises(BadInput, match=rf"{name}\.npz: already exists"):
            evaluated(runs / name, out=out, **options)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_file(runs):
    first, again, other = (compared(evaluated(runs / "gan", count=8, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert compared(evaluated(runs / "sr", count=9)) == compared(evaluated(runs / "sr", count=9))


def test_the_report_shows_it_and_any_other_file_is_left_alone(runs, tmp_path):
    result = evaluated(runs / "sr")
    page = (runs / "sr" / "report.html").read_text()
    for text in ("Evaluation", "linear filter 7x7", *(line.split(" (")[0] for line in result["verdict"])):
        assert text in page
    before = (runs / "sr" / "evaluation.json").read_bytes()
    other = evaluated(runs / "sr", split="val", out=tmp_path / "val.json")
    assert other["data"]["split"] == "val"
    assert (runs / "sr" / "evaluation.json").read_bytes() == before
    with pytest.raises(BadInput, match="--overwrite"):
        evaluated(runs / "sr", out=tmp_path / "val.json")
    evaluated(runs / "sr", out=tmp_path / "val.json", overwrite=True)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"rows": [1, {"table": "images"}]}', '{"rows": 3}'])
def test_a_page_is_written_whatever_lies_there(runs, tmp_path, content):
    shutil.copytree(runs / "sr", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "run" / "evaluation.json").write_text(content)
    assert 'id="evaluation"' not in write_report(tmp_path / "run").read_text()


def test_few_faces_leave_out_what_needs_more(runs, tmp_path, capsys):
    result = evaluated(runs / "gan", count=2, out=tmp_path / "few.json")
    assert {f"{metric}@{LITE0}" for metric in ("kid", "fid", "precision")} <= set(result["reasons"])
    assert set(result["protocols"]) == {"swd"}
    assert "KID by lite0 is left out: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_summary_goes_into_the_run_s_own_wandb_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    overrides = [*PAIRED, f"run_dir={tmp_path / 'run'}", "logger.mode=offline"]
    assert training.train(config.compose(overrides), overrides) == 0
    before = json.loads((tmp_path / "run" / "run.json").read_text())["wandb"]
    result = evaluated(tmp_path / "run")
    after = json.loads((tmp_path / "run" / "run.json").read_text())["wandb"]
    assert after["id"] == before["id"]
    folders = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert [folder.resolve() for folder in folders] == [Path(after["folder"])]
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", after["folder"]]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = dict(line.split()[:2] for line in said.splitlines() if line.startswith("  ") and len(line.split()) > 1)
    assert float(found["test/psnr"]) == pytest.approx(result["rows"][0]["scores"]["psnr"]["value"])
    assert "val/mae" in found
    assert float(found["images"]) == 16


# What is wrong is one line


def refused(run, **asked):
    with pytest.raises(BadInput) as caught:
        evaluated(run, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_evaluated_is_one_line(runs, tmp_path):
    assert "no such run" in refused(tmp_path / "nothing")
    assert "--count 0" in refused(runs / "sr", count=0)
    shutil.copytree(runs / "sr", tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    assert "run.json" in refused(tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoints" / "best.ckpt"
    shutil.copy(runs / "sr" / "run.json", tmp_path / "run")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert "damaged" in refused(tmp_path / "run")


def test_another_set_of_faces_is_refused(runs, tmp_path):
    shutil.copytree(runs / "sr", tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["data"]["manifest"] = "f00d" * 16
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    said = refused(tmp_path / "run")
    assert "f00df00df00d" in said
    assert json.loads((runs / "sr" / "run.json").read_text())["data"]["manifest"][:12] in said


@pytest.mark.slow
def test_faces_that_moved_are_found_where_one_says(tmp_path, monkeypatch):
    from picture_makers import make_crops

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    faces = make_crops(tmp_path / "faces", 30)
    overrides = ["model=conv_superres", *FACES, *SMALL["conv_superres"], "data=crops", f"data.root={faces}"]
    overrides = [o for o in overrides if o != "data=drawn" and "source" not in o]
    overrides += ["trainer.max_images=8", f"run_dir={tmp_path / 'run'}"]
    assert training.train(config.compose(overrides), overrides) == 0
    shutil.move(faces, tmp_path / "elsewhere")
    said = refused(tmp_path / "run")
    assert str(faces) in said
    assert "--data-root" in said
    result = evaluated(tmp_path / "run", data_root=tmp_path / "elsewhere")
    assert result["data"]["source"] == "crops"
    overrides = [o for o in overrides if "run_dir" not in o and "data.root" not in o]
    overrides += [f"data.root={tmp_path / 'elsewhere'}", f"run_dir={tmp_path / 'none'}", "data.test_fraction=0"]
    assert training.train(config.compose(overrides), overrides) == 0
    assert "--split test" in refused(tmp_path / "none")


def test_the_command_line(runs, monkeypatch, capsys):
    from faceforge import cli

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return ended.value.code, capsys.readouterr()

    code, said = typed("no/such/run")
    assert (code, said.err) == (2, "faceforge: no/such/run: no such run folder or checkpoint\n")
    code, said = typed(runs / "sr", "-n", 5, "--split", "val", "--checkpoint", "last")
    assert code == 0
    assert said.out.startswith("val split of drawn: 5 faces of ")
    result = json.loads((runs / "sr" / "evaluation.json").read_text())
    assert result["command"] == f"faceforge evaluate {runs / 'sr'} -n 5 --split val --checkpoint last"
    assert result["checkpoint"]["name"] == "last"


# The protocol


class Faces:
    """A datamodule of tensors, whose faces belong to people of two each."""

    def __init__(self, task, faces):
        n = len(faces)
        self.task, self.faces, self.attributes, self.manifest = task, faces, None, "f00d"
        self.channels, self.height, self.width = faces.shape[1:]
        self.rows = {"train": np.arange(n // 2), "val": np.arange(0), "test": np.arange(n // 2, n)}
        self.counts = {name: len(rows) for name, rows in self.rows.items()}
        self.people = [f"p{row // 2}" for row in range(n)]
        self.packed_folder = Path(os.devnull) / "no folder"

    def summary(self):
        return {"source": "tensors", "manifest": self.manifest, "protocol_hash": "0"}

    def images(self, split, places):
        return self.faces[self.rows[split][places]]

    def pairs(self, split, places):
        faces, keys = self.images(split, places), torch.as_tensor(self.rows[split][places])
        made = self.task.input_for(faces, keys, "fixed")
        return {"target": faces, **({} if made is None else {"input": made})}


class Half(PairedScheme):
    """Gives half of its input; ``calls`` are the sizes it was asked for."""

    pure = True

    def __init__(self):
        super().__init__(torch.nn.Identity(), None, None, 0)
        self.calls = []

    def predict(self, inputs, averaged=True):
        self.calls.append(len(inputs))
        return 0.5 * inputs


def judged(data, split="test"):
    return chosen.all_faces(data, split)


def scored(data, module, chunk=None):
    done = []
    part = images.score_images(module, judged(data), Fitting(data, 0, 3), 0, done.append, chunk)
    assert sum(done) == data.counts["test"]
    return part


@pytest.mark.parametrize("task", [tasks.Colorize(3), pytest.param(tasks.Noise("normal", 0), marks=pytest.mark.slow)])
def test_scores_do_not_depend_on_chunks(task):
    data = Faces(task, smooth(18, 3, 11, 14))
    whole = scored(data, Half())
    for chunk in (1, 4):
        parts = scored(data, Half(), chunk)
        for row, other in zip(whole.rows, parts.rows, strict=True):
            for score, cell in row["scores"].items():
                assert other["scores"][score] == pytest.approx(cell, rel=1e-4, abs=1e-7)


def test_images_are_predicted_one_by_one_where_neighbours_would_matter():
    data, module = Faces(tasks.Autoencode(), smooth(12, 1, 8, 8)), Half()
    scored(data, module)
    assert module.calls == [6]
    module.pure, module.calls = False, []
    scored(data, module)
    assert module.calls == [1] * 6


def test_the_code_length_is_the_module_s():
    data, module = Faces(tasks.Autoencode(), smooth(20, 3, 8, 8)), Latent()
    part = scored(data, module)
    assert [row["name"] for row in part.rows] == ["model", "PCA 4", "mean face"]
    assert part.notes == ["Copying the input is left out: it would be perfect."]


def test_chosen_faces_are_a_keyed_part_and_others_are_other_people():
    data = Faces(tasks.NoInput(), smooth(40, 1, 8, 8))
    data.people[data.rows["train"][3]] = data.people[data.rows["test"][0]]  # a person in two splits
    data.people[data.rows["test"][5]] = None
    whole = judged(data)
    assert whole.people == 11  # 10 people, one of whose faces is nobody's
    some = whole.some(7, seed=0)
    assert len(some.places) == len(some.groups) == 7
    assert set(some.places) <= set(whole.places)
    assert np.array_equal(some.places, whole.some(7, seed=0).places)
    assert not np.array_equal(some.places, whole.some(7, seed=1).places)
    assert whole.some(99, seed=0) is whole
    others = chosen.other_people(whole)
    assert others.split == "train"
    assert list(others.places) == [n for n in range(20) if n != 3]
    assert not set(others.groups) & set(whole.groups)


class Latent(Half, Encodes):
    """An image model with codes of four numbers: means of the quarters of a face."""

    latent_size, code_range, has_prior = 4, None, True

    def encode(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.mean(1), 2).flatten(1)

    def decode(self, z):
        planes = torch.nn.functional.interpolate(z.unflatten(1, (1, 2, 2)), (8, 8))
        return planes.expand(-1, 3, -1, -1).clamp(-1, 1)


def test_a_latent_model_has_both_tables_and_a_row_for_each_density():
    data = Faces(tasks.Autoencode(), smooth(40, 3, 8, 8))
    module, whole, done = Latent(), judged(data), []
    module.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    part = scoring.evaluate(module, whole, chosen.other_people(whole), 12, 0, done.append)
    named = [(row["table"], row["name"]) for row in part.rows]
    assert named[:3] == [("images", "model"), ("images", "PCA 4"), ("images", "mean face")]
    assert [name for kind, name in named if kind == "generated"] == [
        *("model, prior", "model, gaussian", "model, mixture"),
        *("mean face", "PCA 19 Gaussian", "real faces of other people"),
    ]
    assert {name for _, name in named} - {"model", "real faces of other people"} == set(part.how)
    assert {"psnr", f"kid@{LITE0}", f"fid@{LITE0}"} <= set(part.beats)
    assert scoring.work(module, whole, 12) == sum(done)
    assert len(table.tables({"rows": part.rows})) == 2
    kids = {row["name"]: row["scores"][f"kid@{LITE0}"]["value"] for row in part.rows if row["table"] == "generated"}
    assert kids["model, prior"] > kids["model, gaussian"]
    best = min((name for name in kids if name.startswith("model")), key=kids.__getitem__)
    assert {line.split(": ")[0] for line in part.verdict if line.startswith("model, ")} == {best}


# The verdict


def row(name, kind, low, value, high, score="mae", **more):
    cell = {"value": value, "low": low, "high": high}
    return {"name": name, "kind": kind, "table": "images", "scores": {score: cell, **more}}


@pytest.mark.parametrize(
    ("score", "model", "expected"),
    [
        ("recall", (0.6, 0.7, 0.8), True),
        ("recall", (0.1, 0.2, 0.3), False),
        ("recall", (0.3, 0.5, 0.7), "unclear"),
        ("kid", (0.1, 0.2, 0.3), True),
        ("kid", (0.6, 0.7, 0.8), False),
        ("diversity", (0.6, 0.7, 0.8), "unclear"),
        ("swd", (None, 0.7, None), "unclear"),
    ],
)
def test_intervals_that_meet_decide_nothing(score, model, expected):
    baseline = {"low": 0.4, "value": 0.45, "high": 0.5}
    assert comparison.of_intervals(score, dict(zip(("low", "value", "high"), model, strict=True)), baseline) == expected


def test_the_verdict_names_the_best_baseline_and_both_figures():
    rows = [row("model", "model", 0.1, 0.2, 0.3), row("a", "baseline", 0, 0.5, 1), row("b", "baseline", 0, 0.4, 1)]
    assert comparison.best_baseline(rows, "mae") is rows[2]
    said = comparison.sentences(rows, rows[0], {"mae": True})
    assert said == ["Better than every baseline in MAE (0.2000 against 0.4000, b)."]


def test_one_face_repeated_is_no_rival_in_precision():
    once = row("mean", "baseline", 0, 1.0, 1, "precision", diversity={"value": 0.0})
    other = row("other", "baseline", 0, 0.3, 1, "precision", diversity={"value": 0.8})
    assert comparison.best_baseline([once, other], "precision") is other
    assert comparison.best_baseline([once], "precision") is None


def test_a_paired_difference_sees_what_intervals_do_not():
    """Each image a little better than the baseline, while people differ much more than that."""
    values = {"model": {"mae": np.arange(20) - 0.5}, "mean face": {"mae": np.arange(20) * 1.0}}
    who = images.Resamples([None] * 20, 0)
    rows = [
        images.image_row(name, "model" if name == "model" else "baseline", scores, who)
        for name, scores in values.items()
    ]
    assert rows[0]["scores"]["mae"]["high"] > rows[1]["scores"]["mae"]["low"]
    assert images._paired_flag(rows, values, "mae", who) is True


def test_columns_are_aligned_and_the_best_is_marked():
    rows = [row("model", "model", 0.1, 0.2, 0.3), row("a long name", "baseline", 0, 0.15, 1)]
    rows.append(row("real", "floor", 0.0, 0.01, 0.02))
    (found,) = table.tables({"rows": rows})
    assert table.lines(found) == [
        "                        MAE",
        "model                0.2000",
        "  95 %       0.1000..0.3000",
        "a long name          0.1500*",
        "real                 0.0100",
        "  95 %       0.0000..0.0200",
    ]


def test_a_score_that_is_no_number_is_nobody_s_best(tmp_path):
    """Neither in a table, nor of the densities of a code, nor in the report."""
    nan = float("nan")
    rows = [{"kind": "model", "scores": {"mae": {"value": value}}} for value in (nan, 0.5, 0.4)]
    assert table.Table("images", ["mae"], rows).best("mae") == 0.4
    found = [{"scores": {"kid": {"value": None}}}, {"scores": {}}, {"scores": {"kid": {"value": 0.1}}}]
    assert min(found, key=generated._kid_of) is found[2]
    best = {"metric": "val/mae", "mode": "min", "value": nan, "images": 4}
    (tmp_path / "run.json").write_text(json.dumps({"best": best}))
    assert "Best val/mae" not in write_report(tmp_path).read_text()
    (tmp_path / "run.json").write_text(json.dumps({"best": {**best, "value": 0.5}}))
    assert "Best val/mae" in write_report(tmp_path).read_text()
