"""The board: every figure of docs/board.md worked out again from the record beside it, by other code."""

import json
import re

from conftest import ROOT

PAGE = (ROOT / "docs" / "board.md").read_text()
ROW = re.compile(r"^\| (.+) \| \[(\S+)\]\((\S+)\) \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \| (.+) \|$", re.MULTILINE)


def records():
    """What each line says, and the record that it links."""
    for title, name, link, *figures in ROW.findall(PAGE):
        yield (title, name, *figures), json.loads((ROOT / "docs" / link).read_text())


def test_every_figure_is_that_of_its_record():
    assert len(list(records())) >= 2
    for (title, name, minutes, kid, images, device), record in records():
        assert name == f"{record['row']}-s{record['seed']}"
        assert record["command"] in title
        assert float(minutes) == round(record["seconds"] / 60, 1)
        assert int(images.replace(",", "")) == record["images"]
        assert record["device"].endswith(device)
        rows = [row for row in record["evaluation"]["rows"] if row["kind"] == "model" and row["table"] == "generated"]
        scores = [row["scores"]["kid@lite0-57934424-bicubic224"]["value"] for row in rows]
        assert float(kid) == round(min(scores), 4)
        assert all(row["faces"] >= 1000 for row in rows)
        assert record["data"]["protocol"]["name"] == "lfw-c150-64x64x3"


def test_a_line_stands_under_the_score_that_it_reached_the_fastest_first():
    parts = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    for part in parts:
        rows = ROW.findall(part.split("\n## ")[0])
        mark = re.match(r"KID of at most ([\d.]+)", part)
        assert all(float(row[4]) <= float(mark[1]) if mark else float(row[4]) > 0.10 for row in rows)
        assert [float(row[3]) for row in rows] == sorted(float(row[3]) for row in rows)


def test_entries_were_made_on_clean_commits():
    for (_, name, *_), record in records():
        assert record["dirty"] is False, name
