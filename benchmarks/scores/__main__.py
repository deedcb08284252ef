import torch

from benchmarks.command import run
from benchmarks.scores import compare
from benchmarks.scores.cost import app

app.command()(compare.compare)

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(app)
