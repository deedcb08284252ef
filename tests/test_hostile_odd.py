"""Odd pictures, tables and layouts are read right or refused with the reason: none wrong, none silently left out."""

import json

import pytest

from benchmarks.hostile import odd
from benchmarks.hostile.odd_doors import READ, REFUSED, SILENT, WRONG, Case, Picture, Verdict, face, feed_bytes
from benchmarks.results import robustness


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))


def wrong(cases, folder):
    folder.mkdir(exist_ok=True)
    return odd.counted(odd.fed(cases, folder))["wrong"]


def test_ten_cases_of_each_family(tmp_path):
    spread = [
        case for cases in odd.FAMILIES.values() for found in [cases(0)] for case in found[:: len(found) // 10][:10]
    ]
    assert len(spread) == 30
    assert wrong(spread, tmp_path / "odd") == []


@pytest.mark.slow
@pytest.mark.parametrize("family", odd.FAMILIES)
def test_no_case_is_wrong_or_silent(tmp_path, family):
    cases = odd.every(0, family)
    assert len(cases) >= {"pictures": 150, "tables": 80, "layouts": 80}[family]
    assert len({case.name for case in cases}) == len(cases)
    assert wrong(cases, tmp_path / "odd") == []


def test_wrong_pixels_and_reasons_are_seen():
    png = odd.odd_pictures.encoded(face(0, 0), "PNG")
    assert feed_bytes(Picture("a", "a.png", png, face(0, 0))).kind == READ
    assert feed_bytes(Picture("a", "a.png", png, face(0, 1))).kind == WRONG
    assert feed_bytes(Picture("a", "a.png", png, None, ".")).kind == WRONG
    assert feed_bytes(Picture("a", "a.jpg", b"", None, "empty")).kind == REFUSED
    assert feed_bytes(Picture("a", "a.jpg", b"", None, "HTML")).kind == WRONG
    assert feed_bytes(Picture("a", "a.jpg", b"", face(0, 0))).kind == WRONG


def test_the_row_of_the_page(tmp_path):
    cases = [
        (Case("tables", "a", lambda folder: Verdict(READ)), Verdict(kind, "x")) for kind in (READ, REFUSED, SILENT)
    ]
    told = odd.counted(cases)
    assert told["families"]["tables"]["silently_left_out"] == 1
    assert told["wrong"] == ["tables: a: silently left out: x"]
    [row] = [row for row in robustness.HOSTILE if row.name == "hostile_odd"]
    assert row.found(json.loads(json.dumps(told))) == "3: 1 read right, 1 refused rightly, 0 wrong, 1 silently left out"
