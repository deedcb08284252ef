"""`faceforge compare`: intervals against independent computations, seeds, refusals, and what it says."""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from compared_runs import make, of_people
from conftest import ROOT

from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.evaluation import kept
from faceforge.evaluation.compare import text, verdict
from faceforge.evaluation.compare.comparison import Against, Options
from faceforge.evaluation.compare.differences import Difference, Differences, jackknifed
from faceforge.evaluation.compare.making import compare
from faceforge.evaluation.compare.runs import read
from faceforge.evaluation.compare.settings import differing, settings
from faceforge.evaluation.compare.sheets import COUNTS, Cell, Sheet
from faceforge.evaluation.kept import Kept
from faceforge.metrics.image_scores import ImageScores

N = 40  # faces of ten people


def values(level, seed=0, spread=1.0):
    """PSNR of 40 faces: people differ much, and runs of the same people little."""
    people = np.random.default_rng(7).normal(0, 3, 10).repeat(4)
    return 24 + level + people + spread * np.random.default_rng(100 + seed).normal(0, 0.2, N)


def compared(*folders, split=None, **options):
    return compare(read([Path(folder) for folder in folders], split), Options(**options))


def refused(*folders, **options):
    with pytest.raises(BadInput) as caught:
        compared(*folders, **options)
    lines = str(caught.value).splitlines()
    assert all(lines)
    return lines


def sheet(values, people, of="faces", score="psnr", names=None, value=None):
    names = [str(n) for n in range(len(people))] if names is None else names
    found = Kept(
        names, np.asarray(people), {("model", score, o): np.asarray(v, np.float32) for o, v in _parts(values, of)}
    )
    return Sheet({"model": {score: Cell(float(np.mean(values)) if value is None else value)}}, {}, {}, found)


def _parts(values, of):
    return values.items() if isinstance(values, dict) else [(of, values)]


# ------------------------------------------------------------------------------------------------------- intervals


def test_a_paired_interval_is_that_of_an_independent_loop():
    """People drawn with replacement by another generator, one resample after the other."""
    rng = np.random.default_rng(0)
    people = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5, 6, 7, 7, 8, 9, 10]
    a = rng.normal(0, 5, len(people))
    b = a + 0.3 + np.array([0.4 * np.sin(person) for person in people]) + rng.normal(0, 0.1, len(people))
    found = Differences().of(sheet(b, people), sheet(a, people), "model", "psnr")
    assert found.gain == pytest.approx(np.mean(b) - np.mean(a), abs=1e-6)
    draws, means = random.Random(1), []
    for _ in range(20_000):
        rows = [n for drawn in draws.choices(range(11), k=11) for n, person in enumerate(people) if person == drawn]
        means.append(sum(b[n] - a[n] for n in rows) / len(rows))
    expected = np.quantile(means, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected, abs=0.03 * (expected[1] - expected[0]) + 0.01)


def test_lower_is_better_turns_the_difference_round():
    a, b = np.full(6, 0.5), np.array([0.4, 0.4, 0.3, 0.4, 0.3, 0.4])
    found = Differences().of(sheet(b, range(6), score="mae"), sheet(a, range(6), score="mae"), "model", "mae")
    assert found.gain == pytest.approx(0.5 - np.mean(b))
    assert 0 < found.low < found.gain < found.high
    assert found.flag is True
    other = Differences().of(sheet(a, range(6), score="mae"), sheet(b, range(6), score="mae"), "model", "mae")
    assert (other.gain, other.flag) == (pytest.approx(-found.gain), False)


def test_equal_runs_cannot_be_told_apart():
    found = Differences().of(sheet([1, 2, 3], [0, 1, 2]), sheet([1, 2, 3], [0, 1, 2]), "model", "psnr")
    assert found == Difference(0.0, 0.0, 0.0)
    assert found.flag == "unclear"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sheet([1, 2, 3], [0, 0, 0]), sheet([2, 3, 4], [0, 0, 0])),  # one person
        (sheet([1, 2, 3], [0, 1, 2]), sheet([2, 3, 4], [0, 1, 2], names=["a", "b", "c"])),  # other faces
        (sheet([1, 2, 3], [0, 1, 2]), Sheet({"model": {"psnr": Cell(4.0)}}, {}, {}, None)),  # nothing kept
        (sheet([1, 2], [0, 1, 2], "fake"), sheet([1, 2, 3], [0, 1, 2], "fake")),  # more generated faces
        (sheet([1, 2, 3], [0, 1, 2], "real"), sheet([1, 2, 3], [0, 1, 2], "fake")),
    ],
)
def test_without_the_same_faces_there_is_no_interval(one, other):
    found = Differences().of(one, other, "model", "psnr")
    assert (found.low, found.high, found.flag) == (None, None, "unclear")


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """Of a mean, the jackknife deviation is s / sqrt(n), exactly."""
    a, b = np.array([1.0, 2, 4, 8, 3]), np.array([2.0, 2, 3, 9, 1])
    without = [np.array([np.delete(x, n).mean() for n in range(5)]) for x in (a, b)]
    low, high = jackknifed(0.7, [without[0] - without[1]])
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(a - b, ddof=1) / np.sqrt(5))
    assert (high + low) / 2 == pytest.approx(0.7)
    mine, theirs = (
        sheet({"without_real": w - x.mean(), "without_fake": np.zeros(3)}, range(5), score="kid", value=x.mean())
        for w, x in zip(without, (a, b), strict=True)
    )
    found = Differences().of(mine, theirs, "model", "kid")
    assert found.gain == pytest.approx(theirs.rows["model"]["kid"].value - mine.rows["model"]["kid"].value)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(a - b, ddof=1) / np.sqrt(5), rel=1e-5)


def test_kept_jackknife_values_are_those_of_scores_computed_again_without_each_unit():
    torch = pytest.importorskip("torch")
    from faceforge.metrics.diversity import diversity
    from faceforge.metrics.kid import kid

    draw = torch.Generator().manual_seed(0)
    real, fake = torch.randn(9, 4, generator=draw), torch.randn(6, 4, generator=draw) + 0.5
    people = ["a", "a", "b", "c", "c", "c", "d", None, "e"]
    order = ["a", "b", "c", "d", None, "e"]
    for score in (kid, diversity):
        whole = score(real, fake, people)
        without = [[n for n, who in enumerate(people) if who != person] for person in order]
        again = [score(real[rows], fake, [people[n] for n in rows]).value - whole.value for rows in without]
        assert whole.parts["without_real"].tolist() == pytest.approx(again, abs=1e-12)
        rest = [[n for n in range(6) if n != left] for left in range(6)]
        again = [score(real, fake[rows], people).value - whole.value for rows in rest]
        assert whole.parts["without_fake"].tolist() == pytest.approx(again, abs=1e-12)
        low, high = jackknifed(whole.value, [part.numpy() for part in whole.parts.values()])
        # of a mean, exactly that of the score; of a ratio, which has the delta method, nearly
        assert high - low == pytest.approx(whole.high - whole.low, rel=1e-9 if score is kid else 0.05)


def test_what_counts_faces_is_kept_face_by_face():
    torch = pytest.importorskip("torch")
    from faceforge.metrics.precision_recall import precision_recall

    draw = torch.Generator().manual_seed(0)
    real, fake = torch.randn(12, 3, generator=draw), torch.randn(9, 3, generator=draw)
    found = precision_recall(real, fake)
    assert {name: {of: len(part) for of, part in score.parts.items()} for name, score in found.items()} == {
        "precision": {"fake": 9},
        "recall": {"real": 12},
        "density": {"fake": 9},
        "coverage": {"real": 12},
    }
    for score in found.values():
        (part,) = score.parts.values()
        assert float(part.mean()) == pytest.approx(score.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["people", "kid"])
def test_intervals_of_differences_cover_the_true_one(kind):
    """In at least 90 of 100 trials; KID's is of the differences of two generators on the same real faces."""
    trials = 200
    hits = sum(covers_people(n) if kind == "people" else covers_kid(n) for n in range(trials))
    assert hits / trials >= 0.9


def covers_people(trial):
    rng = np.random.default_rng(trial)
    people = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    own = rng.normal(0.2, 0.3, 40)[people]  # the true difference, other for each person
    a = rng.normal(0, 3, 40)[people] + rng.normal(0, 0.5, len(people))
    b = a + own + rng.normal(0, 0.2, len(people))
    found = Differences().of(sheet(b, people), sheet(a, people), "model", "psnr")
    return found.low <= 0.2 <= found.high


def covers_kid(trial, truth={}):  # noqa: B006  (computed once)
    import torch

    from faceforge.metrics.kid import kid

    def drawn(count, shift, seed):
        return torch.randn(count, 20, generator=torch.Generator().manual_seed(seed)) + shift

    if not truth:
        pairs = [kid(drawn(2000, 0, -1 - n), drawn(2000, s, -11 - n)).value for s in (0.2, 0.3) for n in range(3)]
        truth["gain"] = np.mean(pairs[3:]) - np.mean(pairs[:3])
    real = drawn(80, 0, 3 * trial)
    mine, theirs = (kid(real, drawn(80, s, 3 * trial + n + 1)) for n, s in enumerate((0.2, 0.3)))
    sheets = [
        sheet({k: v.numpy() for k, v in s.parts.items()}, range(80), score="kid", value=s.value) for s in (mine, theirs)
    ]
    found = Differences().of(*sheets, "model", "kid")
    return found.low <= truth["gain"] <= found.high


# ----------------------------------------------------------------------------------------------------- what is kept


def test_what_is_kept_is_read_as_it_was_written(tmp_path):
    names, people = ["ä/1.png", "b\udc80.png", "c"], ["ä", None, "ä"]
    parts = {
        ("images", "model", "psnr", "faces"): np.array([1.5, 2, 3]),
        ("images", "PCA 4", "mae", "faces"): np.ones(3),
    }
    parts |= {
        ("generated", "model, prior", "kid", "without_real"): np.array([1e-9, 2e-9]),
        ("generated", "x", "swd", "fake"): np.ones(5),
    }
    tables = {"images": (names, people), "generated": (names, people)}
    digest = kept.write(tmp_path / "evaluation.npz", tables, parts)
    found = kept.read(tmp_path / "evaluation.npz", digest)
    assert [found[kind].faces for kind in ("images", "generated")] == [names, names]
    assert found["images"].people.tolist() == [0, 1, 0]
    assert set(found["images"].values) == {("model", "psnr", "faces"), ("PCA 4", "mae", "faces")}
    for (kind, *key), part in parts.items():
        again = found[kind].values[tuple(key)]
        assert again.dtype == np.float32
        assert again.tolist() == pytest.approx(part.tolist())
    assert kept.write(tmp_path / "again.npz", tables, parts) == digest
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".npz"] == []
    assert kept.path_of(Path("a/val.json")) == Path("a/val.npz")
    assert kept.path_of(Path("a/val.npz")) == Path("a/val.npz.npz")


@pytest.mark.parametrize("damage", ["cut", "object", "shape", "text"])
def test_a_damaged_file_of_values_is_one_line(tmp_path, damage):
    import hashlib

    a, b = make(tmp_path / "a", {"psnr": values(0)}), make(tmp_path / "b", {"psnr": values(1)})
    path = b / "evaluation.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "text":
        path.write_bytes(b"not a zip")
    else:
        wrong = np.array([{}], object) if damage == "object" else np.zeros(3, np.int32)
        np.savez(path, **{"images.faces": np.array(["a"]), "images.people": wrong})
    if damage != "cut":  # and its hash is right
        result = json.loads((b / "evaluation.json").read_text())
        result["kept"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (b / "evaluation.json").write_text(json.dumps(result))
    (line,) = refused(a, b)
    assert "evaluation.npz" in line
    assert line.endswith(f"type: faceforge evaluate {b}") or "faceforge evaluate" in line


# ----------------------------------------------------------------------------------------------------------- tables


def test_two_runs_are_compared_face_by_face(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0), "mae": 0.05 + 0 * values(0)})
    b = make(
        tmp_path / "b", {"psnr": values(0.4, 1), "mae": 0.05 + values(0, 2) % 0.001}, config={"model.network.width": 8}
    )
    found = compared(a, b)
    (block,) = found.blocks
    assert [row.name for row in block.rows] == ["a", "b"]
    assert block.rows[1].stats["psnr"].mean == pytest.approx(values(0.4, 1).mean())
    gain = block.rows[1].against["psnr"]
    assert gain.gain == pytest.approx((values(0.4, 1) - values(0)).mean())
    assert gain.span[0] > 0.2
    assert block.rows[0].stats["psnr"].cells[0].high > block.rows[1].stats["psnr"].cells[0].low  # which tells nothing
    (said,) = verdict.sentences(found)
    assert said.startswith("b is better than a in PSNR by 0.4")
    assert "; worse in MAE by 0.00048 (0.00041 to 0.00054)" in said
    lines = text.lines(found)
    assert lines[0] == "Outputs compared with the true images: test split of drawn, 40 faces; checkpoint best"
    assert found.differing == [("model.network.width", ["4", "8"])]
    assert "  model.network.width  4  8" in lines
    assert said in lines


def test_rows_are_ordered_and_the_reference_may_be_the_best(tmp_path):
    folders = [make(tmp_path / name, {"psnr": values(level), "mae": -values(level)}, config={"model.network.width": n})
               for n, (name, level) in enumerate({"low": 0, "high": 2, "mid": 1}.items())]  # fmt: skip
    found = compared(*folders, sort="psnr", reference="best", scores=("psnr",))
    (block,) = found.blocks
    assert [row.name for row in block.rows] == ["high", "mid", "low"]
    assert [bool(row.against) for row in block.rows] == [False, True, True]
    assert block.scores == ["psnr"]
    assert verdict.sentences(found)[0].startswith("mid is worse than high in PSNR by 1.00 dB")


def test_generated_faces_have_intervals_over_people_and_noise(tmp_path):
    rng = np.random.default_rng(0)

    def generated(level, seed):
        fake = np.random.default_rng(seed).normal(0, 1e-5, 30)
        return {
            "kid@lite0-57934424-bicubic224": {
                "value": level,
                "without_real": rng.normal(0, 1e-6, 10),
                "without_fake": fake,
            },
            "precision@lite0-57934424-bicubic224": {"value": float(np.mean(fake > -level)), "fake": fake > -level},
            "swd": {"value": 10 + level},
        }

    a = make(tmp_path / "a", generated=generated(0.01, 1))
    b = make(tmp_path / "b", generated=generated(0.02, 2), config={"model.network.width": 8})
    found = compared(a, b)
    (block,) = found.blocks
    kid = block.rows[1].against["kid@lite0-57934424-bicubic224"]
    assert kid.gain == pytest.approx(-0.01)
    half = 1.96 * np.sqrt(
        sum(
            29 / 30 * x
            for x in [
                ((v - v.mean()) ** 2).sum()
                for v in [np.random.default_rng(1).normal(0, 1e-5, 30) - np.random.default_rng(2).normal(0, 1e-5, 30)]
            ]
        )
    )
    assert (kid.span[1] - kid.span[0]) / 2 == pytest.approx(half, rel=0.05)  # people add little here
    assert not block.rows[1].against["swd"].judged
    first, second = verdict.sentences(found)
    assert first.startswith("b is worse than a in KID by lite0 by 0.0100 (0.0099 to 0.0101)")
    assert second == "b against a without an interval, so not judged: patch SWD 10.0 against 10.0."
    assert compared(a, b, scores=("kid",)).blocks[0].scores == ["kid@lite0-57934424-bicubic224"]


def test_each_density_of_codes_is_a_row_with_its_own_reference(tmp_path):
    a = make(tmp_path / "a", generated={"swd": {"value": 9.0}})
    b = make(tmp_path / "b", generated={"swd": {"value": 8.0}}, config={"model.network.width": 8})
    for folder in (a, b):
        result = json.loads((folder / "evaluation.json").read_text())
        (row,) = result["rows"]
        result["rows"] = [{**row, "name": f"model, {density}"} for density in ("prior", "mixture")]
        (folder / "evaluation.json").write_text(json.dumps(result))
    found = compared(a, b)
    assert [row.name for row in found.blocks[0].rows] == ["a (prior)", "b (prior)", "a (mixture)", "b (mixture)"]
    assert "Better (+) or worse (-) than a by (= cannot be told apart):" in text.lines(found)
    assert [said.partition(" without")[0] for said in verdict.sentences(found)] == [
        "b (prior) against a (prior)",
        "b (mixture) against a (mixture)",
    ]


def test_an_older_name_is_that_of_today(tmp_path):
    today = "kid@lite0-57934424-bicubic224"
    a, b = (
        make(tmp_path / "a", generated={"kid": {"value": 0.1}}, keep=False),
        make(tmp_path / "b", generated={today: {"value": 0.2}}),
    )
    for folder, name in ((a, "kid"), (b, today)):
        result = json.loads((folder / "evaluation.json").read_text())
        result["protocols"] = {name: {"metric": "kid"}}
        (folder / "evaluation.json").write_text(json.dumps(result))
    assert compared(a, b).blocks[0].scores == [today]


def test_an_older_evaluation_has_a_table_without_intervals(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(tmp_path / "b", {"psnr": values(1)}, keep=False)
    c = make(tmp_path / "c", {"psnr": values(2)}, config={"model.network.width": 8})
    (c / "evaluation.npz").unlink()
    found = compared(a, b, c)
    (block,) = found.blocks
    assert [row.against["psnr"].span for row in block.rows[1:]] == [None, None]
    for name in ("b", "c"):
        assert any(note.startswith(f"{name}: its evaluation kept no values of single faces") for note in block.notes)
    assert verdict.sentences(found)[0].startswith("b against a without an interval, so not judged: PSNR 2")


# ------------------------------------------------------------------------------------------------------------ seeds


def seeds_of(place, name, levels, **config):
    """Runs of one setting with the seeds 0, 1, ..., each on people of its own."""
    return [
        make(
            place / f"{name}-s{seed}",
            {"psnr": values(level, 10 * seed + len(name))},
            seed=seed,
            config=config,
            faces=own_people(seed),
        )
        for seed, level in enumerate(levels)
    ]


def own_people(seed):
    names, people = of_people(10)
    return [f"{seed}-{name}" for name in names], people


def test_seeds_are_one_row_with_mean_deviation_and_the_worst(tmp_path):
    a, b = (
        seeds_of(tmp_path, "a", [0, 0.2, 0.1]),
        seeds_of(tmp_path, "big", [1, 1.5, 1.2], **{"model.network.width": 8}),
    )
    found = compared(*a, *b)
    (block,) = found.blocks
    assert [row.name for row in block.rows] == ["a", "big"]
    means = [values(level, 10 * seed + 1).mean() for seed, level in enumerate([0, 0.2, 0.1])]
    stat = block.rows[0].stats["psnr"]
    assert stat.mean == pytest.approx(np.mean(means))
    assert stat.deviation == pytest.approx(np.std(means, ddof=1))
    assert stat.worst == pytest.approx(min(means))
    gains = [
        values(b, 10 * n + 3).mean() - values(a, 10 * n + 1).mean()
        for n, (a, b) in enumerate([(0, 1), (0.2, 1.5), (0.1, 1.2)])
    ]
    gain = block.rows[1].against["psnr"]
    assert [part.gain for part in gain.parts] == pytest.approx(gains)
    assert gain.span == pytest.approx((min(gains), max(gains)))
    assert (gain.better, gain.worse) == (3, 0)
    (said,) = verdict.sentences(found)
    assert said.startswith("big is better than a in all 3 seeds in PSNR by 1.1")
    lines = text.lines(found)
    assert any(line.startswith("  +- of 3 seeds") for line in lines)
    assert any(line.startswith("  worst") for line in lines)


def parts(*flags):
    ends = {"better": (0.1, 0.3), "worse": (-0.3, -0.1), "level": (-0.1, 0.1)}
    return Against("psnr", tuple(Difference(sum(ends[flag]) / 2, *ends[flag]) for flag in flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("better",) * 3, "b is better than a in all 3 seeds in PSNR by 0.20 dB (0.20 to 0.20)."),
        (("worse",) * 2, "b is worse than a in both seeds in PSNR by 0.20 dB (0.20 to 0.20)."),
        (("better", "level", "better"), "b is better than a in some seeds in PSNR (2 of 3)."),
        (("level", "worse", "level"), "b is worse than a in some seeds in PSNR (1 of 3)."),
        (("level",) * 3, "b and a cannot be told apart in any of 3 seeds in PSNR."),
        (
            ("better", "worse", "level"),
            "b is better than a in some seeds and worse in others in PSNR (better in 1, worse in 1 of 3).",
        ),
    ],
)
def test_a_verdict_over_seeds_holds_in_all_in_some_or_in_none(flags, said):
    assert verdict._over_seeds("b", "a", [parts(*flags)]) == [said]


def test_seeds_of_one_setting_alone_are_described(tmp_path):
    found = compared(*seeds_of(tmp_path, "a", [0, 1]))
    (said,) = verdict.sentences(found)
    assert said.startswith("a, over 2 seeds: PSNR 2")
    assert " +- 0." in said


def test_seeds_without_a_partner_are_told(tmp_path):
    a, b = seeds_of(tmp_path, "a", [0, 0.2]), seeds_of(tmp_path, "b", [1, 1.5, 1], **{"model.network.width": 8})
    (block,) = compared(*a, *b).blocks
    assert "b: 2 of its 3 seeds have a partner in the reference." in block.notes
    assert len(block.rows[1].against["psnr"].parts) == 2


def test_other_seeds_of_the_same_faces_are_paired_in_order(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)}, seed=3, config={"data.seed": 0})
    b = make(tmp_path / "b", {"psnr": values(1)}, seed=4, config={"data.seed": 0, "model.network.width": 8})
    (block,) = compared(a, b).blocks
    assert block.rows[1].against["psnr"].better == 1


def test_what_makes_a_setting(tmp_path):
    def names(*made):
        return [[run.name for run in setting.runs] for setting in settings(read(list(made)))]

    def run(name, seed=0, images=1000, **config):
        made = make(tmp_path / name, {"psnr": values(0)}, seed=seed, config=config)
        record = json.loads((made / "run.json").read_text()) | {"images": images}
        (made / "run.json").write_text(json.dumps(record))
        return made

    a, b = run("a", 1), run("b", 0)
    assert names(a, b) == [["b", "a"]]  # in the order of their seeds
    elsewhere = run("elsewhere", 2, **{"data.cache": "/other", "trainer.gpus": 1, "trainer.max_minutes": 5})
    assert names(a, elsewhere) == [["a", "elsewhere"]]
    assert names(a, run("longer", 3, 2000, **{"trainer.max_images": 2000})) == [["a"], ["longer"]]
    assert names(a, run("stopped", 4, 500)) == [["a", "stopped"]]  # early, by the same limits
    assert names(a, run("again", 1)) == [["a"], ["again"]]
    assert names(a, run("wide", 5, **{"model.network.width": 5})) == [["a"], ["wide"]]
    assert names(a, run("other people", 1, **{"data.source.seed": 9})) == [["a"], ["other people"]]
    bare = run("bare", 6)
    (bare / "config.yaml").unlink()
    assert names(a, bare) == [["a"], ["bare"]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a-s0", "a-s1"), "a"),
        (("lr=0.1-seed=0-0123abcd", "lr=0.1-seed=1-89abcdef"), "lr=0.1"),
        (("first", "second"), "first ..."),
        (("seed=0-0123abcd", "seed=1-89abcdef"), "seed"),
        (("s0-big", "s1-big"), "big"),
    ],
)
def test_a_setting_has_what_the_names_of_its_runs_share(tmp_path, names, expected):
    made = [make(tmp_path / name, {"psnr": values(0)}, seed=seed) for seed, name in enumerate(names)]
    (setting,) = settings(read(made))
    assert setting.name == expected


def test_names_are_the_shortest_that_differ(tmp_path):
    made = [make(tmp_path / place / "run", {"psnr": values(0)}) for place in ("one", "two")]
    assert [run.name for run in read(made)] == ["one/run", "two/run"]
    shutil.copy(made[0] / "evaluation.json", made[0] / "val.json")
    shutil.copy(made[0] / "evaluation.npz", made[0] / "val.npz")
    found = read([made[0], made[0] / "val.json"])
    assert [run.name for run in found] == ["run", "run/val"]
    assert found[1].kept
    odd = make(tmp_path / "a\x1b[31m", {"psnr": values(0)})
    assert read([odd, made[0]])[0].name == "a?[31m"


def test_settings_differ_in_choices_before_single_keys(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(
        tmp_path / "b",
        {"psnr": values(0)},
        config={"choices.model/network": "plain", "model.network.width": 9, "model.optimizer.lr": 0.1},
    )
    keys = differing(settings(read([a, b])))
    assert keys == [("model/network", ["conv", "plain"]), ("model.optimizer.lr", ["0.001", "0.1"])]


# --------------------------------------------------------------------------------------------------------- refusals


UNLIKE = {
    "other data (manifest dddddddd... instead of aaaaaaaa...)": {"data": {"manifest": "d" * 64}},
    "another crop protocol (hash eeeeeeee... instead of bbbbbbbb...)": {"data": {"protocol_hash": "e" * 64}},
    "data.size [9, 8] instead of [8, 8]": {"data": {"size": [9, 8]}},
    "data.channels 3 instead of 1": {"data": {"channels": 3}},
    "another split (val instead of test)": {"data": {"split": "val"}},
    "checkpoint last instead of best": {"result": {"checkpoint.name": "last"}},
    "evaluation seed 5 instead of 0": {"result": {"seed": 5}},
    "task.factor 4 instead of 2": {"result": {"task.factor": 4}},
    "other faces": {"faces": own_people(1)},
    "data.faces 20 instead of 40": {"data": {"faces": 20}, "keep": False},
    "other people in each split (data.seed 1 instead of 0)": {"config": {"data.seed": 1}, "keep": False},
    "PSNR: weights_sha256 12345 instead of unknown": {"result": {"protocols.psnr.weights_sha256": "12345"}},
}


@pytest.mark.parametrize(("difference", "change"), UNLIKE.items())
def test_unlike_protocols_are_refused_with_what_differs(tmp_path, difference, change):
    a = make(tmp_path / "a", {"psnr": values(0)})
    config = {"model.network.width": 8, **change.get("config", {})}
    b = make(tmp_path / "b", {"psnr": values(1)}, **{**change, "config": config})
    lines = refused(a, b)
    assert lines[0].startswith(f"b: not scored as a: {difference}")
    assert lines[1:] == ["what was scored differs; --force compares all the same, and says so in the tables"]
    found = compared(a, b, force=True)
    assert text.lines(found)[0].startswith(
        f"FORCED, these scores were made in different ways: b: not scored as a: {difference}"
    )


def test_a_refusal_has_a_line_for_each_run_and_the_command_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a = make("a", {"psnr": values(0)})
    b = make("b", {"psnr": values(1)}, data={"split": "val"}, config={"model.network.width": 8})
    c = make("c", {"psnr": values(1)}, data={"faces": 20}, keep=False, config={"model.network.width": 9})
    first, second, _ = refused(a, b, c)
    assert first.endswith("; type: faceforge evaluate b --split test --checkpoint best")
    assert second.startswith("c: ")
    with pytest.raises(BadInput) as caught:
        read([a, b], "test")
    assert (
        str(caught.value)
        == "b/evaluation.json: of the val split, must be test; type: faceforge evaluate b --split test"
    )


def test_another_file_of_a_run_is_not_evaluated_by_the_plain_command(tmp_path):
    a, b = (
        make(tmp_path / "a", {"psnr": values(0)}),
        make(tmp_path / "b", {"psnr": values(1)}, data={"faces": 4}, keep=False),
    )
    for folder in (a, b):
        for end in ("json", "npz"):
            if (folder / f"evaluation.{end}").exists():
                (folder / f"evaluation.{end}").rename(folder / f"evaluation-lfw.{end}")
    first, _ = refused(a / "evaluation-lfw.json", b / "evaluation-lfw.json")
    assert first == "b/evaluation-lfw: not scored as a/evaluation-lfw: data.faces 4 instead of 40"
    found = compared(a / "evaluation-lfw.json", b / "evaluation-lfw.json", force=True)
    assert found.blocks[0].notes[-1].endswith("no interval; type: faceforge evaluate RUN")


def test_an_evaluation_that_was_forced_is_stamped_here_too(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(tmp_path / "b", {"psnr": values(1)}, result={"forced": ["another crop"]})
    assert compared(a, b).forced == ["b: another crop"]


def test_seeds_of_a_setting_must_be_scored_alike(tmp_path):
    a, b = seeds_of(tmp_path, "a", [0, 1])
    result = json.loads((b / "evaluation.json").read_text())
    result["checkpoint"]["name"] = "last"
    (b / "evaluation.json").write_text(json.dumps(result))
    assert refused(a, b)[0].startswith("a-s1: not scored as a-s0: checkpoint last instead of best; type: ")


def test_only_what_may_differ_between_seeds_follows_from_the_faces():
    """In noise no face is found, in which the landmarks could be aligned."""
    found = []
    faces = torch.stack([torch.from_numpy(Drawn(count=4).read(n, (64, 64))).permute(2, 0, 1) for n in range(4)]) / 127.5
    for targets in (faces - 1, torch.rand(4, 3, 64, 64) * 2 - 1):
        scores = ImageScores(3, 64, 64, torch.device("cpu"))
        scores({"model": targets / 2}, targets)
        found.append({name: scores.protocol(name) for name in scores.names})
    differing = {key for name in found[0] for key in found[0][name] if found[0][name][key] != found[1][name][key]}
    assert differing == {"not_aligned"}
    assert differing < set(COUNTS)


def test_unlike_tasks_are_refused_even_by_force(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(tmp_path / "b", {"psnr": values(0)}, config={"choices.task": "colorize"})
    for force in (False, True):
        (line,) = refused(a, b, force=force)
        assert line == "b: task colorize, a has super_resolution; unlike tasks cannot be compared"


def test_noise_of_another_seed_is_another_input(tmp_path):
    """The inputs of some tasks are drawn, with the run's seed."""
    settings_ = (("a", 4, 0), ("b", 8, 1), ("c", 4, 1))
    configs = [(name, {"model.network.width": width, "task.seed": seed}, seed) for name, width, seed in settings_]
    a, b, c = (make(tmp_path / name, {"psnr": values(0)}, config=config, seed=seed) for name, config, seed in configs)
    assert refused(a, b)[0].startswith("b: not scored as a: task.seed 1 instead of 0")
    assert len(compared(a, c).settings) == 1


def test_a_score_that_is_best_at_one_is_judged_by_its_distance(tmp_path):
    name = "diversity@lite0-57934424-bicubic224"

    def generated(value):
        return {name: {"value": value, "without_real": np.linspace(-1e-4, 1e-4, 10), "without_fake": np.zeros(5)}}

    a = make(tmp_path / "a", generated=generated(0.9))
    b = make(tmp_path / "b", generated=generated(1.2), config={"model.network.width": 8})
    (said,) = verdict.sentences(compared(a, b))
    assert said.startswith("b is worse than a in diversity by lite0 (distance to 1) by 0.100 (")


def test_how_a_network_is_given_its_input_is_no_other_task(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(tmp_path / "b", {"psnr": values(1)}, config={"task.input_factor": 1})
    assert len(compared(a, b).blocks[0].rows) == 2


def test_wrong_uses_are_one_line(tmp_path):
    a, b = (
        make(tmp_path / "a", {"psnr": values(0)}),
        make(tmp_path / "b", {"psnr": values(1)}, config={"model.network.width": 8}),
    )
    assert refused(a) == [f"{a}: one run alone cannot be compared; name at least two"]
    assert "named twice" in refused(a, tmp_path / "b" / ".." / "a")[0]
    assert refused(a, tmp_path / "nothing") == [f"{tmp_path / 'nothing'}: no such run folder"]
    (tmp_path / "empty").mkdir()
    for other in (tmp_path / "empty", a / "metrics.csv", a / "run.json"):
        (line,) = refused(a, other)
        assert line.startswith(f"{other}: not a run; name a run folder")
    assert refused(a, b, scores=("lpips",)) == ["--score lpips: must be one of psnr"]
    assert refused(a, b, sort="kid") == ["--sort kid: must be one of psnr"]


WHOLE = '"data": {"split": "test"}, "checkpoint": {"name": "best"}'
ROW = '{"name": "m", "kind": "model", "table": "images", "scores": {"psnr": {"value": "x"}}}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "{}",
        '{"rows": 3}',
        f'{{"rows": [1], {WHOLE}}}',
        f'{{"rows": [{ROW.replace("x", "1")}], {WHOLE}}}'.replace('"1"', "9" * 400),
        f'{{"rows": [{ROW}], {WHOLE}}}',
    ],
)
def test_a_damaged_evaluation_is_one_line(tmp_path, content):
    a, b = make(tmp_path / "a", {"psnr": values(0)}), make(tmp_path / "b", {"psnr": values(0)})
    (b / "evaluation.json").write_text(content)
    (line,) = refused(a, b)
    assert "evaluation.json: damaged, or not written by faceforge evaluate; type: faceforge evaluate" in line


def test_what_files_say_moves_no_cursor(tmp_path):
    escape = "\x1b[2J"
    a = make(tmp_path / f"a{escape}", {"psnr": values(0)}, config={f"model.{escape}": escape})
    b = make(
        tmp_path / "b", {"psnr": values(1), f"psnr@{escape}": values(0)}, result={"forced": [escape], "command": escape}
    )
    result = json.loads((a / "evaluation.json").read_text())
    result["data"]["source"] = escape
    (a / "evaluation.json").write_text(json.dumps(result))
    assert escape[0] not in refused(a, b)[0]
    assert escape[0] not in "".join(text.lines(compared(a, b, force=True)))


# ------------------------------------------------------------------------------------------------------- validation


def test_runs_that_are_not_evaluated_are_compared_by_their_validation(tmp_path):
    a, b = make(tmp_path / "a"), make(tmp_path / "b", config={"model.network.width": 8})
    found = compared(a, b)
    (block,) = found.blocks
    assert block.kind == "validation"
    assert block.rows[0].stats["mae"].mean == pytest.approx(0.12)  # at the best validation, not the last
    assert block.rows[0].stats["psnr"].mean == pytest.approx(20.8)
    assert [note.partition(";")[0] for note in found.notes] == ["a is not evaluated yet", "b is not evaluated yet"]
    assert verdict.sentences(found) == [
        "In validation, b against a without an interval, so not judged: "
        "PSNR 20.80 against 20.80, MAE 0.1200 against 0.1200."
    ]


def test_one_run_that_is_not_evaluated_yet_is_named(tmp_path):
    a, b = (
        make(tmp_path / "a", {"psnr": values(0)}),
        make(tmp_path / "b", {"psnr": values(1)}, config={"model.network.width": 8}),
    )
    c = make(tmp_path / "c", config={"model.network.width": 9})
    found = compared(a, b, c)
    assert [(block.kind, len(block.rows)) for block in found.blocks] == [("images", 2), ("validation", 3)]
    assert found.notes[0].startswith("c is not evaluated yet; type: faceforge evaluate ")
    (c / "metrics.csv").unlink()
    (line,) = refused(a, b, c)
    assert line.startswith("c: not evaluated, and no val/ scores in metrics.csv; type: faceforge evaluate ")


def test_unlike_validation_is_left_out_or_refused(tmp_path):
    a = make(tmp_path / "a", {"psnr": values(0)})
    b = make(tmp_path / "b", {"psnr": values(1)}, config={"model.network.width": 8})
    c = make(tmp_path / "c", config={"data.val_fraction": 0.2})
    found = compared(a, b, c)
    assert [block.kind for block in found.blocks] == ["images"]
    assert "Validation scores are left out: c: not scored as a: data.val_fraction 0.2 instead of 0.1" in found.notes
    for folder in (a, b):
        (folder / "evaluation.json").unlink()
    assert refused(a, b, c)[0] == "c: not scored as a: data.val_fraction 0.2 instead of 0.1"
    assert compared(a, b, c, force=True).forced


# --------------------------------------------------------------------------------------------------- the command line


def typed(*words_):
    command = [sys.executable, "-c", "from faceforge.cli import run; run()", "compare", *map(str, words_)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_needs_no_torch(tmp_path):
    a, b = (
        make(tmp_path / "a", {"psnr": values(0)}),
        make(tmp_path / "b", {"psnr": values(1)}, config={"model.network.width": 8}),
    )
    code = f"""
import sys
sys.argv = ["faceforge", "compare", {str(a)!r}, {str(b)!r}, "--html", {str(tmp_path / "x.html")!r}]
from faceforge.cli import run
try:
    run()
finally:
    print("torch" in sys.modules, "hydra" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "False False\n"
    assert "b is better than a in PSNR by 1.0" in done.stdout
    assert f"page  {tmp_path / 'x.html'}" in done.stdout


def test_what_is_wrong_on_the_command_line(tmp_path):
    a, b = make(tmp_path / "a", {"psnr": values(0)}), make(tmp_path / "b", {"psnr": values(1)}, data={"split": "val"})
    (tmp_path / "x.html").write_text("mine")
    for words_, said in (
        ([a], "one run alone"),
        ([a, b], "b: not scored as a: another split"),
        ([a, b, "--split", "test"], "of the val split, must be test"),
        ([a, b, "--html", tmp_path / "x.html"], "x.html: already exists; use --overwrite to replace it"),
        ([a, b, "--html", tmp_path / "x.txt"], "--html"),
    ):
        code, out, err = typed(*words_)
        assert (code, out) == (2, "")
        assert all(line.startswith("faceforge: ") for line in err.splitlines())
        assert said in err
    assert (tmp_path / "x.html").read_text() == "mine"
    assert typed(a, b, "--force", "--overwrite", "--html", tmp_path / "x.html")[0] == 0
    assert "<!doctype html>" in (tmp_path / "x.html").read_text()


@pytest.mark.slow
def test_the_example_of_the_documentation_runs(tmp_path):
    page = (ROOT / "docs/compare.md").read_text()
    (script,) = re.findall(r"```\n(python train\.py.*?)```", page, re.DOTALL)
    script = script.replace("python train.py", f"python {shlex.quote(str(ROOT / 'train.py'))}")
    place = {"FACEFORGE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT / "src")}
    place["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env={**os.environ, **place}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = page.split("```\n")[3]
    rows = {line.strip().split("  ")[0] for line in shown.splitlines() if "  " in line.strip() and " is " not in line}
    assert {"model.network.width=24", "+- of 2 seeds", "worst", "least, greatest"} <= rows
    assert [row for row in rows if row not in done.stdout] == []
    assert (tmp_path / "runs/widths.html").is_file()
