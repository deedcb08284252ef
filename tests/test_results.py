"""docs/results.md: its rows compose, its records are clean, it is what they give; a row from training to page."""

import copy
import hashlib
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from test_every_pair import FACES, SMALL

from benchmarks.results import book, claims, curves, page, record, rows
from benchmarks.results import command as results
from faceforge import config
from faceforge.config import composing
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.evaluation import command

TABLE = rows.load()
RECORDS = sorted((ROOT / "docs/results/records/results").glob("*.json"))
SR = ["model=conv_superres", *FACES[1:], *SMALL["conv_superres"], "data.source.count=80", "trainer.max_images=16"]


# ---------------------------------------------------------------------------------------------------------------- rows


DAILY = list(TABLE.rows)[::4]


@pytest.mark.parametrize("name", [n if n in DAILY else pytest.param(n, marks=pytest.mark.slow) for n in TABLE.rows])
def test_every_row_composes_at_both_sizes(name):
    row = TABLE.rows[name]
    for size in ("cpu", "full"):
        words = record.plain_places(TABLE.words(row, size, 7))
        made = config.plain(
            composing.Library().compose(words), words
        )  # unknown keys and pairs that cannot be are told here too
        assert made["seed"] == 7
        assert made["data"]["root"] in (None, "LFW", "LFW_COLOR", "CROPS", "CELEBA")
        assert (made["trainer"]["gpus"] == 0) == (size == "cpu")
    assert row.seeds
    assert row.faces("cpu") in TABLE.data
    assert row.faces("full") in TABLE.data
    assert row.twin_of == "" or TABLE.rows[row.twin_of].kind == "step"


def test_plots_and_claims_name_rows_that_exist():
    for plot in TABLE.plots:
        assert set(plot["rows"]) <= set(TABLE.rows), plot["name"]
        assert plot["section"] in TABLE.sections
    assert list(claims.SECTIONS) == list(TABLE.sections)
    known = set()

    class Recorder(dict):
        def get(self, name, default=None):
            known.add(name)
            return default

    for make in claims.SECTIONS.values():
        made = make(book.Book(Recorder(), {}, {}))
        assert {claim.verdict for claim in made} == {"not run yet"}
    assert known <= set(TABLE.rows)


def test_places_of_faces_come_from_flags(tmp_path):
    words = ["data=lfw", "data.root=$LFW", "seed=1"]
    assert rows.placed(words, {"$LFW": str(tmp_path)}) == ["data=lfw", f"data.root={tmp_path}", "seed=1"]
    with pytest.raises(BadInput, match="--lfw PATH or LFW=PATH"):
        rows.placed(words, {})
    with pytest.raises(BadInput, match="there is nothing"):
        rows.placed(words, {"$LFW": str(tmp_path / "none")})
    with pytest.raises(BadInput, match="near it: sr-conv-modern"):
        TABLE.row("sr-conv-moder")


def test_a_mistyped_key_of_a_row_is_named(tmp_path):
    text = rows.ROWS.read_text().replace("    gap: true\n", "    gab: true\n", 1)
    (tmp_path / "rows.yaml").write_text(text)
    with pytest.raises(BadInput, match="sr-mlp-published: unknown gab"):
        rows.load(tmp_path / "rows.yaml")


# --------------------------------------------------------------------------------------------- the committed page


def test_the_page_is_what_the_records_give():
    assert page.stale(TABLE, ROOT) == []
    assert page.files(TABLE, ROOT) == page.files(rows.load(), ROOT)


def test_committed_records_are_clean():
    """No folder of a machine, and no picture but the grids that a record lists."""
    listed = {file for own in page.GRIDS.values() for file in own}
    for path in RECORDS:
        found = json.loads(path.read_text())
        assert not [text for text in book.walk(found) if record.PLACE.search(text)], path.name
        assert path.stem == TABLE.rows[found["row"]].record(found["seed"], found["size"])
        if found["grid"]:
            listed.add(found["grid"]["file"])
            grid = ROOT / "docs/results/grids" / found["grid"]["file"]
            assert hashlib.sha256(grid.read_bytes()).hexdigest() == found["grid"]["sha256"]
    assert {path.name for path in (ROOT / "docs/results/grids").glob("*")} <= listed


@pytest.mark.parametrize(("crop", "told"), [("c150", " (c150)"), ("center", ", manifest 0000")])
def test_rows_share_a_table_only_if_their_faces_are_the_same(crop, told):
    """Otherwise the baselines of one would stand below the other."""
    names = ["gan-cnn-published-minimax", "gan-cnn-published-minimax-equal"]
    one = json.loads((ROOT / f"docs/results/records/results/{names[0]}-s1.json").read_text())
    chosen = [TABLE.rows[name] for name in names]
    same = list(page.scores(chosen, book.Book({name: {1: one} for name in names}, {}, {})))
    assert [text.count("PCA 128 Gaussian") for text in same if text.startswith("|")] == [1]
    other = copy.deepcopy(one)
    other["evaluation"]["data"] |= {"manifest": "0" * 64, "protocol": {"crop": crop}}
    apart = list(page.scores(chosen, book.Book({names[0]: {1: one}, names[1]: {1: other}}, {}, {})))
    tables = [text for text in apart if text.startswith("|")]
    assert [text.count("PCA 128 Gaussian") for text in tables] == [1, 1]
    heads = [text for text in apart if text.startswith("###")]
    assert len(set(heads)) == 2
    assert told in heads[1]


def copied(place):
    """The page with its records elsewhere."""
    shutil.copytree(ROOT / "docs", place / "docs")
    shutil.copy(ROOT / "README.md", place)
    return place


def test_a_number_changed_by_hand_is_found(tmp_path, monkeypatch, capsys):
    here = copied(tmp_path)
    assert page.stale(TABLE, here) == []
    for path in (here / "docs/results.md", here / "README.md"):
        text = path.read_text()
        figure = "36.72"
        assert figure in text
        path.write_text(text.replace(figure, "46.72"))
        assert page.stale(TABLE, here) == [path]
        monkeypatch.setattr(results, "ROOT", here)
        with pytest.raises(BadInput, match=path.name) as error:
            results.page(check=True)
        assert error.value.exit_code == 2
        results.page(check=False)
        assert path.read_text() == text
    capsys.readouterr()


def test_a_plot_that_no_record_gives_is_found_and_removed(tmp_path):
    here = copied(tmp_path)
    extra = here / "docs/results/curves/old.svg"
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("<svg/>")
    assert page.stale(TABLE, here) == [extra]
    page.write(TABLE, here)
    assert not extra.exists()


def test_the_readme_needs_its_marks():
    with pytest.raises(BadInput, match="end of results"):
        page.in_readme(f"text {page.MARKS[0]} text", TABLE, None)


def of_metric(row, metric):
    return [score["value"] for name, score in row["scores"].items() if name.split("@")[0] == metric]


def test_the_readme_has_a_line_of_each_model_with_its_best_baseline():
    """As the records have it."""
    text = (ROOT / "README.md").read_text().partition(page.MARKS[0])[2].partition(page.MARKS[1])[0]
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    models = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert sorted(line[0].strip("| `") for line in lines) == sorted(models)
    for node, line in zip(TABLE.readme, lines, strict=True):
        records = [json.loads(path.read_text()) for path in RECORDS if path.stem.rpartition("-s")[0] == node["row"]]
        rows = [row for record in records for row in record["evaluation"]["rows"] if row["kind"] == "baseline"]
        values = {
            row["name"]: [x for r in rows if r["name"] == row["name"] for x in of_metric(r, node["score"])]
            for row in rows
        }
        known = {name: np.mean(found) for name, found in values.items() if found}
        better = max if node["score"] == "psnr" else min
        best = better(known, key=known.get)
        assert line[4].endswith(f"({best})")
        assert float(line[4].split()[0]) == pytest.approx(known[best], abs=0.01)


# -------------------------------------------------------------------------------------------------------------- claims


def scored(value, baseline, seen=None):
    """A record with one PSNR and MSE of a model and of a baseline."""

    def of(psnr):
        return {"psnr": {"value": psnr}, "mse": {"value": 10 ** (-psnr / 10)}}

    def table(psnr):
        return {
            "rows": [
                {"name": "model", "kind": "model", "table": "images", "scores": of(psnr)},
                {"name": "nearest", "kind": "baseline", "table": "images", "scores": of(baseline - 4)},
                {"name": "bicubic", "kind": "baseline", "table": "images", "scores": of(baseline)},
            ]
        }

    return {"evaluation": table(value), "evaluation_train": table(seen or value), "curves": {}}


def asked(**found):
    return book.Book({name.replace("_", "-"): seeds for name, seeds in found.items()}, {}, {})


def test_a_claim_holds_where_it_does_for_every_seed():
    def first(*values):
        made = asked(sr_conv_modern={seed: scored(value, 33.0) for seed, value in enumerate(values)})
        return claims.super_resolution(made)[0]

    assert first(34.6).verdict == first(34.6, 36.0).verdict == "holds"
    assert first(34.4).verdict == "does not hold"
    assert first(34.4, 34.6).verdict == "holds in some seeds"
    assert first(34.6).figures == "PSNR: sr-conv-modern 34.60, best baseline 33.00 dB"
    assert first(34.6, 36.0).records == ["sr-conv-modern-s0", "sr-conv-modern-s1"]


def test_rows_are_compared_on_the_seeds_that_both_have():
    made = asked(
        sr_mlp_published={1: scored(29.0, 33.0, seen=31.0), 2: scored(99.0, 33.0)},
        sr_conv_published={1: scored(33.1, 33.0, seen=34.0)},
    )
    found = {claim.said: claim for claim in claims.super_resolution(made)}
    beats, overfits = found["The convolutional net beats the MLP"], found["The MLP overfits more"]
    assert (beats.verdict, overfits.verdict) == ("holds", "holds")
    assert beats.records == ["sr-conv-published-s1", "sr-mlp-published-s1"]
    assert f"{10**0.2:.2f}" in overfits.figures  # 2 dB
    assert f"{10**0.09:.2f}" in overfits.figures
    assert found["The published MLP is better than the best linear upscaling"].verdict == "holds in some seeds"


def columned(**values):
    """A record of one row whose scores are named."""
    rows = [
        {"name": "model", "kind": "model", "table": "images", "scores": {n: {"value": v} for n, v in values.items()}}
    ]
    return {"evaluation": {"rows": rows}, "curves": {}}


def test_a_claim_that_names_no_score_is_judged_on_all():
    def told(*seeds):
        first = {n: columned(psnr=a, mae=b, perceptual=c) for n, (a, b, c) in enumerate(seeds)}
        second = {n: columned(psnr=20.0, mae=0.1, perceptual=0.5) for n in range(len(seeds))}
        return claims.Asker(asked(a=first, b=second), "pix2pix").everywhere("a beats b", "check", "a", "b")

    assert told((21, 0.09, 0.4), (20.1, 0.01, 0.49)).verdict == "holds"
    assert told((19, 0.2, 0.6)).verdict == told((20, 0.1, 0.5)).verdict == "does not hold"  # a tie is no gain
    part = told((21, 0.09, 0.6), (22, 0.05, 0.8))
    assert part.verdict == "holds in some scores"
    assert part.figures == (
        "a: better: PSNR 21.50 ± 0.71 against 20.00 ± 0.00, MAE 0.0700 ± 0.0283 against 0.1000 ± 0.0000; "
        "not better: perceptual 0.7000 ± 0.1414 against 0.5000 ± 0.0000"
    )
    mixed = told((21, 0.09, 0.4), (22, 0.11, 0.4), (23, 0.05, 0.4))
    assert mixed.verdict == "holds in some seeds"
    assert "MAE 0.0833 ± 0.0306 against 0.1000 ± 0.0000 (better in 2 of 3)" in mixed.figures
    assert page._verdict(mixed) == "**holds in some seeds** (3 seeds)"
    assert claims.Asker(asked(), "pix2pix").everywhere("a beats b", "check", "a", "b").verdict == "not run yet"


def test_each_score_has_its_own_best_baseline():
    def row(name, psnr, mae):
        kind = "model" if name == "model" else "baseline"
        scores = {"psnr": {"value": psnr}, "mae": {"value": mae}}
        return {"name": name, "kind": kind, "table": "images", "scores": scores}

    rows = [row("model", 25.0, 0.05), row("mean face", 20.0, 0.04), row("copy input", 24.0, 0.09)]
    made = asked(a={1: {"evaluation": {"rows": rows}, "curves": {}}})
    found = claims.Asker(made, "pix2pix").beaten("a beats the best baseline of every score", "check", "a")
    assert found.verdict == "holds in some scores"
    assert found.figures == "a: better: PSNR 25.00 against 24.00; not better: MAE 0.0500 against 0.0400"


def test_what_contradicts_a_published_claim_stands_first():
    made = {"super-resolution": claims.super_resolution(asked(sr_mlp_published={1: scored(33.0, 33.0)},
                                                              sr_conv_published={1: scored(29.0, 33.0)}))}  # fmt: skip
    (told,) = page._contradicted(made)
    assert "super-resolution: The convolutional net beats the MLP (" in told


def test_the_batch_from_which_the_discriminator_has_won():
    def since(*losses):
        images = [32 * (n + 1) for n in range(len(losses))]
        return book.won_from({"curves": {"loss/discriminator": {"images": images, "mean": losses}}, "batch_size": 32})

    assert since(1.4, 0.01, 1.4, 0.04, 0.0) == 4
    assert since(0.01, 0.01) == 1
    assert since(1.4, 0.01, 0.06) is None
    assert since(0.01, None) is None


def test_mean_and_spread():
    assert book.spread([], 2) == ""
    assert book.spread([1234.567], 1) == "1,234.6"
    assert book.spread([1.0, 2.0, 4.0], 3) == f"2.333 ± {statistics.stdev([1, 2, 4]):.3f}"


# -------------------------------------------------------------------------------------------------------------- curves


def test_ticks_are_round_and_inside():
    assert curves.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert curves.ticks(0.013, 0.071, 5) == [0.02, 0.04, 0.06]
    assert curves.ticks(-1.1, 1.1, 4) == [-1, 0, 1]


def test_a_plot_is_xml_with_a_line_for_each_record():
    curve = {"images": [1, 2, 3], "mean": [0.5, None, 0.1]}
    text = curves.svg("a < b", [("one & two", curve), ("three", curve), ("three", curve)], log=True)
    drawn = ElementTree.fromstring(text)
    lines = [node for node in drawn.iter() if node.tag.endswith("polyline")]
    assert len(lines) == 3
    assert lines[1].get("stroke") == lines[2].get("stroke") != lines[0].get("stroke")
    assert curves.svg("nothing", [("a", {"images": [1], "mean": [None]})]) is None
    assert len(curves.svg("until", [("a", curve)], until=2).split("points=")[1].split('"')[1].split()) == 1


def test_the_first_batches_stand_one_by_one_and_the_rest_in_means():
    images, values = np.arange(1, 501) * 4.0, np.arange(500.0)
    found = record._thinned(images, values, each=True)
    assert found["mean"][: record.FIRST] == list(range(record.FIRST))
    assert len(found["mean"]) == record.FIRST + record.POINTS
    rest = slice(record.FIRST, None)
    assert found["low"][rest][0] == record.FIRST
    assert found["high"][-1] == 499
    whole = record._thinned(images[:80], values[:80], each=True)
    assert whole == {"images": list(images[:80]), "mean": list(range(80))}
    assert len(record._thinned(images, values, each=False)["mean"]) == record.POINTS


# ---------------------------------------------------------------------------------------------- no folder of a machine


def test_a_command_keeps_no_folder():
    typed = "python /home/me/train.py model=a data.root=/home/me/faces run_dir=/tmp/x init_from=../runs/b seed=5"
    wanted = "python train.py model=a data.root=$LFW init_from=b seed=5"
    assert record.portable(typed, ["data=lfw", "data.root=$LFW"]) == wanted


def test_strings_lose_folders_and_numbers_stay(tmp_path):
    (tmp_path / "run").mkdir()
    value = {"a": [f"evaluate {tmp_path}/run/x", 1.5, float("nan")], "b": None, "c": (True, 3)}
    assert record.clean(value, [tmp_path / "run"]) == {"a": ["evaluate run/x", 1.5, None], "b": None, "c": [True, 3]}


@pytest.mark.parametrize("told", ["/home/me", "data.root=/tmp", 'say "/a"', "~/faces", "at /x/y"])
def test_a_record_with_a_folder_is_refused(tmp_path, told):
    with pytest.raises(BadInput, match="folder of this machine"):
        record.write({"a": {"b": [told]}}, "name", tmp_path)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("told", ["12 images/s", "runs/a", "https://a.b/c", "(x.y/D+1)^3", "a / b", "W/O"])
def test_what_only_has_a_slash_is_kept(tmp_path, told):
    path = record.write({"a": told, "n": [1, 2.5, None]}, "name", tmp_path)
    assert json.loads(path.read_text()) == {"a": told, "n": [1, 2.5, None]}
    assert "[ 1, 2.5, null ]" in path.read_text()


# --------------------------------------------------------------------------------------------- from training to page


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A table of one row of a few weights on drawn faces, a folder with a README, and evaluation in this process."""
    row = replace(TABLE.rows["sr-conv-modern"], data="drawn", full_data="", overrides=SR, cpu=(), gap=True)
    table = replace(TABLE, rows={row.name: row})
    (tmp_path / "README.md").write_text("\n".join(page.MARKS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))

    def evaluated(run, which, data_root, options, out):
        count = int(options[options.index("--count") + 1]) if options else None
        split = "train" if options else "test"
        command.evaluate(command.Options(run, split, which, count, 0, out, True, data_root, ()))
        return json.loads(out.read_text())

    monkeypatch.setattr(record, "_evaluated", evaluated)
    monkeypatch.setattr(results, "load", lambda: table)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return table, row, tmp_path


@pytest.mark.slow
def test_a_run_becomes_a_record_and_a_page(small):
    table, row, place = small
    words = [*table.words(row, "cpu", 3), f"run_dir={place / 'any'}", "logger.mode=disabled"]
    assert training.train(config.compose(words), words) == 0
    docs = place / "docs" / "results"
    path = record.make(table, row, place / "any", "cpu", None, docs)
    found = json.loads(path.read_text())
    assert path == docs / "records/results/sr-conv-modern-s3.json"
    assert (found["images"], found["unlike_row"], found["batch_size"]) == (16, {}, 4)
    assert found["evaluation"]["data"]["faces"] == found["evaluation_train"]["data"]["faces"]
    assert str(place) not in path.read_text()
    assert found["curves"]["val/psnr"]["images"][-1] == 16
    assert (docs / "grids" / found["grid"]["file"]).exists()  # faces are drawn ones
    page.write(table, place)
    text = (place / "docs/results.md").read_text()
    psnr = next(r for r in found["evaluation"]["rows"] if r["name"] == "model")["scores"]["psnr"]["value"]
    assert f"| **{row.title}** | {psnr:.2f} |" in text
    assert "results/records/results/sr-conv-modern-s3.json" in text
    assert "Not run yet" in text  # the seed that the row asks for is another
    assert page.stale(table, place) == []
    assert f"| PSNR, dB | {psnr:.2f} |" in (place / "README.md").read_text()


@pytest.mark.slow
def test_a_run_that_is_not_the_rows_says_so(small):
    table, row, place = small
    other = [*table.words(row, "cpu", 3), "model.optimizer.lr=0.5", "trainer.max_images=8"]
    words = [*other, f"run_dir={place / 'any'}", "logger.mode=disabled"]
    assert training.train(config.compose(words), words) == 0
    saved = record.checkpoint.read(place / "any/checkpoints/last.ckpt")["config"]
    found = record.differences(row, table.words(row, "cpu", 3), saved)
    assert found == {"model.optimizer.lr": [1e-3, 0.5], "trainer.max_images": [16, 8]}
    alien = replace(row, overrides=[*SR, "model/loss=l1"])
    with pytest.raises(BadInput, match=r"no run of sr-conv-modern: model\.loss\._target_ is faceforge\.losses\.Charb"):
        record.make(table, alien, place / "any", "cpu", None, place)
    facts = json.loads((place / "any/run.json").read_text())
    (place / "any/run.json").write_text(json.dumps({**facts, "status": "running"}))
    with pytest.raises(BadInput, match="is running, not finished"):
        record.make(table, row, place / "any", "cpu", None, place)


@pytest.mark.slow
def test_the_command_trains_resumes_records_and_makes_the_page(small, monkeypatch, capfd):
    """Of an ordinary row and of a row of steps, through the command and train.py."""
    table, row, place = small
    step = replace(row, name="a-step", kind="step", title="a heavy one")
    table = replace(table, rows={row.name: row, step.name: step})
    monkeypatch.setattr(results, "load", lambda: table)
    monkeypatch.setattr(record, "RESULTS", place / "docs/results")
    monkeypatch.setattr(record.make, "__defaults__", (place / "docs/results",))
    shutil.copy(ROOT / "train.py", place)
    for name in (row.name, step.name):
        results.train(name, None, "cpu", None, None, None, Path("runs"), 1)
    found = json.loads((place / "docs/results/records/results/a-step-s1.json").read_text())
    assert found["steps"]["same"]
    assert (found["steps"]["resumed"], found["images"]) == (1, 8)
    text = (place / "docs/results.md").read_text()
    assert "| a heavy one |" in text
    assert "| identical |" in text
    capfd.readouterr()
