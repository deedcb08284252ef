"""The models of drawn faces that ship with the package."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceforge import config
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.studio import command, exported, shipped
from faceforge.studio.command import Request
from faceforge.studio.model import open_model

SYSTEMS = ["latent_editor", "conv_superres", "dcgan_cnn", "dcgan_conventional", "mlp_autoencoder", "pix2pix"]
TOGETHER = 6_000_000  # bytes


@pytest.fixture(scope="module")
def models():
    return {name: open_model(name) for name in shipped.files()}


def test_each_system_ships_and_all_are_small():
    assert list(shipped.files()) == [f"drawn:{name}" for name in SYSTEMS]
    assert sum(file.stat().st_size for file in shipped.files().values()) <= TOGETHER


def test_together_they_can_do_all_that_the_studio_offers(models):
    able = {ability for model in models.values() for ability in model.abilities}
    assert able == {"generate", "walk", "morph", "edit", "invert", "upscale", "translate", "average"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_is_what_its_experiment_trains(name):
    module, *_ = exported.read(shipped.files()[f"drawn:{name}"], ())
    composed = config.compose([f"experiment=drawn/{name}"])
    for key in ("_target_", "generator", "network", "encoder", "code", "decoder"):
        assert module.config["model"].get(key) == composed["model"].get(key), key
    assert composed["data"]["source"]["_target_"] == "faceforge.data.sources.drawn.Drawn"
    assert module.config["data"]["size"] == composed["data"]["size"]


def test_results_go_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command.generate(Request(Path("drawn:dcgan_conventional"), None, False), 4, 0, 1.0, "mixture")
    (made,) = tmp_path.rglob("*.png")
    assert made.relative_to(tmp_path).parts[:3] == ("runs", "drawn", "dcgan_conventional")


def test_colours_of_a_drawn_face_are_nearer_than_grey(tmp_path):
    face = Drawn(count=50).read(3, (96, 96))
    Image.fromarray(face).convert("L").save(tmp_path / "grey.png")
    out = tmp_path / "colour.png"
    command.translate(Request(Path("drawn:pix2pix"), out, False), tmp_path / "grey.png", True, "photo")
    made, grey = (np.asarray(Image.open(p).convert("RGB")).astype(float) for p in (out, tmp_path / "grey.png"))
    assert np.square(made - face).mean() < 0.5 * np.square(grey - face).mean()


def test_another_name_is_one_line():
    with pytest.raises(
        BadInput, match=r"^drawn:gan: no such model; must be drawn:latent_editor, drawn:conv_superres, "
    ):
        open_model("drawn:gan")
