"""A trained model opened for use, and what it can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

import torch
from omegaconf import OmegaConf
from torch import Tensor

from faceforge import config
from faceforge.cut import framing
from faceforge.cut.framing import Framing
from faceforge.data.tasks import Task
from faceforge.engine import checkpoint, devices
from faceforge.errors import BadInput
from faceforge.schemes.abilities import Encodes, Generates, Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.directions import NAME as DIRECTIONS
from faceforge.schemes.directions import Carried, Directions
from faceforge.schemes.inversion import GanCodes
from faceforge.schemes.latent_space import SPACE, Density, Kind, LatentSpace
from faceforge.schemes.supervised import PairedScheme
from faceforge.studio import exported, hub, shipped
from faceforge.types import Json

Ability = Literal["generate", "walk", "morph", "edit", "invert", "upscale", "translate", "average"]
S = TypeVar("S", bound=Scheme)
MULTIPLE = 64  # sides are padded to multiples of it: no network halves a side more than six times
AT_ONCE = 64  # largest batch of faces
PIXELS_AT_ONCE = 1 << 20  # largest batch in pixels
NOTHING: Mapping[str, float] = MappingProxyType({})
# Called often while a model works; to stop the work, set a function that raises.
WATCH: ContextVar[Callable[[], None]] = ContextVar("watch", default=lambda: None)

BY_SCHEME: Mapping[type[Scheme], Sequence[Ability]] = {
    Generates: ("generate", "walk"),
    Encodes: ("morph", "edit", "invert", "average"),
}
BY_DIRECTIONS: Sequence[Ability] = ("morph", "edit", "invert")  # of a GAN, after `faceforge directions`


def abilities_of(scheme: type[Scheme], task: type[Task] | None) -> list[Ability]:
    """What a run can be asked for: what its scheme can, and on photos what its task is for."""
    can = {ability for kind, some in BY_SCHEME.items() if issubclass(scheme, kind) for ability in some}
    if task and task.serves and issubclass(scheme, PairedScheme):
        can.add(task.serves)
    return [ability for ability in get_args(Ability) if ability in can]


def named(group: Literal["model", "task"], fits: Callable[[type], bool]) -> str:
    """The files of a group of conf/ whose classes fit, as one types them: task=canny or contours; "" where none."""
    names = []
    for file in sorted((config.conf_dir() / group).glob("*.yaml")):
        with suppress(BadInput):  # a class of somebody else's
            target = config.find(OmegaConf.select(OmegaConf.load(file), f"{group}._target_"))
            names += [file.stem] if isinstance(target, type) and fits(target) else []
    return f"{group}={' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}" if names else ""


def who_can(ability: Ability) -> str:
    """Which runs have an ability."""
    by_scheme = named("model", lambda scheme: ability in abilities_of(scheme, None))
    by_task = named("task", lambda task: task.serves == ability)
    directed = named("model", lambda scheme: issubclass(scheme, Samples)) if ability in BY_DIRECTIONS else ""
    return " or ".join(filter(None, (by_scheme, by_task, directed and f"{directed} after `faceforge directions RUN`")))


@dataclass(frozen=True, eq=False)
class Model:
    """A module with its data. ``folder`` is the default place for results; ``name`` is written to recipes."""

    path: Path
    folder: Path
    name: str
    module: Scheme
    task: Task
    size: tuple[int, int]
    channels: int
    digest: str  # SHA-256 of the weights file
    carried: Carried | None = None  # what makes the faces of an exported model editable
    kept: Framing | None = None  # as measured in training
    self_ensemble: bool = False  # whether outputs are means over mirrored inputs

    @property
    def abilities(self) -> list[Ability]:
        """What this model can do."""
        can = {*abilities_of(type(self.module), type(self.task)), *(BY_DIRECTIONS if self.directions else ())}
        return [ability for ability in get_args(Ability) if ability in can]

    def require(self, ability: Ability) -> None:
        """Raise BadInput, naming suitable runs, if this model lacks the ability."""
        if ability in self.abilities:
            return
        cannot = f"{self.path}: this run cannot {ability} (it can {' and '.join(self.abilities) or 'nothing'})"
        if ability in BY_DIRECTIONS and isinstance(self.module, Samples):
            if (self.folder / DIRECTIONS).exists():
                self._load_directions()
            raise BadInput(f"{cannot} until `faceforge directions {self.folder}` has made directions and an encoder")
        raise BadInput(f"{cannot}; must be a run of {who_can(ability)}")

    def scheme(self, kind: type[S]) -> S:
        """The module as a scheme of this kind; ``require`` refuses others in one line."""
        assert isinstance(self.module, kind), kind
        return self.module

    @property
    def has_codes(self) -> bool:
        """Whether its random faces come from codes of real faces, of whose density there is a choice."""
        return isinstance(self.module, Encodes)

    @cached_property
    def directions(self) -> Directions | None:
        """Those of a GAN with its encoder, if they were made for these weights."""
        if isinstance(self.carried, Directions) or not isinstance(self.module, Samples):
            return self.carried if isinstance(self.carried, Directions) else None
        with suppress(BadInput):
            return self._load_directions()
        return None

    def _load_directions(self) -> Directions:
        return Directions.load(self.folder / DIRECTIONS, self.size, self.channels, self.digest)

    @cached_property
    def coder(self) -> Encodes:
        """What finds codes for faces: the module itself, or the encoder of a GAN; ``require`` refuses others."""
        if self.directions:
            return GanCodes(self.scheme(Samples), self.directions.encoder).to(self.device)
        return self.scheme(Encodes)

    @property
    def labels(self) -> tuple[str, ...]:
        """The attributes that its random faces can be told to have."""
        return self.module.labels if isinstance(self.module, Samples) else ()

    def require_attributes(self, chosen: Mapping[str, float]) -> None:
        """Raise BadInput for attributes that its random faces cannot be given, or that they are told with numbers that
        are not from 0 to 1.
        """
        for name, value in chosen.items():
            if name in self.labels and not 0 <= value <= 1:
                raise BadInput(f"{name}={value:g}: must be from 0 (without) to 1 (with)")
            known = [*self.labels, *(self.space.names if "edit" in self.abilities else ())]
            if not known:
                right = (
                    "a GAN trained with model.conditional=[...], or one with directions (`faceforge directions RUN`)"
                )
                raise BadInput(f"{name}={value:g}: {self.path} takes no attributes; must be a run of {right}")
            if name not in known:
                raise BadInput(f"{name}={value:g}: {self.path} knows {', '.join(known)}; must be one of them")

    @property
    def made(self) -> Path:
        """The default folder for results."""
        return self.folder / "made"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.module.parameters()).device

    @cached_property
    def space(self) -> LatentSpace:
        """The latent space that the run stored, or the directions of a GAN. Raises BadInput if there is none that
        matches.
        """
        if self.directions:
            return self.directions.space
        if isinstance(self.carried, LatentSpace):
            return self.carried
        return LatentSpace.load(self.folder / SPACE, self.digest)

    @cached_property
    def masks(self) -> dict[tuple[LatentSpace, str, Kind], Tensor]:
        """Where attributes of a space show, by space, attribute and kind of direction; filled as they are needed."""
        return {}

    @cached_property
    def takes_any_size(self) -> bool:
        """Whether the network accepts images of other sizes than it was trained on; tested once."""
        other = [side + MULTIPLE for side in self.size]
        probe = self.task.input_for(torch.zeros(1, self.channels, *other))
        try:
            return probe is not None and self.predict(probe).shape[2:] == torch.Size(other)
        except (RuntimeError, ValueError):
            return False

    @cached_property
    def framing(self) -> Framing:
        """The framing of faces in its images."""
        if self.kept is None and self.directions:  # a GAN measures none in training
            return framing.parse(self.directions.space.made.get("framing")) or framing.AS_CUT
        if self.kept is None:
            print(f"{self.path}: an older run without framing; faces are framed as by `faceforge cut`", file=sys.stderr)
        return self.kept or framing.AS_CUT

    def codes(
        self,
        count: int,
        seed: int = 0,
        start: int = 0,
        truncation: float = 1.0,
        density: Density = "mixture",
        chosen: Mapping[str, float] = NOTHING,
    ) -> Tensor:
        """z of the samples of a seed from ``start`` on, (count, ...) float32 on the CPU, the same for any count.

        ``truncation`` below 1 trades variety for quality (Brock et al. 2019, arXiv 1809.11096). ``density`` applies to
        models with codes of real faces; a GAN has its own. ``chosen`` are attributes that a conditional GAN is told,
        from 0 (without) to 1 (with), others being as in the training faces; along other attributes faces are moved by
        that strength. Raises BadInput.
        """
        self.require_attributes(chosen)
        if self.has_codes:
            if density not in self.space.densities:
                right = ", ".join(self.space.densities)
                raise BadInput(f"density={density}: codes of {self.path} do not follow it; must be one of {right}")
            z = self.space.sample(density, count, seed, start, truncation)
        else:
            z = self.scheme(Samples).draw(count, seed, start, truncation).cpu()
        for n, name in enumerate(self.labels, start=-len(self.labels)):
            if name in chosen:
                z[:, n] = 2 * chosen[name] - 1
        moves = {name: value for name, value in chosen.items() if name not in self.labels}
        return self.edited(z, moves) if moves else z

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] on the CPU for codes (N, ...), those of a GAN as one row or in its shape."""
        if isinstance(self.module, Samples):
            z = z.reshape(len(z), *self.module.latent_shape)
        return self._by_parts(self.scheme(Generates).decode, z)

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, Z) on the CPU for images (N, C, H, W) in [-1, 1]."""
        return self._by_parts(self.coder.encode, images)

    def invert(self, images: Tensor, steps: int) -> Tensor:
        """Codes (N, Z) on the CPU that decode closer to images (N, C, H, W) in [-1, 1] than the encoder's own do."""
        return self._by_parts(partial(self.coder.invert, steps=steps), images)

    def edited(
        self, z: Tensor, strengths: Mapping[str, float], kind: Kind | None = None, space: LatentSpace | None = None
    ) -> Tensor:
        """Codes (N, Z) moved along attributes, from codes (N, ...). Raises BadInput for an unknown attribute."""
        return (space or self.space).edit(z.flatten(1), strengths, kind)

    def predict(self, inputs: Tensor) -> Tensor:
        """Outputs (N, C, H, W) in [-1, 1] on the CPU for inputs as the task makes them."""
        module = self.scheme(PairedScheme)
        return self._by_parts(module.predict_mirrored if self.self_ensemble else module.predict, inputs)

    def _by_parts(self, function: Callable[[Tensor], Tensor], things: Tensor) -> Tensor:
        parts = []
        for part in things.split(max(1, min(AT_ONCE, PIXELS_AT_ONCE // (self.size[0] * self.size[1])))):
            WATCH.get()()
            parts.append(function(part.to(self.device)).cpu())
        return torch.cat(parts)

    def faces(
        self,
        count: int,
        seed: int = 0,
        truncation: float = 1.0,
        density: Density = "mixture",
        chosen: Mapping[str, float] = NOTHING,
    ) -> Iterator[Tensor]:
        """Random faces in batches (<= 64, C, H, W) in [-1, 1], ``count`` in total."""
        for first in range(0, count, AT_ONCE):
            number = min(AT_ONCE, count - first)
            yield self.decode(self.codes(number, seed, first, truncation, density, chosen))


def open_model(path: str | Path, ability: Ability | None = None, trusted: Sequence[str] = ()) -> Model:
    """The model of a run folder, a checkpoint, an exported .safetensors or its folder, ``drawn:NAME``, or
    ``hf://USER/NAME``.

    Raises BadInput, also if the model lacks ``ability``.
    """
    path = Path(path)
    model = _kind(path)(path, trusted)
    model.module.to(devices.best())
    if ability:
        model.require(ability)
    return model


def _kind(path: Path) -> Callable[[Path, Sequence[str]], Model]:
    if shipped.is_one(path):
        return _of_shipped
    if hub.is_one(path):
        return _of_hub
    return _of_export if exported.is_one(path) else _of_run


def _of_run(path: Path, trusted: Sequence[str]) -> Model:
    file = checkpoint.find(path, "best")
    module = checkpoint.load(file, trusted)
    folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    return _model(path, folder, folder.resolve().name, module, checkpoint.digest(file), None, trusted)


def _of_export(path: Path, trusted: Sequence[str]) -> Model:
    module, carried, about, digest = exported.read(path, trusted)
    folder = path if path.is_dir() else path.parent
    return _model(path, folder, about["name"], module, digest, carried, trusted)


def _of_shipped(path: Path, trusted: Sequence[str]) -> Model:
    file = shipped.file_of(path)
    return replace(_of_export(file, trusted), path=path, folder=shipped.MADE / file.stem, name=file.stem)


def _of_hub(path: Path, trusted: Sequence[str]) -> Model:
    found = hub.fetch(path)
    model = _of_export(found.file, trusted)
    hub.require_pinned(path, model.digest, found)
    print(f"{path}: revision {found.revision}, SHA-256 {model.digest}", file=sys.stderr)
    return replace(model, path=path, folder=Path("runs", "hub", model.name))


def _model(
    path: Path,
    folder: Path,
    name: str,
    module: Scheme,
    digest: str,
    carried: Carried | None,
    trusted: Sequence[str],
) -> Model:
    try:
        data = module.config["data"]
        size, channels = data["size"], int(data["channels"])
        height, width = (size, size) if isinstance(size, int) else map(int, size)
        task = config.build_from(path, data["task"], trusted)
        if not isinstance(task, Task):
            raise TypeError(f"its task is a {type(task).__name__}")
        kept = framing.parse(module.framing)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: its configuration lacks the training data ({error})") from None
    return Model(path, folder, name, module, task, (height, width), channels, digest, carried, kept)


def record(folder: Path) -> Json:
    """The run.json of a run, or {}."""
    try:
        return json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return {}
