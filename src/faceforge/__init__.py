"""faceforge: train, measure and use generative models of faces."""

import os

# albumentations otherwise asks a package index for newer releases at every import
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"
