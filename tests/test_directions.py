"""Directions and encoders of GANs, against generators that are linear, and every way to use them on a run."""

import dataclasses
import json
import shutil
import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_conditional import crops
from torch import nn

from faceforge import cli, config, notebook
from faceforge.cut.framing import AS_CUT
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.evaluation import command as evaluation
from faceforge.evaluation import labelled, principal
from faceforge.io.images import decode, write_png
from faceforge.networks.inverter import Inverter
from faceforge.schemes import directions, inversion
from faceforge.schemes.adversarial import AdversarialModule
from faceforge.schemes.inversion import GanCodes, fit_encoder, nearer
from faceforge.schemes.latent_space import LatentSpace
from faceforge.studio import animation, command, export
from faceforge.studio import directions as making
from faceforge.studio import edit as edits
from faceforge.studio.command import Request
from faceforge.studio.model import open_model, who_can
from faceforge.studio.web import handlers, work

SIDE, UNITS = 8, 5
SEEN = {"size": (16, 16), "channels": 3}


class Sketch:
    """A linear GAN of grey 8x8 faces: z 0 lights the background, z 1 the cheeks from the left, others hardly show."""

    labels, latent, seed, device = (), "normal", 0, torch.device("cpu")
    clock = SimpleNamespace(images=0)

    def __init__(self, shape=(UNITS,)):
        self.latent_shape = shape
        generator = torch.Generator().manual_seed(0)
        patterns = 0.01 * torch.randn(UNITS, 1, 32, 32, generator=generator)
        patterns[0, :, :12, :4] += 0.25
        patterns[0, :, :12, 28:] += 0.25
        patterns[1, :, 17:20, 9:16] += 0.2
        patterns[1, :, 17:20, 16:23] -= 0.2
        self.average = nn.Sequential(nn.Flatten(), nn.Linear(UNITS, 1024, bias=False), nn.Unflatten(1, (1, 32, 32)))
        self.average[1].weight.data = patterns.flatten(1).T.clone()
        self.average.output_range = (-1.0, 1.0)
        self.average.requires_grad_(False)

    def draw(self, count, seed=0, start=0, truncation=1.0):
        rows = [
            torch.randn(UNITS, generator=torch.Generator().manual_seed(seed % 1000 + n))
            for n in range(start, start + count)
        ]
        return torch.stack(rows).reshape(count, *self.latent_shape)

    def decode(self, z):
        return self.average(z.reshape(len(z), -1)).clamp(-1, 1)


class Sees:
    """A predictor that sees whether the background is light."""

    names = ("Lit",)

    def logits(self, images):
        return 40 * images[:, 0, :12, :4].mean((1, 2)).numpy()[:, None]


# ------------------------------------------------------------------------------------------------------------- encoder


@pytest.mark.parametrize(("size", "channels", "count"), [((1, 1), 1, 1), ((7, 5), 3, 1), (35, 1, 3), ((24, 16), 3, 2)])
def test_an_encoder_takes_any_size_and_all_of_it_learns(size, channels, count):
    network = Inverter(6, size, channels, 8)
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.rand(count, channels, height, width) * 2 - 1
    z = network(images)
    assert z.shape == (count, 6)
    torch.testing.assert_close(network(images[:1]), z[:1])  # whatever the other faces are
    z.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters()) or height == 1


@pytest.mark.parametrize("width", [0, 4, 12])
def test_its_width_is_a_multiple_of_the_groups(width):
    with pytest.raises(ValueError, match="must be a multiple of 8"):
        Inverter(6, 8, 1, width)


def test_optimised_codes_are_those_of_ridge_regression():
    """With a linear generator and a pull to where it starts, the best code is known."""
    torch.manual_seed(0)
    patterns = torch.randn(UNITS, 12)
    images, first = torch.rand(3, 12) * 2 - 1, torch.randn(3, UNITS)
    found = nearer(
        images.reshape(3, 1, 3, 4), first, lambda z: (z @ patterns).reshape(-1, 1, 3, 4), 3000, None, 0.02, pull=0.1
    )
    scale = float(first.std())
    left = patterns @ patterns.T / 12 + 0.1 / scale**2 / UNITS * torch.eye(UNITS)
    right = (images + 1) / 2 @ patterns.T / 12 + 0.1 / scale**2 / UNITS * first
    torch.testing.assert_close(found, torch.linalg.solve(left, right.T).T, atol=2e-3, rtol=0)


def test_codes_with_a_range_stay_in_it_and_no_steps_change_nothing():
    images, first = torch.ones(2, 1, 2, 2), torch.rand(2, 4)
    found = nearer(images, first, lambda z: 3 * z.reshape(-1, 1, 2, 2) - 5, 200, (0.0, 1.0), 1.0, pull=0)
    assert found.tolist() == torch.ones(2, 4).tolist()
    assert torch.equal(nearer(images, first, lambda z: z.reshape(-1, 1, 2, 2), 0, None), first)


class Pictures:
    """The training faces of ``Sketch``: its own, from other z."""

    height = width = 32
    channels, flip = 1, False
    counts = {"train": 256}  # noqa: RUF012

    def images(self, split, rows):
        return torch.cat([Sketch().decode(Sketch().draw(1, 500, int(row))) for row in rows])


@pytest.mark.parametrize("shape", [(UNITS,), (UNITS, 1, 1)])
def test_an_encoder_finds_the_z_that_shows(shape):
    gan, counted = Sketch(shape), []
    codes = fit_encoder(gan, Pictures(), 150, 0, counted.append)
    z = gan.draw(64, 7, 10_000)
    found = codes.encode(gan.decode(z))
    assert found.shape == (64, UNITS)
    assert (found - z.flatten(1)).square().mean(0)[:2].max() < 0.15  # of variance 1; what hardly shows is not found
    torch.testing.assert_close(codes.decode(found), gan.decode(found))
    assert sum(counted) == 150 * 2 * inversion.BATCH
    again = fit_encoder(gan, Pictures(), 3, 0, counted.append), fit_encoder(gan, Pictures(), 3, 0, counted.append)
    assert all(torch.equal(a, b) for a, b in zip(*(c.encoder.parameters() for c in again), strict=True))


def test_codes_of_uniform_z_and_labels_keep_their_range():
    gan = Sketch()
    network = Inverter(UNITS, 32, 1, 8)
    network.layers[-1].bias.data.fill_(9.0)
    faces = gan.decode(gan.draw(2))
    assert GanCodes(gan, network).encode(faces).max() > 2
    gan.latent = "uniform"
    assert GanCodes(gan, network).encode(faces).max() <= 1
    assert GanCodes(gan, network).code_range == (0.0, 1.0)
    gan.latent, gan.labels = "normal", ("A", "B")
    z = GanCodes(gan, network).encode(faces)
    assert z[:, :-2].min() > 2
    assert z[:, -2:].max() <= 1
    gan.latent = "uniform"
    assert GanCodes(gan, network).encode(faces).max() <= 1
    assert GanCodes(gan, network).code_range is None


def test_a_z_of_too_many_numbers_is_one_line():
    with pytest.raises(BadInput, match="z of this GAN has 12,288 numbers; must be at most 2,048"):
        inversion.size_of(SimpleNamespace(latent_shape=(3, 64, 64)))


# ---------------------------------------------------------------------------------------------------------- directions


def test_labels_of_generated_faces_give_the_direction_that_causes_them():
    found = labelled.label(Sketch(), Sees(), 600, 0)
    assert found.codes.shape == (600, UNITS)
    assert found.faces.shape == (600, 1, 32, 32)
    known = ~np.isnan(found.labels[:, 0])
    assert 0.5 < known.mean() < 1  # the unsure are left out
    assert ((found.codes[known, 0] > 0) == found.labels[known, 0]).mean() > 0.97
    space = LatentSpace.of_codes(found.codes, None, (found.names, found.labels), {"seed": 0})
    (row,) = space.directions("mean_difference").values()
    assert row[0] > 1.5
    assert row[1:].abs().max() < 0.3


def test_principal_directions_are_the_axes_along_which_faces_differ():
    gan = Sketch()
    faces = labelled.label(gan, None, 800, 0)
    first, second, third = principal.directions(faces, gan.decode, None, AS_CUT, 3)
    for one, axis in ((first, 0), (second, 1)):
        assert one.direction[axis] > 1.4  # the halves of a normal distribution are 1.6 apart
        assert np.abs(np.delete(one.direction, axis)).max() < 0.35
        assert one.effect > 1.4
    assert [first.name, second.name] == ["pc1-light-background", "pc2-lit-from-left"]
    assert first.share > second.share > third.share > 0
    named = principal.directions(faces, gan.decode, Sees(), AS_CUT, 1)
    assert named[0].name in ("pc1-light-background", "pc1-Lit")


def written(space):
    """As it is read from a file."""
    about, arrays = space.pack()
    return json.loads(json.dumps(about)), arrays


def test_what_changes_nothing_known_is_mixed():
    assert principal._named(["a", "b"], np.array([0.1, -0.4]), []) == ("mixed", 0.0)
    assert principal._named(["a", "b"], np.array([0.6, -0.9]), []) == ("b", -0.9)
    assert principal._named(["a", "b"], np.array([0.6, -0.9]), ["b"]) == ("a", 0.6)
    assert principal._named([], np.zeros(0), []) == ("mixed", 0.0)


@pytest.mark.parametrize(("channels", "size"), [(1, (7, 5)), (3, (64, 48)), (3, (2, 2))])
def test_measures_take_any_size(channels, size):
    images = torch.rand(4, channels, *size) * 2 - 1
    known = principal.Measures(images, None, AS_CUT)
    assert known.effects(images).tolist() == [0.0] * len(known.names)
    assert ("light-cheeks" in known.names) == ("lit-from-left" in known.names)
    assert any(name.startswith("warm-") for name in known.names) == (channels == 3 and size != (2, 2))


def test_principal_directions_stay_apart_from_those_of_labels():
    """An attribute is not made less of because a principal direction resembles it."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((400, 4))
    labels = np.stack([codes[:, 0] > 0, codes[:, 1] + codes[:, 0] > 0], 1).astype(float)
    plain = LatentSpace.of_codes(codes, None, (("A", "B"), labels), {"seed": 0})
    space = plain.with_principal({"pc1-light-hair": np.array([1.0, 1.0, 0, 0]), "pc2-A": np.array([0, 0, 2.0, 0])})
    assert space.names == ("A", "B", "pc1-light-hair", "pc2-A")
    for kind in ("orthogonalised", "mean_difference", "logistic"):
        before, after = plain.directions(kind), space.directions(kind)
        assert all(torch.equal(before[name], after[name]) for name in "AB")
        assert after["pc2-A"].tolist() == [0, 0, 2, 0]
    taught = space.with_attribute("C", codes[codes[:, 3] > 0], codes[codes[:, 3] <= 0])
    assert taught.names == ("A", "B", "C", "pc1-light-hair", "pc2-A")
    assert taught.directions()["pc2-A"].tolist() == [0, 0, 2, 0]
    assert taught.directions()["C"][3] > 1.3
    again = LatentSpace.unpack(*written(taught), "file")
    assert again.directions()["pc1-light-hair"].tolist() == [1, 1, 0, 0]
    fewer = taught.with_principal({"pc1-mixed": np.ones(4)})
    assert fewer.names == ("A", "B", "C", "pc1-mixed")


# ------------------------------------------------------------------------------------------------------------ the file


@pytest.fixture
def kept(tmp_path):
    codes = np.random.default_rng(0).standard_normal((50, 6))
    space = LatentSpace.of_codes(codes, None, None, {"seed": 0, "checkpoint": "abc"})
    file = tmp_path / directions.NAME
    directions.Directions(space, Inverter(6, 16, 3, 8)).save(file)
    return file


def test_a_file_gives_back_what_was_saved(kept):
    found = directions.Directions.load(kept, **SEEN, checkpoint="abc")
    images = torch.rand(2, 3, 16, 16)
    assert found.encoder.width == 8
    assert torch.equal(
        found.encoder(images), directions.Directions.load(kept, **SEEN, checkpoint="abc").encoder(images)
    )
    assert not any(p.requires_grad for p in found.encoder.parameters())


def damaged(file, how):
    about = json.loads(safe_open(file, "pt").metadata()["about"])
    tensors = load_file(file)
    if how == "cut short":
        file.write_bytes(file.read_bytes()[:-20])
        return
    if how == "not a number":
        tensors["encoder/layers.0.weight"][0] = float("nan")
    if how == "a part is missing":
        del tensors["encoder/layers.0.weight"]
    if how == "no width":
        del about["width"]
    if how == "wide":
        about["width"] = 1_000_000_000
    if how == "another file":
        about["format"] = "something"
    if how == "of tomorrow":
        about["version"] = 99
    save_file(tensors, file, {"about": json.dumps(about)})


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        *(
            (how, "no directions of faceforge, or damaged")
            for how in ("cut short", "not a number", "a part is missing", "no width", "wide", "another file")
        ),
        ("of tomorrow", "written by another faceforge (version 99, this: 1)"),
    ],
)
def test_a_damaged_file_is_one_line(kept, how, reason):
    damaged(kept, how)
    with pytest.raises(BadInput) as caught:
        directions.Directions.load(kept, **SEEN, checkpoint="abc")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_weights_or_sizes_is_one_line(kept):
    with pytest.raises(BadInput, match="of another checkpoint than the run's best"):
        directions.Directions.load(kept, **SEEN, checkpoint="other")
    with pytest.raises(BadInput, match="or damaged"):
        directions.Directions.load(kept, (16, 16), 1, "abc")
    with pytest.raises(BadInput, match="no such file; `faceforge directions` writes it"):
        directions.Directions.load(kept.with_name("none"), **SEEN, checkpoint="abc")


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture
def faceforge(monkeypatch, capsys):
    """Type a command: its exit code, what it says and what it complains of."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return typed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A GAN that has learned bright and dark pictures, with directions, and other runs without."""
    place = tmp_path_factory.mktemp("directions")
    long = [f"trainer.{key}=4000" for key in ("max_images", "sample_every", "checkpoint_every")]
    cnn = ["model=dcgan_cnn", *(word for word in TINY if "generator" not in word and "model=" not in word)]
    runs = {
        "gan": [*crops(place / "sets", {"bright": 200, "dark": 100}, 200), "model.augment_policy=[]", *long],
        "plain": [*TINY, "data.size=16", "trainer.max_images=16"],
        "told": [*TINY, "data.size=16", "trainer.max_images=16", "model.conditional=[Smiling,Eyeglasses]"],
        "cnn": [*cnn, "data.size=16", "trainer.max_images=16"],
        "latent": ["model=latent_editor", *(w for w in TINY if "model" not in w), "trainer.max_images=16"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, words in runs.items():
            words = [*words, f"run_dir={place / name}"]
            assert training.train(config.compose(words), words) == 0
        making.make(making.Options(place / "gan", 150, 400))
        for name in ("told", "cnn"):
            making.make(making.Options(place / name, 1, 40))
        yield place


@pytest.fixture
def model(place):
    return lambda name: open_model(place / name)


def picture(grey):
    noise = np.random.default_rng(1).normal(0, 5, (8, 8, 3))
    return np.clip(grey + noise, 0, 255).astype(np.uint8)


def test_directions_follow_what_the_training_faces_teach(model):
    gan = model("gan")
    assert gan.abilities == ["generate", "walk", "morph", "edit", "invert"]
    assert gan.space.names[:2] == ("bright", "dark")
    assert gan.space.principal[0].startswith("pc1-")
    z = gan.codes(32)
    levels = [gan.decode(gan.edited(z, {"bright": s}, "mean_difference")).mean() for s in (-2, 0, 2)]
    assert levels[2] - levels[1] > 0.1 < levels[1] - levels[0]


def test_an_encoder_knows_bright_from_dark(model):
    gan = model("gan")
    faces = torch.from_numpy(np.stack([picture(200), picture(100)])).permute(0, 3, 1, 2) / 127.5 - 1
    bright, dark = gan.decode(gan.encode(faces)).mean((1, 2, 3))
    assert bright - dark > 0.3  # they are 0.78 apart
    near = gan.decode(gan.invert(faces, 60))
    assert (near - faces).abs().mean() <= (gan.decode(gan.encode(faces)) - faces).abs().mean()


def test_a_photo_is_edited_inverted_and_morphed(place, model, tmp_path, capsys):
    for name, grey in (("a", 100), ("b", 200)):
        write_png(picture(grey), tmp_path / f"{name}.png")
    one, two, made = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "made"
    command.edit(
        Request(place / "gan", made / "e.png", False), one, ["bright=2"], "mean_difference", True, "photo", None
    )
    assert decode((made / "e.png").read_bytes()).mean() > picture(100).mean() + 5
    assert json.loads(Image.open(made / "e.png").text["faceforge"])["strengths"] == {"bright": 2.0}
    command.invert(Request(place / "gan", made / "i.png", False), one, 5, True)
    assert load_file(made / "i.safetensors")["z"].shape == (1, model("gan").space.mean.size)
    command.morph(Request(place / "gan", made / "m.png", False), one, two, 1.0, 3, True)
    command.walk(
        Request(place / "gan", made / "w.gif", False), 2, 0.2, 0, 1.0, "mixture", "bright", (-1, 1), "logistic"
    )
    command.generate(Request(place / "gan", made / "g.png", False), 4, 0, 1.0, "mixture", ["bright=2"])
    command.generate(Request(place / "gan", made / "h.png", False), 4, 0, 1.0, "mixture", ["bright=-2"])
    light, dark = (decode((made / f"{name}.png").read_bytes()).mean() for name in "gh")
    assert light > dark
    assert {path.name for path in made.iterdir()} == {
        *("e.png", "g.png", "h.png", "i.png", "i.safetensors", "m.png", "w.gif")
    }
    capsys.readouterr()


def test_a_third_attribute_is_learned_from_two_folders(place, model, tmp_path):
    for name, grey in product(("with", "without"), range(4)):
        (tmp_path / name).mkdir(exist_ok=True)
        write_png(picture(200 if name == "with" else 100 + grey), tmp_path / name / f"{grey}.png")
    space = edits.teach(model("gan"), "mine", tmp_path / "with", tmp_path / "without")
    assert space.names.index("mine") < space.names.index(space.principal[0])


@pytest.mark.parametrize("name", ["cnn", "told"])
def test_every_kind_of_z_is_a_code(model, name):
    gan = model(name)
    z = gan.codes(3)
    moved = gan.edited(z, {gan.space.principal[0]: 1.0}, "orthogonalised")
    assert moved.shape == (3, gan.coder.latent_size)
    torch.testing.assert_close(gan.decode(z), gan.decode(z.flatten(1)))
    face = gan.decode(z[:1])
    code = gan.encode(face)
    assert next(iter(animation.morph(gan, code, gan.encode(gan.decode(z[1:2])), 3))).shape == (16, 16, 3)
    assert gan.invert(face, 2).shape == code.shape


def test_a_gan_that_is_told_an_attribute_is_told_it_still(model):
    gan = model("told")
    free, told = gan.codes(4), gan.codes(4, chosen={"Smiling": 1, gan.space.principal[0]: 1.0})
    step = gan.space.directions()[gan.space.principal[0]]
    torch.testing.assert_close(told[:, :-2], free[:, :-2] + step[:-2])
    frames, way = animation.one_face(gan, "Smiling", (-2.0, 2.0), 2)
    assert way == {"attribute": "Smiling", "from_to": (0.0, 1.0)}
    frames, way = animation.one_face(gan, gan.space.principal[0], (-2.0, 2.0), 2)
    assert way["direction"] == "mean_difference"
    assert len(list(frames)) == 2


def test_an_export_can_do_the_same(model, tmp_path):
    gan = model("gan")
    export.write_safetensors(gan, tmp_path / "a.safetensors")
    again = open_model(tmp_path / "a.safetensors")
    assert again.abilities == gan.abilities
    photo = picture(130)
    one, two = (edits.edit(each, photo, {"bright": 1.0}, whole=True).photo for each in (gan, again))
    assert np.array_equal(one, two)
    tensors = load_file(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        about = file.metadata()
    for name in ("encoder/layers.0.weight", "directions/mean"):
        save_file({k: t for k, t in tensors.items() if k != name}, tmp_path / "b.safetensors", about)
        with pytest.raises(BadInput, match=r"b\.safetensors: "):
            open_model(tmp_path / "b.safetensors")
    export.write_safetensors(model("plain"), tmp_path / "c.safetensors")
    assert open_model(tmp_path / "c.safetensors").abilities == ["generate", "walk"]


def test_the_page_changes_faces_of_a_gan(model):
    gan = model("gan")
    (offer,) = work.offer([gan]).models
    assert "edit" in offer["can"]
    assert offer["attributes"] == list(gan.space.names)
    assert offer["densities"] == []
    plain, bright = (
        handlers.answer("edit", gan, handlers.Ask({"seed": "3", "changes": f"bright={strength}"})).files["made"][0]
        for strength in (0, 3)
    )
    assert decode(bright.data).mean() > decode(plain.data).mean()
    assert (work.offer([model("plain")]).models[0])["attributes"] == []
    with pytest.raises(BadInput):
        handlers.answer("edit", model("plain"), handlers.Ask({"seed": "3", "changes": "bright=1"}))


def test_edits_of_a_gan_are_scored(place, monkeypatch, capsys):
    monkeypatch.setattr("faceforge.evaluation.edits.people.FEWEST", 2)
    monkeypatch.setattr("faceforge.evaluation.edits.people.TAUGHT", 2)
    monkeypatch.setattr(labelled, "COUNT", 200)
    monkeypatch.setattr(labelled, "SURE", 0.0)
    evaluation.evaluate(evaluation.Options(place / "gan", "test", "best", 8, 0, None, False, None, (), edits="bright"))
    found = json.loads((place / "gan" / "evaluation.json").read_text())["edits"]
    assert set(found["curves"]) == {"bright"}
    assert {row["name"] for row in found["rows"]} >= {"no edit"}
    monkeypatch.setattr(labelled, "SURE", 1e9)
    evaluation.evaluate(
        evaluation.Options(place / "gan", "test", "best", 8, 0, None, True, None, (), edits="bright,dark")
    )
    found = json.loads((place / "gan" / "evaluation.json").read_text())["edits"]
    assert found["curves"] == {}
    assert found["reasons"]["dark"] == "too few generated faces have it, or lack it, for a direction"
    with pytest.raises(BadInput, match="a GAN after `faceforge directions RUN`"):
        evaluation.evaluate(
            evaluation.Options(place / "plain", "test", "best", 8, 0, None, False, None, (), edits="Smiling")
        )


def test_a_notebook_shows_what_each_direction_does(place):
    shown = notebook.directions(place / "gan")
    assert shown.size == Image.open(place / "gan" / making.PICTURE).size


def test_the_command_says_what_it_found_and_what_to_type(place, faceforge):
    typed = ("directions", place / "gan", "--steps", "2", "-n", "300", "--overwrite", "--seed", "1")
    code, said, wrong = faceforge(*typed)
    assert code == 0, wrong
    lines = said.splitlines()
    assert lines[0].startswith("bright: seen in ")
    assert "correct on 100% of held-out faces" in lines[0]
    assert any(line.startswith("pc1-") and "of the differences between generated faces" in line for line in lines)
    assert lines[-3].startswith("held-out faces through the GAN: ")
    assert lines[-1].startswith("To change a face:  faceforge edit ")
    making.make(making.Options(place / "gan", 150, 400, overwrite=True))


def test_a_gan_that_makes_one_face_has_no_directions(place, tmp_path, monkeypatch):
    shutil.copytree(place / "plain", tmp_path / "run")
    monkeypatch.setattr(AdversarialModule, "decode", lambda self, z: torch.zeros(len(z), 3, 16, 16))
    with pytest.raises(BadInput, match="run: makes one and the same face of every z, and so has no directions"):
        making.make(making.Options(tmp_path / "run", 1, 40))
    assert not (tmp_path / "run" / directions.NAME).exists()


def test_an_attribute_whose_predictor_cannot_be_tried_is_left_out():
    """As are those of which there are too few faces; a reason stands for each."""
    data = Pictures()
    data.attributes = ["bright", "rare", "unseen"], np.tile([[0, 0, 0], [1, 0, 1]], (150, 1)).astype(float)
    data.attributes[1][0, 1] = 1
    data.attributes[1][256:, 2] = 1  # nobody of the held-out faces lacks it
    data.rows = {"train": np.arange(256), "val": np.arange(256, 280), "test": np.arange(280, 300)}
    data.pictures = lambda rows: torch.from_numpy(rows % 2).float()[:, None, None, None].expand(-1, 1, 8, 8)
    predictor, found, reasons = labelled.taught(data, 0, torch.device("cpu"), lambda text: None)
    assert predictor.names == tuple(found) == ("bright",)
    assert reasons["rare"] == "1 training faces have it and 255 lack it; must be 20 of each"
    assert reasons["unseen"] == "no held-out faces with and without it, to try its predictor on"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gan"], "directions.safetensors: already exists; use --overwrite to replace it"),
        (["latent"], "makes no faces of noise, and so has no directions to find; must be a run of model=dcgan_cnn"),
        (["none"], "none"),
        (["plain", "--steps", "0"], "--steps 0, --count 8000: must be at least 1 and 40"),
        (["plain", "-n", "39"], "--count 39: must be at least 1 and 40"),
        (["plain", "--data-root", "nowhere"], "nowhere"),
    ],
)
def test_wrong_use_is_one_line(place, faceforge, words, reason):
    code, _, said = faceforge("directions", place / words[0], *words[1:])
    assert (code, said.count("\n")) == (2, 1)
    assert reason in said
    assert not (place / "plain" / directions.NAME).exists()


@pytest.mark.parametrize("ability", ["edit", "invert", "morph"])
def test_a_gan_without_directions_says_how_to_find_them(model, ability):
    with pytest.raises(BadInput, match=rf"cannot {ability} \(it can generate and walk\) until `faceforge directions "):
        model("plain").require(ability)
    with pytest.raises(BadInput, match="takes no attributes; must be a run of a GAN trained with"):
        model("plain").codes(1, chosen={"Smiling": 1})
    assert "after `faceforge directions RUN`" in who_can(ability)


def test_photos_are_framed_as_the_training_faces_were(place, model, tmp_path):
    """A GAN measures no framing in training, since it takes no photos there."""
    assert model("gan").framing == AS_CUT  # these have no face
    shutil.copytree(place / "gan", tmp_path / "run")
    path = tmp_path / "run" / directions.NAME
    found = directions.Directions.load(path, (8, 8), 3, model("gan").digest)
    space = dataclasses.replace(found.space, made={**found.space.made, "framing": [0.4, 0.5, 0.6]})
    directions.Directions(space, found.encoder).save(path)
    assert open_model(tmp_path / "run").framing == (0.4, 0.5, 0.6)


def test_directions_of_other_weights_are_left_alone(place, model, tmp_path):
    """A run that has gone on since generates faces; an edit says that its directions are old."""
    shutil.copytree(place / "gan", tmp_path / "run")
    path = tmp_path / "run" / directions.NAME
    found = directions.Directions.load(path, (8, 8), 3, model("gan").digest)
    directions.Directions(
        dataclasses.replace(found.space, made={**found.space.made, "checkpoint": "old"}), found.encoder
    ).save(path)
    gan = open_model(tmp_path / "run")
    assert gan.abilities == ["generate", "walk"]
    assert gan.decode(gan.codes(1)).shape == (1, 3, 8, 8)
    with pytest.raises(BadInput, match="of another checkpoint than the run's best"):
        gan.require("edit")
