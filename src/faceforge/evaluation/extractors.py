"""The extractors of a request: those of the yaml files in conf/evaluation/features, by name and with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from faceforge import config as configuration
from faceforge.errors import BadInput
from faceforge.metrics.features import Extractor

AT = "evaluation.features"  # the key of a run's configuration
DEFAULT = ("lite0",)  # of runs that name none


def build(
    words: Sequence[str],
    device: torch.device,
    own: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
) -> list[Extractor]:
    """The extractors of ``--features`` words, each once and in their order; without words that of a run's node ``own``,
    else lite0.

    A word is NAME or NAME:KEY=VALUE,KEY=VALUE with parameters of its yaml, such as inception:resize=legacy. Raises
    BadInput.
    """
    nodes = [own] if own and not words else [_node(word) for word in words or DEFAULT]
    made: dict[str, Extractor] = {}
    for node in nodes:
        extractor: Extractor = configuration.build(node, trusted, AT)
        made.setdefault(extractor.key, extractor.to(device))
    return list(made.values())


def _node(word: str) -> Mapping[str, Any]:
    """The node of one word. Raises BadInput."""
    name, _, given = word.partition(":")
    parameters = [pair for pair in given.split(",") if pair]
    if wrong := [pair for pair in parameters if "=" not in pair]:
        raise BadInput(f"--features {word}: {wrong[0]!r} must be KEY=VALUE")
    overrides = [f"evaluation/features={name}", *(f"{AT}.{pair}" for pair in parameters)]
    try:
        return configuration.compose(overrides)["evaluation"]["features"]
    except BadInput as error:
        raise BadInput(f"--features {word}: {str(error).splitlines()[0]}") from None
