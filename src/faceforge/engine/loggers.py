"""Where a run's numbers go: metrics.csv always, Weights & Biases beside it. Both count in images seen.

No logger ever stops a run: what W&B cannot do ends in one line of warning, and metrics.csv holds all of it.
"""

from __future__ import annotations

import csv
import functools
import glob
import heapq
import inspect
import logging
import netrc
import operator
import os
import secrets
import shutil
import socket
import string
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Concatenate, Literal, ParamSpec, get_args
from urllib.parse import urlsplit

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from faceforge.errors import BadInput, to_install
from faceforge.io.files import replacing
from faceforge.io.metrics_csv import drop_torn_row, header, read_rows

P = ParamSpec("P")
log = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline", "disabled"]
Policy = Literal["generated", "all", "none"]
POLICIES: dict[str, set[str]] = {"generated": {"generated"}, "all": {"generated", "real-derived"}, "none": set()}
# one service under two names: a login for one holds for both
WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


class RunLogger(Logger):
    """What training may ask of any logger; each takes what it can use and leaves the rest."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Empty: a run folder has no versions."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole config was handed over at construction."""

    @property
    def info(self) -> dict[str, str] | None:
        """What run.json keeps of it; None where there is nothing to keep."""
        return None

    def start(self, images: int = 0) -> None:
        """Begin, before the first value, where the clock stands at ``images``."""

    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """A picture file that belongs to the clock's position `images`."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """What is to stand beside the run in a table of runs."""

    def finish(self, exit_code: int = 0) -> None:
        """The run is over; 0 if it ended well."""


# ---------------------------------------------------------------------------------------------- metrics.csv


class MetricsCsv(RunLogger):
    """`metrics.csv` of a run: a row per report, first column `images`, a column more for every new name.

    Rows are appended and handed to the system at once, so a killed process loses none; a torn last row (power
    cut) is dropped when the file is opened again. Nine significant digits: a float32 comes back exactly.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.path = self.folder / "metrics.csv"
        self._columns: list[str] = []
        self._file: IO[str] | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row at `step` images seen; a key `images` among the metrics goes before `step`."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}  # Lightning's: always 0
        if metrics and not values:
            return
        images = values.pop("images", step)
        if images is None:
            raise ValueError("metrics need the number of images seen: step=, or 'images' among them")
        file = self._ready(values)
        csv.writer(file, lineterminator="\n").writerow([int(images), *self._cells(values)])
        file.flush()

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(images, {name: value}) for each row, in the order written; blanks are left out."""
        return read_rows(self.path)

    def start(self, images: int = 0) -> None:
        """As cut()."""
        self.cut(images)

    @rank_zero_only
    def cut(self, images: int) -> None:
        """Drop what was measured after the clock stood at `images`: a resumed run measures it again."""
        self._close()
        if self.path.exists():
            self._columns = header(self.path)
            self._rewrite(lambda position: position <= images)

    def finalize(self, status: str) -> None:
        """Close the file; the next row opens it again."""
        self._close()

    def finish(self, exit_code: int = 0) -> None:
        """Close the file."""
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _ready(self, names: Iterable[str]) -> IO[str]:
        """The file, open for appending and with a column for each name."""
        if self._file is None:
            self._columns = header(self.path)
        new = [name for name in names if name not in self._columns]
        if new or not self.path.exists():
            self._close()
            self._columns = [*self._columns, *new]
            self._rewrite()
        if self._file is None:
            drop_torn_row(self.path)
            self._file = self.path.open("a", newline="", encoding="utf-8")
        return self._file

    def _rewrite(self, keep: Callable[[int], bool] = lambda images: True) -> None:
        """The same rows under the present columns, put in place at once."""
        with replacing(self.path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["images", *self._columns])
            for images, values in read_rows(self.path):
                if keep(images):
                    writer.writerow([images, *self._cells(values)])

    def _cells(self, values: Mapping[str, float]) -> list[str]:
        return [f"{values[name]:.9g}" if name in values else "" for name in self._columns]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


# ------------------------------------------------------------------------------------------------------ W&B


def _harmless(method: Callable[Concatenate[Wandb, P], None]) -> Callable[Concatenate[Wandb, P], None]:
    """Keep an error of W&B from ending a run: it is said once, and W&B is left alone from then on."""

    @rank_zero_only
    @functools.wraps(method)
    def guarded(self: Wandb, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # whatever it is, the run's own numbers are safe in metrics.csv
            self.broken = True
            log.warning("W&B logging stopped (%s); metrics.csv goes on", _one_line(error))

    return guarded


class Wandb(RunLogger):
    """One W&B run for one run folder, every value against images seen.

    `mode` auto is online where a login exists and the server can be reached, else offline; nothing is ever
    asked. A resumed run keeps its id. Offline it starts a new folder, replays metrics.csv and samples/ up to
    `resumed_at` into it and removes the older folder, so one complete run remains to look at or `wandb sync`.
    `kind` says what samples/ shows: "generated", or "real-derived" for pictures made from real faces, which
    only the policy "all" sends.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        mode: str = "auto",
        project: str = "faceforge",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        images_policy: Policy = "generated",
        config: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        resumed_at: int | None = None,
        kind: str = "generated",
    ) -> None:
        super().__init__(folder)
        self.mode = mode
        self.id = run_id or new_id()
        self.broken = False
        self._about = {"project": project, "entity": entity, "name": name or self.name, "group": group}
        self._about |= {"tags": list(tags), "config": dict(config or {})}
        self._policy, self._kind, self._resumed_at = images_policy, kind, resumed_at
        self._run: Any = None

    @property
    def info(self) -> dict[str, str] | None:
        """id, mode (as it turned out) and folder for run.json; None before the start and where W&B failed."""
        if self._run is None:
            return None
        return {"id": self.id, "mode": self.mode, "folder": str(Path(self._run.settings.sync_dir).resolve())}

    @property
    def experiment(self) -> Any:
        """The wandb run (None where there is none), started at the first use."""
        self.start()
        return self._run

    @_harmless
    def start(self, images: int = 0) -> None:
        """Begin the run, or go on with it; further calls do nothing."""
        if self._run is not None:
            return
        older = self._offline_folders()
        self._run = self._init(older)
        self._run.define_metric("images")
        self._run.define_metric("*", step_metric="images")
        unsent = self.mode == "offline" or any(not _synced(folder) for folder in older)
        if self._resumed_at is not None and unsent:
            self._replay(self._resumed_at)
            for folder in older:
                shutil.rmtree(folder, ignore_errors=True)

    @_harmless
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers at `step` images seen. W&B's own step is never set: it would drop what comes late."""
        if self.experiment is not None:
            self._run.log({"images": step, **{name: value for name, value in metrics.items() if name != "epoch"}})

    @_harmless
    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """A picture file under `samples`, if the policy lets its kind go there."""
        if (kind or self._kind) in POLICIES[self._policy] and self.experiment is not None:
            self._picture(path, images)

    @_harmless
    def summary(self, values: Mapping[str, Any]) -> None:
        """What stands beside the run in W&B's table of runs."""
        if self.experiment is not None:
            self._run.summary.update(dict(values))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """Close the run, so that the next job of a multirun gets its own; a non-zero code shows as failed."""
        run, self._run = self._run, None
        self.broken = True  # what comes later has nowhere to go and must not open a second run
        if run is not None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                log.warning("W&B did not close the run (%s); metrics.csv is complete", _one_line(error))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    def _init(self, older: Sequence[Path]) -> Any:
        import wandb

        self.mode, key = choose_mode(self.mode, wandb.setup().settings)
        if self.mode == "online":
            before = set((self.folder / "wandb").glob("run-*"))
            try:
                return self._open(wandb, api_key=key, init_timeout=20)
            except Exception as error:  # a refused key, a silent server: nothing is lost offline
                log.warning("W&B cannot go online (%s): logging offline", _one_line(error))
                self.mode = "offline"
                wandb.teardown()  # its service else holds the run's id as in use
                for folder in set((self.folder / "wandb").glob("run-*")) - before:
                    shutil.rmtree(folder, ignore_errors=True)
        while any(time.strftime("%Y%m%d_%H%M%S") in folder.name for folder in older):
            time.sleep(0.1)  # W&B names folders by the second and would write into the older one
        return self._open(wandb)

    def _open(self, wandb: Any, **settings: Any) -> Any:
        # Offline there is nothing to say between a run's own lines; online its address and upload errors stay
        quiet: dict[str, Any] = {"console": "off", "silent": self.mode == "offline", "quiet": True}
        return wandb.init(
            dir=str(self.folder.absolute()),  # W&B's service stays in the folder where it was first started
            id=self.id,
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(**quiet, **{name: value for name, value in settings.items() if value}),
            **self._about,
        )

    def _offline_folders(self) -> list[Path]:
        return sorted((self.folder / "wandb").glob(f"offline-run-*-{glob.escape(self.id)}"))

    def _replay(self, clock: int) -> None:
        rows, pictures = read_rows(self.folder / "metrics.csv"), self._samples()
        for images, what in heapq.merge(rows, pictures, key=operator.itemgetter(0)):
            if images > clock:
                break
            if isinstance(what, Path):
                self._picture(what, images)
            else:
                self._run.log({"images": images, **what})

    def _samples(self) -> Iterator[tuple[int, Path]]:
        """The pictures of samples/ that the policy lets through, with their clock."""
        if self._kind in POLICIES[self._policy]:
            pictures = sorted((self.folder / "samples").glob("*.png"))
            yield from ((int(path.stem), path) for path in pictures if path.stem.isdecimal())

    def _picture(self, path: Path, images: int) -> None:
        import wandb

        picture = wandb.Image(str(path), caption=f"{images:,} images seen")
        self._run.log({"images": images, "samples": picture})


def new_id() -> str:
    """Eight letters and digits, as W&B's own ids."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def choose_mode(mode: str, settings: Any) -> tuple[str, str | None]:
    """(online or offline, the login's key): asks nothing and gives a dead network two seconds."""
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("online", "offline"):
        mode = os.environ["WANDB_MODE"]
    if mode == "offline":
        return mode, None
    key = find_login(settings)
    say = log.warning if mode == "online" else log.info
    if key is None:
        say("no W&B login found (WANDB_API_KEY or `wandb login`): logging offline")
    elif not reachable(settings.base_url):
        log.warning("%s cannot be reached: W&B logs offline", urlsplit(settings.base_url).hostname)
    else:
        return "online", key or None
    return "offline", None


def find_login(settings: Any) -> str | None:
    """The API key for the server in use; "" where W&B finds the login itself; None without a login."""
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return ""
    stored = os.environ.get("WANDB_API_KEY") or settings.api_key
    return stored or _netrc_key(urlsplit(settings.base_url).netloc)


def _netrc_key(host: str) -> str | None:
    hosts = WANDB_HOSTS if host in WANDB_HOSTS else (host,)
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entries = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            continue
        if keys := [entries[name][2] for name in hosts if name in entries]:
            return keys[0] or None
    return None


def reachable(url: str, seconds: float = 2.0) -> bool:
    """Whether the server (or the proxy on the way) accepts a connection; the limit includes name look-up."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    answers: list[bool] = []
    # a look-up cannot be given a time limit, a thread can be left behind
    probe = threading.Thread(target=lambda: answers.append(_connects(address, seconds)), daemon=True)
    probe.start()
    probe.join(seconds)
    return bool(answers and answers[0])


def _connects(address: tuple[str, int], seconds: float) -> bool:
    try:
        socket.create_connection(address, timeout=seconds).close()
    except OSError:
        return False
    return True


def _synced(folder: Path) -> bool:
    return any(folder.glob("*.synced"))


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------------------------------------- the factory


def make_loggers(
    mode: Mode,
    project: str,
    entity: str | None,
    name: str | None,
    group: str | None,
    tags: Sequence[str],
    images: Policy,
    also: Mapping[str, Any],
    *,
    folder: str | Path,
    config: Mapping[str, Any],
    run_id: str | None = None,
    resumed_at: int | None = None,
    kind: str = "generated",
) -> list[Logger]:
    """The W&B logger, unless its mode is disabled, and those of ``also``; what follows the star comes from training.

    ``also`` are other loggers of Lightning's, or the means to make them: they get the folder as their ``save_dir``.
    `run_id` and `resumed_at` (the clock) continue an earlier W&B run; `kind` as in `Wandb`. Raises BadInput.
    """
    for key, value, legal in [("mode", mode, get_args(Mode)), ("images", images, POLICIES)]:
        if value not in legal:
            raise BadInput(f"logger.{key}: {value!r} is none of {', '.join(legal)}")
    others = [_made(name, logger, Path(folder)) for name, logger in also.items() if logger is not None]
    if mode == "disabled" or (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"):
        return others
    about: dict[str, Any] = {"project": project, "entity": entity, "name": name, "group": group, "tags": tags}
    again: dict[str, Any] = {"run_id": run_id, "resumed_at": resumed_at}
    return [Wandb(folder, mode=mode, images_policy=images, config=config, kind=kind, **about, **again), *others]


def _made(name: str, logger: Any, folder: Path) -> Logger:
    if isinstance(logger, functools.partial):
        place = {"save_dir": str(folder)} if "save_dir" in inspect.signature(logger).parameters else {}
        try:
            logger = logger(**{**place, **logger.keywords})
        except ModuleNotFoundError as error:
            reason = " ".join(str(error).split())
            raise BadInput(f"logger.also.{name}: {reason}; {to_install('loggers')}") from None
    if not isinstance(logger, Logger):
        raise BadInput(f"logger.also.{name}: {type(logger).__name__} must be a logger of Lightning's")
    return logger
