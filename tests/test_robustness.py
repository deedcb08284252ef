"""docs/robustness.md is what its records give."""

import json
import shutil

from benchmarks.records import RECORDS, ROOT
from benchmarks.results import robustness


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
