"""A run that goes on: on another machine with its faces elsewhere, and never from where it would lose something."""

import shutil

import pytest
from conftest import TINY
from PIL import Image
from test_training import record, rows, same
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge import config
from faceforge.data.sources.drawn import Drawn
from faceforge.engine import checkpoint, training
from faceforge.engine.strategy import killed, raised_in_rank
from faceforge.errors import BadInput, GuardStop

CROPS = [word for word in TINY if not word.startswith("data.source")]


@pytest.fixture
def crops(tmp_path, monkeypatch):
    """A folder of drawn faces with a table of labels, and a run of 20 images on it; gives its folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here" / "faces"
    folder.mkdir(parents=True)
    names = [f"{n:02d}.png" for n in range(40)]
    for n, name in enumerate(names):
        Image.fromarray(Drawn(count=40).read(n, (12, 12))).save(folder / name)
    labels = "name,Smiling\n" + "".join(f"{name},{n % 2}\n" for n, name in enumerate(names))
    (tmp_path / "here" / "labels.csv").write_text(labels)

    def train(name, images):
        places = ["data=crops", "data.root=here/faces", "data.attributes=here/labels.csv", "data.cache=here/cache"]
        overrides = [*places, *CROPS, f"trainer.max_images={images}", f"run_dir={tmp_path / name}"]
        assert training.train(config.compose(overrides), overrides) == 0
        return tmp_path / name

    return train


def test_a_run_goes_on_where_its_faces_are_now(crops, resume, tmp_path):
    whole, parts = crops("whole", 40), crops("parts", 20)
    (tmp_path / "here").rename(tmp_path / "there")
    shutil.rmtree(tmp_path / "there" / "cache")
    moved = ["data.root=there/faces", "data.attributes=there/labels.csv", "data.cache=there/new", "data.workers=1"]
    with pytest.raises(BadInput, match="here/faces"):
        resume(parts, "trainer.max_images=40")
    assert resume(parts, "trainer.max_images=40", *moved) == 0
    same(whole, parts)
    assert (tmp_path / "there" / "new").is_dir()
    assert not (tmp_path / "here").exists()
    kept = checkpoint.read(parts / "checkpoints" / "last.ckpt")["config"]["data"]
    assert (kept["root"], kept["source"]["cache"]) == ("there/faces", "there/new")
    assert resume(parts, "trainer.max_images=44") == 0  # where they are is kept


def test_other_faces_and_other_labels_are_refused(crops, resume, tmp_path):
    folder = crops("a", 20)
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    labels = tmp_path / "here" / "labels.csv"
    labels.with_name("other.csv").write_text(labels.read_text().replace(",1", ",0").replace(",0", ",1", 3))
    with pytest.raises(BadInput, match=r"the labels of .*a have changed; data\.attributes must name the same"):
        resume(folder, "trainer.max_images=40", "data.attributes=here/other.csv")
    (tmp_path / "here" / "faces" / "00.png").unlink()
    with pytest.raises(BadInput, match=r"the faces of .*a have changed"):
        resume(folder, "trainer.max_images=40")
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_an_older_checkpoint_of_a_run_is_no_place_to_go_on_from(tiny, resume):
    folder = tiny("a")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as said:
        resume(folder / "checkpoints" / "previous.ckpt", "trainer.max_images=80")
    assert "previous.ckpt is at image 20, the run has since reached 40; resume=" in str(said.value)
    assert f"init_from={folder}/checkpoints/previous.ckpt starts a new run" in str(said.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_the_best_may_be_the_last(tiny, resume):
    folder = tiny("a")
    checkpoint.link(folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt")
    assert resume(folder / "checkpoints" / "best.ckpt", "trainer.max_images=48") == 0
    assert record(folder)["images"] == 48
    assert [int(row["images"]) for row in rows(folder)][-1] == 48


@pytest.mark.slow
def test_two_processes_whose_time_is_up_end_together(tiny):
    """Their clocks differ by the first grid, which rank 0 alone draws."""
    limits = ["trainer.max_images=null", "trainer.max_minutes=0.02", "trainer.processes=2", "trainer.max_wait=1"]
    folder = tiny("a", *limits)
    about = record(folder)
    assert about["status"] == "finished"
    assert about["seconds"] >= 1.2
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["clock"]["images"] == about["images"]


def test_an_error_of_several_lines_in_a_rank_is_told_whole():
    trace = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  File x\n"
    found = raised_in_rank(ProcessRaisedException(f"{trace}faceforge.errors.BadInput: one\nand two\n", 1, 1))
    assert (type(found), str(found)) == (BadInput, "one\nand two")
    other = ProcessRaisedException(
        f"{trace}faceforge.errors.BadInput: one\n\nDuring handling another exception occurred:\n\n"
        "Traceback (most recent call last):\n  File y\nZeroDivisionError: division by zero\n", 1, 1,
    )  # fmt: skip
    assert raised_in_rank(other) is other


def test_a_rank_that_was_killed_is_one_line():
    said = killed(ProcessExitedException("x", 1, 99, -9, "SIGKILL"))
    assert isinstance(said, GuardStop)
    assert str(said) == "rank 1 was ended by SIGKILL (out of memory?); the last checkpoint is valid"
