"""docs/robustness.md is what its records give."""

import json
import shutil
import subprocess

from benchmarks.records import RECORDS, ROOT
from benchmarks.results import robustness
from faceforge.engine import run as engine_run


def test_the_page_is_what_the_records_give():
    assert (ROOT / robustness.PAGE).read_text() == robustness.page(RECORDS)


def test_what_does_not_hold_is_said(tmp_path):
    here = shutil.copytree(RECORDS, tmp_path / "records", ignore=shutil.ignore_patterns("results"))
    speed = json.loads((here / "speed.json").read_text())
    speed["figures"]["starved"] |= {"value": 7.0, "holds": False}
    (here / "speed.json").write_text(json.dumps(speed))
    [line] = [line for line in robustness.page(here).splitlines() if line.startswith("| `starved`")]
    assert line.endswith("| 1.02 | 7 | **does not hold** |")
    faults = json.loads((here / "survival_faults.json").read_text())
    (here / "survival_faults.json").write_text(json.dumps({**faults, "violations": 3}))
    assert "3 violations" in robustness.page(here)


def test_only_what_runs_makes_a_record_dirty(tmp_path, monkeypatch):
    """The record of one run lies in docs/ while the next one trains."""
    monkeypatch.setattr(engine_run, "__file__", str(tmp_path / "src/faceforge/engine/run.py"))
    for name in ("src/a.py", "docs/results.md"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    assert engine_run.sources_commit()["dirty"] is False
    (tmp_path / "docs/results.md").write_text("two\n")
    (tmp_path / "docs/new.json").write_text("{}\n")
    assert engine_run.sources_commit()["dirty"] is False
    (tmp_path / "src/a.py").write_text("two\n")
    assert engine_run.sources_commit()["dirty"] is True
