"""The clock of a training: images seen and time spent."""

from __future__ import annotations


class Clock:
    """``images`` counts real images drawn by all ranks; ``seconds`` is time spent training."""

    def __init__(self) -> None:
        self.images = 0
        self.generator_steps = 0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, int | float]:
        """Plain numbers."""
        return {"images": self.images, "generator_steps": self.generator_steps, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, int | float]) -> None:
        """Set the clock."""
        self.images = int(state["images"])
        self.generator_steps = int(state["generator_steps"])
        self.seconds = float(state["seconds"])
