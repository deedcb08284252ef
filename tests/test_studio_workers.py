"""The app with several worker processes: the same answers and the same bounds as alone, and none is left behind."""

import mmap
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests
import torch
from test_studio_web import portrait, serving, until

from faceforge.engine import devices
from faceforge.errors import BadInput
from faceforge.io import portable
from faceforge.io.workers import cores
from faceforge.studio.web import server, work, workers
from faceforge.studio.web.server import Limits, Settings
from faceforge.studio.web.workers import Job, Worker, Workers

process = workers._process
ASKED = {
    "generate": ("generate", {"count": "3", "seed": "5"}, 0),
    "edit": ("edit", {"changes": "Smiling=2", "whole": "1"}, 1),
    "average": ("average", {"way": "latent"}, 2),
    "walk": ("walk", {"seconds": "0.5", "faces": "2", "kind": "gif"}, 0),
    "morph": ("morph", {"seconds": "0.5", "kind": "gif"}, 2),
    "wrong": ("generate", {"count": "37"}, 0),
    "no such run": ("generate", {"run": "1"}, 0),
}


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield work.Alone(work.open_models([], ()))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def crew():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "cores", lambda: 2)  # so that each has one thread
        made = Workers([], (), 2)
    yield made
    made.close()
    assert all(not worker.process.is_alive() for worker in made.all)
    assert not any(worker.folder.exists() for worker in made.all)


def job(what):
    name, words, photos = ASKED[what]
    return Job(name, {"run": "0", **words}, [portrait(n) for n in range(photos)])


def ask(page, seed=0):
    return requests.post(f"{page}/api/generate", params={"run": 0, "count": 1, "seed": seed}, timeout=60)


@contextmanager
def asking(page, seeds):
    """Requests under way, by their seeds; at the end, all have been answered."""
    found = {}
    threads = [threading.Thread(target=lambda s=seed: found.update({s: ask(page, s)})) for seed in seeds]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join()


@contextmanager
def halted(crew):
    """All workers stand still until the function that it gives is called."""

    def send(number):
        for worker in crew.all:
            os.kill(worker.process.pid, number)

    send(signal.SIGSTOP)
    try:
        yield lambda: send(signal.SIGCONT)
    finally:
        send(signal.SIGCONT)


def assert_own(alone, found):
    """Each has the answer to what it asked for."""
    for seed, answer in found.items():
        wanted = alone.do(Job("generate", {"run": "0", "count": "1", "seed": str(seed)}, []), lambda: None)
        assert (answer.status_code, answer.content) == wanted


def busy(crew):
    return len(crew.all) - crew.idle.qsize()


# The same as alone


@pytest.mark.parametrize("what", ASKED)
def test_an_answer_is_the_same_bytes_from_any_number_of_workers(alone, crew, what):
    wanted = alone.do(job(what), lambda: None)
    assert wanted[0] == (422 if what in ("wrong", "no such run") else 200), wanted[1]
    for _ in crew.all:
        assert crew.do(job(what), lambda: None) == wanted


def test_the_page_is_told_the_same(alone, crew):
    assert crew.offer.models == alone.offer.models
    assert crew.offer.functions == alone.offer.functions
    assert crew.offer.limits == alone.offer.limits


# Bounds over all of them


def test_limits_hold_over_all_workers_together(alone, crew):
    with serving([], Limits(waiting=3), crew) as page:
        with halted(crew) as go_on, asking(page, range(6)) as found:
            until(lambda: len(found) == 3 and busy(crew) == 2)
            assert {answer.status_code for answer in found.values()} == {503}
            refused = set(found)
            go_on()
        assert_own(alone, {seed: answer for seed, answer in found.items() if seed not in refused})
        assert busy(crew) == 0


def test_uploads_of_all_workers_share_the_memory(crew):
    with serving([], Limits(held_bytes=1500), crew) as page:
        with halted(crew) as go_on, asking_to_edit(page, 3) as statuses:
            until(lambda: statuses == [503] * 2)
            go_on()
        assert sorted(statuses) == [422, 503, 503]


@contextmanager
def asking_to_edit(page, count):
    statuses = []

    def one():
        response = requests.post(f"{page}/api/edit", params={"run": 0, "whole": 1}, data=b"x" * 1000, timeout=60)
        statuses.append(response.status_code)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield statuses
    for thread in threads:
        thread.join()


def test_who_left_is_not_worked_for_and_nobody_gets_the_answer_of_another(alone, crew):
    with serving([], None, crew) as page:
        with halted(crew):
            for seed in (91, 92):
                with pytest.raises(requests.ReadTimeout):
                    requests.post(f"{page}/api/generate", params={"run": 0, "seed": seed, "count": 36}, timeout=0.5)
        until(lambda: busy(crew) == 0)
        with asking(page, range(4)) as found:
            pass
        assert_own(alone, found)


# Workers that end


def test_a_worker_that_dies_is_replaced_and_its_request_is_told(crew, capfd):
    with serving([], None, crew) as page:
        with halted(crew) as go_on, asking(page, range(2)) as found:
            until(lambda: busy(crew) == 2)
            victim = crew.all[0].process
            victim.kill()
            until(lambda: found)
            go_on()
        (told,) = [answer for answer in found.values() if not answer.ok]
        assert told.status_code == 500
        says = "The process that worked on this ended unexpectedly (SIGKILL); another takes its place."
        assert told.json() == {"says": says}
        assert [answer.ok for answer in found.values()].count(True) == 1
        with asking(page, range(4)) as after:
            pass
        assert all(answer.ok for answer in after.values())
        assert crew.all[0].process.pid != victim.pid
        assert capfd.readouterr().err == "faceforge: worker 0 ended (SIGKILL) and is replaced\n"


def test_a_worker_that_dies_while_it_waits_costs_no_request(crew, capfd):
    with serving([], None, crew) as page:
        for worker in crew.all:
            worker.process.kill()
            worker.process.join()
        with asking(page, range(3)) as found:
            pass
        assert all(answer.ok for answer in found.values())
    assert capfd.readouterr().err.count("is replaced") == 2


def test_a_worker_that_hangs_is_replaced(crew, monkeypatch):
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.2)
    before = {worker.process.pid for worker in crew.all}
    with serving([], Limits(work_seconds=0.3), crew) as page:
        with halted(crew):
            answer = ask(page)
        assert (answer.status_code, "longer than 0 seconds" in answer.json()["says"]) == (504, True)
    with serving([], None, crew) as page:
        assert len(before & {worker.process.pid for worker in crew.all}) == 1
        with asking(page, range(3)) as found:
            pass
        assert all(answer.ok for answer in found.values())


def test_a_run_that_is_none_is_one_line_and_leaves_no_process(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(workers, "_process", lambda *words: started.append(process(*words)) or started[-1])
    with pytest.raises(BadInput, match="none: no such run folder"):
        Workers([tmp_path / "none"], (), 2)
    assert [each.is_alive() for each in started] == [False]


def test_a_worker_that_dies_before_it_is_ready_is_one_line(monkeypatch):
    begin = Worker.__init__
    monkeypatch.setattr(Worker, "__init__", lambda self, setup: (begin(self, setup), self.process.kill())[1])
    with pytest.raises(BadInput, match=r"--workers 2: a worker ended while it opened the models \(SIGKILL\)"):
        Workers([], (), 2)


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_a_number_of_workers_that_makes_no_sense_is_one_line(count):
    with pytest.raises(BadInput) as refused:
        server.serve([], Settings(workers=count))
    assert str(refused.value) == f"--workers {count}: must be from 1 to {cores()}, the cores of this machine"


def test_workers_share_the_accelerators(monkeypatch):
    taken = []
    monkeypatch.setattr(devices, "count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
    for number in range(5):
        devices.take(number)
    assert taken == [0, 1, 0, 1, 0]


# The command


@contextmanager
def app(folder, *words, **environment):
    """`faceforge app ...` as a process whose folders are all below one: it, its address, and what it said."""
    for name in ("tmp", "home", "cache"):
        (folder / name).mkdir(exist_ok=True)
    own = {"TMPDIR": folder / "tmp", "HOME": folder / "home", "FACEFORGE_CACHE": folder / "cache"}
    command = [sys.executable, "-c", "from faceforge.cli import run; run()", "app", "--port", "0", *map(str, words)]
    with (folder / "log").open("a+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **map_text(own), **environment}
        )
        try:
            until(lambda: process.poll() is not None or "Ctrl-C" in (folder / "log").read_text(), 60)
            said = (folder / "log").read_text()
            address = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert address, (process.poll(), said)
            yield process, address[0], said
        finally:
            process.kill()
            process.wait()


def map_text(words):
    return {name: str(value) for name, value in words.items()}


def family(process):
    return [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]


def rest(folder):
    """What is in the folder for temporary files."""
    return list((folder / "tmp").rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_all_processes_in_the_middle_of_their_work(tmp_path, number):
    with app(tmp_path, "--workers", "2") as (process, page, said):
        assert "2 workers, each with about" in said
        everyone = family(process)
        assert len(everyone) >= 4
        asked = threading.Thread(target=film, args=(page,))
        asked.start()
        until(lambda: any("walk" in path.name for path in rest(tmp_path)))
        process.send_signal(number)
        code = process.wait(20)
        assert code == {signal.SIGINT: 0, signal.SIGTERM: 143}.get(number, -number)
        asked.join()
        _, alive = psutil.wait_procs(everyone, 15)
        assert alive == []
    sockets = {path for path in rest(tmp_path) if "pymp" in path.as_posix()} if number == signal.SIGKILL else set()
    until(lambda: set(rest(tmp_path)) == sockets)


def film(page):
    """Ask for a long video; the answer, None if the server ends before it."""
    with suppress(requests.RequestException):
        return requests.post(f"{page}/api/walk", params={"run": 0, "seconds": 12, "faces": 12}, timeout=60)
    return None


def test_a_process_that_crashes_writes_no_core_file(monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        portable.write_no_core_files()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    monkeypatch.setattr(portable, "resource", None)
    portable.write_no_core_files()  # Windows has no such files


def test_the_memory_of_a_process_is_told_where_the_system_tells_it(monkeypatch):
    before = portable.private_mebibytes()
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE) as held:  # fresh memory: the heap may have some to spare
        held.write(b"x" * len(held))
        assert 60 <= portable.private_mebibytes() - before <= 140  # what is written was made first
    monkeypatch.setattr(portable, "Path", lambda path: Path("/none"))
    assert portable.private_mebibytes() is None
