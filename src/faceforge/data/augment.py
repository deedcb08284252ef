"""Augmentation with albumentations, applied to the face before the task, so that input and target match."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from faceforge.counter_rng import key
from faceforge.errors import BadInput

Step = tuple[str, dict[str, Any]]
REFLECT = 4  # cv2.BORDER_REFLECT_101
PRESETS: dict[str, list[Step]] = {
    "light": [
        (
            "Affine",
            {
                "scale": (0.95, 1.05),
                "translate_percent": (-0.03, 0.03),
                "rotate": (-5, 5),
                "border_mode": REFLECT,
                "p": 1.0,
            },
        ),
        ("RandomBrightnessContrast", {"brightness_limit": 0.1, "contrast_limit": 0.1, "p": 0.5}),
    ],
    "strong": [
        (
            "Affine",
            {
                "scale": (0.85, 1.15),
                "translate_percent": (-0.06, 0.06),
                "rotate": (-12, 12),
                "shear": (-4, 4),
                "border_mode": REFLECT,
                "p": 1.0,
            },
        ),
        (
            "ColorJitter",
            {
                "brightness": (0.75, 1.25),
                "contrast": (0.75, 1.25),
                "saturation": (0.7, 1.3),
                "hue": (-0.03, 0.03),
                "p": 0.8,
            },
        ),
        ("GaussianBlur", {"sigma_limit": (0.2, 1.0), "p": 0.2}),
        ("GaussNoise", {"std_range": (0.01, 0.04), "p": 0.2}),
    ],
}


class Augment:
    """A chain of albumentations transforms whose draws are a function of (seed, position) alone.

    Each transform has its own seed: Compose would give all of them the same one, and those of equal p would act on
    the same faces. Raises BadInput for unknown transforms and for those that change the size.
    """

    def __init__(self, chosen: str | Sequence[Any], seed: int, size: tuple[int, int], channels: int) -> None:
        self.seed = seed
        self.steps = _steps(chosen)
        self._transforms = [_transform(name, parameters) for name, parameters in self.steps]
        self._try(np.full((channels, *size), 128, dtype=np.uint8))

    def __call__(self, face: np.ndarray, position: int) -> np.ndarray:
        """One face, uint8 (C, H, W), augmented for a clock position: same shape and type."""
        image = np.ascontiguousarray(face.transpose(1, 2, 0))
        for n, transform in enumerate(self._transforms):
            transform.set_random_seed(key(self.seed, "augment", n, position))
            image = transform(image=image)["image"]
        return image.transpose(2, 0, 1)

    def _try(self, face: np.ndarray) -> None:
        for position in range(3):
            try:
                result = self(face, position)
            except Exception as error:
                raise BadInput(f"data.augment: fails on a face of this kind ({_line(error)})") from error
            if result.shape != face.shape or result.dtype != np.uint8:
                raise BadInput(f"data.augment: turns {face.shape} into {result.shape}; the size must not change")


def _steps(chosen: object) -> list[Step]:
    if isinstance(chosen, str):
        if chosen in PRESETS:
            return PRESETS[chosen]
        chosen = _read(chosen)
    if isinstance(chosen, Mapping) or not isinstance(chosen, Sequence):
        raise BadInput("data.augment: must be a list of transforms such as [{Rotate: {limit: 10}}]")
    return [_step(item) for item in chosen]


def _read(file: str) -> object:
    import yaml

    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"data.augment={file}: neither {', '.join(PRESETS)} nor a file")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML too
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"data.augment={file}: not YAML or JSON ({_line(error)})") from error


def _step(item: object) -> Step:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and len(item) == 1:
        [(name, parameters)] = item.items()
        if parameters is None or isinstance(parameters, Mapping):
            return str(name), {str(k): v for k, v in (parameters or {}).items()}
    raise BadInput(f"data.augment: {item!r} must be Name or {{Name: {{parameter: value}}}}")


def _transform(name: str, parameters: dict[str, Any]) -> Any:
    import albumentations

    base = albumentations.BasicTransform
    known = [n for n, v in vars(albumentations).items() if inspect.isclass(v) and issubclass(v, base)]
    if name not in known:
        raise BadInput(f"data.augment: albumentations has no {name}, the nearest is {_nearest(name, known)}")
    kind = getattr(albumentations, name)
    names = [n for n in inspect.signature(kind.__init__).parameters if n != "self"]
    for wrong in set(parameters) - set(names):
        raise BadInput(f"data.augment: {name} has no {wrong}, the nearest is {_nearest(wrong, names)}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()})
    except (TypeError, ValueError) as error:
        raise BadInput(f"data.augment: {name}: {_line(error)}") from error


def _nearest(word: str, names: list[str]) -> str:
    return get_close_matches(word, names, n=1, cutoff=0.0)[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
