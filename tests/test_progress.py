"""What a person reads, at times set by hand."""

from __future__ import annotations

import io

import pytest

from faceforge.engine.progress import Progress, duration


class Wall:
    """A clock set by hand, and how often it was drawn."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("faceforge.engine.progress.time.monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def wall(monkeypatch):
    return Wall(monkeypatch)


def lines(stream):
    return stream.getvalue().splitlines()


def test_without_a_terminal_a_line_every_half_minute(wall):
    stream = io.StringIO()
    progress = Progress(10_000, stream)
    progress.start()
    for second in range(1, 91):
        wall.now += 1
        progress.update(second * 10, {"loss/generator": 0.5, "logit/real": 9.0})
    assert len(lines(stream)) == 1 + 3
    assert lines(stream)[-1] == "  9%  900/10,000  10 images/s  15 min 10 s left  generator 0.5"


def test_time_left_counts_from_where_a_run_was_resumed(wall):
    progress = Progress(2000, io.StringIO())
    progress.start(1000)
    wall.now += 40
    progress.update(1200)  # 200 images in 40 s: 800 more take 160 s
    assert progress.describe() == "1,200/2,000  5.0 images/s  2 min 40 s left"


def test_pauses_slow_the_time_left_but_not_the_speed(wall):
    progress = Progress(2000, io.StringIO())
    progress.start()
    wall.now += 10
    progress.update(500)
    progress.note("validating")
    assert "[validating]" in progress.describe()
    wall.now += 30
    progress.update(500)
    wall.now += 10
    progress.update(1000)
    assert progress.describe() == "1,000/2,000  50 images/s  50 s left"


def test_a_run_limited_by_time_shows_the_time_gone(wall):
    progress = Progress(None, io.StringIO())
    progress.start()
    wall.now += 60
    progress.update(12_000)
    assert progress.describe() == "12,000 images  200 images/s  1 min 00 s gone"


def test_a_terminal_is_drawn_at_most_twice_a_second(wall):
    stream = Terminal()
    progress = Progress(100_000, stream)
    progress.start()
    before = stream.getvalue().count("\r")
    for step in range(1000):
        wall.now += 0.01
        progress.update(step * 10)
    drawn = stream.getvalue().count("\r") - before
    assert 15 <= drawn <= 21
    progress.note("{saving}")  # braces belong to tqdm's own format
    assert "[{saving}]" in stream.getvalue()
    progress.close()
    assert "9,990/100,000" in stream.getvalue().splitlines()[-1]


def test_no_speed_before_a_second_of_work(wall):
    """What a note was about ("fitting baselines") made the first faces too: they were not made in no time."""
    stream = Terminal()
    progress = Progress(1000, stream)
    progress.start()
    progress.note("fitting baselines")
    wall.now += 60
    progress.update(64)
    assert progress.describe() == "64/1,000  starting"
    wall.now += 0.6
    progress.update(72)
    assert progress.describe() == "72/1,000  starting"
    wall.now += 0.6
    progress.update(76)
    assert progress.describe().startswith("76/1,000  10 images/s  ")  # 12 faces in 1.2 s, the first 64 not counted


def test_a_resumed_run_has_no_speed_at_first_either(wall):
    progress = Progress(2000, Terminal())
    progress.start(1000)
    wall.now += 0.7
    progress.update(1064)
    assert progress.describe() == "1,064/2,000  starting"
    progress.update(2000)
    assert progress.describe() == "2,000/2,000  1 s in all"


def test_close_says_where_it_ended_and_start_is_not_needed(wall):
    Progress(10, io.StringIO()).close()
    stream = io.StringIO()
    progress = Progress(100, stream)
    progress.start()
    wall.now += 2
    progress.update(100)
    progress.close()
    assert lines(stream)[-1] == "100%  100/100  50 images/s  2 s in all"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"), (86400 * 3.5, "3 d 12 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
