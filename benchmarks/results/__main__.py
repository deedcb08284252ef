from benchmarks.command import run
from benchmarks.results.command import app

if __name__ == "__main__":
    run(app)
