"""`faceforge cut --prune`: of a photo that was taken out of SRC nothing is kept, and only of such a photo."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_cut_job import accepted, cut_haar, edit, photo, rows, save, tree
from test_cut_people import file, make_album, play

from faceforge.cut import job, prune
from faceforge.cut.panel import write_panels
from faceforge.errors import BadInput
from faceforge.io.archives import Folder

NAMES = ("a.png", "again.png", "b.png", "sub/c.png", "sub/deep/d.png", "soft.png", "wall.png")


def make_photos(folder):
    """Faces, one of them twice (the larger copy first in no order), one blurred, and a photo without any."""
    large = photo(1).resize((400, 440), Image.Resampling.BICUBIC)
    save(folder, "a.png", photo(1))
    save(folder, "again.png", large)
    for n, name in ((2, "b.png"), (6, "sub/c.png"), (7, "sub/deep/d.png")):
        save(folder, name, photo(n))
    save(folder, "soft.png", photo(3).resize((46, 50)).resize((200, 220), Image.Resampling.BICUBIC))
    save(folder, "wall.png", Image.new("RGB", (90, 90), "grey"))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    source = make_photos(tmp_path_factory.mktemp("whole") / "photos")
    return source, cut_haar(source, source.parent / "faces")


@pytest.fixture
def copied(whole, tmp_path):
    """SRC and a cut of it, to be changed."""
    source = Path(shutil.copytree(whole[0], tmp_path / "photos"))
    target = Path(shutil.copytree(whole[1], tmp_path / "faces"))
    about = target / "_review/settings.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "source": str(source.resolve())}, indent=1) + "\n")
    return source, target


def take_out(source, *names):
    for name in names:
        (source / name).unlink()
        for folder in (source / name).relative_to(source).parents:
            if folder != Path() and not list((source / folder).iterdir()):
                (source / folder).rmdir()


def made(folder):
    """All files but those that hold what a person changed."""
    return {
        name: data for name, data in tree(folder).items() if name not in ("_review/edits.json", "_review/recut.json")
    }


def mentions(folder, word):
    """The files in whose name or bytes a word stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return list(folder.rglob(f"*{word}*")) + [path for path in files if word.encode() in path.read_bytes()]


def test_the_photos_are_as_the_tests_want_them(whole):
    found = rows(whole[1])
    assert found["a.png-1.png"].same_as == "again.png-1.png"
    assert found["a.png-1.png"].verdict == "doubtful"
    assert found["soft.png-1.png"].verdict == "doubtful"
    assert {"again.png-1.png", "b.png-1.png", "sub/c.png-1.png"} <= set(accepted(whole[1]))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES) - 1))
@pytest.mark.slow
def test_a_cut_pruned_is_a_fresh_cut_of_what_is_left(whole, tmp_path_factory, names):
    check_pruned_is_fresh(whole, tmp_path_factory.mktemp("pruned"), names)


@pytest.mark.parametrize("names", [["again.png"], ["sub/c.png", "sub/deep/d.png", "soft.png", "wall.png"]])
def test_these_photos_pruned_is_a_fresh_cut_of_what_is_left(whole, tmp_path, names):
    check_pruned_is_fresh(whole, tmp_path, names)


def check_pruned_is_fresh(whole, folder, names):
    source = Path(shutil.copytree(whole[0], folder / "photos"))
    target = cut_haar(source, folder / "faces")
    take_out(source, *names)
    cut_haar(source, target, prune=True)
    assert made(target) == made(cut_haar(source, folder / "fresh"))
    assert sorted(path for path in target.rglob("*") if path.is_dir() and not list(path.iterdir())) == []


def test_the_smaller_copy_is_accepted_once_the_larger_is_gone(copied):
    source, target = copied
    take_out(source, "again.png")
    cut_haar(source, target, prune=True)
    assert rows(target)["a.png-1.png"].same_as == ""
    assert (target / "a.png-1.png").is_file()
    assert not mentions(target, "again.png")


def test_nothing_is_removed_unasked_and_the_summary_says_what_would_be(copied, capsys):
    source, target = copied
    before = made(target)
    take_out(source, "b.png", "sub/deep/d.png")
    cut_haar(source, target)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gone"))
    expected = f"gone       2 photos no longer in {source}, and 2 faces of them, still kept; "
    assert line == f"{expected}to remove them: faceforge cut {source} {target} --prune"
    assert made(target) == before
    cut_haar(source, target, prune=True)
    assert f"pruned     2 photos no longer in {source}, and 2 faces of them\n" in capsys.readouterr().out
    cut_haar(source, target)
    assert not {"gone", "pruned"} & {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_the_command_line_repeats_what_was_typed(copied, capsys, monkeypatch):
    from faceforge.cli import app

    source, target = copied
    take_out(source, "b.png")
    words = ["cut", str(source), str(target), "--size", "60x80", "--detector", "haar", "--min-face", "20"]
    words += ["--processes", "1"]
    monkeypatch.setattr("sys.argv", ["faceforge", *words])
    app(words, standalone_mode=False)
    assert f"to remove them: faceforge {' '.join(words)} --prune" in capsys.readouterr().out
    app([*words, "--prune"], standalone_mode=False)
    assert not mentions(target, "b.png-1")


def test_edits_of_other_photos_stay_and_those_of_the_gone_go(copied):
    source, target = copied
    row = rows(target)["b.png-1.png"]
    edit(target, "b.png-1.png", frame_w=row.frame_w / 2, frame_h=row.frame_h / 2, person="Bea")
    edit(target, "sub/c.png-1.png", verdict="rejected", person="Cleo")
    row = rows(target)["sub/deep/d.png-1.png"]
    edit(target, "sub/deep/d.png-1.png", frame_w=row.frame_w / 2, frame_h=row.frame_h / 2, person="Dora")
    cut_haar(source, target)
    crop = (target / "_review/rejected/sub/c.png-1.png").read_bytes()
    take_out(source, "b.png", "sub/deep/d.png")
    edit(target, "soft.png-1.png", verdict="accepted")  # in the same moment
    cut_haar(source, target, prune=True)
    found = rows(target)
    assert (found["sub/c.png-1.png"].verdict, found["sub/c.png-1.png"].person) == ("rejected", "Cleo")
    assert found["soft.png-1.png"].verdict == "accepted"
    assert (target / "_review/rejected/sub/c.png-1.png").read_bytes() == crop
    for word in ("Bea", "Dora", "b.png-1", "d.png-1"):
        assert not mentions(target, word)
    assert set(json.loads((target / "_review/edits.json").read_text())) == {"sub/c.png-1.png", "soft.png-1.png"}


def test_panels_of_the_filters_go_with_their_crop(copied):
    source, target = copied
    write_panels(target, None, overwrite=False)
    panel = target / "_review/filters/sub/c.png-1.png"
    assert panel.is_file()
    take_out(source, "sub/c.png")
    cut_haar(source, target, prune=True)
    assert not panel.exists()
    assert (target / "_review/filters/b.png-1.png").is_file()


def test_what_others_put_there_stays(copied):
    source, target = copied
    mine = [target / "sub/notes.txt", target / "_review/thumbs/mine.jpg", target / "b.png-2.png"]
    for path in mine:
        path.write_bytes(b"mine")
    take_out(source, "b.png", "sub/c.png")
    cut_haar(source, target, prune=True)
    assert all(path.read_bytes() == b"mine" for path in mine)


def test_descriptions_of_people_go_too(tmp_path, monkeypatch):
    played = play(monkeypatch)
    album = make_album(tmp_path / "in")
    target = cut_haar(album, tmp_path / "out", tell_people=True)
    left = file(target).with_name(".people.jsonl.99999.tmp")  # of a cut that was killed
    shutil.copy(file(target), left)
    take_out(album, "a1.png", "c1.png")
    cut_haar(album, target)
    assert not left.exists()
    cut_haar(album, target, prune=True)
    assert "a1.png" not in file(target).read_text()
    assert "c1.png" not in file(target).read_text()
    assert rows(target)["a3.png-1.png"].person == "a2.png-1.png"
    count = played.count
    assert made(target) == made(cut_haar(album, tmp_path / "fresh", tell_people=True))
    assert count == 7, "others are not described again"


def test_descriptions_are_gone_before_anything_else_can_fail(tmp_path, monkeypatch):
    play(monkeypatch)
    album = make_album(tmp_path / "in")
    target = cut_haar(album, tmp_path / "out", tell_people=True)
    take_out(album, "c1.png")
    monkeypatch.setattr(job, "_process", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cut_haar(album, target, prune=True)
    assert "c1.png" not in file(target).read_text()
    assert not list(target.rglob("c1.png-1.*"))


@pytest.mark.parametrize("at", range(6))
def test_killed_while_pruning_the_same_command_ends_in_the_same_bytes(copied, tmp_path, monkeypatch, at):
    """A kill after each of the steps that remove something."""
    source, target = copied
    edit(target, "b.png-1.png", verdict="rejected")
    cut_haar(source, target)
    take_out(source, "b.png", "again.png")
    steps = []

    def killed(function):
        def instead(*args, **given):
            if len(steps) == at:
                raise KeyboardInterrupt
            steps.append(function)
            return function(*args, **given)

        return instead

    with monkeypatch.context() as patched:
        patched.setattr(prune, "_remove_empty", killed(prune._remove_empty))
        patched.setattr(prune, "_keep_faces", killed(prune._keep_faces))
        patched.setattr(prune.Journal, "settle", killed(prune.Journal.settle))
        patched.setattr(job.Ledger, "write", killed(job.Ledger.write))
        with pytest.raises(KeyboardInterrupt):
            cut_haar(source, target, prune=True)
    cut_haar(source, target, prune=True)
    assert made(target) == made(cut_haar(source, tmp_path / "fresh"))
    assert not mentions(target, "b.png-1")


# ----------------------------------------------------------------------------------------- SRC that was not read whole


def refused(source, target, match):
    before = tree(target)
    with pytest.raises(BadInput, match=match) as caught:
        cut_haar(source, target, prune=True)
    assert "\n" not in str(caught.value)
    assert tree(target) == before


def test_an_empty_or_absent_source_prunes_nothing(copied):
    source, target = copied
    shutil.rmtree(source)
    refused(source, target, "no such folder")
    source.mkdir()
    refused(source, target, "no images")


def test_a_source_of_other_photos_prunes_nothing(copied):
    source, target = copied
    take_out(source, *NAMES)
    save(source, "new.png", photo(9))
    refused(source, target, rf"--prune: {source} holds none of the 7 photos cut before; mount .*; nothing was removed")


def test_a_folder_that_is_empty_may_be_an_unmounted_disk(copied, capsys):
    source, target = copied
    shutil.rmtree(source / "sub")
    (source / "sub").mkdir()
    refused(source, target, rf"--prune: {source / 'sub'} is empty; mount its disk or remove the folder")
    cut_haar(source, target)
    assert "\ngone" not in capsys.readouterr().out, "nobody is told to remove them"
    (source / "sub").rmdir()
    cut_haar(source, target, prune=True)
    assert not mentions(target, "c.png-1")


def test_a_folder_that_cannot_be_listed_prunes_nothing(copied, monkeypatch, capsys):
    source, target = copied
    scan = os.scandir

    def refuse(path):
        if str(path) == str(source / "sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    take_out(source, "b.png")
    refused(source, target, rf"--prune: {source / 'sub'} cannot be listed; all of SRC must be readable")
    cut_haar(source, target)
    assert "gone       1 photo no longer" in capsys.readouterr().out


def test_a_folder_without_known_photos_may_be_unreadable(copied, monkeypatch):
    source, target = copied
    scan = os.scandir

    def refuse(path):
        if str(path) == str(source / "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    (source / "lost+found").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    take_out(source, "b.png")
    cut_haar(source, target, prune=True)
    assert not mentions(target, "b.png-1")


def test_the_root_that_cannot_be_listed_is_unread(tmp_path):
    memory = prune.Journal(tmp_path / "photos.jsonl")
    gone = prune.find(Folder(tmp_path / "absent"), [], memory)
    assert gone == prune.Gone([], [])
    memory.close()


def test_one_photo_of_a_folder_says_nothing_of_the_others(copied, capsys):
    source, target = copied
    cut_haar(source / "b.png", target, prune=True)
    assert "pruned" not in capsys.readouterr().out
    assert len(rows(target)) == len(NAMES)


def test_members_taken_out_of_a_zip(tmp_path):
    source, packed = make_photos(tmp_path / "photos"), tmp_path / "photos.zip"

    def pack(names):
        with zipfile.ZipFile(packed, "w") as file:
            for name in names:
                file.write(source / name, name)

    pack(NAMES)
    target = cut_haar(packed, tmp_path / "faces")
    pack(NAMES[2:])
    cut_haar(packed, target, prune=True)
    assert made(target) == made(cut_haar(packed, tmp_path / "fresh"))
