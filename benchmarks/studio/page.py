"""The studio's page under many clients, and under uploads that are not photos.

    python -m benchmarks.studio.page load [RUN] --clients 20 --seconds 120
    python -m benchmarks.studio.page fuzz [RUN] --count 500
    python -m benchmarks.studio.page workers [RUN] --count 2

``load`` asks for nine faces of ever new seeds: one client alone, then all at once. ``fuzz`` sends damaged and lying
files to every function that takes a photo; each has to get a sentence, and the page has to go on. Both start
`faceforge app` as a process of its own and print lines ``name value``. ``workers`` counts the answers of one worker and
of several, in turns, each with one thread; four clients ask at a time.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import statistics
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import requests
import typer
from PIL import Image

from benchmarks import records
from benchmarks.command import FACEFORGE, run
from benchmarks.hostile import cases

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Run = Annotated[list[Path] | None, typer.Argument(help="Default: the models of drawn faces that ship.")]
WARM = 20.0  # seconds of load after which memory is expected to be flat


# ---------------------------------------------------------------------------------------------------------- the server


@dataclass
class Page:
    """A running page: its address, its process, and what it said."""

    url: str
    process: subprocess.Popen[str]
    listening: float  # time.monotonic() of the line

    def memory(self) -> float:
        """Resident MiB of the server now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def ask(self, function: str, body: bytes = b"", **words: Any) -> requests.Response:
        """One request."""
        return requests.post(f"{self.url}/api/{function}", params={"run": "0", **words}, data=body, timeout=300)


@contextmanager
def served(runs: list[Path], log: Path, *words: str, threads: int | None = None) -> Iterator[Page]:
    """`faceforge app` with some runs; what it says on stderr goes to a file. ``threads``: of torch in each process."""
    command = [*FACEFORGE, "app", *map(str, runs), "--port", "0", *words]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"listening on (http://\S+)", line):
                    yield Page(found[1], process, time.monotonic())
                    return
            raise RuntimeError(log.read_text())
        finally:
            process.terminate()
            process.wait(30)


# ---------------------------------------------------------------------------------------------------------------- load


def load(page: Page, clients: int, seconds: float, alone: int = 40) -> dict[str, Any]:
    """Times of one client alone and of all at once, errors, and the server's memory."""
    first = page.ask("generate", count=9)
    first_picture = time.monotonic() - page.listening
    assert first.ok, first.text
    one = [_timed(page, seed)[0] for seed in range(alone)]
    times: list[float] = []
    errors: list[str] = []
    memory: list[tuple[float, float]] = []
    start = time.monotonic()

    def client(number: int) -> None:
        seed = 1000 * (number + 1)
        while time.monotonic() - start < seconds:
            took, error = _timed(page, seed)
            times.append(took)
            if error:
                errors.append(error)
            seed += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append((time.monotonic() - start, page.memory()))
        time.sleep(min(1.0, seconds / 10))
    warm = [mib for at, mib in memory if at >= min(WARM, seconds / 3)]
    median, worst = statistics.median(one), float(np.percentile(times, 95))
    return {
        "first_picture_seconds": first_picture,
        "requests": len(times),
        "errors": len(errors),
        "error": errors[0] if errors else None,
        "alone_median_seconds": median,
        "p95_seconds": worst,
        "p95_over_clients_times_median": worst / (clients * median),
        "memory_warm_mib": warm[0],
        "memory_end_mib": warm[-1],
        "memory_growth": warm[-1] / warm[0] - 1,
    }


def _timed(page: Page, seed: int) -> tuple[float, str | None]:
    before = time.perf_counter()
    try:
        response = page.ask("generate", count=9, seed=seed)
        error = None if response.ok else f"{response.status_code}: {response.text[:200]}"
    except requests.RequestException as failure:
        error = str(failure)
    return time.perf_counter() - before, error


def answers(page: Page, clients: int, seconds: float) -> float:
    """Answers per second while some clients ask for 36 faces again and again."""
    counts = [0] * clients
    start = time.monotonic()

    def client(number: int) -> None:
        while time.monotonic() - start < seconds:
            response = page.ask("generate", count=36, seed=1000 * number + counts[number])
            assert response.ok, response.text
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - start)


# ---------------------------------------------------------------------------------------------------------------- fuzz


def hostile(seed: int) -> tuple[str, bytes, dict[str, str]]:
    """What is sent: its kind, its bytes, and further parameters."""
    draw = random.Random(seed)
    kinds = [_noise, _mutated, _cut, _lying_png, _bomb, _foreign, _parameters, _sizes, _names]
    make = kinds[seed % len(kinds)]
    data, words = make(draw)
    return make.__name__.strip("_"), data, words


def _picture(draw: random.Random) -> bytes:
    """A small sound file of a random format."""
    pixels = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format=draw.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "TGA", "PPM"]))
    return data.getvalue()


def _noise(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    return draw.randbytes(draw.choice([0, 1, 7, 300, 70_000])), {}


def _mutated(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    data = bytearray(_picture(draw))
    for _ in range(draw.randint(1, 30)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data), {}


def _cut(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    data = _picture(draw)
    return data[: draw.randrange(len(data))], {}


def _lying_png(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """A PNG whose header promises another size, up to 4 billion pixels a side."""
    side = draw.choice([0, 1, 60_000, 2**31 - 1, 2**32 - 1])
    return cases.png(side, draw.choice([side, 20]), packed=zlib.compress(bytes(100))), {}


def _bomb(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """A PNG of a few kilobytes that is honest about being far too large."""
    return _large_png(draw.choice([5_000, 12_000])), {}


@lru_cache
def _large_png(side: int) -> bytes:
    return cases.png(side, side)


def _foreign(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    heads = [
        b"<html><script>alert(1)</script>",
        b"PK\x03\x04" + b"../" * 30,
        b"%PDF-1.7\n",
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%true) (w) file\n",
        b"\x7fELF" + bytes(100),
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"GIF89a\xff\xff\xff\xff",
    ]
    return draw.choice(heads) + draw.randbytes(draw.randrange(400)), {}


def _parameters(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """A sound picture with parameters that are none."""
    words = [
        "nan",
        "inf",
        "-1",
        "1e999",
        "",
        "9" * 400,
        "../../etc/passwd",
        "\x00",
        "\U0001d7d9",
        "<b>",
        "Smiling=nan",
        "x=1e9",
    ]
    names = ["run", "seed", "whole", "simulate", "way", "changes", "direction", "kind", "seconds", "unknown"]
    return _picture(draw), {draw.choice(names): draw.choice(words) for _ in range(3)}


def _sizes(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    word = draw.choice(["-1", "99999999999", "0,0", "1,1", "," * 500, "1" * 300, "1,-1,1", "abc", "0x10", "1.5"])
    return _picture(draw), {"sizes": word}


def _names(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """Names of files are never sent by the page; whoever sends them finds that they do nothing."""
    trick = draw.choice(["../../../tmp/owned.png", "/etc/passwd", "C:\\windows\\a.png", "a\x00.png", "con.jpg", "~/.x"])
    return b"no picture", {"name": trick, "file": trick, "out": trick}


TAKES_A_PHOTO = {  # and which ability of a run it needs
    "faces": "edit",
    "edit": "edit",
    "upscale": "upscale",
    "translate": "translate",
    "draw": "translate",
    "average": "average",
    "morph": "morph",
}


def fuzz(page: Page, count: int, start: int = 0) -> dict[str, Any]:
    """Send ``count`` hostile uploads; how many got a sentence, and by kind what was answered."""
    models = requests.get(f"{page.url}/api/studio", timeout=60).json()["models"]
    able = {name: [n for n, model in enumerate(models) if can in model["can"]] for name, can in TAKES_A_PHOTO.items()}
    functions = [name for name, runs in able.items() if runs]
    answered: dict[str, dict[str, int]] = {}
    silent: list[str] = []
    for number in range(start, start + count):
        kind, data, words = hostile(number)
        name = functions[number // 9 % len(functions)]
        whole = {"whole": "1"} if number % 2 else {}
        response = page.ask(name, data, **{"run": str(able[name][number % len(able[name])]), **whole, **words})
        try:
            says = response.json()["says"]
        except (ValueError, KeyError):
            says = ""
        if not says or response.status_code >= 500:
            silent.append(f"{number} {kind} to {name}: {response.status_code} {response.text[:120]}")
        row = answered.setdefault(kind, {})
        row[str(response.status_code)] = row.get(str(response.status_code), 0) + 1
    alive = page.ask("generate", count=1).ok and page.process.poll() is None
    return {"sent": count, "without_sentence": len(silent), "alive": alive, "answered": answered, "silent": silent}


# ------------------------------------------------------------------------------------------------------------ commands


@app.command("load")
def load_(runs: Run = None, clients: int = 20, seconds: float = 120.0) -> None:
    """Many clients at once."""
    with served(runs or [], Path("/tmp/studio_page.log")) as page:
        row = load(page, clients, seconds)
    for name, value in row.items():
        print(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    names = [run.name for run in runs or []] or ["drawn"]
    print(records.keep("studio_load", {"runs": names, "clients": clients, "seconds": seconds, **row}))


@app.command("workers")
def workers_(runs: Run = None, count: int = 2, seconds: float = 10.0, rounds: int = 5) -> None:
    """Answers per second of several workers over those of one."""
    log = Path("/tmp/studio_page")
    several = ("--workers", str(count))
    with (
        served(runs or [], log.with_suffix(".one.log"), threads=1) as one,
        served(runs or [], log.with_suffix(".many.log"), *several, threads=1) as many,
    ):
        pages = {"one": one, "many": many}
        found: dict[str, list[float]] = {name: [] for name in pages}
        for page in pages.values():
            answers(page, 4, 1.0)
        for _ in range(rounds):
            for name, page in pages.items():
                found[name].append(answers(page, 4, seconds))
    ratio = statistics.median(b / a for a, b in zip(found["one"], found["many"], strict=True))
    print(f"workers_over_one {ratio:.3f}  ({count} workers)")
    for name, rates in found.items():
        print(f"answers_per_second_of_{name} {statistics.median(rates):.3g}")
    names = [run.name for run in runs or []] or ["drawn"]
    row = {"runs": names, "workers": count, "seconds": seconds, "over_one": ratio, "answers_per_second": found}
    print(records.keep("studio_workers", row))


@app.command("fuzz")
def fuzz_(runs: Run = None, count: int = 500) -> None:
    """Uploads that are no photos."""
    log = Path("/tmp/studio_page.log")
    with served(runs or [], log) as page:
        before = page.memory()
        row = {**fuzz(page, count), "memory_before_mib": before, "memory_after_mib": page.memory()}
    row["tracebacks"] = log.read_text().count("Traceback")
    print(json.dumps(row, indent=1))
    print(records.keep("studio_fuzz", {"runs": [run.name for run in runs or []] or ["drawn"], **row}))


if __name__ == "__main__":
    run(app)
