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
        "Units that depend on the face. A variational model drops unneeded units; almost none left is a collapse.",
    ),
    "val/kl": ("KL divergence", "From the prior N(0, 1), in nats over all units: how much the code says about a face."),
    "val/diversity": ("Diversity", "Distance between generated faces, relative to real ones. 0: always the same face."),
    "val/nearest": (
        "Nearest neighbour",
        "Distance to the most similar other face, relative to real faces. Near 0: faces repeat.",
    ),
    "val/checkerboard": (
        "Checkerboard",
        "Periodic patterns, relative to real faces. 1: none. 4: usual at the start. Above 5: visible.",
    ),
    "val/overfitting": (
        "Overfitting of the discriminator",
        "0: new faces look as real to it as training faces. 1: as generated ones. Above 0.6 it is augmented more.",
    ),
    "discriminator/saturation": (
        "Discriminator saturation",
        "Share of faces judged correctly with certainty. Near 1 it teaches little.",
    ),
    "discriminator/signal": (
        "Signal to the generator",
        "Share of the full gradient. Near 0 the generator learns nothing.",
    ),
}
