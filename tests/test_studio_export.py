"""Models that leave their run: the same pictures from every form of them, nothing private inside, nothing that runs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_studio import RUNS, asked, picture

from benchmarks.studio import use
from faceforge import config
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.studio import command, edit, export, exported, photo, upscale
from faceforge.studio.model import open_model

EXPORTED = {
    "gan": [*RUNS["gan"], "data.size=[16,32]"],
    "latent": [*RUNS["latent"], "data.size=[16,32]"],
    "sr": [*RUNS["sr"], "data.size=[16,24]"],
    "colour": RUNS["colour"],
}
EACH = ["gan", "latent", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sr", "colour"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny runs of faces that are not square, and ``gan-out`` and so on, what was exported of them."""
    place = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEFORGE_CACHE", str(place / "private-cache"))
        patch.chdir(place)
        for name, overrides in EXPORTED.items():
            overrides = [*overrides, "trainer.max_images=16", f"run_dir={place / name}"]
            assert training.train(config.compose(overrides), overrides) == 0
            if name in ("gan", "latent"):
                command.export(asked(place, name, None), place / f"{name}-out")
        yield place


@pytest.fixture
def out(place, name):
    """What was exported of a run."""
    folder = place / f"{name}-out"
    if not folder.is_dir():
        command.export(asked(place, name, None), folder)
    return folder


@pytest.mark.parametrize("name", EACH)
def test_a_folder_has_what_a_hub_wants(out, name):
    graphs = {"model.onnx"} | ({"model-encoder.onnx", "model-decoder.onnx"} if name == "latent" else set())
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "golden.npz",
        "model.safetensors",
        "onnx_use.py",
        *graphs,
    }
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: faceforge\n")
    for heading in ("## Use", "## Data", "## Scores", "## Limits", "## Ethics"):
        assert heading in card
    assert all(f"`{path.name}`" in card for path in out.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("name", EACH)
def test_golden_outputs_are_what_onnxruntime_and_torch_make_of_golden_inputs(out, name):
    from faceforge.studio import onnx_use

    golden = np.load(out / "golden.npz")
    for key in (key for key in golden.files if key.endswith("_input")):
        part = key.removesuffix("_input")
        session, _ = onnx_use.open_model(out / ("model.onnx" if part == "model" else f"model-{part}.onnx"))
        expected = golden[f"{part}_output"]
        assert np.abs(onnx_use.run(session, golden[key]) - expected).max() <= export.CLOSE
        for one in golden[key]:  # batch 1
            assert onnx_use.run(session, one[None]).shape == (1, *expected.shape[1:])


def test_the_same_z_gives_the_same_picture_in_every_form(place):
    from faceforge.studio import onnx_use

    run, out = open_model(place / "gan"), open_model(place / "gan-out")
    z = run.codes(3, seed=6)
    assert torch.equal(z, out.codes(3, seed=6))
    session, about = onnx_use.open_model(place / "gan-out" / "model.onnx")
    pictures = [photo.to_pictures(model.decode(z)) for model in (run, out)]
    pictures.append(photo.to_pictures(torch.from_numpy(onnx_use.run(session, z.numpy()))))
    for other in pictures[1:]:
        assert np.abs(np.stack(other).astype(int) - np.stack(pictures[0])).max() <= 1
    assert about["input"]["shape"] == list(z.shape[1:])


def test_the_parts_of_an_editor_do_what_the_run_does(place):
    from faceforge.studio import onnx_use

    run = open_model(place / "latent")
    images = photo.to_batch([picture(16, 32, n) for n in range(3)], run)
    sessions = {
        part: onnx_use.open_model(place / "latent-out" / f"model{part}.onnx")[0]
        for part in ("", "-encoder", "-decoder")
    }
    z = run.encode(images)
    assert np.allclose(onnx_use.run(sessions["-encoder"], images.numpy()), z, atol=1e-4)
    assert np.allclose(onnx_use.run(sessions["-decoder"], z.numpy()), run.decode(z), atol=1e-4)
    assert np.allclose(onnx_use.run(sessions[""], images.numpy()), run.predict(images), atol=1e-4)


def test_an_export_works_wherever_its_run_does(place, monkeypatch):
    for path in (place / "latent-out", place / "latent-out" / "model.safetensors"):
        run, out = open_model(place / "latent"), open_model(path)
        assert out.abilities == run.abilities
        name = run.space.names[0]
        pixels = picture(16, 32)
        made = [edit.edit(model, pixels, {name: 2.0}, whole=True).photo for model in (run, out)]
        assert np.abs(made[0].astype(int) - made[1]).max() <= 1
        assert torch.allclose(next(run.faces(3)), next(out.faces(3)), atol=1 / 255)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sr"])
def test_an_export_upscales_as_its_run_does(place, out, name):
    pixels = picture(33, 21)
    made = [upscale.upscale(open_model(place / name), pixels).photo for name in ("sr", out.name)]
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1
    assert open_model(out).framing == open_model(place / "sr").framing


@pytest.mark.parametrize("name", EACH)
def test_nothing_private_leaves(place, out, name):
    """Neither where anything lay, nor weights that inference does not use."""
    for path in out.iterdir():
        content = path.read_bytes()
        assert str(place).encode() not in content
        assert b"private-cache" not in content
    with safe_open(out / "model.safetensors", "pt") as file:
        assert all(key.startswith(("average.", "space/")) for key in file.keys())  # noqa: SIM118
        about = json.loads(file.metadata()["about"])
    assert set(about["config"]["data"]) <= set(exported.KEPT)


@pytest.mark.slow
def test_one_file_alone(place, tmp_path, capsys):
    command.export(asked(place, "gan", None), tmp_path / "a.safetensors")
    alone, run = (next(open_model(path).faces(2)) for path in (tmp_path / "a.safetensors", place / "gan"))
    assert torch.allclose(alone, run, atol=1 / 255)
    command.export(asked(place, "latent", None), tmp_path / "b.onnx")
    assert {p.name for p in tmp_path.glob("b*")} == {"b.onnx", "b-encoder.onnx", "b-decoder.onnx"}
    assert "from torch" in capsys.readouterr().out
    with pytest.raises(BadInput, match="already exists"):
        command.export(asked(place, "gan", None), tmp_path / "a.safetensors")


def test_the_script_beside_the_model_needs_neither_torch_nor_faceforge(place, tmp_path):
    block = "import sys; sys.modules['torch'] = None; sys.modules['faceforge'] = None; import runpy; "
    folder = place / "gan-out"

    def use(*words):
        code = (
            block
            + f"sys.argv = {['onnx_use.py', *map(str, words)]!r}; runpy.run_path({str(folder / 'onnx_use.py')!r}, "
        )
        return subprocess.run([sys.executable, "-c", code + "run_name='__main__')"], capture_output=True, text=True)

    done = use(folder / "model.onnx", "--out", tmp_path / "a.png", "--count", 3)
    assert done.returncode == 0, done.stderr
    photo.Image.open(tmp_path / "a.png").verify()
    photo.Image.fromarray(picture(16, 32)).save(tmp_path / "p.png")
    done = use(place / "latent-out" / "model.onnx", "--photo", tmp_path / "p.png", "--out", tmp_path / "b.png")
    assert done.returncode == 0, done.stderr
    assert use(place / "latent-out" / "model.onnx", "--out", tmp_path / "c.png").returncode == 2


def test_an_export_over_another_leaves_what_is_not_its_own(place, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="already exists"):
        command.export(asked(place, "gan", None), tmp_path / "out")
    command.export(asked(place, "gan", None, overwrite=True), tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert open_model(tmp_path / "out").abilities == ["generate", "walk"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_would_not_compute_the_same_is_not_written(place, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "CLOSE", -1.0)
    with pytest.raises(BadInput, match="differs from torch"):
        command.export(asked(place, "gan", None), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dropout_at_test_time_stays_out_of_onnx(place, tmp_path):
    model = open_model(place / "colour")
    model.module.test_dropout = True
    with pytest.raises(BadInput, match=r"export \.safetensors"):
        export.write_onnx(model, tmp_path / "a.onnx")


# Files from strangers


L1 = {"_target_": "faceforge.losses.L1"}


def changed(place, tmp_path, change):
    """The exported editor with its header changed."""
    with safe_open(place / "latent-out" / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about, tensors)
    save_file(tensors, tmp_path / "a.safetensors", {"about": json.dumps(about)})
    return tmp_path / "a.safetensors"


def test_a_task_that_is_none_is_refused(place, tmp_path):
    file = changed(place, tmp_path, lambda about, tensors: about["config"]["data"].update(task=L1))
    with pytest.raises(BadInput, match=r"a\.safetensors: .* lacks the training data \(its task is a L1\)"):
        open_model(file)


def test_a_foreign_target_is_refused_and_not_run(place, tmp_path):
    mark = tmp_path / "ran"

    def change(about, tensors):
        about["config"]["model"]["loss"] = {"_target_": "pathlib.Path.touch", "self": str(mark)}

    with pytest.raises(BadInput, match=r"pathlib\.Path\.touch"):
        open_model(changed(place, tmp_path, change))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda about, tensors: about.update(format="other"), "not a model exported by faceforge"),
        (lambda about, tensors: about.update(version=99), "another version of faceforge"),
        (lambda about, tensors: about.pop("config"), "not a model exported by faceforge"),
        (
            lambda about, tensors: tensors.pop(min(k for k in tensors if k[0] == "a")),
            "do not match its configuration",
        ),
        (lambda about, tensors: tensors.pop("space/mean"), "not a latent space"),
        (lambda about, tensors: tensors.update({"space/mean": torch.zeros(3)}), "not a latent space"),
        (lambda about, tensors: next(iter(tensors.values())).fill_(float("nan")), "damaged"),
    ],
)
def test_a_changed_file_is_told_in_one_line(place, tmp_path, change, reason):
    with pytest.raises(BadInput, match=reason) as told:
        open_model(changed(place, tmp_path, change))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_cut_file_is_told_in_one_line(place, tmp_path, keep):
    content = (place / "gan-out" / "model.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:keep])
    with pytest.raises(BadInput, match="not a model exported by faceforge, or damaged"):
        open_model(tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="no such file"):
        open_model(tmp_path / "b.safetensors")


# What it costs


@pytest.mark.slow
def test_the_benchmark_measures_both_ways(place):
    row = use.generate_ratio(open_model(place / "gan"), 130, 1)
    assert row["ratio"] == row["generate"] / row["bare"] > 0
    rows = use.onnx_ratios(open_model(place / "sr"), 2)
    assert list(rows) == ["model.onnx, batch 1", "model.onnx, batch 16"]
    assert all(row["difference"] <= export.CLOSE for row in rows.values())
