"""Progress of a run: a bar in a terminal, an occasional line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TextIO, TypeVar

from tqdm import tqdm

from faceforge.report.html import duration

T = TypeVar("T")

BAR_SECONDS = 0.5
LINE_SECONDS = 30.0
WINDOW_SECONDS = 20.0
LEAST_SECONDS = 1.0  # before which no speed is shown


class _Bar(tqdm):
    monitor_interval = 0  # no monitor thread: redrawing is decided below


class Progress:
    """Images seen and their limit, the latest values, images per second, time left and the current activity.

    Redraws at most twice a second, or prints one line every 30 s if `stream` is no terminal, so `update` may be called
    for every batch. It takes plain floats and touches no device.
    """

    def __init__(self, total_images: int | None, stream: TextIO | None = None) -> None:
        self.total = total_images
        self.stream = stream or sys.stderr
        self._bar: _Bar | None = None
        self._shown: dict[str, float] = {}
        self._note = ""
        self._images = self._first = 0
        self._began = self._drawn = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._paused = 0.0
        self._pause_began: float | None = None

    def start(self, images: int = 0) -> None:
        """Start at `images` seen (more than 0 for a resumed run)."""
        self._images = self._first = images
        self._began = time.monotonic()
        self._recent.append((0.0, images))
        if self.stream.isatty():
            self._bar = _Bar(total=self.total, initial=images, file=self.stream, dynamic_ncols=True, leave=True)
        self._draw()

    def update(self, images: int, scalars: Mapping[str, float] | None = None) -> None:
        """Set the position to `images`; `scalars` replace those shown. Clears a note."""
        begins = self._pause_began is not None and self._images == self._first
        self._images = images
        if scalars is not None:
            self._shown = dict(scalars)
        self._resume()
        if begins:  # the first images came during a note: their time is unknown
            self._recent.clear()
            self._remember()
        if self._due():
            self._remember()
            self._draw()

    def note(self, text: str) -> None:
        """Show another activity ("saving") until the next update; its time does not count in images/s."""
        self._note = text
        if self._pause_began is None:
            self._pause_began = time.monotonic()
        if self._bar is not None or self._due():
            self._draw()

    def say(self, text: str) -> None:
        """Print a permanent line, above the bar if there is one."""
        with suppress(OSError):  # a closed terminal or a full disk under a log must not stop training
            if self._bar is not None:
                self._bar.write(text, file=self.stream)
            else:
                print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._began:
            self._resume()
            self._remember()
            self._draw()
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None

    def describe(self) -> str:
        """The text after the bar: images, speed, time left, note, losses; the least important last."""
        note = [f"[{self._note}]"] if self._note else []
        return "  ".join([self._position(), *self._speed(), *note, *_losses(self._shown)])

    def _due(self) -> bool:
        wait = BAR_SECONDS if self._bar is not None else LINE_SECONDS
        return time.monotonic() - self._drawn >= wait

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        with suppress(OSError):
            self._show()

    def _show(self) -> None:
        if self._bar is None:
            print(f"{self._percent()}{self.describe()}", file=self.stream, flush=True)
            return
        text = self.describe().replace("{", "{{").replace("}", "}}")
        self._bar.bar_format = f"{{percentage:3.0f}}% |{{bar:12}}| {text}" if self.total else text
        self._bar.n = min(self._images, self.total) if self.total else self._images
        self._bar.refresh()

    def _percent(self) -> str:
        return f"{100 * self._images / self.total:3.0f}%  " if self.total else ""

    def _position(self) -> str:
        return f"{self._images:,}/{self.total:,}" if self.total else f"{self._images:,} images"

    def _resume(self) -> None:
        if self._pause_began is not None:
            self._paused += time.monotonic() - self._pause_began
            self._pause_began, self._note = None, ""

    def _remember(self) -> None:
        """Keep the last seconds of training time without pauses, for the speed shown."""
        now = time.monotonic() - self._began - self._paused
        self._recent.append((now, self._images))
        while len(self._recent) > 2 and now - self._recent[1][0] >= WINDOW_SECONDS:
            self._recent.popleft()

    def _speed(self) -> list[str]:
        (start, before), (end, after) = self._recent[0], self._recent[-1]
        if after <= before or end - start < LEAST_SECONDS:
            ended = self.total is not None and self._images >= self.total > self._first
            if ended:
                return [f"{duration(time.monotonic() - self._began)} in all"]
            return ["starting"] if not self._note else []
        speed = (after - before) / (end - start)
        # the time so far, with saving and validation, predicts the rest
        elapsed = time.monotonic() - self._began
        rate = f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.1f} images/s"
        if self.total is None:
            return [rate, f"{duration(elapsed)} gone"]
        if self._images >= self.total:
            return [rate, f"{duration(elapsed)} in all"]
        left = (self.total - self._images) * elapsed / (self._images - self._first)
        return [rate, f"{duration(left)} left"]


def _losses(scalars: Mapping[str, float]) -> list[str]:
    """The losses among the values, by the last part of their names."""
    return [f"{name.split('/', 1)[1]} {value:.3g}" for name, value in scalars.items() if name.startswith("loss/")]


class Bar:
    """A progress bar that counts."""

    def __init__(self, total: int | None) -> None:
        self.bar, self.done = Progress(total), 0

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def add(self, count: int) -> None:
        """Advance by ``count``."""
        self.done += count
        self.bar.update(self.done)

    def note(self, text: str) -> None:
        """Show another activity until the next advance."""
        self.bar.note(text)

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """Yield the items, counting each one when the next is requested."""
        for thing in things:
            yield thing
            self.add(1)
