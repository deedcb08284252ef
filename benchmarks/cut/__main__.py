import typer

from benchmarks.command import run
from benchmarks.cut import accuracy, page, times

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
for measure in (accuracy.accuracy, accuracy.calibrate, times.speed, times.memory):
    app.command()(measure)


@app.command()
def table() -> None:
    """Make docs/results/cut_faces.md again from the records."""
    print(page.write())


if __name__ == "__main__":
    run(app)
