"""GANs that are told attributes: what networks do with labels, that faces follow them, and every way to choose them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from test_training import same

from faceforge import config
from faceforge.engine import bench, checkpoint, training
from faceforge.errors import BadInput
from faceforge.evaluation import command as evaluation
from faceforge.evaluation import told
from faceforge.io.images import decode, write_png
from faceforge.networks.conditional import EXAMPLES, ConditionalGenerator, take_labels
from faceforge.networks.dcgan import ConventionalDiscriminator, ConventionalGenerator, TutorialGenerator
from faceforge.networks.residual import ResidualDiscriminator, ResidualGenerator
from faceforge.networks.wide import CnnGenerator
from faceforge.schemes import conditions
from faceforge.studio import animation, command, export, onnx_use
from faceforge.studio.command import Request
from faceforge.studio.model import open_model
from faceforge.studio.web import handlers

NARROW = {"width": 4, "max_width": 8}
GENERATORS = {
    "conventional": lambda size, channels: ConventionalGenerator(size, channels, latent_size=7, **NARROW),
    "residual": lambda size, channels: ResidualGenerator(size, channels, latent_size=7, **NARROW),
    "cnn": lambda size, channels: CnnGenerator(size, channels, **NARROW),
    "cnn, uniform": lambda size, channels: CnnGenerator(size, channels, latent="uniform", **NARROW),
}
JUDGES = {
    "conventional": lambda size, channels: ConventionalDiscriminator(size, channels, **NARROW),
    "residual": lambda size, channels: ResidualDiscriminator(size, channels, **NARROW),
}
TOLD = "model.conditional=[Smiling,Eyeglasses]"


@pytest.mark.parametrize("size", [8, [24, 40]])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_that_is_told_nothing_is_as_before_and_labels_change_its_faces(name, size):
    torch.manual_seed(0)
    network = GENERATORS[name](size, 3).eval()
    z = torch.randn(2, *network.latent_shape)
    before = network(z)
    made = ConditionalGenerator(network, ["A", "B", "C"]).eval()
    assert torch.equal(network(z), before)
    assert made.latent_shape == (z[0].numel() + 3,)
    for labels in ([[0, 0, 0]] * 2, [[1, -1, 0], [0, 0.5, 1]]):
        labels = torch.tensor(labels, dtype=torch.float32)
        faces = made(torch.cat([z.flatten(1), labels], 1))
        assert faces.shape == before.shape
        assert torch.equal(faces, network(z, labels))
        assert torch.allclose(faces, before) == (not labels.any())  # of unknown attributes nothing is said
    one = torch.cat([z.flatten(1), labels], 1)[:1]
    torch.testing.assert_close(made(one), faces[:1])


@pytest.mark.parametrize("size", [8, [24, 40]])
@pytest.mark.parametrize("name", JUDGES)
def test_a_logit_is_that_without_labels_and_a_product_of_features(name, size):
    torch.manual_seed(0)
    judge = JUDGES[name](size, 1).eval()
    images = torch.rand(3, 1, *(size if isinstance(size, list) else (size, size)))
    plain = judge(images)
    take_labels(judge, 2)
    seen = []
    judge.variety.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    labels = torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 1.0]])
    found = judge(images, labels)
    features = seen[0].mean((2, 3))
    for n in range(3):
        embedded = sum(labels[n, k] * judge.told.weight[:, k] for k in range(2))
        right = plain[n] + (features[n] * embedded).sum() / features.shape[1] ** 0.5
        torch.testing.assert_close(found[n], right)
    torch.testing.assert_close(judge(images), plain)


def test_a_network_without_labels_is_named():
    with pytest.raises(ValueError, match="TutorialGenerator takes no labels; must be"):
        ConditionalGenerator(TutorialGenerator(), ["A"])


# --------------------------------------------------------------------------------------------------- labels of faces


def faces_with(names, values, train=None):
    values = np.array(values, np.float32)
    rows = np.arange(len(values)) if train is None else np.array(train)
    return SimpleNamespace(attributes=(names, values), rows={"train": rows})


def test_labels_are_one_and_minus_one_and_nothing_where_unknown():
    data = faces_with(["A", "B"], [[0, 1], [1, np.nan], [np.nan, 0]])
    assert conditions.labels_of(data, ["B", "A"]).tolist() == [[1, -1], [0, 1], [-1, 0]]


def test_labels_are_drawn_as_often_as_training_faces_have_them():
    values = np.zeros((4000, 1))
    values[:1000] = 1
    data = faces_with(["A"], values, train=range(2000))  # half of those, a quarter of all
    examples = conditions.examples_of(conditions.labels_of(data, ["A"]), data)
    assert (len(examples), examples.float().mean()) == (EXAMPLES, 0)
    uniforms = torch.tensor([[0.0], [0.25], [0.75], [1 - 2**-24]])
    assert conditions.picked(examples, uniforms).tolist() == [[1], [1], [-1], [-1]]


def test_few_training_faces_are_repeated():
    data = faces_with(["A"], [[0], [1], [1]])
    examples = conditions.examples_of(conditions.labels_of(data, ["A"]), data)
    assert abs(float((examples == 1).float().mean()) - 2 / 3) < 0.01


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_grid_shows_the_same_faces_without_and_with_each_attribute(count):
    z = torch.cat([torch.arange(32)[:, None].float(), torch.full((32, count), 0.5)], 1)
    made = conditions.with_and_without(z, count).unflatten(0, (8, 8))
    for pair in range(4):
        lacking, having = made[2 * pair], made[2 * pair + 1]
        changed = (lacking != having).any(0).nonzero().flatten().tolist()
        assert changed == [1 + pair % min(count, 4)]
        assert lacking[:, changed].unique().tolist() == [-1]
        assert having[:, changed].unique().tolist() == [1]
    assert len({tuple(row) for row in made.flatten(0, 1).tolist()}) == 64


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model.conditional=[Smile]"], "model.conditional: the faces have no attribute Smile; must be of Arched_"),
        (["model.conditional=[Smiling,Smiling]"], "must be names of attributes, each once"),
        ([TOLD, "model/generator=published_conventional"], "takes no labels; must be a network that has take_labels"),
        (["model.conditional=all"], "model.conditional: 'all' is not "),
    ],
)
def test_labels_that_cannot_be_are_one_line(train_typed, words, reason):
    own = [word for word in TINY if not (words[1:] and word.startswith(("model.generator", "data.size")))]
    code, _, said = train_typed(*own, *words)
    assert (code, said.count("\n")) == (2, 1)
    assert reason in said


def crops(folder, sets, count=24):
    """Pictures in sub-folders, each of one grey with a little noise."""
    noise = np.random.default_rng(0)
    for name, grey in sets.items():
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = np.clip(grey + noise.normal(0, 12, (8, 8, 3)), 0, 255).astype(np.uint8)
            write_png(pixels, folder / name / f"{n}.png")
    own = [word for word in TINY if not word.startswith("data.source")]
    return [*own, "data=crops", f"data.root={folder}"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("[A]", "the faces have no attributes; data.attributes must name a CSV of them"),
        ("labels", "of the attributes of the faces, there are none; data.attributes must name a CSV of them"),
    ],
)
def test_faces_without_attributes_are_named(train_typed, tmp_path, asked, reason):
    code, _, said = train_typed(*crops(tmp_path / "one", {"": 100}), f"model.conditional={asked}")
    assert (code, said.count("\n")) == (2, 1)
    assert reason in said


def test_numbers_are_no_labels():
    data = SimpleNamespace(
        attributes=(["age", "same"], np.array([[30.0, 1], [40, 1], [50, 1]])), rows={"train": [0, 1, 2]}
    )
    data.prepare = lambda progress: None
    with pytest.raises(BadInput, match="of the attributes of the faces, none is 0 for some and 1 for others"):
        conditions.with_names({"conditional": "labels"}, data)
    assert conditions.with_names({"conditional": ["age"]}, data) == {"conditional": ["age"]}
    assert conditions.with_names({}, data) == {}


# ---------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tiny runs: of both attributes of drawn faces, of none, and one that has learned bright and dark pictures."""
    place = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, words in {"told": [TOLD], "plain": []}.items():
            train([*TINY, "data.size=16", "trainer.max_images=16", *words, f"run_dir={place / name}"])
        yield place


def told_run(tmp_path_factory):
    """A tiny run that is told attributes, for tests of the page."""
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        train([*TINY, "data.size=16", "trainer.max_images=16", TOLD, f"run_dir={folder / 'run'}"])
    return folder / "run"


def train(overrides):
    assert training.train(config.compose(overrides), overrides) == 0


@pytest.fixture
def model(place):
    return open_model(place / "told")


def test_a_run_that_is_told_goes_on_to_the_same_bits(tiny, resume):
    whole = tiny("whole", TOLD)
    part = tiny("part", TOLD, "trainer.max_images=20")
    assert resume(part, "trainer.max_images=40") == 0
    same(whole, part)
    module = checkpoint.load(checkpoint.find(part, "last"))
    assert torch.equal(module.generator.examples, module.average.examples)
    assert module.average.examples.unique().tolist() == [-1, 1]


def test_labels_are_all_that_the_faces_have(tiny, resume, train_typed, tmp_path):
    """The run's own record says ``labels``, its checkpoints the names; the same command continues it."""
    words = [*TINY, "model.conditional=labels", f"run_dir={tmp_path / 'run'}"]
    code, said, wrong = train_typed(*words, "trainer.max_images=20")
    assert code == 0, wrong
    assert "conditional: labels" in (tmp_path / "run" / "config.yaml").read_text()
    module = checkpoint.load(checkpoint.find(tmp_path / "run", "last"))
    assert {"Smiling", "Eyeglasses", "Male"} <= set(module.labels)
    assert module.config["model"]["conditional"] == list(module.labels)
    code, said, wrong = train_typed(*words, "trainer.max_images=40")
    assert code == 0, wrong
    assert "40" in said
    same(tiny("whole", "model.conditional=labels"), tmp_path / "run")
    named = tiny("named", f"model.conditional=[{','.join(module.labels)}]")
    one, two = (checkpoint.read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (named, tmp_path / "run"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_weights_go_from_untold_to_told_and_back(tiny, capsys):
    plain, told_ = tiny("plain", "trainer.max_images=8"), tiny("told", TOLD, "trainer.max_images=8")
    capsys.readouterr()
    for source, words, new in ((plain, [TOLD], 3), (told_, [], 0), (told_, [TOLD], 0)):
        target = tiny(f"{source.name}-{len(words)}", *words, f"init_from={source}", "trainer.max_images=4")
        said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("init_from"))
        for part in ("generator", "average"):
            matched, whole = map(int, said.split(f"{part} ")[1].split(",")[0].split(";")[0].rstrip(")").split("/"))
            assert whole - matched <= (2 if new else 0), said  # the map of labels and examples are new
        assert target.exists()


def test_its_speed_can_be_measured_and_foretold(train_typed, capsys):
    code, said, wrong = train_typed(*TINY, TOLD, "dry_run=true")
    assert (code, "Dry run: 40 images" in said) == (0, True), wrong
    assert bench.step_seconds(config.compose([*TINY, TOLD]), bench.Choice("", None, {}), 0.01) > 0


def test_sub_folders_are_labels_that_faces_follow(tmp_path, monkeypatch):
    """What bright and dark pictures are is learned from the names of their folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    words = crops(tmp_path / "sets", {"bright": 200, "dark": 50})
    words += ["data.batch_size=8", "model.augment_policy=[]"]
    words += ["trainer.max_images=4000", "trainer.sample_every=4000", "trainer.checkpoint_every=4000"]
    train([*words, "model.conditional=[bright]", f"run_dir={tmp_path / 'run'}"])
    model = open_model(tmp_path / "run")
    bright, dark = (next(model.faces(16, chosen={"bright": value})).mean() for value in (1, 0))
    assert bright - dark > 0.6  # 200 and 50 are 1.18 apart
    any_ = next(model.faces(64)).mean((1, 2, 3))
    assert any_.max() - any_.min() > 0.6


# ------------------------------------------------------------------------------------------------------ choosing labels


def test_chosen_labels_are_set_and_others_are_those_of_the_sample(model):
    free, chosen = model.codes(9, 3), model.codes(9, 3, chosen={"Eyeglasses": 1, "Smiling": 0.25})
    assert torch.equal(free[:, :-2], chosen[:, :-2])
    assert chosen[:, -2:].unique(dim=0).tolist() == [[-0.5, 1]]
    assert set(free[:, -2:].unique().tolist()) <= {-1, 1}
    assert torch.equal(model.codes(4, 3, start=5), free[5:])
    brought = model.codes(9, 3, truncation=0.5)
    torch.testing.assert_close(brought[:, :-2], free[:, :-2] / 2)
    assert torch.equal(brought[:, -2:], free[:, -2:])


def test_the_command_writes_what_was_chosen(place, model, tmp_path, capsys):
    asked = Request(place / "told", tmp_path / "faces.png", False)
    command.generate(asked, 3, 1, 1.0, "mixture", ["Smiling=1"])
    recipe = json.loads(Image.open(tmp_path / "faces.png").text["faceforge"])
    assert recipe["attributes"] == {"Smiling": 1.0}
    said = capsys.readouterr().out
    assert "Smiling=1" in said.splitlines()[-1]
    face = decode((tmp_path / "faces.png").read_bytes())
    assert face.shape[2] == 3


@pytest.mark.parametrize(
    ("run", "word", "reason"),
    [
        ("told", "Smiling=2", "Smiling=2: must be from 0 (without) to 1 (with)"),
        ("told", "Smiling=nan", "Smiling=nan: must be NAME=NUMBER"),
        ("told", "Bald=1", "knows Smiling, Eyeglasses; must be one of them"),
        ("plain", "Smiling=1", "takes no attributes; must be a run of a GAN trained with model.conditional=[...]"),
        ("latent", "Nose=1", "must be one of them"),
    ],
)
def test_a_choice_that_cannot_be_is_one_line(place, tmp_path, run, word, reason):
    where = "drawn:latent_editor" if run == "latent" else place / run
    with pytest.raises(BadInput) as caught:
        command.generate(Request(where, tmp_path / "x.png", False), 1, 0, 1.0, "mixture", [word])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.png").exists()


def test_a_walk_goes_around_noise_and_straight_through_labels(place, model, monkeypatch):
    stops = model.codes(2, 0)
    stops[:, -2:] = torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    monkeypatch.setattr(type(model), "codes", lambda self, *args, **options: stops.clone())
    seen = []
    monkeypatch.setattr(type(model), "decode", lambda self, z: seen.append(z) or torch.zeros(len(z), 3, 2, 2))
    list(animation.walk(model, 2, 4))
    (z,) = seen
    assert z[:, -2].tolist() == [-1, 0, 1, 0]
    assert z[:, -1].tolist() == [1, 1, 1, 1]
    assert z[1, :-2].norm() > (stops[0, :-2] + stops[1, :-2]).norm() / 2


def test_one_face_along_an_attribute(model):
    frames, way = animation.one_face(model, "Smiling", (-2.0, 2.0), 8)
    frames = list(frames)
    right = [next(model.faces(1, chosen={"Smiling": value})) for value in (0, 1)]
    assert way == {"attribute": "Smiling", "from_to": (0.0, 1.0)}
    for frame, face in zip((frames[0], frames[4]), right, strict=True):
        assert np.array_equal(frame, next(iter(animation.to_pictures(face))))
    with pytest.raises(BadInput, match="knows Smiling, Eyeglasses"):
        animation.one_face(model, "Bald", (0.0, 1.0), 8)


def test_the_page_offers_and_takes_what_faces_can_be_told(model):
    ask = handlers.Ask({"count": "2", "seed": "5", "attributes": "Smiling=1,Eyeglasses=0"})
    made = handlers.answer("generate", model, ask)
    faces = next(model.faces(2, 5, chosen={"Smiling": 1, "Eyeglasses": 0}))
    for file, face in zip(made.files["made"], animation.to_pictures(faces), strict=True):
        assert np.array_equal(decode(file.data), face)
        assert json.loads(file.recipe)["attributes"] == {"Smiling": 1.0, "Eyeglasses": 0.0}
    with pytest.raises(BadInput, match="knows Smiling"):
        handlers.answer("generate", model, handlers.Ask({"attributes": "Bald=1"}))


def test_an_export_is_told_the_same(model, tmp_path):
    export.write_safetensors(model, tmp_path / "a.safetensors")
    again = open_model(tmp_path / "a.safetensors")
    chosen = {"Eyeglasses": 1.0}
    assert again.labels == model.labels
    assert torch.equal(next(again.faces(3, 1, chosen=chosen)), next(model.faces(3, 1, chosen=chosen)))
    export.write_onnx(model, tmp_path / "a.onnx")
    session, about = onnx_use.open_model(tmp_path / "a.onnx")
    assert about["input"]["labels"] == ["Smiling", "Eyeglasses"]
    z = onnx_use.draw(about, 50, 0)
    assert set(np.unique(z[:, -2:])) == {-1, 1}
    assert onnx_use.run(session, z).shape == (50, 3, 16, 16)


# ------------------------------------------------------------------------------------------------------------ agreement


class Painter:
    """Faces that are as they are told, or as they please."""

    labels, device = ("bright", "round"), torch.device("cpu")

    def __init__(self, heeds):
        self.heeds = heeds

    def draw(self, count, seed):
        return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))

    def decode(self, z):
        level = z[:, -2] if self.heeds else z[:, 0].sign()
        return (0.5 * level)[:, None, None, None] + 0.1 * torch.randn(len(z), 1, 8, 8)


class Greys:
    """Bright and dark faces; which are round cannot be seen."""

    def __init__(self, count=600):
        noise = np.random.default_rng(0)
        bright, round_ = (np.arange(count) % 2).astype(np.float32), noise.integers(0, 2, count).astype(np.float32)
        self.attributes = ["bright", "round"], np.stack([bright, round_], 1)
        self.rows = {"train": np.arange(400), "test": np.arange(400, count), "val": np.arange(0)}
        self.counts = {name: len(rows) for name, rows in self.rows.items()}
        self._faces = torch.from_numpy(bright - 0.5)[:, None, None, None] + 0.1 * torch.randn(count, 1, 8, 8)

    def pictures(self, rows):
        return self._faces[rows]


@pytest.mark.parametrize(("heeds", "least", "most"), [(True, 0.97, 1.0), (False, 0.5, 0.5)])
def test_agreement_is_whether_faces_heed_what_they_are_told(heeds, least, most):
    counted = []
    part = told.score_told(Painter(heeds), Greys(), 0, counted.append)
    row, real = part.rows
    assert least <= row["scores"]["agreement"]["value"] <= most
    assert real["scores"]["agreement"]["value"] > 0.97
    assert sum(counted) == told.work(Painter.labels)
    assert "bright: seen in" in part.verdict[0]
    assert "round: cannot be judged" in part.verdict[1]  # no predictor learns what cannot be seen
    assert set(part.protocols["agreement"]["attributes"]) == {"bright"}


def test_evaluate_says_whether_faces_are_as_told(place, capsys):
    evaluation.evaluate(evaluation.Options(place / "told", "test", "best", 8, 0, None, False, None, ()))
    said = capsys.readouterr().out
    assert "Smiling: " in said
    found = json.loads((place / "told" / "evaluation.json").read_text())
    assert sum("Eyeglasses: " in line for line in found["verdict"]) == 1
