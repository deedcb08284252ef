from benchmarks.command import run
from benchmarks.survival.stops import app

if __name__ == "__main__":
    run(app)
