"""The configuration: overrides and yaml files are composed, checked, and built into objects."""

from faceforge.config.building import build, build_from, check_targets, find, naming, shorten
from faceforge.config.checking import check_overrides
from faceforge.config.composing import compose, conf_dir, plain

__all__ = [
    "build", "build_from", "check_overrides", "check_targets", "compose", "conf_dir", "find", "naming", "plain",
    "shorten",
]  # fmt: skip
