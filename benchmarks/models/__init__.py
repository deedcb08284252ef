"""What trained models do with faces, beyond the scores of `faceforge evaluate`."""
