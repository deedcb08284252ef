"""A real SLURM of one machine, in a temporary folder, as root: munged, slurmctld and slurmd, for as long as it is used.

Whoever starts it must be root.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=10
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no SLURM here; None if there can."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"SLURM is not installed (no {', '.join(absent)}): apt-get install slurm-wlm munge"
    return None if os.getuid() == 0 else "SLURM's daemons are started as root"


class Slurm:
    """A running cluster; ``environment`` is what its commands need."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, list[subprocess.Popen[Any]]()
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "SLURM_EXPORT_ENV": "ALL"}
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for path in (folder / "munge", key):
            shutil.chown(path, "munge", "munge")
        (folder / "munge").chmod(0o711)
        ports = {"controller": free_port(), "daemon": free_port()}
        conf = CONF.format(host=platform.node().split(".")[0], folder=folder, **ports)
        (folder / "slurm.conf").write_text(conf)

    def begin(self) -> None:
        """Start the daemons, and wait for the machine to be idle."""
        there = self.folder / "munge"
        files = [f"--{name}-file={there / name}" for name in ("key", "pid", "log", "seed")]
        as_munge = {"user": "munge", "group": "munge", "extra_groups": []}
        self._start("munged", "--foreground", "--num-threads=2", f"--socket={there / 'socket'}", *files, **as_munge)
        self._until(lambda: (there / "socket").exists(), "munged")
        self._start("slurmctld", "-D", "-c")
        self._start("slurmd", "-D")
        self._until(lambda: self.run("sinfo", "-h", "-o", "%T").stdout.strip() == "idle", "slurmd")

    def _start(self, *command: str, **options: Any) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, **options)
        self.daemons.append(process)

    def _until(self, ready: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + 60
        while not ready():
            log = (self.folder / "daemons.log").read_text()
            assert time.monotonic() < until, f"{what} did not start: {log[-2000:]}"
            time.sleep(0.1)

    def end(self) -> None:
        """Cancel all jobs, and end the daemons in turn."""
        self.run("scancel", "--user=root")
        with contextlib.suppress(AssertionError):
            self._until(lambda: not self.run("squeue", "-h").stdout.strip(), "the last job")
        for process in reversed(self.daemons):
            process.terminate()
        for process in self.daemons:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command that talks to this cluster."""
        given = {"capture_output": True, "text": True, "env": self.environment, "check": False, **options}
        return subprocess.run([str(word) for word in command], **given)

    def submit(self, script: Path, *words: str, options: Sequence[object] = (), **environment: str) -> str:
        """Submit a batch script with words for it; the number of its job."""
        given = {**self.environment, **environment}
        done = self.run("sbatch", "--parsable", *options, script, *words, env=given)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def about(self, job: str) -> dict[str, str]:
        """What scontrol knows of a job."""
        words = self.run("scontrol", "show", "job", "-o", job).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, seconds: float = 240) -> dict[str, str]:
        """Wait for a job's end, also over requeues; what scontrol knows of it then."""
        until = time.monotonic() + seconds
        while (about := self.about(job))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING"):
            assert time.monotonic() < until, about
            time.sleep(0.2)
        return about


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started() -> Iterator[Slurm]:
    """A cluster in a temporary folder of its own, which other users can enter: munged is one."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    cluster = Slurm(folder)
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
