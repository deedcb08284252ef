"""A task that nobody here knows is a class and a yaml: it is trained, scored against baselines, used by its command."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from test_evaluate import ASKED
from test_every_pair import FACES, SMALL
from test_studio import picture
from test_studio_web import png

from faceforge import config
from faceforge.data.tasks import OpenCVTask, SuperResolution, Task
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.evaluation import command as evaluation
from faceforge.studio import average, command
from faceforge.studio.card import make_card
from faceforge.studio.command import Request
from faceforge.studio.model import open_model
from faceforge.studio.translate import from_lines
from faceforge.studio.web.work import _offer

MINE = ("test_new_task",)


class UpsideDown(Task):
    """The face, standing on its head."""

    name = "upside_down"
    baselines = ("copy input", "nearest", "mean face")  # the second has no place here, and is left out
    limits = "Which way is up is a matter of taste."

    def input_for(self, faces, positions=None, stream="outside"):
        """(B, C, H, W)."""
        return faces.flip(-2)


@dataclass(frozen=True)
class Stripes(OpenCVTask):
    """Every other line of the picture, on black: a person could draw them."""

    name = "stripes"
    by_hand = True
    step: int

    def filter(self, picture):
        """Uint8 (H, W, 3)."""
        lines = np.zeros((*picture.shape[:2], 3), np.uint8)
        lines[:: self.step] = picture[:: self.step, :, -1:] if picture.ndim == 3 else picture[:: self.step, :, None]
        return lines


@dataclass(frozen=True)
class Halved(SuperResolution):
    """Half a face a side, by another name."""

    name = "halved"
    mean_is_best = True


@dataclass(frozen=True)
class Someone(Task):
    """The target is grey, whoever comes."""

    name = "someone"
    serves = "average"
    mean_is_best = True

    def input_for(self, faces, positions=None, stream="outside"):
        """(B, C, H, W)."""
        return faces

    def target_for(self, faces, positions=None, stream="outside"):
        """(B, C, H, W)."""
        return faces * 0


INPUT = "input:\n  factor: 1\n  channels: ${data.channels}\n  base: none\n"
YAMLS = {
    "upside_down": "UpsideDown",
    "stripes": "Stripes\n  step: 2",
    "halved": "Halved\n  factor: 2\n  kernel: mean\n  input_factor: 1",
    "someone": "Someone",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of each task, whose yaml files lie in a folder of their own."""
    place = tmp_path_factory.mktemp("new")
    (place / "conf/task").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, words in YAMLS.items():
            yaml = f"# @package _global_\ntask:\n  _target_: test_new_task.{words}\n{INPUT}"
            (place / "conf/task" / f"{name}.yaml").write_text(yaml)
            chosen = [f"task={name}", f"tasks=[{name}]", "trusted_packages=[test_new_task]", f"run_dir={place / name}"]
            small = [*FACES, *SMALL["pix2pix"], "data.source.count=60", "trainer.max_images=8"]
            overrides = ["model=pix2pix", *small, *chosen]
            assert training.train(config.compose(overrides, place / "conf"), overrides) == 0
        yield place


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("upside_down", ["model", "copy input", "mean face"]),
        ("stripes", ["model", "mean face", "mean colour", "copy input", "linear map 3x3"]),
        ("someone", ["model", "mean face", "mean colour", "copy input", "linear map 3x3"]),
        ("halved", ["model", *SuperResolution.baselines]),
    ],
)
def test_it_is_scored_against_the_baselines_that_it_names(place, name, rows):
    evaluation.evaluate(replace(ASKED, run=place / name, trusted=MINE))
    result = json.loads((place / name / "evaluation.json").read_text())
    assert [row["name"].removesuffix(" 7x7") for row in result["rows"]] == rows
    assert result["task"]["name"] == name


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("upside_down", lambda asked, photo: command.translate(asked, photo, True, "photo")),
        ("stripes", lambda asked, photo: command.translate(asked, photo, False, "photo", lines=True)),
        ("halved", lambda asked, photo: command.upscale(asked, photo, True)),
        ("someone", lambda asked, photo: command.average(photo, asked.run, None, asked.out, False, False, MINE)),
    ],
)
def test_its_command_works_on_its_runs(place, tmp_path, monkeypatch, name, does):
    monkeypatch.setattr("faceforge.studio.photo.finder", lambda: lambda pixels: [])
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(picture(32, 32)))
    does(Request(place / name, tmp_path / "out.png", False, MINE), photo)
    assert (tmp_path / "out.png").is_file()


def test_what_it_cannot_do_is_told_and_what_it_says_of_itself_is_on_its_card(place):
    found = open_model(place / "upside_down", "translate", MINE)
    assert found.abilities == ["translate"]
    offered = _offer(found)
    assert (offered["label"], offered["words"][:2], offered["can"]) == (
        "upside down",
        ["upside_down"] * 2,
        ["translate"],
    )
    assert "Which way is up is a matter of taste." in make_card(found, {})
    with pytest.raises(BadInput, match=r"makes nothing of drawn lines; a run of task=canny or contours does"):
        from_lines(found, picture(16, 16))
    with pytest.raises(BadInput, match=r"cannot upscale \(it can translate\); must be a run of task=super_resolution"):
        found.require("upscale")
    with pytest.raises(BadInput, match=r"trained for upside_down; --method translation needs a run of task=average"):
        next(average.by_translation(found, [picture(16, 16)]))
    with pytest.raises(BadInput, match=r"has no codes; --method latent needs a run of model=latent_editor"):
        next(average.by_codes(found, [picture(16, 16)]))
