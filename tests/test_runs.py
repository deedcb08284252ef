"""`faceforge runs`: what is found, how it is filtered, sorted and shown, and what pruning removes and never removes."""

import hashlib
import json
import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.io.portable import HOST, is_held, locked
from faceforge.runs import command, prune, table
from faceforge.runs.found import Entry, find

BEST = {"metric": "val/kid", "mode": "min", "value": 0.25, "images": 40}


def made(folder, status="finished", hours=1.0, best=BEST, images=1000, kept=("best", "last", "previous"), **choices):
    """A run folder as a training leaves it, with checkpoints of 1000, 2000 and 3000 bytes."""
    created = datetime.now(timezone.utc) - timedelta(hours=hours)
    (folder / "checkpoints").mkdir(parents=True)
    record = {"status": status, "created": created.isoformat(timespec="seconds"), "images": images, "best": best}
    (folder / "run.json").write_text(json.dumps(record))
    choices = {"model": "pix2pix", "task": "colorize", "data": "drawn", **choices}
    (folder / "config.yaml").write_text(yaml.safe_dump({"choices": choices, "data": {"batch_size": 8}}))
    (folder / "report.html").write_text("<p>")
    (folder / ".lock").touch()
    hashes = []
    for number, name in enumerate(("best", "last", "previous"), 1):
        if name in kept:
            content = name.encode().ljust(1000 * number)
            (folder / "checkpoints" / f"{name}.ckpt").write_bytes(content)
            hashes.append(hashlib.sha256(content).hexdigest())
    (folder / "checkpoints" / "hashes.txt").write_text("\n".join(hashes))
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Run `faceforge runs WORDS` in this process, in ``tmp_path``: its exit code, output and errors."""
    from faceforge import cli

    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", lambda page: opened.append(page) or bool(page))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["faceforge", "runs", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        said = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=said.out, err=said.err, opened=opened)

    return run


@pytest.fixture
def some(tmp_path):
    """A folder with runs of their own, of a sweep, and with what is none."""
    runs = tmp_path / "runs"
    made(runs / "old", hours=800, best={**BEST, "value": 0.5}, images=5)
    made(runs / "new", hours=0.5, model="dcgan_cnn", task="none")
    made(runs / "sweep" / "0-seed=1", "failed", 30, best=None, images=None)
    made(runs / "sweep" / "1-seed=2", "interrupted", 20, {"metric": "val/mae", "mode": "min", "value": 0.1})
    made(runs / "killed", "running", 3)
    (runs / "photos" / "deep").mkdir(parents=True)
    (runs / "photos" / "deep" / "a.jpg").write_bytes(b"x")
    (runs / "half").mkdir()
    (runs / "half" / "run.json").write_text('{"status": "fin')
    (runs / ".hidden" / "checkpoints").mkdir(parents=True)
    return runs


# ------------------------------------------------------------------------------------------------------ what is found


def test_runs_at_any_depth_and_what_is_none(some):
    found = find(some)
    assert [entry.name for entry in found.entries] == ["killed", "new", "old", "sweep/0-seed=1", "sweep/1-seed=2"]
    assert found.broken == {"half": "no readable run.json"}
    assert found.foreign == ["photos"]
    assert [entry.name for entry in find(some / "sweep").entries] == ["0-seed=1", "1-seed=2"]
    assert [entry.name for entry in find(some / "old").entries] == ["old"]
    with pytest.raises(BadInput, match=r"nowhere: no such folder"):
        find(some / "nowhere")


def test_a_run_that_says_running_is_stopped_unless_a_process_holds_its_lock(some):
    killed = next(entry for entry in find(some).entries if entry.name == "killed")
    assert killed.state == "stopped"
    with locked(some / "killed" / ".lock"):
        assert find(some / "killed").entries[0].state == "running"
    assert find(some / "killed").entries[0].state == "stopped"


def test_looking_at_a_lock_creates_nothing_and_believes_lock_files(tmp_path):
    assert not is_held(tmp_path / ".lock")
    assert list(tmp_path.iterdir()) == []
    beside = tmp_path / ".lock.pid"
    for text, held in ((f"{HOST} {os.getppid()}", True), (f"{HOST} 4194304999", False), ("elsewhere 1", True)):
        beside.write_text(text)
        assert is_held(tmp_path / ".lock") == held, text


def test_the_size_counts_a_file_with_two_names_once_and_follows_no_links(tmp_path):
    run = made(tmp_path / "a", kept=("last",))
    before = find(run).entries[0].size
    os.link(run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt")
    assert find(run).entries[0].size == before
    (tmp_path / "large").write_bytes(bytes(10**6))
    (run / "link").symlink_to(tmp_path / "large")
    assert before <= find(run).entries[0].size < before + 1000


def test_links_that_lead_back_end(some):
    (some / "sweep" / "up").symlink_to(some)
    (some / "elsewhere").symlink_to(some / "old")
    assert [entry.name for entry in find(some).entries if "up" in entry.name] == []
    assert "elsewhere" in [entry.name for entry in find(some).entries]


STRANGE = [
    "[]", "null", "{}", '{"status": 3}', '{"images": 1e999, "best": 7}', '{"images": ' + "9" * 5000 + "}",
    '{"created": "0001-01-01", "best": {"value": NaN, "metric": 3}}', "[" * 100_000, '{"status": "\\u001b[2J"}',
    '{"best": {"value": 1, "metric": "val/kid"}, "images": true, "created": 1e9}',
]  # fmt: skip


@pytest.mark.parametrize("text", STRANGE)
def test_strange_records_are_a_row_or_are_named(tmp_path, typed, text):
    run = made(tmp_path / "runs" / "a")
    (run / "run.json").write_text(text)
    (run / "config.yaml").write_bytes(b"choices: {model: [1]}\n\xff\0")
    found = typed("--sort", "best")
    assert found.code == 0
    assert "1 run," in found.out or "1 folder cannot be read: a" in found.out
    assert "\x1b" not in found.out
    assert typed("prune", "--keep", "best", "--state", "finished,failed").code == 0


# ------------------------------------------------------------------------------------------------- filters and order


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["state=finished"], ["new", "old"]),
        (["state=finished,failed"], ["new", "old", "sweep/0-seed=1"]),
        (["state!=finished"], ["killed", "sweep/0-seed=1", "sweep/1-seed=2"]),
        (["model=DCGAN*"], ["new"]),
        (["name=sweep/*"], ["sweep/0-seed=1", "sweep/1-seed=2"]),
        (["best<0.3"], ["killed", "new", "sweep/1-seed=2"]),
        (["best<0.3", "state=finished"], ["new"]),
        (["best>=0.5"], ["old"]),
        (["age>1d"], ["old", "sweep/0-seed=1"]),
        (["age<=2h"], ["new"]),
        (["size>1MB"], []),
        (["images=5"], ["old"]),
        (["data.batch_size=8", "task=none"], ["new"]),
        (["data.batch_size>8"], []),
        (["trainer.precision=bf16"], []),
    ],
)
def test_filters(some, filters, names):
    assert sorted(entry.name for entry in table.filtered(find(some).entries, filters)) == names


@pytest.mark.parametrize("wrong", ["state", "colour=red", "best<low", "age>2 parsecs", "size<2d", "best<"])
def test_filters_that_say_nothing(typed, some, wrong):
    found = typed("--filter", wrong)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"faceforge: --filter {wrong}: ")
    assert found.err.count("\n") == 1


def test_order(some):
    def by(key, reverse=False):
        return [entry.name.rpartition("/")[2] for entry in table.ordered(find(some).entries, key, reverse)]

    assert by("age") == ["new", "killed", "1-seed=2", "0-seed=1", "old"]
    assert by("age", reverse=True) == ["old", "0-seed=1", "1-seed=2", "killed", "new"]
    assert by("best") == ["killed", "new", "old", "1-seed=2", "0-seed=1"]  # each metric by itself, none is last
    assert by("best", reverse=True)[-1] == "0-seed=1"
    assert by("images")[-2:] == ["old", "0-seed=1"]
    assert by("name") == ["killed", "new", "old", "0-seed=1", "1-seed=2"]
    with pytest.raises(BadInput, match=r"--sort colour: must be one of name, model"):
        by("colour")


def test_the_best_is_the_largest_where_more_is_better(tmp_path):
    for number in (1, 3, 2):
        made(tmp_path / str(number), best={"metric": "accuracy", "mode": "max", "value": number})
    assert [entry.name for entry in table.ordered(find(tmp_path).entries, "best", False)] == ["3", "2", "1"]


# ------------------------------------------------------------------------------------------------------- the table


def test_the_table_and_what_is_not_in_it(typed, some):
    found = typed("--filter", "state=finished,failed")
    rows = found.out.splitlines()
    assert rows[0].split() == list(table.COLUMNS)
    assert rows[1].split() == [
        "new",
        "dcgan_cnn",
        "drawn",
        "none",
        "1,000",
        "kid",
        "0.25",
        "finished",
        "30",
        "min",
        *rows[1].split()[-2:],
    ]
    assert "33 d" in rows[3]
    assert rows[2].split()[:6] == ["sweep/0-seed=1", "pix2pix", "drawn", "colorize", "-", "-"]
    assert rows[4].startswith("3 of 5 runs, 1")
    assert rows[5:] == [
        "1 folder cannot be read: half (no readable run.json)",
        "1 folder without a run: photos",
        "To see a report:  faceforge runs --open runs/new",
    ]


def test_json_is_for_programs(typed, some):
    found = typed("--json", "--sort", "name")
    rows = json.loads(found.out)
    assert [row["name"] for row in rows] == ["killed", "new", "old", "sweep/0-seed=1", "sweep/1-seed=2"]
    assert rows[1] == {**rows[1], "best": BEST, "state": "finished", "images": 1000, "path": "runs/new"}
    assert rows[1]["age"] == pytest.approx(1800, abs=60)
    assert rows[3]["best"] is None
    assert "1 folder without a run: photos" in found.err


def test_a_folder_without_runs(typed, tmp_path):
    assert typed().code == 2
    (tmp_path / "runs").mkdir()
    assert typed().out == "0 runs, 0 B\nTo train one:  python train.py\n"
    assert json.loads(typed("--json").out) == []


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_the_table_fits_its_terminal(tmp_path, width):
    made(tmp_path / "20261129-133855-dcgan_conventional-super_resolution-celeba", model="dcgan_conventional")
    made(tmp_path / "a")
    whole = table.lines(find(tmp_path).entries, None)
    shown = table.lines(find(tmp_path).entries, width)
    assert max(map(len, shown)) <= max(width, 16 + 12 + 12 + 11 + 9)  # the least that is always shown
    if width == 200:
        assert shown == whole
    if width <= 80:
        assert "task" in shown[-1]
        assert shown[-1].startswith("(too narrow for ")
    assert len({line.index(word) for line, word in zip(shown[1:3], ("finished", "finished"), strict=True)}) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=90), min_size=1, max_size=4), st.integers(70, 160))
def test_any_name_keeps_its_line(names, width):
    entries = [Entry(Path("/nowhere"), name, 0.0) for name in names]
    lines = table.lines(entries, width)
    assert len(lines) - len(names) in (1, 2)
    assert all(len(line) <= width and line.isprintable() for line in lines)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (59.9, "59 s"), (90, "2 min"), (7200, "2 h"), (3e6, "35 d")])
def test_ages(seconds, said):
    assert table.duration(seconds) == said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (2.5e9, "2.5 GB"), (5e13, "50.0 TB")]
)
def test_sizes(size, said):
    assert in_bytes(size) == said


# ------------------------------------------------------------------------------------------------------- reports


@pytest.mark.parametrize("name", ["new", "runs/new", "runs/new/report.html", "0-seed"])
def test_a_report_is_opened_by_name_or_path(typed, some, name):
    found = typed("--open", name)
    report = some / ("sweep/0-seed=1" if "seed" in name else "new") / "report.html"
    assert (found.code, found.out.strip()) == (0, str(report.relative_to(some.parent)))
    assert found.opened == [report.as_uri()]


@pytest.mark.parametrize(("name", "said"), [("nothing", "no run is called so"), ("seed", "2 runs are called so")])
def test_a_report_that_cannot_be_told(typed, some, name, said):
    found = typed("--open", name)
    assert (found.code, found.err) == (
        2,
        f"faceforge: --open {name}: {said}; must be a path, or the name of one run in runs\n",
    )


def test_without_a_browser_the_path_is_printed(typed, some, monkeypatch):
    def none(page):
        raise command.webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(command.webbrowser, "open", none)
    assert typed("--open", "new").out == "runs/new/report.html\n"
    (some / "new" / "report.html").unlink()
    assert "there is no report yet" in typed("--open", "new").err


# -------------------------------------------------------------------------------------------------------- pruning


def test_pruning_shows_first_and_removes_when_told(typed, some):
    before = files(some)
    shown = typed("prune", "--keep", "best")
    assert files(some) == before
    assert shown.out.splitlines() == [
        "Rule: of runs that are finished, remove last.ckpt and previous.ckpt, keep best.ckpt.",
        "  new  last.ckpt previous.ckpt  5.0 kB",
        "  old  last.ckpt previous.ckpt  5.0 kB",
        "Would free 10.0 kB in 2 runs of 5.",
        "Nothing was removed; the same command with --yes removes it.",
    ]
    done = typed("prune", "--keep", "best", "--yes")
    assert done.out.splitlines()[1:] == [
        *shown.out.splitlines()[1:3],
        "Freed 10.0 kB in 2 runs of 5.",
        "To see what is left:  faceforge runs",
    ]
    gone = {f"{run}/checkpoints/{name}.ckpt" for run in ("old", "new") for name in ("last", "previous")}
    assert files(some) == {path: content for path, content in before.items() if path not in gone}
    assert typed("prune", "--keep", "best", "--yes").out.splitlines()[1] == "Freed 0 B in 0 runs of 5."


def test_the_default_rule_keeps_what_continues(typed, some):
    before = files(some)
    typed("prune", "--yes")
    assert files(some) == {
        p: c for p, c in before.items() if p not in {f"{r}/checkpoints/previous.ckpt" for r in ("old", "new")}
    }


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--older", "30d"], ["old"]),
        (
            ["--older", "10h", "--state", "finished,failed,interrupted,stopped"],
            ["old", "sweep/0-seed=1", "sweep/1-seed=2"],
        ),
        (["--state", "stopped"], ["killed"]),
        (["--filter", "model=dcgan*"], ["new"]),
    ],
)
def test_a_rule_takes_runs_by_state_age_and_filter(typed, some, words, names):
    lines = typed("prune", *words).out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "running"], "--state running: must be among finished, interrupted, failed, stopped"),
        (["--older", "yesterday"], "--older yesterday: must be an age"),
        (["--older", "-3d"], "--older -3d: must be an age"),
        (["--keep", "nothing"], "'--keep'"),
    ],
)
def test_rules_that_cannot_be(typed, some, words, said):
    before = files(some)
    found = typed("prune", *words, "--yes")
    assert found.code == 2
    assert said in found.err
    assert files(some) == before


def test_a_run_in_use_is_left_alone(typed, some):
    before = files(some / "old")
    with locked(some / "old" / ".lock"):
        assert "  old  kept: a process holds its lock" in typed("prune", "--yes").out.splitlines()
        entry = next(entry for entry in find(some).entries if entry.name == "old")
        step = prune.Step(entry, (some / "old" / "checkpoints" / "previous.ckpt",))  # locked after it was shown
        assert prune.carry_out(step, prune.Rule("last", ("finished",), None)) == ((), "a process holds its lock")
    assert files(some / "old") == before


def test_a_run_that_went_on_meanwhile_is_left_alone(some):
    rule = prune.Rule("best", ("finished",), None)
    (step,) = prune.steps([entry for entry in find(some).entries if entry.name == "old"], rule)
    record = json.loads((some / "old" / "run.json").read_text())
    (some / "old" / "run.json").write_text(json.dumps({**record, "images": 6}))
    assert prune.carry_out(step, rule) == ((), "it has changed meanwhile")
    assert (some / "old" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("damage", ["missing", "damaged", "a link"])
def test_nothing_goes_where_what_is_kept_is_not_sound(typed, tmp_path, damage):
    run = made(tmp_path / "runs" / "a")
    best = run / "checkpoints" / "best.ckpt"
    if damage == "damaged":
        best.write_bytes(b"x" * 1000)
    else:
        best.unlink()
    if damage == "a link":
        best.symlink_to(run / "checkpoints" / "last.ckpt")
    before = files(run)
    found = typed("prune", "--keep", "best", "--yes")
    assert "kept: " in found.out
    assert "Freed 0 B" in found.out
    assert files(run) == before


def test_nothing_outside_a_run_goes(typed, tmp_path):
    outside = made(tmp_path / "disk" / "big")
    run = made(tmp_path / "runs" / "a")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "checkpoints").rmdir()
    (run / "checkpoints").symlink_to(outside / "checkpoints")
    (tmp_path / "runs" / "linked").symlink_to(outside)
    other = made(tmp_path / "runs" / "b")
    (other / "checkpoints" / "previous.ckpt").unlink()
    (other / "checkpoints" / "previous.ckpt").symlink_to(outside / "checkpoints" / "previous.ckpt")
    before = files(tmp_path)
    out = typed("prune", "--yes").out
    assert out.count("a link to another place") == 2
    assert files(tmp_path) == before
    assert (other / "checkpoints" / "previous.ckpt").is_symlink()


def test_a_file_with_another_name_that_stays_frees_nothing(typed, tmp_path):
    checkpoints = made(tmp_path / "runs" / "a", kept=("best", "previous")) / "checkpoints"
    checkpoint.link(checkpoints / "best.ckpt", checkpoints / "last.ckpt")
    assert "last.ckpt previous.ckpt  3.0 kB" in typed("prune", "--keep", "best").out
    typed("prune", "--keep", "best", "--yes")
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "hashes.txt"]


def test_a_kill_between_two_files_is_made_good_by_the_same_command(typed, some, monkeypatch):
    unlink, done = Path.unlink, []

    def killed(path, missing_ok=False):
        if path.suffix == ".ckpt":
            if done:
                raise KeyboardInterrupt
            done.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        assert typed("prune", "--keep", "best", "--yes").code == 130
    assert len(done) == 1
    assert (some / "new" / "checkpoints" / "best.ckpt").exists()
    typed("prune", "--keep", "best", "--yes")
    assert [path.name for path in (some / "new" / "checkpoints").glob("*.ckpt")] == ["best.ckpt"]


KEPT = st.sets(st.sampled_from(["best", "last", "previous"]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(KEPT, st.sampled_from(["finished", "failed", "running", "odd"]), st.booleans()), max_size=4),
    st.sampled_from(["best", "last"]),
)
def test_a_run_never_loses_its_best_nor_its_only_checkpoint(tmp_path_factory, runs, keep):
    top = tmp_path_factory.mktemp("runs")
    for number, (kept, status, flat) in enumerate(runs):
        made(top / str(number) if flat else top / "sweep" / str(number), status, kept=kept)
    before = files(top)
    rule = prune.Rule(keep, prune.STATES, None)
    for step in prune.steps(find(top).entries, rule):
        prune.carry_out(step, rule)
    after = files(top)
    assert all(after[path] == before[path] for path in after)
    for path in before.keys() - after.keys():
        folder, _, name = path.rpartition("/")
        assert name == "previous.ckpt" or (name == "last.ckpt" and keep == "best")
        assert f"{folder}/{'best' if keep == 'best' else 'last'}.ckpt" in after
        assert before[path.replace(f"checkpoints/{name}", "run.json")].find(b'"odd"') < 0


def test_a_pruned_run_says_what_is_left_of_it(typed, some, resume):
    assert typed("prune", "--keep", "best", "--yes").code == 0
    assert checkpoint.find(some / "old", "best").name == "best.ckpt"
    with pytest.raises(
        BadInput, match=r"holds only checkpoints/best\.ckpt and cannot .*; init_from=\S+old starts a new"
    ):
        resume(some / "old", "trainer.max_images=80")
