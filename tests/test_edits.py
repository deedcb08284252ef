"""Edits judged on a latent space made by hand, in which flips, leakage, identity and equal costs are known exactly."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from test_baselines import smooth
from test_evaluate import ASKED, Half
from test_every_pair import FACES, SMALL
from torch import nn

from benchmarks.models import edits as benchmark
from benchmarks.results import claims
from faceforge import config
from faceforge.data.sources import drawn
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.evaluation import command, predictors
from faceforge.evaluation.edits import board as boards
from faceforge.evaluation.edits import equal, identity, scoreboard, ways
from faceforge.evaluation.edits.curves import Faces, Judges, Point, curve
from faceforge.evaluation.edits.people import People, asked_for
from faceforge.evaluation.edits.ways import SHUFFLED, Editor, Way, ways_of
from faceforge.evaluation.predictors import Predictor
from faceforge.report.edits import Edits
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.latent_space import LatentSpace

RELU = (0.0, float("inf"))


class Quarters(Half, Encodes):
    """Codes of four numbers, the means of the quarters of a face; a decoder that is linear, and loses the rest."""

    latent_size, code_range = 4, None

    def encode(self, images):
        return nn.functional.adaptive_avg_pool2d(images.mean(1), 2).flatten(1)

    def decode(self, z):
        return nn.functional.interpolate(z.unflatten(1, (1, 2, 2)), (4, 4))


class Bright(nn.Module):
    """Sees attribute n where quarter n is brighter than the middle."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)[:, :3]


class Unlike:
    """One minus the mean change of a value: an identity that can be worked out by hand."""

    @property
    def protocol(self):
        return {"metric": "one minus the mean change"}

    def similarity(self, before, after):
        return 1 - (after - before).abs().flatten(1).mean(1)


SEES = Predictor(("A", "B", "C"), Bright(), (0, 1, 2))
JUDGES = Judges(SEES, Unlike())
FIRST = [-0.7, -0.4, -0.1, 0.2]  # the first quarter of four faces: three lack A


def faces_of(firsts=FIRST, second=-0.2, texture=0.0, sign=1, **more):
    """Faces (N, 1, 4, 4) with these first quarters, all other quarters ``second``."""
    z = torch.full((len(firsts), 4), second)
    z[:, 0] = torch.tensor(firsts)
    images = Quarters().decode(z)
    images[:, :, ::2] += texture
    images[:, :, 1::2] -= texture
    editor = Editor(Quarters())
    return editor, Faces.of(editor, JUDGES, "A", images, [f"p{n}" for n in range(len(images))], sign=sign, **more)


def way(step, name="mine", **more):
    return Way(name, {"A": torch.tensor(step)}, None, **more)


def means(points, measure):
    return [float(np.nanmean(point.values[measure])) for point in points]


# ------------------------------------------------------------------------------------------------ known exactly


def test_flips_are_of_faces_that_lack_the_attribute_and_get_it():
    editor, faces = faces_of()
    points = curve(editor, JUDGES, faces, way([1.0, 0, 0, 0]), (0.0, 0.25, 0.5, 0.75))
    assert np.isnan(points[0].values["flips"]).tolist() == [False, False, False, True]
    assert means(points, "flips") == [0, 1 / 3, 2 / 3, 1]
    assert means(points, "leakage") == [0, 0, 0, 0]
    assert means(points, "change") == pytest.approx([0, 0.25 / 8, 0.5 / 8, 0.75 / 8])  # of a quarter, in [0, 1]
    assert means(points, "identity") == pytest.approx([1, 1 - 0.25 / 4, 1 - 0.5 / 4, 1 - 0.75 / 4])


def test_an_attribute_is_also_taken_away():
    editor, faces = faces_of([0.9, 0.4, 0.1, -0.2], sign=-1)
    points = curve(editor, JUDGES, faces, way([1.0, 0, 0, 0]), (0.0, 0.25, 0.5, 1.0))
    assert means(points, "flips") == [0, 1 / 3, 2 / 3, 1]


def test_leakage_counts_the_other_attributes_that_change():
    editor, faces = faces_of()
    points = curve(editor, JUDGES, faces, way([1.0, 0.5, 0.1, 0]), (0.0, 0.3, 0.5, 3.0))
    assert means(points, "leakage") == [0, 0, 0.5, 1]  # B from strength 0.4, C from 2
    assert points[2].others == {"B": 1.0, "C": 0.0}
    alone = replace(JUDGES, predictor=SEES.only(["A"]))
    faces = replace(faces, seen=faces.seen[:, :1])
    assert "leakage" not in curve(editor, alone, faces, way([1.0, 0.5, 0, 0]), (1.0,))[0].values


def test_edited_faces_keep_what_their_codes_lose():
    editor, faces = faces_of(texture=0.05)
    z = way([0.3, 0, 0, 0]).edit(faces.z, "A", 1.0)
    kept = editor.after(faces.images, faces.plain, z)
    assert torch.allclose(kept[:, :, :2, :2], faces.images[:, :, :2, :2] + 0.3)
    assert torch.allclose(kept[:, :, 2:], faces.images[:, :, 2:])
    plain = Editor(Quarters(), details=False)
    assert torch.equal(plain.after(faces.images, faces.plain, z), Quarters().decode(z))
    assert plain.before(faces.images, faces.plain) is faces.plain


def test_an_edit_stays_where_its_attribute_shows():
    """A step that changes the first quarter a lot and all the others a little leaves the others alone."""
    editor, faces = faces_of()
    step = replace(way([0.4, 0.01, 0.01, 0.01]), examples=torch.zeros(3, 4))
    mask = step.mask(editor, "A")
    everywhere, there = (editor.after(faces.images, faces.plain, step.edit(faces.z, "A", 1.0), m) for m in (1.0, mask))
    apart = (everywhere - faces.images)[..., -1, -1].abs(), (there - faces.images)[..., -1, -1].abs()
    assert apart[0].min() > 0.009
    assert apart[1].max() < 1e-6
    assert torch.allclose(there[..., 0, 0], everywhere[..., 0, 0], atol=1e-6)
    assert way([1.0, 0, 0, 0]).mask(editor, "A") == step.mask(Editor(Quarters(), details=False), "A") == 1.0


def test_the_truth_is_the_judge_where_it_can_be_painted():
    editor, faces = faces_of([-0.5])
    truth = faces.images.clone()
    truth[:, :, :2, :2] += 0.4
    hidden = faces_of([-0.5], truth=faces.images)[1]
    found = curve(editor, JUDGES, replace(faces, truth=truth), way([0.4, 0, 0, 0]), (0.0, 0.5, 1.0, 2.0))
    assert means(found, "nearer") == pytest.approx([0, 0.025, 0.05, 0])  # of 0.05, the change of a quarter by 0.2
    assert means(found, "gain")[1] == pytest.approx(20 * np.log10(2), abs=1e-4)
    assert means(found, "gain")[3] == pytest.approx(0, abs=1e-4)
    assert np.isnan(curve(editor, JUDGES, hidden, way([0.4, 0, 0, 0]), (1.0,))[0].values["gain"]).all()


def costing(slope, count=3, **values):
    """Points whose similarity falls by ``slope`` for each unit of strength, and that flip the square of it."""
    made = []
    for strength in (0.0, 1.0, 2.0, 3.0):
        own = {"identity": np.full(count, 1 - slope * strength), "flips": np.full(count, (strength / 3) ** 2)}
        made.append(Point(strength, own, {"B": strength / 10}, strength + 1))
    return made


def test_ways_are_compared_where_they_cost_the_same():
    curves = {"dear": costing(0.2), "cheap": costing(0.1), "idle": costing(0.001)}
    cost, idle = equal.common_cost(curves)
    assert (cost, idle) == (pytest.approx(0.3), ["idle"])
    dear, cheap = (equal.at_cost(curves[name], cost) for name in ("dear", "cheap"))
    assert (dear.strength, cheap.strength) == pytest.approx((1.5, 3))
    assert dear.values["flips"] == pytest.approx([(1 / 9 + 4 / 9) / 2] * 3)  # between the two strengths beside it
    assert cheap.values["flips"] == pytest.approx([1] * 3)
    assert (dear.kid, dear.others["B"]) == pytest.approx((2.5, 0.15))
    for found in (dear, cheap):
        assert equal.cost_of(found) == pytest.approx(cost)
    with pytest.raises(ValueError, match=r"no strength costs 0\.7"):
        equal.at_cost(curves["dear"], 0.7)


def board_of(**missing):
    """Attributes of three faces of three people, edited by ``dear``, ``cheap`` and a control; some lack a way."""
    ways = [Way("dear", {}, None), Way("cheap", {}, None), Way(SHUFFLED, {}, None, control=True)]
    found = boards.Board(SimpleNamespace(), JUDGES, ways, {}, 0, {})
    for name, left_out in missing.items():
        curves = {"dear": costing(0.2), "cheap": costing(0.1), SHUFFLED: costing(0.3)}
        found.add(name, {way: points for way, points in curves.items() if way != left_out}, ["p", "q", "r"], 0.5)
    return found


def test_the_best_way_at_equal_cost_is_named_with_the_others():
    board = board_of(A=None, B=None)
    said = boards.verdict(board)
    assert said[0] == (
        f"At equal similarity of faces, cheap flips most predictors of 2 attributes: 100% of faces "
        f"(dear 28%, {SHUFFLED} 11%)."
    )
    assert said[1] == "cheap is better than dear (flips +72.2% to +72.2%, 95 % over people)."
    rows = {row["name"]: row for row in boards._rows(board)}
    assert [row["kind"] for row in rows.values()] == ["model", "model", "baseline", "floor", "floor"]
    assert rows["dear"]["scores"]["flips"]["value"] == pytest.approx((1 / 9 + 4 / 9) / 2)
    assert rows["dear"]["scores"]["identity"]["value"] == pytest.approx(0.7)
    assert [rows[name]["scores"]["kid"]["value"] for name in ("no edit", "real faces with it")] == [1, 0.5]


def test_where_a_way_has_no_direction_most_of_the_rest_is_compared():
    few = board_of(A=None, B="cheap")
    names, ways = few.compared
    assert (names, [way.name for way in ways]) == (["A", "B"], ["dear", SHUFFLED])
    assert few.reasons == {"B, cheap": "no direction of this kind was found"}
    many = board_of(A=None, B=None, C=None, D="cheap")
    names, ways = many.compared
    assert (names, len(ways)) == (["A", "B", "C"], 3)


def test_without_a_face_embedding_the_cost_is_the_change_of_pixels():
    editor, faces = faces_of()
    points = curve(editor, Judges(SEES), faces, way([1.0, 0, 0, 0]), (0.0, 0.8))
    assert "identity" not in points[0].values
    assert [equal.cost_of(point) for point in points] == pytest.approx([0, 0.1])


class Halved(nn.Module):
    """Half the mean change, for at most 64 pairs at a time."""

    @property
    def protocol(self):
        return {"extractor": "half"}

    def forward(self, before, after):
        assert len(before) <= 64
        return 1 - (after - before).abs().flatten(1).mean(1) / 2


def test_identity_is_measured_in_parts_or_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr(identity, "Similarity", Halved)
    found, why = identity.face_identity(torch.device("cpu"), 64)
    before = torch.zeros(150, 1, 3, 5)
    steps = torch.arange(150.0) / 150
    assert torch.allclose(found.similarity(before, before + steps[:, None, None, None]), 1 - steps / 2)
    assert (found.protocol["extractor"], why) == ("half", None)

    def missing():
        raise BadInput("identity: not installed")

    monkeypatch.setattr(identity, "Similarity", missing)
    assert identity.face_identity(torch.device("cpu"), 64) == (None, "identity: not installed")


# ----------------------------------------------------------------------------------------------------------- ways


def coded(count=60, seed=0):
    """Codes (N, 4), and labels of two correlated attributes of which the first is unknown for one face."""
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((count, 4))
    labels = np.stack([codes[:, 0] > 0, codes[:, 0] + codes[:, 1] > 0.3], axis=1).astype(np.float32)
    labels[5, 0] = np.nan
    return codes, labels


@pytest.mark.parametrize("code_range", [None, RELU])
def test_every_kind_of_edit_is_a_way_and_moves_codes_as_the_space_does(code_range):
    codes, labels = coded()
    codes = codes if code_range is None else np.abs(codes)
    found = ways_of(codes, code_range, ("A", "B"), labels, 0)
    assert [way.name for way in found] == ["mean difference", "logistic", "orthogonalised", SHUFFLED]
    assert [way.control for way in found] == [False, False, False, True]
    space = LatentSpace.of_codes(codes, code_range, (("A", "B"), labels), {"seed": 0})
    z = torch.from_numpy(codes[:7]).float()
    for way in found[:3]:
        edited = space.edit(z, {"B": 1.5}, way.name.replace(" ", "_"))
        assert torch.equal(way.edit(z, "B", 1.5), edited)


def test_a_logistic_direction_that_is_the_mean_difference_is_no_way_of_its_own():
    codes, labels = coded()
    labels[:, 1] = labels[:, 0]
    space = LatentSpace.of_codes(codes, None, (("A", "B"), labels), {"seed": 0})
    without = replace(space, made={**space.made, "without_logistic": ["B"]})
    assert set(ways._own(without, "logistic")) == {"A"}
    assert set(ways._own(without, "mean_difference")) == {"A", "B"}


def test_shuffled_directions_are_as_long_as_the_true_ones_and_mean_nothing():
    codes, labels = coded(4000)
    true, *_, control = ways_of(codes, None, ("A", "B"), labels, 0)
    for name in ("A", "B"):
        a, b = true.directions[name], control.directions[name]
        assert b.norm() == pytest.approx(float(a.norm()), rel=1e-5)
        assert not torch.allclose(a, b, atol=0.1)
    codes[:, 1:] = np.random.default_rng(1).standard_normal((4000, 3))
    assert true.directions["A"].abs().argmax() == 0


# ------------------------------------------------------------------------------------------------------ predictors


def patched(count=300, side=9, seed=0):
    """Noise with a bright patch in the middle of half of the images, and a second attribute that is unknown."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 0.2, (count, 1, side, side)).astype(np.float32)
    labels = np.full((count, 2), np.nan, np.float32)
    labels[:, 0] = rng.random(count) < 0.5
    labels[:20, 1] = labels[:20, 0]
    third = side // 3
    images[labels[:, 0] == 1, :, third : 2 * third, third : 2 * third] += 0.7
    return torch.from_numpy(images), labels


def test_a_predictor_learns_what_it_is_shown():
    images, labels = patched()
    before = torch.random.get_rng_state()
    found = predictors.fit(("patch", "rare"), images, labels, 0, torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    unseen, true = patched(100, seed=1)
    seen = found(unseen)
    assert predictors.balanced_accuracy(seen[:, 0], true[:, 0]) > 0.95
    assert np.array_equal(found.only(["rare"])(unseen)[:, 0], seen[:, 1])
    again = predictors.fit(("patch", "rare"), images, labels, 0, torch.device("cpu"))
    assert np.array_equal(again(unseen), seen)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 33)])
def test_a_predictor_takes_any_size(size):
    assert predictors.build(3, 2).eval()(torch.zeros(1, 3, *size)).shape == (1, 2)


def test_balanced_accuracy_by_hand():
    seen = np.array([True, False, False, False, True])
    labels = np.array([1, 1, 0, 0, np.nan])
    assert predictors.balanced_accuracy(seen, labels) == 0.75  # half of those with, all of those without
    assert predictors.balanced_accuracy(np.zeros(100, bool), np.arange(100) < 3) == 0.5
    assert np.isnan(predictors.balanced_accuracy(seen, np.ones(5)))


# --------------------------------------------------------------------------------------------------------- people


def data_of(count=400, share=0.5, split=(0.6, 0.2)):
    """Faces of people of two each, with an attribute of a share of them, one of half, and one that is a number."""
    first, second = (round(count * s) for s in (split[0], sum(split)))
    rows = {"train": np.arange(first), "val": np.arange(first, second), "test": np.arange(second, count)}
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(count) < share, rng.random(count) < 0.5, rng.random(count) * 9], 1).astype(np.float32)
    images = smooth(count, 1, 8, 8)
    return SimpleNamespace(
        rows=rows,
        attributes=(["rare", "common", "number"], values),
        people=[f"p{n // 2}" for n in range(count)],
        pictures=lambda rows: images[rows],
        changed=lambda rows, name: None,
    )


def test_nobody_is_in_two_of_the_three_sets():
    data = data_of()
    data.people[data.rows["test"][0]] = data.people[0]  # an official split may share people
    found = People.of(data, "test", 0)
    sets = [{data.people[row] for row in rows} for rows in (found.editor, found.teachers, found.edited)]
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]
    assert set(data.rows["val"]) <= set(found.teachers)
    assert abs(len(found.editor) - 120) <= 2
    assert found.about()["predictors"]["people"] == len(sets[1])
    number = found.column("number", np.arange(400))
    assert set(np.unique(number)) == {0, 1}
    assert number[data.rows["train"]].mean() == 0.5  # above the median of the training faces
    assert not set(People.of(data, "val", 0).teachers) & set(data.rows["val"])


def test_what_cannot_be_judged_is_one_line():
    found = People.of(data_of(share=0.05), "test", 0)
    names, reasons = asked_for(found, ["all"])
    assert names == ["common", "number"]
    assert list(reasons) == ["rare"]
    assert "must be at least 20 of each" in reasons["rare"]
    with pytest.raises(BadInput, match=r"^--edits rare: \d test faces have it and \d\d lack it; must be at least 20"):
        asked_for(found, ["rare"])
    with pytest.raises(BadInput, match=r"^--edits comon: no such attribute; did you mean common\?$"):
        asked_for(found, ["comon"])
    with pytest.raises(BadInput, match=r"^--edits zz: no such attribute; known are rare, common, number, or all$"):
        asked_for(found, ["zz"])
    with pytest.raises(BadInput, match="--split train"):
        People.of(data_of(), "train", 0)
    with pytest.raises(BadInput, match=r"have no attributes; train with data\.attributes=CSV"):
        People.of(SimpleNamespace(attributes=None), "test", 0)
    with pytest.raises(BadInput, match=r"no codes to edit; a run of model=latent_editor has"):
        scoreboard.checked(Half(), data_of(), "test", "all", 0)


# ----------------------------------------------------------------------------------------------------------- drawn


def test_a_drawn_face_changes_by_one_cause():
    source = drawn.Drawn(count=40)
    assert set(drawn.CAUSES) <= set(source.attributes()[0])
    for name, cause in drawn.CAUSES.items():
        columns = {key: np.array([value]) for key, value in {**source.factors(3), **cause}.items()}
        assert bool(drawn._attributes(columns)[name][0]) or source.factors(3)["hair_style"] == 0, name
    glasses = source.changed(3, "Eyeglasses", (32, 32))
    right = drawn.paint({**source.factors(3), "eyeglasses": 1.0, "sunglasses": 0.0}, (32, 32))
    assert np.array_equal(glasses, right)
    assert not np.array_equal(glasses, source.read(3, (32, 32)))


def test_faces_are_painted_again_as_they_were_packed(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path))
    words = [*TINY, "data.channels=1", "data.size=16", "data.crop=center"]
    data = config.build(config.compose(words)["data"])
    data.prepare()
    rows = data.rows["test"][:3]
    assert data.changed(rows, "Young") is None
    found = data.changed(rows, "Wearing_Hat")
    assert found.shape == (3, 1, 16, 16)
    having = [n for n, row in enumerate(rows) if data.attributes[1][row, data.attributes[0].index("Wearing_Hat")]]
    assert torch.equal(found[having], data.pictures(rows)[having])
    assert torch.equal(data.pictures(rows), data.images("test", range(3)))


# -------------------------------------------------------------------------------------------------- the whole way

LATENT = [
    *("model=latent_editor", *FACES, *SMALL["latent_editor"], "data.source.count=400"),
    *("data.batch_size=16", "trainer.max_images=800", "trainer.sample_every=800", "trainer.checkpoint_every=800"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("edits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        overrides = [*LATENT, f"run_dir={place / 'run'}"]
        assert training.train(config.compose(overrides), overrides) == 0
        yield place / "run"


def test_edits_from_run_to_report(run, monkeypatch, capsys):
    for module in (boards, scoreboard):
        monkeypatch.setattr(module, "TRUSTED", 0.0)  # a few hundred faces of 16x16 teach little
    for module in ("curves", "scoreboard"):
        monkeypatch.setattr(f"faceforge.evaluation.edits.{module}.STRENGTHS", (0.0, 1.0, 3.0))
    command.evaluate(replace(ASKED, run=run, count=16, edits="Smiling"))
    said = capsys.readouterr().out
    found = json.loads((run / "evaluation.json").read_text())["edits"]
    assert set(found["curves"]) == {"Smiling"}
    assert found["reasons"] == {"identity": "needs 32 pixels a side, the faces have 16"}
    assert {"Smiling", "Male", "Young"} <= set(found["predictors"])
    named = [row["name"] for row in found["rows"]]
    assert named == ["mean difference", "logistic", "orthogonalised", SHUFFLED, "no edit", "real faces with it"]
    curves = found["curves"]["Smiling"]
    assert curves["logistic"]["strength"] == [0, 1, 3]
    assert curves["logistic"]["flips"][0] == curves["logistic"]["change"][0] == 0
    assert all(len(curves[way]["kid"]) == 3 for way in named[:4])
    assert curves["logistic"]["gain"][0] == 0
    changes = [row["scores"]["change"]["value"] for row in found["rows"][:4]]
    assert changes == pytest.approx([changes[0]] * 4)  # at equal cost
    faces = found["protocol"]["faces"]
    assert faces["directions"]["people"] + faces["predictors"]["people"] + faces["edited"]["people"] == 100
    for text in (
        "Edits of faces at equal cost",
        SHUFFLED,
        found["verdict"][0],
        "Edits, identity is left out: needs 32 pixels",
    ):
        assert text in said
    page = (run / "report.html").read_text()
    for text in (
        'id="edits"',
        "On-target flips against strength",
        found["verdict"][0].split(" (")[0],
        "How edits were",
    ):
        assert text in page


def test_wrong_words_are_refused_before_anything_is_scored(run, monkeypatch, capsys):
    from faceforge import cli

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", "evaluate", str(run), *words])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return ended.value.code, capsys.readouterr().err

    assert typed("--edits", "Smilling") == (
        2,
        "faceforge: --edits Smilling: no such attribute; did you mean Smiling?\n",
    )
    code, said = typed("--edits", "Bald")
    assert code == 2
    assert said.startswith("faceforge: --edits Bald: ")
    assert said.count("\n") == 1
    assert typed("--edits", "all", "--split", "train")[0] == 2
    code, said = typed("--edits", "Smiling", "--data", "lfw=somewhere")
    assert (code, said) == (2, "faceforge: --edits: is judged on the run's own people; must be without --data\n")


def test_the_benchmark_of_glasses_writes_what_the_claims_read(run):
    record, grid = benchmark.edit_glasses(run)
    assert grid.shape == (4 * benchmark.SHOWN, 3, 16, 16)
    [claim] = claims._glasses(SimpleNamespace(others={"latent_edits_glasses": record}))
    assert claim.verdict in ("holds", "does not hold")
    old = json.loads((benchmark.records.RECORDS / "latent_edits_glasses.json").read_text())
    assert record.keys() <= old.keys()
    assert record["directions"].keys() == old["directions"].keys()


def test_the_benchmark_of_smiles_writes_what_the_claims_read():
    editor = Editor(Quarters(), details=False)
    images = faces_of()[1].images
    judge = Predictor(("Smiling",), Bright(), (0,))
    ways = [Way(name, {"Smiling": torch.tensor([1.0, 0, 0, 0])}, None) for name in ("mean difference", SHUFFLED)]
    found = list(benchmark.flips(editor, judge, images, ways, 1))
    first = next(row for row in found if row["strength"] == 0.5)
    assert (first["hits"], first["total"], first["cost"]) == (2, 3, pytest.approx(0.5 / 8))
    old = json.loads((benchmark.records.RECORDS / "latent_edits_smiles.json").read_text())
    assert set(first) == set(next(iter(old["runs"].values()))["edits"][0])
    assert claims._flipped("run", "smile", found).verdict == "does not hold"  # both ways are the same


def test_the_commands_of_the_page_are_understood():
    import typer

    from faceforge import cli

    text = (ROOT / "docs" / "edits.md").read_text()
    lines = [line.split() for line in re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].splitlines()]
    trained, judged = (next(words for words in lines if words[0] == first) for first in ("python", "faceforge"))
    assert config.check_overrides(trained[2:]) == []
    evaluate = typer.main.get_command(cli.app).commands["evaluate"]
    asked = evaluate.make_context("evaluate", judged[2:]).params
    assert str(asked["run"]) in " ".join(trained)
    assert set(asked["edits"].split(",")) <= set(drawn.Drawn(count=4).attributes()[0])


# --------------------------------------------------------------------------------------------------------- report


@pytest.mark.parametrize(
    "content",
    [
        {"rows": 3},
        {"curves": {"A": {"way": {"strength": [0, 1], "flips": [0, "x"]}}}},
        {
            "curves": {"A": 3, "B": {"way": []}},
            "attributes": [3, {"ways": {"a": 1}}],
            "predictors": [1],
            "reasons": "x",
        },
        {"attributes": [{"attribute": "A", "ways": {"w": {"strength": "x", "scores": {"flips": {"value": "y"}}}}}]},
    ],
)
def test_the_report_reads_whatever_lies_there(content):
    from faceforge.io.record import Record

    found = Edits(Record(content))
    assert found.rows == []
    assert found.charts == []
    assert isinstance(found.attributes[1], list)
    assert isinstance(found.predictors, list)
