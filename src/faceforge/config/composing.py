"""From overrides and yaml files to a plain configuration, without torch unless its types are needed."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from faceforge import words
from faceforge.config import parameters
from faceforge.errors import BadInput

PACKAGE = Path(__file__).parents[1]
OLDER = {  # older names of keys, still accepted
    "data.val_share": "data.val_fraction",
    "data.test_share": "data.test_fraction",
    "data.max_bad_share": "data.max_corrupt_fraction",
    "model.share_fakes": "model.reuse_fakes",
}
OLDER_CHOICES = {
    ("experiment", "published/dcgan_taught"): "published/dcgan_tutorial",
    ("model/generator", "taught"): "tutorial",
    ("model/discriminator", "taught"): "tutorial",
}
LIMITS = {"trainer.max_epochs", "trainer.max_steps", "trainer.max_minutes"}


def conf_dir() -> Path:
    """The folder of yaml files: next to the sources in a checkout, inside the installed package."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"


class Library:
    """The available yaml files: the package's, then those of ``--config-dir`` and ``hydra.searchpath``.

    ``notices`` has a line per older name that was used. Raises BadInput if a folder does not exist.
    """

    def __init__(self, overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> None:
        self.notices: list[str] = []
        self.folders = _folders(overrides, config_dir)
        own = [folder.removeprefix("file://") for folder in self.folders if folder.startswith("file://")]
        sys.path += [folder for folder in own if folder not in sys.path]  # code may be next to the yaml
        self._search = create_config_search_path(str(conf_dir().resolve()))
        for folder in self.folders:
            self._search.prepend("user", folder, "schema")
        self._files = ConfigRepository(self._search)

    def is_group(self, key: str) -> bool:
        """Whether a key names a group of yaml files."""
        return key.startswith("hydra/") or self._files.group_exists(key)

    def groups(self, above: str = "") -> list[str]:
        """All groups of yaml files, Hydra's own and folders of experiments excepted."""
        inner = [] if above == "experiment" else self._files.get_group_options(above, ObjectType.GROUP)
        found = [f"{above}/{name}" if above else name for name in inner if name != "hydra"]
        return sorted([*found, *(deeper for group in found for deeper in self.groups(group))])

    def names(self, group: str) -> list[str]:
        """The choices of a group, without base.yaml, which others extend."""
        names = [name for name in self._files.get_group_options(group) if name != "base"]
        inner = self._files.get_group_options(group, ObjectType.GROUP) if group.startswith("experiment") else []
        return sorted([*names, *(f"{folder}/{name}" for folder in inner for name in self.names(f"{group}/{folder}"))])

    def choice_like(self, group: str, choice: object) -> str | None:
        """A question whether ``choice`` was meant for a group above or below ``group``; None if none has it."""
        above = [group.rsplit("/", n)[0] for n in range(group.count("/") + 1)]
        below = [f"{group}/{name}" for name in self._files.get_group_options(group, ObjectType.GROUP)]
        found = [other for other in [*above, *below] if self.is_group(other) and str(choice) in self.names(other)]
        return f"did you mean {found[0]}={choice}?" if found else None

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Hydra's composition of the chosen groups, including its own nodes."""
        GlobalHydra.instance().clear()
        setbase("1.3")
        Hydra.create_main_hydra2("train", self._search)
        try:
            config = hydra.compose("train", overrides=list(overrides), return_hydra_config=True)
        finally:
            GlobalHydra.instance().clear()
        with flag_override(config, "struct", False):
            for old in rename_older(config):
                self._notice(old, OLDER[old])
        HydraConfig.instance().set_config(config)
        return config

    def first_job(self, overrides: Iterable[str]) -> DictConfig | None:
        """The groups and Hydra's own nodes as a sweep's first job has them; None if they cannot be composed."""
        parsed, problems = parse(overrides)
        kept = [o for o in parsed if o.is_hydra_override() or self.is_group(o.key_or_group)]
        kept += [o for o in parsed if o.key_or_group == "trusted_packages"]
        try:
            chosen = [texts_of(o)[0] if o.is_sweep_override() else str(o.input_line) for o in kept]
            return None if problems else self.compose(chosen)
        except (HydraException, OmegaConfBaseException, ValueError, IndexError):
            return None  # the check says why

    def _notice(self, old: str, new: str) -> None:
        line = f"{old} is called {new} now"
        self.notices += [] if line in self.notices else [line]

    def plainly(self, overrides: Iterable[str], multirun: bool = False) -> list[str]:
        """Overrides rewritten for Hydra, which lacks ``group=null`` and globs over choices in folders."""
        return [self._plainly(self._renamed(text), multirun) for text in overrides]

    def _renamed(self, text: str) -> str:
        key, equals, value = text.partition("=")
        bare = key.lstrip("+~").split("@")[0]
        if bare in OLDER:
            self._notice(bare, OLDER[bare])
            return key.replace(bare, OLDER[bare]) + equals + value
        for (group, old), new in OLDER_CHOICES.items():
            if bare == group and old in (names := value.split(",")):
                self._notice(f"{group}={old}", f"{group}={new}")
                return f"{key}={','.join(new if name == old else name for name in names)}"
        return text

    def _plainly(self, text: str, multirun: bool) -> str:
        parsed, _ = parse([text])
        if not parsed or not self.is_group(parsed[0].key_or_group) or parsed[0].is_delete():
            return text
        key, value = parsed[0].key_or_group, parsed[0].value()
        if isinstance(value, Glob) and multirun and (names := self._matching(value, key)):
            return f"{key}={','.join(names)}"
        if value is None and key == "experiment":
            return "~experiment"
        if value is None and "/" in key and not key.startswith("hydra/"):
            return f"{key.replace('/', '.')}=null"
        return text

    def _matching(self, glob: Glob, group: str) -> list[str]:
        names = [name for name in self.names(group) if any(fnmatch(name, pattern) for pattern in glob.include)]
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in glob.exclude)]


def rename_older(config: MutableMapping[Any, Any], given: Collection[str] = ()) -> list[str]:
    """Give keys with older names, from a user's yaml or an older file, their present ones; the names that were found.

    A key ``given`` under its present name keeps that value.
    """
    found = []
    for old, new in OLDER.items():
        (part, before), after = old.split("."), new.split(".")[1]
        node = config.get(part)
        if isinstance(node, MutableMapping) and before in node:
            value = node.pop(before)
            node.update({} if new in given else {after: value})
            found.append(old)
    return found


def _folders(overrides: Iterable[str], config_dir: str | Path | None) -> list[str]:
    """The location of a user's yaml files in Hydra's form: file://FOLDER or pkg://PACKAGE."""
    given = [("--config-dir", str(config_dir))] if config_dir is not None else []
    for override in parse(overrides)[0]:
        if override.key_or_group == "hydra.searchpath" and isinstance(override.value(), list):
            given += [("hydra.searchpath", str(OmegaConf.create([v])[0])) for v in override.value()]  # pyright: ignore
    given = [(key, words.at_home(place)) for key, place in given]
    for key, place in given:
        if "://" not in place.replace("file://", "") and not Path(place.removeprefix("file://")).is_dir():
            raise BadInput(f"{key}: {place} must be a folder of yaml files")
    return [place if "://" in place else f"file://{Path(place).resolve()}" for _, place in given]


def compose(overrides: Iterable[str] = (), config_dir: str | Path | None = None) -> dict[str, Any]:
    """The resolved configuration for some overrides, as plain data. Raises BadInput with every problem."""
    from faceforge.config.checking import check_overrides

    overrides = list(map(words.override, overrides))
    library = Library(overrides, config_dir)
    overrides = library.plainly(overrides)
    bases: dict[str, DictConfig] = {}
    if problems := check_overrides(overrides, library=library, types=True, bases=bases):
        raise BadInput("\n".join(problems))
    print(*(f"faceforge: {line}\n" for line in library.notices), sep="", end="", file=sys.stderr)
    (config,) = bases.values()
    parsed = [o for o in parse(overrides)[0] if not o.is_hydra_override()]
    values = [o for o in parsed if not library.is_group(o.key_or_group)]
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return plain(config, overrides)


def plain(
    config: DictConfig, overrides: Iterable[str], choices: Mapping[str, Any] | None = None, start: str = ""
) -> dict[str, Any]:
    """Resolve to plain data, with whole floats as ints where annotated; add the ``choices``, and let a limit given by
    the user replace the default one. Raises BadInput.
    """
    from faceforge.config.building import fitted
    from faceforge.config.nodes import Root

    named = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    choices = choices or HydraConfig.get().runtime.choices
    plain_data = resolve(config)
    rename_older(plain_data, named)
    resolved = fitted(plain_data, parameters.of(Root))
    _expand_paths(resolved, start)
    made = {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/") and k != "sweep"}
    resolved["choices"] = {"experiment": None, **made}
    if problem := check_task(resolved, resolved["choices"]):
        raise BadInput(problem)
    if named & LIMITS and "trainer.max_images" not in named:
        resolved["trainer"]["max_images"] = None
    return resolved


def resolve(config: DictConfig) -> dict[str, Any]:
    """Plain data without Hydra's own node. Raises OmegaConfBaseException."""
    with flag_override(config, ["struct", "readonly"], False):
        config = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _expand_paths(config: dict[str, Any], start: str) -> None:
    """Replace a leading tilde, which a yaml or the shell left, by the home; other relative paths refer to ``start``."""
    for key in words.PATHS:
        *parents, name = key.split(".")
        node = config[parents[0]] if parents else config
        if isinstance(node.get(name), str) and node[name]:
            node[name] = os.path.join(start, words.at_home(node[name]))  # noqa: PTH118  (Path would drop a leading ./)


def check_task(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """Check the task against the model's ``tasks``."""
    task, model, legal = choices["task"], choices["model"], config["tasks"]
    if task in legal:
        return None
    takes = f"{', '.join(legal[:-1])}{' or ' * (len(legal) > 1)}{legal[-1]}" if legal else "none (tasks is empty)"
    return f"task={task}: model={model} takes {takes}"


# ------------------------------------------------------------------------------------------------------------- words


def parse(overrides: Iterable[str]) -> tuple[list[Override], list[str]]:
    """Overrides parsed by Hydra's grammar, and a line per override that it cannot parse."""
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed.append(_parse_one(text))
        except HydraException:
            problems.append(f"{text}: not understood; write group=name or dotted.key=value (quote what has spaces)")
    return parsed, problems


@functools.lru_cache(1024)
def _parse_one(text: str) -> Override:
    """Cached: each override is parsed several times, and Hydra's grammar takes milliseconds."""
    return OverridesParser.create().parse_override(text)


def with_space(overrides: Iterable[str], first: DictConfig) -> list[str]:
    """Overrides with the sweeper and the search space that a yaml chose, unless the command line names them itself."""
    words_of = list(overrides)
    parsed, _ = parse(words_of)
    given = {o.get_key_element().lstrip("+") for o in parsed} | {o.key_or_group for o in parsed}
    space = [f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items() if key not in given]
    sweeper = first.hydra.runtime.choices["hydra/sweeper"]
    chosen = [f"hydra/sweeper={sweeper}"] if sweeper != "basic" and "hydra/sweeper" not in given else []
    return [*words_of, *chosen, *space]


def is_sweep(overrides: Iterable[str]) -> bool:
    """Whether the overrides themselves request a sweep, like -m."""
    return any(re.fullmatch(r"\+*hydra\.mode=MULTIRUN", word) for word in overrides)


def jobs_of(overrides: Iterable[str]) -> list[list[str]] | None:
    """The overrides of each job of a sweep, in order; None unless Hydra's basic sweeper is used."""
    parsed, _ = parse(overrides)
    if has_own_sweeper(parsed):
        return None
    return BasicSweeper.split_arguments([o for o in parsed if not o.is_hydra_override()], None)[0]


def unswept_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of a multirun that have one value in every job."""
    return [o.key_or_group for o in parse(overrides)[0] if not o.is_sweep_override()]


def has_own_sweeper(parsed: Iterable[Override]) -> bool:
    """Whether a sweeper other than Hydra's basic one is chosen, which may accept other syntax."""
    return any(o.key_or_group == "hydra/sweeper" and o.value() != "basic" for o in parsed)


def values_of(override: Override) -> list[Any]:
    """Each value that an override gives its key."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [value.start, value.end]
    values = override.sweep_iterator() if override.is_sweep_override() else [value]
    return [Override._convert_value(v) for v in values]  # type: ignore[arg-type]


def texts_of(override: Override) -> list[str]:
    """A swept override as one override for each of its values."""
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    return [f"{key}={text}" for text in override.sweep_string_iterator()]
