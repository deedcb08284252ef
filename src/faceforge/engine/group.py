"""Ranks that torchrun or srun started: they meet at one store, rank 0 leads, and each notices when another is gone.

Rank 0 does everything that is done once: it checks the request, packs the faces, names the folder and writes. The
others wait for its word, take the configuration from the run's folder, and write and print nothing. Through the store
each also shows every half second that it lives, and says that it ends the run, and why, before it leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore

from faceforge.engine.cluster import Launch
from faceforge.engine.run import write_end
from faceforge.engine.signals import AgreedSignals, Signals
from faceforge.errors import BadInput
from faceforge.io.portable import HOST

JOIN_SECONDS = 600.0  # to load torch and find rank 0, which first checks the command
LOOK_SECONDS = 0.5
SEE_SECONDS = 10.0  # until a file of another machine is seen on a shared disk
STILL_SECONDS = 5.0  # without a sign of life: of a rank whose connection broke
SILENT_SECONDS = 60.0  # of any other: foreign code may hold Python's lock for a while
LEAVE_SECONDS = 10.0  # for the main thread to end by itself once another rank has ended the run
CLOSE_SECONDS = 20.0  # for all others to leave before rank 0
NO_SIGN = "is gone: no sign of life for"
_joined: list[int] = []  # the ranks of this process in its groups, one after another at the same store


class RankLost(BadInput):
    """A rank is dead, hung or was never started; the message names it."""


class Ended(Exception):
    """Another rank has ended the run, and said why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ended by another rank with {code}")
        self.exit_code = code


@dataclass(frozen=True)
class Word:
    """What rank 0 says when training begins: the run's folder, its checkpoint if any, and where code is found."""

    folder: str
    resume: str | None
    gpus: int  # on each machine
    digest: str  # of the folder's run.json
    paths: list[str]


class Group:
    """One rank's place among all. ``wait`` is how long another rank is waited for, in seconds. Raises RankLost."""

    def __init__(self, launch: Launch, wait: float = JOIN_SECONDS) -> None:
        self.launch, self.rank, self.world, self.wait = launch, launch.rank, launch.world, wait
        self.prefix = f"faceforge/{launch.attempt}/{launch.world}/{_joined.count(self.rank)}"
        _joined.append(self.rank)
        self.signals: AgreedSignals | None = None
        self.folder: Path | None = None
        self._server = self._serve() if not (self.rank or launch.served) else None
        self._store = self._connect()
        self._over, self._gone, self._words, self._signs = threading.Event(), "", 0, 0
        self._lost: set[int] = set()
        self._told = False
        self._seen: dict[int, tuple[int, float]] = {}
        self._store.set(f"host/{self.rank}", HOST)
        threading.Thread(target=self._live, daemon=True, name="group").start()

    # ------------------------------------------------------------------------------------------------- the store

    def _serve(self) -> TCPStore:
        """The store of a group whose starter has none."""
        try:
            return TCPStore("0.0.0.0", self.launch.port, None, True, wait_for_workers=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"MASTER_PORT: port {self.launch.port} cannot be used ({reason}); export another") from None

    def _connect(self) -> PrefixStore:
        """A connection of one's own: a thread that waits would keep all others from the same one."""
        at, wait = self.launch, timedelta(seconds=max(self.wait, JOIN_SECONDS))
        try:
            return PrefixStore(self.prefix, TCPStore(at.address, at.port, None, False, wait, wait_for_workers=False))
        except RuntimeError:
            raise RankLost(f"rank 0 at {at.address}:{at.port} has not answered for {wait.seconds} s") from None

    def start_messages(self, backend: str, device: torch.device) -> None:
        """Begin torch's process group, which gradients travel by; the same for all fits of a run."""
        if not distributed.is_initialized():
            patience = timedelta(seconds=max(2 * self.wait, 1800))  # longer than the watchdog's
            distributed.init_process_group(
                backend,
                store=PrefixStore("messages", self._connect()),
                rank=self.rank,
                world_size=self.world,
                timeout=patience,
                device_id=None if device.type == "cpu" else device,
            )

    def host(self, rank: int) -> str:
        """A rank with its machine, for messages."""
        known = self._store.check([f"host/{rank}"])
        return f"rank {rank} on {self._store.get(f'host/{rank}').decode()}" if known else f"rank {rank}"

    # --------------------------------------------------------------------------------------- rank 0 leads the others

    def assemble(self) -> None:
        """Wait until every rank has come."""
        missing = set(range(self.world))
        for _ in self._moments(self.wait):
            missing = {rank for rank in missing if not self._store.check([f"host/{rank}"])}
            if not missing:
                return
        names = ", ".join(map(str, sorted(missing)))
        started = f"{self.launch.by} promised {self.world} ranks"
        raise RankLost(f"rank {names} did not start within {self.wait:.0f} s (trainer.max_wait): {started}")

    def lead(self, folder: Path, resume: Path | None, gpus: int, device: str) -> None:
        """Tell all ranks to begin; returns once each is ready. ``device`` is that of this rank. Raises BadInput."""
        where = str(resume.resolve()) if resume else None
        word = Word(str(folder.resolve()), where, gpus, digest(folder), list(sys.path))
        self._store.set(f"word/{self._words}", json.dumps(asdict(word)))
        self._store.set(f"ready/{self._words}/0", json.dumps([None, device]))
        answers = [json.loads(self._wait_for(f"ready/{self._words}/{rank}")) for rank in range(self.world)]
        for rank, (problem, _) in enumerate(answers):
            if problem:
                raise BadInput(f"{self.host(rank)}: {problem}")
        self._each_its_own([device for _, device in answers])
        self._store.set(f"begin/{self._words}", "1")
        self._words += 1

    def _each_its_own(self, devices: list[str]) -> None:
        for rank, device in enumerate(devices):
            if device and device in devices[:rank]:
                other = devices.index(device)
                raise BadInput(f"trainer.gpus: ranks {other} and {rank} have the same GPU; start one process per GPU")

    def follow(self) -> Word | int:
        """Wait for rank 0's word; the exit code if the run has ended."""
        try:
            return Word(**json.loads(self._wait_for(f"word/{self._words}")))
        except Ended as end:
            return end.exit_code

    def begin(self, problem: str | None, device: str = "") -> None:
        """Say that this rank can begin, or why it cannot, and wait for the others. Raises Ended if one cannot."""
        self._store.set(f"ready/{self._words}/{self.rank}", json.dumps([problem, device]))
        self._wait_for(f"begin/{self._words}")
        self._words += 1

    def seen(self, word: Word) -> Path:
        """The folder of the run, as rank 0 sees it. Raises BadInput if this machine has another one, or none."""
        folder, until = Path(word.folder), time.monotonic() + SEE_SECONDS
        while (found := digest(folder)) != word.digest and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        if found != word.digest:
            there = "is another folder here" if found else "is not here"
            raise BadInput(f"run_dir: {folder} {there}; it must lie on a disk that all ranks share")
        return folder

    def after_first_of_machine(self, work: Callable[[], None]) -> None:
        """Work that the first rank of each machine does alone, then the others find it done."""
        key = f"first/{self._words}/{self.launch.node}"
        if self.launch.local_rank and self.launch.node:
            self._wait_for(key)
        work()
        self._store.set(key, "1")

    def _wait_for(self, key: str) -> str:
        """The value of a key; only a rank that is gone or ends the run ends the wait, since packing may take hours."""
        for _ in self._moments(float("inf")):
            if self._store.check([key]):
                return self._store.get(key).decode()
        raise AssertionError

    def _moments(self, seconds: float) -> Iterator[None]:
        """Moments at which to look again. Raises Ended or RankLost."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield
            self.require_all()
            time.sleep(0.05)

    # ---------------------------------------------------------------------------------------------- who is there

    def watch(self, signals: Signals | None, folder: Path) -> None:
        """While a fit has ``signals``: exchange phases, and leave where another rank has and the fit does not end."""
        self.signals = signals if isinstance(signals, AgreedSignals) else None
        self.folder = folder

    def require_all(self) -> None:
        """Raises Ended if a rank has ended the run, RankLost if one is gone."""
        if (code := self._ended()) is not None:
            raise Ended(code)
        if self._gone:
            raise RankLost(self._gone)

    def _ended(self) -> int | None:
        with self._or_gone():
            if self._store.check(["end"]):
                return int(self._store.get("end").decode().split()[0])
        return None

    @contextmanager
    def _or_gone(self) -> Iterator[None]:
        """A store that does not answer is a rank that is gone."""
        try:
            yield
        except RuntimeError:
            who = "torchrun" if self.launch.served else "rank 0"
            self._gone = self._gone or f"{who} at {self.launch.address}:{self.launch.port} is gone"

    def _live(self) -> None:
        """Show that this rank lives, and look at the others, until the run is over."""
        with self._or_gone():
            store = self._connect()
            self._show(store)  # one that is killed at once was there
            while not self._over.wait(LOOK_SECONDS):
                self._show(store)
                self._look(store, range(1, self.world) if self.rank == 0 else [0], SILENT_SECONDS)
                if self._gone or store.check(["end"]):
                    break
        if self.signals and not self._over.wait(LEAVE_SECONDS):
            other = self.end(RankLost.exit_code, self._gone)
            self.close()
            if self.folder and not self.rank:
                write_end(self.folder, "failed")
            os._exit(RankLost.exit_code if other is None else other)

    def _show(self, store: PrefixStore) -> None:
        signals, self._signs = self.signals, self._signs + 1
        about = (*signals.beats()[self.rank], signals.received or 0) if signals else None
        store.set(f"sign/{self.rank}", json.dumps([self._signs, about]))

    def _look(self, store: PrefixStore, ranks: Iterable[int], patience: float) -> None:
        """Take over what other ranks show; note the one that has shown nothing for ``patience`` seconds."""
        now = time.monotonic()
        for rank in ranks:
            sign, about = json.loads(store.get(f"sign/{rank}")) if store.check([f"sign/{rank}"]) else (0, None)
            if about and self.signals:
                self.signals.hear(rank, *about)
            if sign != self._seen.get(rank, (-1, 0.0))[0]:
                self._seen[rank] = sign, now
            elif sign and now - self._seen[rank][1] > patience:
                self._lost.add(rank)
                self._gone = self._gone or f"{self.host(rank)} {NO_SIGN} {patience:.0f} s"

    def broken(self, error: Exception) -> Exception:
        """What ended a rank whose messages failed: the rank that is gone, or another rank's end."""
        if not is_message(error):
            return error
        self._seen = {}
        with self._or_gone():
            until = time.monotonic() + 2 * STILL_SECONDS
            while not self._gone and self._ended() is None and time.monotonic() < until:
                self._look(self._store, (rank for rank in range(self.world) if rank != self.rank), STILL_SECONDS)
                time.sleep(LOOK_SECONDS)
        try:
            self.require_all()
        except Ended as end:
            return end
        except RankLost as lost:
            return RankLost(f"{lost}; the last checkpoint is valid")
        return error

    # -------------------------------------------------------------------------------------------------- the end

    def end(self, code: int, line: str = "") -> int | None:
        """End the run for all, and print the line that says why; the code of another rank, if one ended it before."""
        mine = f"{code} {self.rank}"
        try:
            holds = self._store.compare_set("end", "", mine).decode()
            if holds != mine:
                return int(holds.split()[0])
        except RuntimeError:  # no store: one rank speaks for all
            line = line if self.rank == (0 if self.launch.served else 1) else ""
        if line and not self._told:
            self._told = True
            print(f"faceforge: {line}", file=sys.stderr, flush=True)
        return None

    def close(self) -> None:
        """Leave. Rank 0 goes last: it may serve the store, and torchrun ends all ranks when one has failed."""
        self._over.set()
        with suppress(RuntimeError):
            self._store.add("left", 1)
            until = time.monotonic() + CLOSE_SECONDS
            while self.rank == 0 and self._store.add("left", 0) < self._come() and time.monotonic() < until:
                time.sleep(0.02)

    def _come(self) -> int:
        return sum(self._store.check([f"host/{rank}"]) for rank in set(range(self.world)) - self._lost)


def digest(folder: Path) -> str:
    """What tells a run folder from all others, and from its own earlier states; empty where there is none."""
    with suppress(OSError):
        return hashlib.sha256((folder / "run.json").read_bytes()).hexdigest()
    return ""


def is_message(error: Exception) -> bool:
    """Whether an error is that of a message between ranks."""
    kinds = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")
    return isinstance(error, RuntimeError) and any(kind in str(error).lower() for kind in kinds)


@contextmanager
def joined(launch: Launch, wait: float = JOIN_SECONDS) -> Iterator[Group]:
    """The group of this process. What is raised within ends all ranks; Ended where another rank has ended them."""
    group = Group(launch, wait)
    try:
        if not group.rank:
            group.assemble()
        yield group
    except BaseException as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        line = str(error) if group.rank and isinstance(error, BadInput) else ""  # rank 0's caller prints its own
        other = group.end(code, line)
        if (other is not None or line) and not isinstance(error, Ended):
            raise Ended(code if other is None else other) from error
        raise
    finally:
        group.close()
        if distributed.is_initialized():
            with suppress(RuntimeError):
                distributed.destroy_process_group()


def release(launch: Launch, code: int) -> None:
    """End the ranks that wait for this one, which has ended before it joined them."""
    if _joined:
        return
    with suppress(BadInput, Ended):
        group = Group(launch, CLOSE_SECONDS)
        group.end(code)
        with suppress(BadInput, Ended):
            group.assemble()
        group.close()
