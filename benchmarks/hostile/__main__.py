from benchmarks.command import run
from benchmarks.hostile.measure import app

if __name__ == "__main__":
    run(app)
