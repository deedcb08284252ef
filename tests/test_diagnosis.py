"""Rules: silent on healthy runs, one sentence for each fault that is injected, once, whatever the interruptions."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from faceforge import config
from faceforge.data import tasks
from faceforge.engine import alerts, checkpoint
from faceforge.engine.alerts import RULES, Remedy, Rule, Watch
from faceforge.engine.progress import Progress
from faceforge.report import page

ROOT = Path(__file__).parents[1]
EVERYTHING = {
    "val/variance_ratio": 0.9,
    "val/mean_face_distance": 0.95,
    "val/mae": 0.05,
    "train/mae": 0.045,
    "val/gap": 0.11,
    "val/active_units": 60.0,
    "val/diversity": 0.95,
    "val/nearest": 0.97,
    "val/checkerboard": 1.2,
}
TRAINING = {"discriminator/saturation": 0.05, "discriminator/signal": 0.7, "logit/real": 1.5, "logit/fake": 0.2}
# Recorded: dcgan_conventional on drawn faces, validated every 1500 images from the start.
HEALTHY_GAN = [
    (0.920, 1.054, 4.07),
    (0.913, 0.961, 3.90),
    (0.912, 0.943, 2.54),
    (0.997, 1.013, 3.37),
    (1.030, 1.042, 2.32),
    (1.050, 1.044, 2.33),
    (1.077, 1.064, 1.72),
    (1.057, 1.064, 1.66),
]
HEALTHY_LOGITS = [(0.418, 0.801), (0.191, 0.783), (0.052, 0.741), (0.023, 0.739), (0.033, 0.716), (0.040, 0.726)]


def settings(**model):
    return {"model": model, "data": {"batch_size": 10, "augment": None}, "choices": {}}


def told(rows, kind="validation", configuration=None, task=tasks.NoInput):
    """The names of the rules that speak on rows 1000 images apart."""
    watch = Watch(configuration or settings(), 10)
    watch.mean_is_best = task.mean_is_best
    notes = [getattr(watch, kind)(1000 * (n + 1), row) for n, row in enumerate(rows)]
    return [note["rule"] for found in notes for note in found]


def series(**changes):
    """Validations of a healthy run in which some figures take other values, one after another."""
    length = max(len(values) for values in changes.values())
    names = {name.replace("__", "/"): values for name, values in changes.items()}
    return [{**EVERYTHING, **{name: values[n] for name, values in names.items()}} for n in range(length)]


# -------------------------------------------------------------------------------------------------------------- silence


def test_nothing_is_said_of_healthy_figures():
    assert told([EVERYTHING] * 20) == []
    assert told([TRAINING] * 20, "training") == []


def test_nothing_is_said_of_a_recorded_run():
    names = ("val/diversity", "val/nearest", "val/checkerboard")
    assert told([dict(zip(names, row, strict=True)) for row in HEALTHY_GAN]) == []
    names = ("discriminator/saturation", "discriminator/signal")
    assert told([dict(zip(names, row, strict=True)) for row in HEALTHY_LOGITS], "training") == []


@pytest.mark.parametrize(
    "rows",
    [
        series(val__diversity=[0.05, 0.1, 0.3, 0.6, 0.9], val__nearest=[0.05, 0.1, 0.3, 0.6, 0.9]),
        series(val__checkerboard=[40, 20, 12, 7, 4, 2]),
        series(val__variance_ratio=[0.01, 0.03, 0.06, 0.3], val__mean_face_distance=[0.1, 0.2, 0.3, 0.5]),
        series(val__active_units=[2, 3, 5, 9]),
        series(val__mae=[0.05, 0.049, 0.048, 0.047], val__gap=[0.5, 0.6, 0.7, 0.8]),
    ],
)
def test_what_mends_by_itself_is_no_fault(rows):
    assert told(rows, configuration=settings(code={"latent_size": 100})) == []


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_scores_that_are_missing_or_no_numbers_say_nothing(kind):
    assert told([{}] * 9, kind) == []
    nan = float("nan")
    assert told([dict.fromkeys([*EVERYTHING, *TRAINING], nan)] * 9, kind) == []


# --------------------------------------------------------------------------------------------------------------- faults

FAULTS = {
    "constant output": series(val__variance_ratio=[1e-5] * 4, val__mean_face_distance=[2.0] * 4),
    "mean face": series(val__variance_ratio=[0.02] * 4, val__mean_face_distance=[0.15] * 4),
    "overfitting": series(val__mae=[0.05, 0.051, 0.05, 0.052], train__mae=[0.03] * 4, val__gap=[0.6] * 4),
    "inactive code": series(val__active_units=[9, 3, 2, 2]),
    "collapse": series(val__diversity=[0.9, 0.04, 0.04, 0.04], val__nearest=[0.9, 0.03, 0.03, 0.03]),
    "checkerboard": series(val__checkerboard=[19, 20, 18, 19]),
}
TRAINING_FAULTS = {
    "discriminator won": [{**TRAINING, "discriminator/saturation": 1.0, "discriminator/signal": 1e-4}] * 9,
    "discriminator blind": [{**TRAINING, "logit/real": -0.012, "logit/fake": 0.007}] * 9,
}


def test_every_rule_has_a_fault():
    assert {rule.name for rule in RULES} == {*FAULTS, *TRAINING_FAULTS}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_outputs_is_named_once(name):
    assert told(FAULTS[name] * 3, configuration=settings(code={"latent_size": 100})) == [name]


@pytest.mark.parametrize("name", TRAINING_FAULTS)
def test_each_fault_of_the_discriminator_is_named_once(name):
    assert told(TRAINING_FAULTS[name], "training") == [name]


@pytest.mark.parametrize("apart", [[0.0] * 9, [-1.6, -3.5, -4.1, -4.6, -4.9], [0.006, 0.003, 0.002, 0.003, 0.003]])
def test_a_discriminator_that_rates_generated_faces_as_high_or_higher(apart):
    assert told([{**TRAINING, "logit/real": 0.0, "logit/fake": -d} for d in apart], "training") == [
        "discriminator blind"
    ]


def test_a_discriminator_that_begins_to_see():
    """Recorded: pix2pix, whose labels lie 1 apart, in its first 500 images."""
    apart = [0.014, 0.016, 0.021, 0.024, 0.028, 0.035, 0.046]
    assert told([{**TRAINING, "logit/real": 0.5 + d, "logit/fake": 0.5} for d in apart], "training") == []


def test_few_faces_are_a_collapse_even_if_they_differ():
    assert told(series(val__diversity=[0.99] * 3, val__nearest=[0.03] * 3)) == ["collapse"]


@pytest.mark.parametrize("task", [tasks.Average("all", None), tasks.Noise("normal", 0)])
def test_the_mean_face_is_the_right_answer_to_some_tasks(task):
    assert told(FAULTS["mean face"], task=task) == []
    assert told(FAULTS["mean face"], task=tasks.Autoencode()) == ["mean face"]
    assert told(FAULTS["checkerboard"], task=task) == ["checkerboard"]


def test_generators_without_settings_are_told_of_another():
    rule = next(rule for rule in RULES if rule.name == "checkerboard")
    advice = {}
    for choice in ("tutorial", "published_conventional", "conventional", "cnn"):
        found = config.compose([f"model/generator={choice}"])
        advice[choice] = rule.say(EVERYTHING, found).endswith("Try model/generator=conventional.")
    assert advice == {"tutorial": True, "published_conventional": True, "conventional": False, "cnn": False}
    assert "model/generator" not in rule.say(EVERYTHING, config.compose(["model=pix2pix", "model/generator=unet"]))


def test_one_bad_validation_is_no_fault():
    bad = {**EVERYTHING, "val/checkerboard": 30.0, "val/diversity": 0.0, "val/variance_ratio": 0.0}
    assert told([EVERYTHING, bad, EVERYTHING, bad, EVERYTHING]) == []


# ------------------------------------------------------------------------------------------------------------ the watch


def test_logging_every_batch_is_no_reason_for_haste():
    """Batches of 10: won for 30 of them and then no more, told only if it lasts for 40."""
    won, fine = TRAINING_FAULTS["discriminator won"][0], TRAINING
    for lasting, expected in ((30, []), (40, ["discriminator won"])):
        watch = Watch(settings(), 10)
        rows = [won] * lasting + [fine] * 20
        notes = [note["rule"] for n, row in enumerate(rows) for note in watch.training(10 * (n + 1), row)]
        assert notes == expected


def test_validations_in_quick_succession_count_once():
    watch = Watch(settings(), 10)
    for images in range(10, 600, 10):
        assert watch.validation(images, FAULTS["checkerboard"][0]) == []
    assert [note["images"] for note in watch.validation(600, FAULTS["checkerboard"][0])] == [600]


def test_a_saved_watch_goes_on_as_if_never_stopped():
    rows = FAULTS["checkerboard"] * 2 + FAULTS["collapse"] * 2
    whole, parts = Watch(settings(), 10), Watch(settings(), 10)
    for n, row in enumerate(rows):
        images = 300 * (n + 1)
        assert parts.validation(images, row) == whole.validation(images, row)
        assert parts.training(images // 4, TRAINING) == whole.training(images // 4, TRAINING)
        state = json.loads(json.dumps(parts.state_dict()))  # plain data
        assert state == parts.state_dict() == whole.state_dict()
        parts = Watch(settings(), 10)
        parts.load_state_dict(state)
    assert [note["rule"] for note in parts.notes] == ["checkerboard", "collapse"]


def test_the_sentence_has_the_figures_and_the_first_advice_that_fits():
    rule = next(rule for rule in RULES if rule.name == "discriminator won")
    row = {"discriminator/saturation": 0.987, "discriminator/signal": 0.0042}
    said = rule.say(row, settings(objective="minimax", r1_gamma=0.0))
    assert "certain and correct on 99% of the faces; 0.4% of the full gradient signal" in said
    assert said.endswith("Try model.objective=non_saturating, which keeps the full signal.")
    assert "model.r1_gamma" in rule.say(row, settings(objective="hinge", r1_gamma=0.0))
    assert rule.say(row, settings()).endswith("reaches the generator.")


def test_every_key_in_an_advice_exists_in_some_model():
    models = [p.stem for p in (ROOT / "conf/model").glob("*.yaml")]
    composed = [config.compose([f"model={model}"]) for model in models]
    composed.append(config.compose(["model=latent_editor", "model/code=gaussian"]))
    for rule in RULES:
        for remedy in rule.remedies:
            known = Remedy(remedy.key, "")
            assert any(known.fits(configuration) for configuration in composed), remedy.key
            named = remedy.key.removeprefix("choices.")
            assert named in remedy.advice or remedy.key == "model.code.log_variance", remedy


def test_rules_have_names_of_their_own_and_texts_that_can_be_filled():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert isinstance(rule, Rule)
        row = {**EVERYTHING, **TRAINING, "latent_size": 7}
        assert rule.say(row, {}).endswith(".")
        assert set(rule.needs) <= row.keys()


# --------------------------------------------------------------------------------------------------------------- a run


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


SIXTEEN = ["data.size=16", "model.val_samples=4", "data.source.count=100"]


def test_a_run_logs_its_health(tiny):
    rows = metrics(tiny("a", *SIXTEEN))
    validations = [row for row in rows if "val/kid" in row]
    assert all({"val/diversity", "val/nearest", "val/checkerboard"} <= row.keys() for row in validations)
    steps = [row for row in rows if "loss/discriminator" in row]
    assert all(0 <= row["discriminator/saturation"] <= 1 for row in steps)
    assert all(0 <= row["discriminator/signal"] <= 1 for row in steps)


@pytest.mark.slow
def test_a_dead_generator_is_told_once_on_the_screen_in_the_record_and_the_report(tiny, resume, monkeypatch, capsys):
    from faceforge.schemes.adversarial import AdversarialModule

    plain = AdversarialModule.decode
    monkeypatch.setattr(AdversarialModule, "decode", lambda self, *rest: plain(self, *rest).mul(0))
    limits = ["trainer.max_images=320", "trainer.checkpoint_every=80", "trainer.log_every=40"]
    folder = tiny("a", *SIXTEEN, *limits)
    (note,) = [note for note in json.loads((folder / "run.json").read_text())["notes"] if note["rule"] == "collapse"]
    assert note["images"] == 240
    assert capsys.readouterr().err.count(note["text"]) == 1
    assert note["text"] in page.Facts(folder).record["notes"][0]["text"]
    assert "collapse" in (folder / "report.html").read_text()
    assert resume(folder, "trainer.max_images=480") == 0
    assert capsys.readouterr().err.count(note["text"]) == 0
    assert [n["rule"] for n in json.loads((folder / "run.json").read_text())["notes"]].count("collapse") == 1
    state = checkpoint.read(folder / "checkpoints" / "last.ckpt")["callbacks"]
    assert any("watch" in value for value in state.values())


@pytest.mark.slow
def test_paired_runs_compare_training_with_validation(tiny):
    from conftest import TINY

    small = [o for o in TINY if not o.startswith("model.")]
    folder = _paired(tiny, small)
    rows = [row for row in metrics(folder) if "val/mae" in row]
    assert rows
    for row in rows:
        assert row["val/gap"] == pytest.approx(row["val/mae"] / row["train/mae"] - 1, rel=1e-6)
        assert row["val/mean_face_distance"] > 0
        assert 0 <= row["val/active_units"] <= 8
        assert row["val/kl"] >= 0


def _paired(tiny, small):
    from faceforge.engine import training

    folder = Path("paired").resolve()
    overrides = [*small, "model=latent_editor", "model.code.latent_size=8", "model.encoder.width=4"]
    overrides += ["model.decoder.width=4", "data.size=16", "data.source.count=100", f"run_dir={folder}"]
    assert training.train(config.compose(overrides), overrides) == 0
    return folder


def test_the_same_faces_are_judged_each_time_and_the_error_is_the_plain_one():
    """An oracle for train/mae and the mean face: a scheme that always answers grey."""
    from faceforge.losses import L1
    from faceforge.schemes.supervised import PairedScheme

    class Grey(PairedScheme):
        def predict(self, inputs, averaged=True):
            return torch.zeros_like(inputs)

    class Data:
        def __init__(self):
            self.counts = {"train": 5, "val": 3}
            self.faces = {name: torch.rand(n, 1, 16, 17) * 2 - 1 for name, n in self.counts.items()}

        def pairs(self, split, indices):
            chosen = self.faces[split][torch.as_tensor(list(indices))]
            return {"input": chosen, "target": chosen}

        def pairs_in_chunks(self, split, chunk=256):
            yield self.pairs(split, range(self.counts[split]))

    module, data = Grey(L1(), None, None, seed=0), Data()
    first, second = module.validate(data), module.validate(data)
    assert first == second
    errors = data.faces["train"].abs().flatten(1).mean(1) / 2
    assert first["train/mae"] == pytest.approx(float(errors.mean()), abs=float(errors.std()))
    assert first["val/mae"] == pytest.approx(float(data.faces["val"].abs().mean() / 2), rel=1e-6)
    assert first["val/gap"] == pytest.approx(first["val/mae"] / first["train/mae"] - 1)


# ------------------------------------------------------------------------------------------------------- what is shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_above_the_bar_leaves_the_bar_whole():
    stream = Terminal()
    progress = Progress(100, stream)
    progress.start()
    progress.say("At 10 images: something.")
    progress.update(20)
    progress.close()
    lines = stream.getvalue().replace("\r", "\n").split("\n")
    assert "At 10 images: something." in [line.strip() for line in lines]
    assert any("20/100" in line for line in lines[-3:])


def test_a_line_where_nobody_looks_on():
    stream = io.StringIO()
    Progress(100, stream).say("Something.")
    assert stream.getvalue() == "Something.\n"


def test_the_report_explains_what_was_watched(tmp_path):
    (tmp_path / "metrics.csv").write_text("images,val/diversity,discriminator/signal\n10,0.5,0.25\n")
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "notes": []}))
    source = page.write_report(tmp_path).read_text()
    assert "No problem was detected." in source
    assert "always the same face" in source
    assert "0.25" in source


@pytest.mark.parametrize("notes", [None, 3, ["x"], [{}], [{"text": "<b>fault</b>"}], [{"text": 1, "images": "no"}]])
def test_the_report_bears_strange_notes(tmp_path, notes):
    (tmp_path / "run.json").write_text(json.dumps({"notes": notes}))
    source = page.write_report(tmp_path).read_text()
    assert "<b>fault</b>" not in source


def test_a_quantity_on_both_splits_has_one_panel(tmp_path):
    from faceforge.report import charts

    header = "images,val/gap,loss/train,loss/kl,val/loss,val/kl,val/mae,train/mae,discriminator/signal,val/kid"
    (tmp_path / "metrics.csv").write_text(f"{header}\n1,1,2,3,4,5,6,7,8,9\n")
    panels = {panel.title: [s.name for s in panel.series] for panel in charts.read_panels(tmp_path / "metrics.csv")}
    assert list(panels.items()) == [
        ("Losses", ["loss/train", "val/loss"]),
        ("discriminator", ["discriminator/signal"]),
        ("Training and validation: mae", ["val/mae", "train/mae"]),
        ("Validation: kid", ["val/kid"]),
        ("Validation: gap", ["val/gap"]),
        ("Training and validation: kl", ["loss/kl", "val/kl"]),
    ]
    (mae,) = [p for p in charts.read_panels(tmp_path / "metrics.csv") if p.title.endswith("mae")]
    assert charts.chart(mae, 1.0).legend == [("validation", "6"), ("training", "7")]


def test_every_watched_score_is_explained():
    from faceforge.report.diagnosis import FIGURES

    needed = {name for rule in RULES for name in rule.needs} - {"latent_size", "logit/real", "logit/fake"}
    assert needed <= FIGURES.keys()
    assert alerts.KEPT >= 5
