"""Frozen feature extractors: networks trained by others, used by scores and by perceptual losses.

A new one is a subclass of ``Extractor`` in a module of its own and a yaml in ``conf/evaluation/features/``.
"""

from faceforge.metrics.features.base import Extractor
from faceforge.metrics.features.lite0 import FeatureMaps, Features

__all__ = ["Extractor", "FeatureMaps", "Features"]
