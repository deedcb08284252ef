"""What is done with a trained model: faces drawn, photos changed, films, means; and what is said where it cannot be."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from test_every_pair import FACES, SMALL

from faceforge import cli, config
from faceforge.cut import frame as frames
from faceforge.cut import framing
from faceforge.cut.detect import Detection
from faceforge.data import tasks
from faceforge.data.framing import frame as whole
from faceforge.engine import checkpoint, training
from faceforge.errors import BadInput
from faceforge.io.images import make_grid, write_png
from faceforge.schemes.latent_space import LatentSpace
from faceforge.schemes.masks import mask_of
from faceforge.studio import animation, average, command, edit, output, photo, translate, upscale, video
from faceforge.studio.command import Request
from faceforge.studio.model import open_model

RUNS = {
    "gan": [*TINY, "data.size=16"],
    "latent": ["model=latent_editor", *FACES, *SMALL["latent_editor"], "data.channels=3", "data.source.count=80"],
    "sr": ["model=conv_superres", *FACES, *SMALL["conv_superres"]],
    "mlp": ["model=mlp_autoencoder", *FACES, *SMALL["mlp_autoencoder"]],
    "colour": ["model=pix2pix", "task=colorize", *FACES, *SMALL["pix2pix"], "data.size=[24,16]"],
    "mean": ["model=pix2pix", "task=average", *FACES, *SMALL["pix2pix"]],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny runs; faces are where a test says (``seen``), never looked for."""
    place = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "cache"))
        patch.chdir(place)
        for name, overrides in RUNS.items():
            overrides = [*overrides, "trainer.max_images=16", f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
        yield place


@pytest.fixture
def model(place):
    return lambda name: open_model(place / name)


RECIPE = output.Recipe(None, "walk", {"what": 'a = "b"; \\ # and\nso on'})
FACE = ((30.0, 30.0), (50.0, 30.0), (40.0, 42.0), (32.0, 52.0), (48.0, 52.0))  # in a photo of 80 wide, 100 high


@pytest.fixture
def seen(monkeypatch):
    """Whoever looks for faces finds this one, or those given."""

    def find(*faces):
        found = list(faces)
        monkeypatch.setattr(photo, "finder", lambda: lambda pixels: found)

    find(Detection((20.0, 15.0, 40.0, 50.0), 0.9, FACE))
    return find


def picture(height=100, width=80, seed=0):
    """Soft colours without an edge anywhere."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def asked(place, name, out, overwrite=False):
    return Request(place / name, out, overwrite)


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


# Models


@pytest.mark.parametrize(
    ("name", "abilities"),
    [
        ("gan", "generate walk"),
        ("latent", "generate walk morph edit invert translate average"),
        ("sr", "upscale"),
        ("colour", "translate"),
        ("mean", "average"),
    ],
)
def test_a_run_knows_what_it_can(model, name, abilities):
    found = model(name)
    assert found.abilities == abilities.split()
    for ability in ("generate", "edit", "upscale", "average"):
        if ability not in found.abilities:
            way_out = "until `faceforge directions" if (name, ability) == ("gan", "edit") else "; must be a run of"
            with pytest.raises(BadInput, match=f"cannot {ability} .*{way_out}"):
                found.require(ability)


def test_a_checkpoint_file_is_as_good_as_its_run(place, model):
    by_file = open_model(checkpoint.find(place / "gan", "best"))
    assert torch.equal(next(by_file.faces(3)), next(model("gan").faces(3)))
    assert by_file.folder == place / "gan"


# Generate


@pytest.mark.parametrize("name", ["gan", "latent"])
def test_sample_i_of_a_seed_is_the_same_in_any_count_and_file(place, model, tmp_path, name):
    many = torch.cat(list(model(name).faces(130, seed=4)))
    few = torch.cat(list(model(name).faces(2, seed=4)))
    assert torch.allclose(many[:2], few, atol=1 / 255)
    assert (many[0] - many[1]).abs().max() > 0
    command.generate(asked(place, name, tmp_path / "all"), 11, 4, 1.0, "mixture")
    assert [p.name for p in sorted((tmp_path / "all").iterdir())] == [f"{n:02d}.png" for n in range(11)]
    assert np.abs(read(tmp_path / "all" / "01.png").astype(int) - photo.to_pictures(few)[1]).max() <= 1
    command.generate(asked(place, name, tmp_path / "grid.png"), 11, 4, 1.0, "mixture")
    assert np.abs(read(tmp_path / "grid.png").astype(int) - make_grid(many[:11])).max() <= 1


def test_samples_of_a_run_are_those_of_its_module(place, model):
    module = checkpoint.load(place / "gan")
    assert torch.equal(next(model("gan").faces(5, seed=2)), module.sample(5, seed=2))


def test_a_density_that_codes_do_not_follow_is_refused(model):
    with pytest.raises(BadInput, match=r"density=prior: .* do not follow it; must be one of mixture, gaussian"):
        model("latent").codes(1, density="prior")


@pytest.mark.parametrize("name", ["gan", "latent"])
def test_truncation_brings_faces_together(model, name):
    found = model(name)
    spread = [float(found.codes(64, 0, 0, share).std(0).mean()) for share in (0.0, 0.5, 1.0)]
    assert spread[0] == pytest.approx(0, abs=1e-6)
    assert spread[1] == pytest.approx(spread[2] / 2, rel=0.2)


def test_a_file_says_how_it_was_made_and_that_it_is_synthetic(place, model, tmp_path):
    command.generate(asked(place, "gan", tmp_path / "a.png"), 2, 7, 0.5, "mixture")
    recipe = output.read_recipe(tmp_path / "a.png")
    assert recipe["run"] == "gan"
    assert (recipe["seed"], recipe["truncation"], recipe["synthetic"]) == (7, 0.5, True)
    assert recipe["weights_sha256"] == checkpoint.digest(checkpoint.find(place / "gan", "best"))
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in (tmp_path / "a.png").read_bytes()
    write_png(picture(), tmp_path / "b.png")
    with pytest.raises(BadInput, match="has no faceforge recipe"):
        output.read_recipe(tmp_path / "b.png")


def test_nothing_is_replaced_unasked(place, tmp_path):
    out = tmp_path / "a.png"
    command.generate(asked(place, "gan", out), 1, 0, 1.0, "mixture")
    before = out.read_bytes()
    with pytest.raises(BadInput, match=r"a\.png: already exists; use --overwrite"):
        command.generate(asked(place, "gan", out), 1, 1, 1.0, "mixture")
    assert out.read_bytes() == before
    command.generate(asked(place, "gan", out, overwrite=True), 1, 1, 1.0, "mixture")
    assert out.read_bytes() != before
    with pytest.raises(BadInput, match="is a file"):
        output.target(out.rename(tmp_path / "without_suffix"), out, overwrite=True)


def test_without_out_results_lie_in_the_run_under_free_names(place):
    for name in ("faces-9.png", "faces-9-2.png"):
        command.generate(asked(place, "gan", None), 1, 9, 1.0, "mixture")
        assert (place / "gan" / "made" / name).is_file()


# Whole photos


def test_a_frame_of_the_cut_is_the_frame_of_the_cut():
    box = (20.0, 30.0, 40.0, 40.0)
    mine, theirs = framing.framed(box, framing.AS_CUT, (64, 48)), frames.grow(box, (64, 48))
    assert (mine.x, mine.y, mine.w, mine.h) == pytest.approx((theirs.x, theirs.y, theirs.w, theirs.h))


def test_framed_puts_a_box_in_its_place():
    x, y, width = 0.4, 0.6, 0.3
    frame = framing.framed((100.0, 200.0, 30.0, 30.0), (x, y, width), (80, 60))
    left, top = frame.x - frame.w / 2, frame.y - frame.h / 2
    assert ((115 - left) / frame.w, (215 - top) / frame.h, 30 / frame.h) == pytest.approx((x, y, width))
    assert frame.w / frame.h == pytest.approx(60 / 80)


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_face_laid_back_unchanged_leaves_the_photo_as_it_was(quarter):
    pixels = picture()
    height, width = (100, 80) if quarter % 2 == 0 else (80, 100)
    spot = photo.Spot(frames.fit(frames.Frame(width / 2, height / 2, 36, 48), width, height), quarter)
    face = photo.cut(pixels, spot, (48, 36))
    assert np.array_equal(
        face, np.rot90(pixels, -quarter)[height // 2 - 24 : height // 2 + 24, width // 2 - 18 : width // 2 + 18]
    )
    back = photo.lay_back(pixels, spot, face)
    assert np.abs(back.astype(int) - pixels).max() <= 1


def test_a_face_laid_back_changes_its_frame_alone_and_fades_at_the_edges():
    pixels = np.zeros((60, 60, 3), np.uint8)
    back = photo.lay_back(pixels, photo.Spot(frames.Frame(30, 30, 40, 40), 0), np.full((8, 8, 3), 255, np.uint8))
    assert (back[30, 30] == 255).all()
    assert not back[:10].any()
    assert not back[:, 50:].any()
    line = back[30, 10:30, 0].astype(int)
    assert (np.diff(line) >= 0).all()
    assert line[0] < 20


def test_faces_at_the_edge_of_a_photo_are_laid_back_whole():
    pixels = picture(50, 40)
    frame = frames.fit(frames.Frame(2, 2, 30, 30), 40, 50)
    back = photo.lay_back(pixels, photo.Spot(frame, 0), photo.cut(pixels, photo.Spot(frame, 0), (30, 30)))
    assert back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).max() <= 1


def test_framing_is_measured_where_the_cascade_sees_faces(monkeypatch):
    class Sees:
        def __call__(self, pixels):
            return [Detection((0.25 * pixels.shape[1], 0.5 * pixels.shape[0], 48.0, 48.0))]

    monkeypatch.setattr(framing, "Haar", Sees)
    x, y, width = framing.measure(torch.zeros(6, 1, 20, 10))
    assert (x, y, width) == pytest.approx((0.25 + 24 / 96, 0.5 + 24 / 192, 48 / 192))
    monkeypatch.setattr(framing, "Haar", lambda: lambda pixels: [])
    assert framing.measure(torch.zeros(6, 1, 20, 10)) is None


def test_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(BadInput, match="not an image"):
        photo.read_photo(tmp_path / "a.txt")
    with pytest.raises(BadInput, match="holds no images"):
        photo.photo_files(tmp_path)
    with pytest.raises(BadInput, match="no such image"):
        photo.photo_files(tmp_path / "none")
    write_png(np.zeros((5, 4), np.uint8), tmp_path / "grey.png")
    assert photo.read_photo(tmp_path / "grey.png").shape == (5, 4, 3)


# Upscale


def test_any_size_of_photo_becomes_twice_as_large_in_its_own_colours(model):
    pixels = picture(37, 53)
    result = upscale.upscale(model("sr"), pixels)
    assert result.photo.shape == (74, 106, 3)
    chroma = [cv2.cvtColor(p, cv2.COLOR_RGB2YCrCb)[..., 1:].mean((0, 1)) for p in (pixels, result.photo)]
    assert np.abs(chroma[0] - chroma[1]).max() < 3
    bicubic = np.asarray(Image.fromarray(pixels).resize((106, 74), Image.Resampling.BICUBIC))
    assert np.abs(result.photo.astype(int) - bicubic).mean() < 25


def test_tiles_meet_without_a_seam(model, monkeypatch):
    found = model("sr")
    inputs = torch.rand(1, 1, 70, 50) * 2 - 1
    monkeypatch.setattr(upscale, "TILE", 1000)
    whole = upscale.tiled(found, inputs, 2)
    monkeypatch.setattr(upscale, "TILE", 32)
    assert torch.allclose(upscale.tiled(found, inputs, 2), whole, atol=1e-5)


def test_a_self_ensemble_enlarges_mirrored_photos_to_mirrored_photos(model):
    pixels = picture(64, 64)  # nothing is padded
    both = replace(model("sr"), self_ensemble=True)
    one, other = (upscale.upscale(both, np.ascontiguousarray(p)).photo.astype(int) for p in (pixels, pixels[:, ::-1]))
    assert np.abs(one - other[:, ::-1]).max() <= 2
    assert np.abs(one - upscale.upscale(model("sr"), pixels).photo).max() > 0


def test_simulate_lowers_as_the_task_does_and_measures_in_db(model):
    pixels = picture(41, 31)
    result = upscale.simulate(model("sr"), pixels)
    (face,) = result.faces
    assert list(face) == ["downscaled", "bicubic", "restored", "original"]
    assert np.array_equal(face["original"], pixels[:40, :30])
    mean = pixels[:40, :30].reshape(20, 2, 15, 2, 3).mean((1, 3))
    assert np.abs(face["downscaled"] - mean).max() <= 0.5 + 1e-6
    error = ((face["restored"].astype(float) - face["original"]) / 255) ** 2
    assert result.scores["restored"] == pytest.approx(-10 * np.log10(error.mean()), abs=1e-3)


def test_a_network_made_for_one_size_does_the_faces(model, seen):
    pixels = picture()
    found = model("mlp")
    assert not found.takes_any_size
    result = upscale.upscale(found, pixels)
    bicubic = np.asarray(Image.fromarray(pixels).resize((160, 200), Image.Resampling.BICUBIC))
    changed = np.abs(result.photo.astype(int) - bicubic).max(2) > 0
    assert changed.any()
    rows, columns = np.nonzero(changed)
    spot = photo.find_faces(pixels, found)[0].frame
    assert rows.min() >= 2 * (spot.y - spot.h / 2) - 2
    assert rows.max() <= 2 * (spot.y + spot.h / 2) + 2
    assert columns.min() >= 2 * (spot.x - spot.w / 2) - 2
    assert columns.max() <= 2 * (spot.x + spot.w / 2) + 2
    seen()
    with pytest.raises(photo.NoFace, match="no face was found"):
        upscale.upscale(found, pixels)


def test_a_picture_beyond_bounds_is_refused_before_any_work(model):
    with pytest.raises(BadInput, match="12,000,000 pixels"):
        upscale.upscale(model("sr"), np.zeros((3000, 2000, 3), np.uint8))


# Translate


def test_a_face_is_coloured_and_laid_back(model, seen):
    pixels = picture()
    result = translate.translate(model("colour"), pixels)
    assert result.photo.shape == pixels.shape
    assert list(result.faces[0]) == ["input", "colorize", "photo"]
    grey = result.faces[0]["input"]
    assert (grey[..., 0] == grey[..., 1]).all()
    seen()
    with pytest.raises(photo.NoFace):
        translate.translate(model("colour"), pixels)


def coloured(monkeypatch, model, size=(24, 16)):
    """A model of task=colorize that adds the same red to every face."""
    red = torch.tensor([0.35, -0.15, -0.15])[:, None, None]
    red = red - tasks.luma(red[None])[0]
    monkeypatch.setattr(type(model.module), "predict", lambda self, x: (x + red).expand(-1, 3, *size))
    return model, (127.5 * red).flatten().numpy()


@pytest.mark.parametrize("quarter", [0, 1])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_colours_are_laid_on_the_lightness_and_the_grain_of_the_photo(model, monkeypatch, strength, quarter):
    found, red = coloured(monkeypatch, model("colour"))
    pixels = photo.grey(np.random.default_rng(0).integers(90, 160, (140, 100, 3), dtype=np.uint8))
    pixels = np.ascontiguousarray(np.rot90(pixels, quarter))
    height, width = (140, 100)
    spot = photo.Spot(frames.Frame(width / 2, height / 2, 48, 72), quarter)
    monkeypatch.setattr(photo, "find_faces", lambda *_, **__: [spot])
    made = translate.translate(found, pixels, strength=strength).photo
    assert np.abs(photo.grey(made).astype(int) - pixels).max() <= 1
    upright = np.rot90(made.astype(int) - pixels, -quarter)
    assert np.abs(upright[60:80, 40:60] - strength * red).max() <= 1
    assert not upright[:30].any()


def test_a_whole_photo_is_coloured_at_its_own_size(model, monkeypatch):
    found, red = coloured(monkeypatch, model("colour"))
    pixels = np.random.default_rng(0).integers(90, 160, (93, 70, 3), dtype=np.uint8)
    made = translate.translate(found, pixels, whole=True).photo
    assert made.shape == pixels.shape
    assert np.abs(made - photo.grey(pixels).astype(int) - red)[:, 5:65].max() <= 1  # the centre, of the run's aspect
    assert (made[:, :3] == photo.grey(pixels)[:, :3]).all()


@pytest.mark.parametrize(
    ("strength", "keeps", "reason"),
    [
        (4.0, True, "must be from 0 to 3"),
        (float("nan"), True, "from 0 to 3"),
        (0.5, False, "must be 1, or the run"),
    ],
)
def test_a_strength_that_cannot_be_is_one_line(place, tmp_path, strength, keeps, reason, monkeypatch):
    """As of another task, which gives no colours: an average or an edge picture."""
    write_png(picture(), tmp_path / "a.png")
    monkeypatch.setattr(tasks.Colorize, "keeps_lightness", keeps)
    with pytest.raises(BadInput, match=rf"--strength {strength:g}: .*{reason}"):
        command.translate(
            asked(place, "colour", tmp_path / "b.png"), tmp_path / "a.png", False, "photo", False, strength
        )
    assert not (tmp_path / "b.png").exists()


def test_a_run_that_predicts_the_whole_picture_pastes_it(model, monkeypatch):
    """Older runs of this task do."""
    found = model("colour")
    monkeypatch.setattr(tasks.Colorize, "keeps_lightness", False)
    assert translate.translate(found, picture(), whole=True).photo.shape == (24, 16, 3)


def test_a_folder_is_done_whole_and_those_without_a_face_are_told(place, tmp_path, seen, capsys, monkeypatch):
    source = tmp_path / "photos" / "deep"
    source.mkdir(parents=True)
    for n in range(3):
        write_png(picture(seed=n), source / f"{n}.png")
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff none")
    command.translate(asked(place, "colour", tmp_path / "out"), tmp_path / "photos", False, "photo")
    assert sorted(p.name for p in (tmp_path / "out" / "deep").iterdir()) == ["0.png", "1.png", "2.png"]
    said = capsys.readouterr().out
    assert "skipped" in said
    assert "broken.jpg" in said
    assert "3 images" in said
    seen()
    with pytest.raises(BadInput, match="none of its 4 images"):
        command.translate(asked(place, "colour", tmp_path / "none"), tmp_path / "photos", False, "photo")
    with pytest.raises(BadInput, match=r"0\.png: no face"):
        command.translate(asked(place, "colour", tmp_path / "none.png"), source / "0.png", False, "photo")


def test_a_film_goes_in_and_a_film_of_as_many_pictures_comes_out(place, tmp_path, seen):
    film = output.save_video((picture(seed=n) for n in range(5)), tmp_path / "a.mp4", 10, RECIPE)
    command.translate(asked(place, "colour", tmp_path / "b.mp4"), film, False, "photo")
    made = video.open_video(tmp_path / "b.mp4")
    assert (made.rate, made.size, len(list(made.frames()))) == (10, (100, 80), 5)
    (tmp_path / "c.mp4").write_bytes(b"no film")
    with pytest.raises(BadInput, match="not a readable video"):
        command.translate(asked(place, "colour", tmp_path / "d.mp4"), tmp_path / "c.mp4", False, "photo")


# Edit and invert


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_change_is_added_at_the_resolution_of_the_photo(quarter):
    """A photo of noise keeps its noise; the change is smooth, inside the frame, and turned as the face is."""
    pixels = np.random.default_rng(0).integers(60, 200, (90, 70, 3), dtype=np.uint8)
    height, width = (90, 70) if quarter % 2 == 0 else (70, 90)
    spot = photo.Spot(frames.Frame(width / 2, height / 2 - 3, 40, 40), quarter)
    change = torch.zeros(1, 3, 8, 8)
    assert np.array_equal(photo.changed(pixels, [spot], change), pixels)
    change[:, 0, 4:] = 0.4  # red, below the middle of the upright face
    made = photo.changed(pixels, [spot], change)
    added = np.rot90(made.astype(int) - pixels, -quarter)
    top, left = height // 2 - 23, width // 2 - 20
    assert not added[..., 1:].any()
    assert not added[:top].any()
    assert not added[top + 40 :].any()
    assert not added[:, :left].any()
    assert abs(added[top + 30, width // 2, 0] - 0.4 * 127.5) <= 3
    assert np.abs(added[top + 6 : top + 14, left + 8 : left + 32, 0]).max() <= 3
    assert np.abs(np.diff(added[top + 25 : top + 35, left + 8 : left + 32, 0], axis=1)).max() <= 1


def test_a_change_beyond_the_edge_of_a_photo_and_of_a_whole_one():
    pixels = np.full((31, 44, 3), 100, np.uint8)
    change = torch.full((1, 1, 6, 6), 0.2)
    made = photo.changed(pixels, [photo.Spot(frames.Frame(2, 29, 20, 20), 0)], change)
    assert made[29, 2].tolist() == [126, 126, 126]
    assert (made[:18] == 100).all()
    assert (made[:, 13:] == 100).all()
    whole = photo.changed(pixels, [], change)
    assert whole.shape == pixels.shape
    assert (whole[:, 6:37] == 126).all()  # the largest square of the centre
    assert (whole[:, :6] == 100).all()
    assert (photo.changed(np.full((9, 9, 3), 250, np.uint8), [], change) == 255).all()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (5, 17, 13), (3, 2, 9)])
def test_a_mask_is_where_faces_change(count, height, width):
    torch.manual_seed(0)
    change = torch.randn(count, 3, height, width) * 0.01
    assert mask_of(0 * change).eq(1).all()
    change[..., width // 2 :] += 0.5 * torch.randn(count, 1, 1, 1).sign()  # the right half, brighter or darker
    mask = mask_of(change)
    assert mask.shape == (1, 1, height, width)
    assert 0 <= mask.min() <= mask.max() == 1
    assert mask[..., 0].max() < 0.05
    assert mask[..., -1].min() > 0.95


def test_an_edit_is_where_any_of_its_attributes_shows(model):
    found = model("latent")
    one, two = found.space.names[:2]
    masks = {name: found.space.mask(found.decode, name) for name in (one, two)}
    both = edit.where(found, found.space, {one: 2.0, two: -0.5}, "orthogonalised")
    assert torch.equal(both, torch.maximum(masks[one], masks[two]))
    assert torch.equal(edit.where(found, found.space, {one: 0.3, two: 0.0}, "orthogonalised"), masks[one])
    assert edit.where(found, found.space, {one: 0.0}, "orthogonalised") == 1.0


def test_where_attributes_show_is_found_once_for_each_space(model, monkeypatch):
    found, asked_for = model("latent"), []
    kept = LatentSpace.mask
    monkeypatch.setattr(LatentSpace, "mask", lambda *a: asked_for.append(a[2:]) or kept(*a))
    found.masks.clear()
    one, two = found.space.names[:2]
    for strengths in ({one: 1.0}, {one: -2.0, two: 1.0}, {two: 0.5}):
        edit.where(found, found.space, strengths, "logistic")
    edit.where(found, found.space, {one: 1.0}, "mean_difference")
    taught = replace(found.space)
    for _ in range(2):
        edit.where(found, taught, {one: 1.0}, "logistic")
    assert asked_for == [(one, "logistic"), (two, "logistic"), (one, "mean_difference"), (one, "logistic")]


def test_an_edit_keeps_what_the_code_does_not_see(model):
    """The photo is larger than the faces of the run, and its grain stays, whatever the edit."""
    found = model("latent")
    pixels = np.random.default_rng(1).integers(90, 160, (200, 160, 3), dtype=np.uint8)
    made = edit.edit(found, pixels, {found.space.names[0]: 1.0}, whole=True).photo
    added = made.astype(int) - pixels
    assert made.shape == pixels.shape
    assert added.any()
    assert np.abs(np.diff(added, axis=1)).mean() < 0.1 * np.abs(np.diff(pixels.astype(int), axis=1)).mean()


def test_an_edit_of_nothing_is_the_photo_itself(model):
    found, pixels = model("latent"), picture(16, 16)
    name = found.space.names[0]
    same = edit.edit(found, pixels, {name: 0.0}, whole=True)
    assert np.abs(same.photo.astype(int) - pixels).max() <= 1
    more = edit.edit(found, pixels, {name: 3.0}, whole=True)
    assert np.abs(more.photo.astype(int) - pixels).max() > 0
    assert list(more.faces[0]) == ["photo", "reconstruction", "edited"]
    with pytest.raises(BadInput, match="Moustached: no such attribute; known are"):
        edit.edit(found, pixels, {"Moustached": 1.0}, whole=True)


@pytest.mark.parametrize("word", ["Smiling", "Smiling=", "=1", "Smiling=much", "Smiling=nan", "Smiling=inf"])
def test_a_change_that_makes_no_sense_is_told(word):
    with pytest.raises(BadInput, match="must be NAME=NUMBER"):
        edit.parse_strengths([word])


def test_two_folders_teach_an_attribute(model, tmp_path, seen):
    seen()
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        for n in range(4):
            write_png(picture(16, 16, seed=10 * len(name) + n), tmp_path / name / f"{n}.png")
    found = model("latent")
    space = edit.teach(found, "New", tmp_path / "with", tmp_path / "without")
    codes = [found.encode(edit.best_faces(found, photo.read_photos(tmp_path / name))) for name in ("with", "without")]
    assert torch.allclose(space.directions("mean_difference")["New"], codes[0].mean(0) - codes[1].mean(0), atol=1e-5)
    assert set(space.names) == {*found.space.names, "New"}
    shutil.rmtree(tmp_path / "with")
    with pytest.raises(BadInput, match="no such image or folder"):
        edit.teach(found, "New", tmp_path / "with", tmp_path / "without")


def test_steps_bring_a_code_closer_each_face_by_itself(model):
    found = model("latent")
    images = photo.to_batch([picture(16, 16, seed=n) for n in range(3)], found)

    def error(z):
        return (found.decode(z) - images[: len(z)]).square().flatten(1).mean(1)

    together = found.module.invert(images, 40)
    assert (error(together) < error(found.encode(images))).all()
    assert torch.equal(found.module.invert(images, 0), found.encode(images))
    alone = found.module.invert(images[:1], 1)
    assert torch.isfinite(alone).all()
    assert all(p.grad is None for p in found.module.parameters())


def test_invert_leaves_a_picture_and_a_code(place, tmp_path, model):
    from safetensors.torch import load_file

    write_png(picture(16, 16), tmp_path / "a.png")
    command.invert(asked(place, "latent", tmp_path / "b.png"), tmp_path / "a.png", 3, whole=True)
    assert load_file(tmp_path / "b.safetensors")["z"].shape == (1, 5)
    assert read(tmp_path / "b.png").shape == (16, 3 * 16 + 2 * 2, 3)


# Films


def test_a_walk_is_a_loop_through_its_stops(model):
    found = model("gan")
    made = list(animation.walk(found, 3, 12, seed=5))
    stops = photo.to_pictures(next(found.faces(3, seed=5)))
    assert len(made) == 12
    for n in range(3):
        assert np.abs(made[4 * n].astype(int) - stops[n]).max() <= 1
    with pytest.raises(BadInput, match="at least 2"):
        list(animation.walk(found, 1, 12))


def test_great_circles_keep_the_length_and_straight_ways_are_straight():
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, 0.0])
    half = animation.between(a, b, 0.5, True)
    assert torch.allclose(half, torch.tensor([1.0, 1.0, 0.0]) * 3 / 2**0.5, atol=1e-6)
    assert torch.allclose(animation.between(a, b, 0.25, False), torch.tensor([2.25, 0.75, 0.0]))
    for share, right in ((0.0, a), (1.0, b)):
        assert torch.allclose(animation.between(a, b, share, True), right, atol=1e-6)
    assert torch.allclose(animation.between(a, a, 0.3, True), a)


def test_a_sweep_goes_from_low_to_high_and_back(model):
    found = model("latent")
    z, name = found.codes(1), found.space.names[0]
    made = list(animation.sweep(found, z, name, -2.0, 2.0, 8, "mean_difference"))
    ends = [found.space.edit(z, {name: s}, "mean_difference") for s in (-2.0, 2.0)]
    for frame, code in zip((made[0], made[4]), ends, strict=True):
        assert np.abs(frame.astype(int) - photo.to_pictures(found.decode(code))[0]).max() <= 1
    assert np.abs(made[3].astype(int) - made[5]).max() <= 1


def test_a_morph_begins_and_ends_at_its_faces(place, model, tmp_path):
    found = model("latent")
    a, b = found.codes(2).split(1)
    made = list(animation.morph(found, a, b, 5))
    ends = photo.to_pictures(found.decode(torch.cat([a, b])))
    assert np.abs(made[0].astype(int) - ends[0]).max() <= 1
    assert np.abs(made[-1].astype(int) - ends[1]).max() <= 1
    for name, seed in (("a", 1), ("b", 2)):
        write_png(picture(16, 16, seed), tmp_path / f"{name}.png")
    photos = tmp_path / "a.png", tmp_path / "b.png"
    command.morph(asked(place, "latent", tmp_path / "strip.png"), *photos, 1.0, 2, True)
    assert read(tmp_path / "strip.png").shape == (16, 8 * 16, 3)
    with pytest.raises(BadInput, match="--seconds 0"):
        command.morph(asked(place, "latent", tmp_path / "c.mp4"), *photos, 0.0, 2, True)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_films_of_odd_sides_can_be_played(tmp_path, suffix):
    made = [picture(33, 21, seed=n) for n in range(6)]
    path = output.save_video(made, tmp_path / f"a{suffix}", 12, RECIPE)
    opened = video.open_video(path)
    shown = list(opened.frames())
    assert len(shown) == 6
    assert float(opened.rate) == pytest.approx(12, rel=0.06)  # a GIF counts hundredths of a second
    assert np.abs(shown[0][:33, :21].astype(int) - made[0]).mean() < 12
    assert output.read_recipe(path) == {
        "command": "walk",
        "run": None,
        "weights_sha256": None,
        "synthetic": True,
        "what": 'a = "b"; \\ # and\nso on',
    }


# Means


def test_the_mean_of_codes_is_the_face_of_the_mean_code(model, tmp_path, seen):
    seen()
    for n in range(3):
        write_png(picture(16, 16, n), tmp_path / f"{n}.png")
    found = model("latent")
    made = list(average.by_codes(found, photo.read_photos(tmp_path)))
    z = found.encode(edit.best_faces(found, photo.read_photos(tmp_path)))
    assert len(made) == 3
    assert np.abs(made[-1].astype(int) - photo.to_pictures(found.decode(z.mean(0, keepdim=True)))[0]).max() <= 1


def test_a_translation_is_asked_again_until_it_rests(model, tmp_path, seen, monkeypatch):
    seen()
    write_png(picture(16, 16), tmp_path / "a.png")
    found = model("mean")
    monkeypatch.setattr(type(found.module), "predict", lambda self, x: 0.5 * x)
    made = list(average.by_translation(found, photo.read_photos(tmp_path)))
    assert 3 <= len(made) <= 12
    assert np.abs(made[-1].astype(int) - 127.5).max() <= 3
    with pytest.raises(BadInput, match="task=average"):
        list(average.by_translation(open_model(found.path.parent / "colour"), []))


def test_points_are_warped_to_where_they_belong():
    face = np.zeros((60, 40, 3), np.uint8)
    shape = np.array([[12.0, 20.0], [28.0, 20.0], [20.0, 30.0], [14.0, 42.0], [26.0, 42.0]])
    wanted = shape + np.array([2.0, -3.0])
    for x, y in shape.astype(int):
        face[y - 1 : y + 2, x - 1 : x + 2] = 255
    warped = average.warp(face, shape, wanted)
    for x, y in wanted.astype(int):
        assert warped[y, x, 0] > 200
    assert np.abs(average.warp(face, shape, shape) - face).max() < 1e-3


def test_a_mean_by_landmarks_lays_eyes_on_eyes(tmp_path, seen):
    for n in range(2):
        pixels = np.full((100, 80, 3), 90, np.uint8)
        for x, y in FACE[:2]:
            pixels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 255
        write_png(pixels, tmp_path / f"{n}.png")
    (*_, mean) = average.by_landmarks(photo.read_photos(tmp_path), (96, 72))
    for side in (-1, 1):
        assert mean[round(average.EYES * 96), round(36 + side * average.GAP * 96), 0] > 200
    seen(Detection((0.0, 0.0, 9.0, 9.0)))
    with pytest.raises(BadInput, match="no face with landmarks"):
        list(average.by_landmarks(photo.read_photos(tmp_path), (96, 72)))


def test_a_mean_as_a_picture_and_as_a_film(place, tmp_path, seen):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(3):
        write_png(picture(seed=n), folder / f"{n}.png")
    command.average(folder, None, None, None, False, False, ())
    assert read(tmp_path / "photos-mean.png").shape == (*average.SIZE, 3)
    assert output.read_recipe(tmp_path / "photos-mean.png")["run"] is None
    command.average(folder, place / "latent", None, tmp_path / "a.gif", True, False, ())
    assert len(list(video.open_video(tmp_path / "a.gif").frames())) == 3
    with pytest.raises(BadInput, match=r"\.mp4 or \.gif"):
        command.average(folder, None, None, tmp_path / "a.png", True, False, ())
    with pytest.raises(BadInput, match="needs --run"):
        command.average(folder, None, "latent", tmp_path / "b.png", False, False, ())


def test_what_cannot_be_read_is_left_out_of_a_mean_and_of_a_lesson(place, tmp_path, seen, capsys, model):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(3):
        write_png(picture(seed=n), folder / f"{n}.png")
    for name, content in (("broken.jpg", b"\xff\xd8 none"), ("empty.png", b""), ("text.webp", b"no picture")):
        (folder / name).write_bytes(content)
    for run, way in ((None, None), (place / "latent", "latent"), (place / "mean", "translation")):
        out = tmp_path / f"{way}.png"
        command.average(folder, run, way, out, False, False, ())
        captured = capsys.readouterr()
        assert all(f"faceforge: skipped {folder / name}: " in captured.err for name in ("broken.jpg", "empty.png"))
        assert "the mean face of 3 photos" in captured.out
        assert output.read_recipe(out)["photos"] == 3
    assert edit.teach(model("latent"), "new", folder, folder).names[-1] == "new"
    for path in folder.glob("?.png"):
        path.unlink()
    with pytest.raises(BadInput, match="none of its 3 images can be read"):
        command.average(folder, None, None, tmp_path / "none.png", False, False, ())


LONG = ["x" * 251 + ".png", "x" * 250 + ".webp"]


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["a.jpg", "a.png", "a.jpg.png"], LONG])
def test_every_photo_of_a_folder_has_its_own_output(place, tmp_path, seen, names):
    source = tmp_path / "photos"
    source.mkdir()
    for n, name in enumerate(names):
        Image.fromarray(picture(seed=n)).save(source / name)
    command.translate(asked(place, "colour", tmp_path / "out"), source, False, "photo")
    assert len(list((tmp_path / "out").iterdir())) == len(names)
    for name in names:
        command.upscale(asked(place, "sr", None), source / name, False)
        command.invert(asked(place, "latent", tmp_path / f"code-{names.index(name)}"), source / name, 0, True)


def test_a_mean_of_the_working_directory_has_a_name(tmp_path, seen, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    write_png(picture(), folder / "0.png")
    monkeypatch.chdir(folder)
    command.average(Path(), None, None, None, False, False, ())
    assert (tmp_path / "photos-mean.png").is_file()


@pytest.fixture
def warn_always():
    """torch warns each time, not only the first in a process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


def test_a_photo_that_is_read_only_in_memory_is_no_warning(place, tmp_path, recwarn, warn_always):
    for mode in ("RGB", "L", "RGBA"):
        Image.new(mode, (24, 24)).save(tmp_path / f"{mode}.png")
        command.invert(asked(place, "latent", tmp_path / f"out-{mode}.png"), tmp_path / f"{mode}.png", 0, whole=True)
    pixels = picture(24, 24)
    pixels.flags.writeable = False
    whole(pixels, "center", (16, 16), 3)
    assert not [str(w.message) for w in recwarn if "writ" in str(w.message)]


# The command line


def said(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["faceforge", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.run()
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_commands_from_their_words(place, tmp_path, monkeypatch, capsys):
    write_png(picture(16, 16), tmp_path / "a.png")
    here = tmp_path
    name = open_model(place / "latent").space.names[0]
    for words in (
        ["generate", place / "gan", "-n", 3, "--seed", 2, "--truncation", 0.7, "--out", here / "1.png"],
        ["upscale", place / "sr", here / "a.png", "--simulate", "--self-ensemble", "--out", here / "2.png"],
        ["translate", place / "colour", here / "a.png", "--no-detect", "--show", "faces", "--out", here / "3.png"],
        ["edit", place / "latent", here / "a.png", f"{name}=-1.5", "--no-detect", "--out", here / "4.png"],
        ["walk", place / "latent", "--seconds", 0.5, "--attribute", name, "--from-to", -1, 1, "--out", here / "5.gif"],
    ):
        code, out, _ = said(monkeypatch, capsys, *words)
        assert code == 0
        assert str(words[-1]) in out
    assert read(here / "2.png").shape[1] == 4 * 16 + 3 * 2
    older = ["translate", place / "colour", here / "a.png", "--whole", "--out", here / "6.png"]
    code, _, err = said(monkeypatch, capsys, *older)
    assert (code, err.splitlines()[0]) == (0, "faceforge: --whole is called --no-detect now")
    code, _, err = said(monkeypatch, capsys, "edit", place / "gan", here / "a.png", "Smiling=1")
    assert code == 2
    assert err.count("\n") == 1
    assert "cannot edit (it can generate and walk)" in err
    code, _, err = said(monkeypatch, capsys, "edit", place / "latent", here / "a.png")
    assert code == 2
    assert "no attribute to change" in err
    assert name in err
    assert json.loads((place / "gan" / "run.json").read_text())["status"] == "finished"
