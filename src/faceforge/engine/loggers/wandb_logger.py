"""Weights & Biases: offline without a login, never a prompt; its errors never end a run."""

from __future__ import annotations

import functools
import glob
import logging
import netrc
import operator
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec
from urllib.parse import urlsplit

from pytorch_lightning.utilities import rank_zero_only

from faceforge.engine.loggers.base import RunLogger
from faceforge.io.metrics_csv import read_rows
from faceforge.io.network import reachable

P = ParamSpec("P")
log = logging.getLogger(__name__)

Mode = Literal["auto", "online", "offline", "disabled"]
Policy = Literal["generated", "all", "none"]
Checkpoints = Literal["none", "best", "last"]
POLICIES: dict[str, set[str]] = {"generated": {"generated"}, "all": {"generated", "real-derived"}, "none": set()}
MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline"}  # by $WANDB_MODE
# one service under two names: a login for one is valid for both
WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


def _harmless(method: Callable[Concatenate[Wandb, P], None]) -> Callable[Concatenate[Wandb, P], None]:
    """Start the W&B run before its first use; a W&B error is reported once and stops only W&B logging."""

    @rank_zero_only
    @functools.wraps(method)
    def guarded(self: Wandb, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.broken:
            return
        try:
            self._begin()
            method(self, *args, **kwargs)
        except Exception as error:  # the run's own metrics are safe in metrics.csv
            self.broken = True
            log.warning("W&B logging stopped (%s); metrics.csv goes on", _one_line(error))

    return guarded


class Wandb(RunLogger):
    """One W&B run for one run folder, every value against images seen.

    `mode` auto is online if logged in and the server responds, else offline; it never prompts. A resumed run
    keeps its id. Offline it starts a new folder, replays metrics.csv and samples/ up to `resumed_at` into it
    and removes the older folder, so that one complete run remains for `wandb sync`.
    `kind` is the content of samples/: "generated", or "real-derived" for outputs from real faces, which only
    the policy "all" uploads. The checkpoint that `checkpoints` names becomes an artifact at the end. `about` goes to
    `wandb.init`: project, entity, name, group, tags, config.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        mode: str = "auto",
        images_policy: Policy = "generated",
        run_id: str | None = None,
        resumed_at: int | None = None,
        kind: str = "generated",
        checkpoints: Checkpoints = "none",
        **about: Any,
    ) -> None:
        super().__init__(folder)
        self._killed = None if run_id else _id_of_a_killed_start(self.folder)
        self.mode, self.id, self.broken = mode, run_id or self._killed or secrets.token_hex(5), False
        self._continued = run_id is not None
        self._about = {**about, "name": about.get("name") or os.environ.get("WANDB_NAME") or self.name}
        self._about["project"] = about.get("project") or os.environ.get("WANDB_PROJECT") or "faceforge"
        self._sent, self._kind, self._resumed_at = POLICIES[images_policy], kind, resumed_at
        self._checkpoints = checkpoints
        self._run: Any = None

    @property
    def info(self) -> dict[str, str] | None:
        """What W&B uses, for run.json: id, name, project, mode and folder; None before the start or if W&B failed."""
        if self._run is None:
            return None
        folder = Path(self._run.settings.sync_dir).resolve()
        used = {"id": self.id, "name": self._run.name, "project": self._run.project}
        return {**used, "mode": self.mode, "folder": str(folder)}

    @property
    def experiment(self) -> Any:
        """The wandb run, started at the first use; None if there is none."""
        self.start()
        return self._run

    @_harmless
    def start(self, images: int = 0) -> None:
        """Start or resume the run; further calls do nothing."""

    @_harmless
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers at `step` images seen. W&B's own step is never set: it would drop late values."""
        self._run.log({"images": step, **{name: value for name, value in metrics.items() if name != "epoch"}})

    @_harmless
    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """Log an image file under `samples`, if the policy allows its kind."""
        if (kind or self._kind) in self._sent:
            self._picture(path, images)

    @_harmless
    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the summary in W&B's table of runs."""
        self._run.summary.update(dict(values))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """Close the run, so that the next job of a multirun gets its own; a non-zero code marks it as failed."""
        run, self._run = self._run, None
        self.broken = True  # later values must not open a second run
        if run is not None:
            import wandb

            try:
                for name, path in self._uploads().items():
                    artifact = wandb.Artifact(f"model-{run.id}", "model", metadata={"run": self.name})
                    artifact.add_file(str(path))
                    run.log_artifact(artifact, aliases=[name])
                run.finish(exit_code=exit_code)
            except Exception as error:
                log.warning("W&B did not close the run (%s); metrics.csv is complete", _one_line(error))

    def _uploads(self) -> dict[str, Path]:
        """The checkpoint to upload, by what it is called."""
        file = self.folder / "checkpoints" / f"{self._checkpoints}.ckpt"
        return {self._checkpoints: file} if self._checkpoints != "none" and file.is_file() else {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}

    def _begin(self) -> None:
        if self._run is not None:
            return
        older = sorted((self.folder / "wandb").glob(f"offline-run-*-{glob.escape(self.id)}"))
        self._run = self._init(older)
        self._run.define_metric("images")
        self._run.define_metric("*", step_metric="images")
        unsent = self.mode == "offline" or not all(any(folder.glob("*.synced")) for folder in older)
        if unsent and (self._resumed_at is not None or self._killed):
            self._replay(-1 if self._resumed_at is None else self._resumed_at)
            for folder in older:
                shutil.rmtree(folder, ignore_errors=True)

    def _init(self, older: Sequence[Path]) -> Any:
        import wandb

        _leave_inherited_service()
        self.mode, key = choose_mode(self.mode, wandb.setup().settings)
        if self.mode == "online":
            before = set((self.folder / "wandb").glob("run-*"))
            try:
                return self._open(wandb, init_timeout=20, **({"api_key": key} if key else {}))
            except Exception as error:  # invalid key or unreachable server: nothing is lost offline
                log.warning("W&B cannot go online (%s): logging offline", _one_line(error))
                self.mode = "offline"
                wandb.teardown()  # otherwise its service keeps the run's id in use
                for folder in set((self.folder / "wandb").glob("run-*")) - before:
                    shutil.rmtree(folder, ignore_errors=True)
        while any(time.strftime("%Y%m%d_%H%M%S") in folder.name for folder in older):
            time.sleep(0.1)  # W&B names folders by the second and would reuse the older one
        return self._open(wandb)

    def _open(self, wandb: Any, **settings: Any) -> Any:
        # Silent offline; online, its URL and upload errors are printed
        inherited = wandb.setup().settings
        if inherited.sweep_id and self._continued:  # in a sweep W&B takes the id of $WANDB_RUN_ID, not the one below
            inherited.run_id = self.id
        settings |= {"console": "off", "silent": self.mode == "offline", "quiet": True}
        run = wandb.init(
            dir=str(self.folder.absolute()),  # W&B's service keeps the folder where it was first started
            id=self.id,
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(**settings),
            **self._about,
        )
        self.id = run.id
        return run

    def _replay(self, clock: int) -> None:
        """The rows, and the images that the policy allows, in clock order."""
        files = (self.folder / "samples").glob("*.png") if self._kind in self._sent else ()
        pictures = [(int(path.stem), path) for path in files if path.stem.isdecimal()]
        happened = [*read_rows(self.folder / "metrics.csv"), *pictures]
        for images, what in sorted((at for at in happened if at[0] <= clock), key=operator.itemgetter(0)):
            if isinstance(what, Path):
                self._picture(what, images)
            else:
                self._run.log({"images": images, **what})

    def _picture(self, path: Path, images: int) -> None:
        import wandb

        picture = wandb.Image(str(path), caption=f"{images:,} images seen")
        self._run.log({"images": images, "samples": picture})


def _id_of_a_killed_start(folder: Path) -> str | None:
    """The id of the W&B run of a training that was killed before it could record it; it continues as that one."""
    begun = sorted((folder / "wandb").glob("*run-*-*"))
    return begun[-1].name.rpartition("-")[2] if begun else None


def _leave_inherited_service() -> None:
    """Have W&B start its own service: in that of the process which started this one, a killed run's id stays in use."""
    _, _, owner = os.environ.get("WANDB_SERVICE", "").partition("-")  # version-process-kind-place
    if owner and owner.partition("-")[0] != str(os.getpid()):
        del os.environ["WANDB_SERVICE"]


def choose_mode(mode: str, settings: Any) -> tuple[str, str | None]:
    """(online or offline, API key): never prompts, and waits two seconds for a dead network."""
    if mode == "auto":
        mode = MODES.get(os.environ.get("WANDB_MODE", ""), mode)
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
    """The API key for the server in use; "" if W&B finds the login itself; None without a login."""
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return ""
    host, named = urlsplit(settings.base_url).netloc, os.environ.get("NETRC")
    found: dict[str, str] = {}
    for path in [named] if named else [Path.home() / "_netrc", Path.home() / ".netrc"]:
        with suppress(OSError, netrc.NetrcParseError):
            found |= {name: entry[2] for name, entry in netrc.netrc(path).hosts.items()}
    keys = [found[name] for name in (WANDB_HOSTS if host in WANDB_HOSTS else [host]) if found.get(name)]
    return os.environ.get("WANDB_API_KEY") or settings.api_key or next(iter(keys), None)


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
