"""How well, how fast and in how much memory `faceforge cut` works."""
