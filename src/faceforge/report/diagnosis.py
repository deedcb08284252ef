"""How to read the figures by which the health of a training is watched."""

from __future__ import annotations

# Name of a column of metrics.csv: the figure in words, and how to read it.
FIGURES: dict[str, tuple[str, str]] = {
    "train/mae": (
        "Error on training faces",
        "Mean absolute error on unaltered training faces. Pixels range from 0 to 1.",
    ),
    "val/mae": ("Error on validation faces", "The same on people who are not in the training set. This error counts."),
    "val/gap": ("Gap", "How far the validation error is above the training error. Above 0.35 the model overfits."),
    "val/variance_ratio": (
        "Variance of outputs",
        "Relative to the targets. 1: as varied. 0: always the same picture. Blurred outputs lie between.",
    ),
    "val/mean_face_distance": (
        "Distance from the mean face",
        "Relative to real faces. 1: as far. 0: every output is the mean face (posterior collapse).",
    ),
    "val/active_units": (
        "Active latent units",
        "Units that depend on the face. A variational model switches off units it does not need; almost none left is "
        "a collapse.",
    ),
    "val/kl": (
        "KL divergence of the latent code",
        "From its prior N(0, 1), in nats, summed over all units: how much the code says about a face.",
    ),
    "val/diversity": (
        "Diversity",
        "Distance between two generated faces relative to two real faces. 1: as different. 0: always the same face.",
    ),
    "val/nearest": (
        "Distance to the nearest",
        "From a generated face to the most similar other one, relative to real faces. Near 0: a few faces repeat.",
    ),
    "val/checkerboard": (
        "Checkerboard",
        "Strength of periodic patterns relative to real faces. 1: none. 4: usual at the start. Above 5: visible.",
    ),
    "discriminator/saturation": (
        "Saturation of the discriminator",
        "Share of faces that it judges correctly and with certainty. Near 1 the generator learns little from it.",
    ),
    "discriminator/signal": (
        "Signal to the generator",
        "Share of the full gradient that reaches the generator. Near 0 it learns nothing.",
    ),
}
