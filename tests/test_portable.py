"""Other operating systems and file systems, simulated: no fcntl, no /proc, fewer signals, folders that do not sync."""

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from faceforge.engine.run import lock_run
from faceforge.errors import BadInput
from faceforge.io import files, portable, workers
from faceforge.io.portable import HOST, Held, is_alive, locked

WINDOWS = """
import importlib, multiprocessing.context, os, pathlib, pkgutil, signal, sys
import faceforge
names = [module.name for module in pkgutil.walk_packages(faceforge.__path__, "faceforge.")]
for name in names:
    importlib.import_module(name)  # whatever other packages want of this system, they have now
for name in [name for name in sys.modules if name.split(".")[0] == "faceforge"]:
    del sys.modules[name]
for name in ("fcntl", "resource", "pwd", "grp", "termios", "multiprocessing.forkserver"):
    sys.modules[name] = None
absent = {
    os: "fork forkpty link getuid geteuid getgid sched_getaffinity killpg setsid getpgid statvfs uname O_NOFOLLOW",
    signal: "SIGUSR1 SIGUSR2 SIGKILL SIGHUP SIGALRM SIGCHLD SIGSTOP SIGPIPE pthread_sigmask",
    multiprocessing.context: "ForkContext ForkServerContext",
}
for module, gone in absent.items():
    for name in gone.split():
        vars(module).pop(name, None)
for name in names:
    importlib.import_module(name)
assert sys.modules["faceforge.io.portable"].fcntl is None
sys.modules["faceforge.engine.run"].Run(pathlib.Path(sys.argv[1]), {}).write_skipped([("M\\u00fcller.jpg", "empty")])
sys.argv = ["train.py", "--cfg", "job"]
sys.modules["faceforge.main"].main()
"""


@pytest.fixture(params=["no fcntl", "no flock"])
def without_flock(request, monkeypatch):
    """Windows, or a file system that refuses."""

    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl = None if request.param == "no fcntl" else SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4)
    monkeypatch.setattr(portable, "fcntl", fcntl)
    monkeypatch.setattr(portable, "_told", set())
    monkeypatch.setattr(portable, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(portable, "WAIT_SECONDS", 0.01)
    return request.param


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# ------------------------------------------------------------------------------------------------------- Windows


@pytest.mark.slow
def test_on_windows_every_module_is_imported_and_the_configuration_printed(tmp_path):
    ascii_alone = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}  # no file is read as UTF-8 by chance
    environment = {**os.environ, **ascii_alone}
    command = [sys.executable, "-c", WINDOWS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Müller" in (tmp_path / "skipped.csv").read_text(encoding="utf-8")
    assert "\ntrainer:\n" in done.stdout


def test_only_one_module_asks_for_what_windows_lacks():
    wanted = ("import fcntl", "signal.SIGUSR1", "os.kill(", "import resource", "import pwd")
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "portable.py" or not [word for word in wanted if word in text], path


def test_without_fork_workers_are_spawned(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    workers.warm()
    assert workers.forks().get_start_method() == "spawn"


def test_where_a_socket_would_have_too_long_a_path_workers_are_spawned(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert workers.forks().get_start_method() == "spawn"
    ended = workers.forks().Process(target=os.getpid)
    ended.start()
    ended.join()
    assert ended.exitcode == 0
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (workers.LONGEST_FOLDER - 1))
    assert workers.forks().get_start_method() == "forkserver"


# ----------------------------------------------------------------------------------------------------- processes


def test_who_is_alive(monkeypatch, dead):
    assert is_alive(os.getpid())
    assert is_alive(os.getppid())
    assert not any(map(is_alive, (dead, 0, -1, 2**80)))

    def refuse(process, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(1)  # somebody else's


@pytest.mark.parametrize(("handle", "answer", "alive"), [(7, 259, True), (7, 0, False), (0, 5, True), (0, 87, False)])
def test_who_is_alive_on_windows(monkeypatch, handle, answer, alive):
    def exit_code(asked, code):
        code._obj.value = answer

    kernel = SimpleNamespace(
        OpenProcess=lambda *_: handle,
        GetLastError=lambda: answer,
        GetExitCodeProcess=exit_code,
        CloseHandle=lambda _: 1,
    )
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(os, "kill", None)  # it would end the process there
    monkeypatch.setattr(sys, "platform", "win32")
    assert is_alive(12) == alive


def test_without_proc_files_of_living_processes_are_left(tmp_path, monkeypatch):
    theirs = tmp_path / files.temporary(tmp_path / "a").name.replace(str(os.getpid()), str(os.getppid()))
    theirs.touch()
    monkeypatch.setattr(Path, "exists", lambda self: False)
    files.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [theirs]


# --------------------------------------------------------------------------------------------------------- locks


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_once(tmp_path, monkeypatch, capsys, refusal):
    def refuse(file, how):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(portable, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    for _ in range(2):
        with lock_run(tmp_path):
            assert (tmp_path / ".lock.pid").read_text() == f"{HOST} {os.getpid()}"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"{tmp_path}: this file system has no locks; using .lock.pid instead" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_another_refusal_is_still_an_error(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(portable, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(BadInput, match=r"cannot be written \(Input/output error\)"):
        lock_run(tmp_path)


def test_a_run_trains_without_locks(tiny, without_flock, capsys):
    folder = tiny("a", "trainer.max_images=8")
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not list(folder.rglob("*.pid"))
    assert ("has no locks" in capsys.readouterr().err) == (without_flock == "no flock")


def test_a_lock_file_is_as_good_as_a_lock(tmp_path, without_flock):
    with (
        lock_run(tmp_path),
        pytest.raises(BadInput, match=r"another process is training.*remove .*\.lock\.pid \(it names"),
    ):
        lock_run(tmp_path)
    lock_run(tmp_path).close()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, without_flock, dead):
    theirs = tmp_path / "a.pid"
    for left in (f"{HOST} {dead}", f"{HOST} {os.getpid()}", ""):  # dead, dead with our number, dead before it wrote
        theirs.write_text(left)
        os.utime(theirs, (time.time() - 60,) * 2)
        with locked(tmp_path / "a"):
            assert theirs.read_text() == f"{HOST} {os.getpid()}"
        assert not theirs.exists()


def test_the_lock_of_a_living_process_or_of_another_machine_is_left(tmp_path, without_flock, dead):
    theirs = tmp_path / "a.pid"
    for left in (f"{HOST} {os.getppid()}", f"other.{HOST} {dead}", ""):  # alive, unknown, about to write
        theirs.write_text(left)
        with pytest.raises(Held), locked(tmp_path / "a"):
            pass
        assert theirs.read_text() == left


def test_one_at_a_time_waits_for_a_lock_file(tmp_path, without_flock, dead):
    (tmp_path / "a.pid").write_text(f"{HOST} {dead}")
    inside, most = [], []

    def work():
        with locked(tmp_path / "a", wait=True):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1] * 6


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EACCES, errno.ENOSYS])
def test_folders_that_cannot_be_synced_are_written_all_the_same(tmp_path, monkeypatch, refusal):
    real = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/dev/fd/{handle}"):  # noqa: PTH112
            raise OSError(refusal, os.strerror(refusal))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with files.atomic_path(tmp_path / "a") as beside:
        beside.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        files.sync(tmp_path)
