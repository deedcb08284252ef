import torch

from benchmarks.command import run
from benchmarks.scores import sane
from benchmarks.scores.cost import app

app.add_typer(sane.app, name="sane")

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(app)
