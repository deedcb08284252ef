import torch

from benchmarks.command import run
from benchmarks.scores import sane
from benchmarks.scores.audit import audit
from benchmarks.scores.compare import compare
from benchmarks.scores.cost import app

app.command()(audit)
app.command()(compare)
app.add_typer(sane.app, name="sane")

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(app)
